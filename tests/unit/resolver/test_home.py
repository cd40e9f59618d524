"""What the person here says about names: fixed answers, names that are not to be had, and private networks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from p2pdns.cli.node import settings_of
from p2pdns.config import CacheTable, Config, DnsTable, UpstreamTable
from p2pdns.dns.name import Name
from p2pdns.dns.registry import Rcode, Type
from p2pdns.errors import ConfigError
from p2pdns.resolver.blocking import BlockedNames
from p2pdns.resolver.local import LOCAL_TTL_S
from p2pdns.resolver.names import ResolverSettings, tag_of_setting
from p2pdns.resolver.steps import Answered, Fetch, Forward
from tests.overlay_doubles import KEYS, NOW, A, found, item_of, question
from tests.unit.resolver.test_resolver import begin, replied, resolved, text_of

LINES = (
    "router.lan. 60 IN A 192.168.1.1",
    "router.lan AAAA fd00::1",
    'router.lan TXT "attic"',
    "www.router.lan CNAME router.lan",
    "shop CNAME example.com",
    "1.1.168.192.in-addr.arpa PTR router.lan",
    "deep.in.lan A 192.168.1.9",
)
HOME = ResolverSettings.of(petnames={"alice": str(A)}, local_data=LINES)


def blocking(*names: str, zeros: bool = False, local_data: tuple[str, ...] = ()) -> ResolverSettings:
    """Return settings that block these names."""
    read = ResolverSettings.of(petnames={"alice": str(A)}, local_data=local_data)
    return replace(read, blocked=BlockedNames(names), blocks_with_zeros=zeros)


# Local data.


def test_a_name_of_local_data_is_answered_here_with_what_was_written() -> None:
    answer = resolved("Router.LAN. A", options=HOME)
    assert text_of(answer) == ["router.lan. 60 A"]
    assert (answer.answer[0].rdata, answer.is_authoritative, answer.ede) == (bytes([192, 168, 1, 1]), True, ())
    assert (answer.expiry, answer.ad_eligible, answer.tags) == (NOW + 60, False, (tag_of_setting("local_data"),))
    assert text_of(resolved("router.lan. AAAA", options=HOME)) == ["router.lan. 300 AAAA"]
    assert text_of(resolved("1.1.168.192.in-addr.arpa. PTR", options=HOME)) == ["1.1.168.192.in-addr.arpa. 300 PTR"]


def test_a_type_that_a_name_of_local_data_has_not_is_nodata() -> None:
    answer = resolved("router.lan. MX", options=HOME)
    assert (answer.rcode, answer.answer) == (Rcode.NOERROR, ())
    assert [(str(rr.owner), rr.rtype) for rr in answer.authority] == [("router.lan.", Type.SOA)]
    assert answer.expiry == NOW + LOCAL_TTL_S


@pytest.mark.parametrize("text", ["lan. A", "x.router.lan. A", "in.lan. A", "other.lan. A"])
def test_names_above_and_below_local_data_are_nobodys_here(text: str) -> None:
    assert begin(text, HOME)[1] == Forward(question(text))


def test_any_of_local_data_is_one_rrset() -> None:
    assert len({rr.rtype for rr in resolved("router.lan. ANY", options=HOME).answer}) == 1


def test_an_alias_of_local_data_is_followed_here_and_elsewhere() -> None:
    answer = resolved("www.router.lan. A", options=HOME)
    assert text_of(answer) == ["www.router.lan. 300 CNAME", "router.lan. 60 A"]
    assert text_of(resolved("www.router.lan. CNAME", options=HOME)) == ["www.router.lan. 300 CNAME"]
    resolution, step = begin("shop. A", HOME)
    assert step == Forward(question("example.com. A"))
    end = resolution.step_done(replied("example.com. A", "example.com. 60 A 192.0.2.1"), NOW)
    assert isinstance(end, Answered)
    assert text_of(end.answer) == ["shop. 300 CNAME", "example.com. 60 A"]
    assert not end.answer.ad_eligible


def test_local_data_comes_before_zones_suffixes_and_block_lists() -> None:
    lines = (
        f"www.{A} A 192.0.2.7",
        "www.alice.p2p.alt A 192.0.2.7",
        "localhost A 192.0.2.7",
        "ads.example A 192.0.2.7",
    )
    options = blocking("ads.example", local_data=lines)
    for text in ("www.{a} A", "www.alice.p2p.alt. A", "localhost. A", "ads.example. A"):
        assert [rr.rdata for rr in resolved(text, options=options).answer] == [bytes([192, 0, 2, 7])]
    assert begin("other.{a} A", options)[1] == Fetch(A, settled=False)


def test_behind_an_upstreams_alias_local_data_answers() -> None:
    reply = replied("example.com. A", "example.com. 60 CNAME router.lan.", "router.lan. 60 A 192.0.2.66")
    answer = resolved("example.com. A", reply, options=HOME)
    assert [rr.rdata[-1] for rr in answer.answer] == [0, 1]
    assert text_of(answer) == ["example.com. 60 CNAME", "router.lan. 60 A"]


def test_a_strangers_alias_does_not_lead_to_local_datas_private_address() -> None:
    answer = resolved("www.{a} A", found(item_of("a", "www 60 CNAME router.lan.")), options=HOME)
    assert text_of(answer) == ["www.<a>. 60 CNAME"]
    assert answer.ede[0][0] == 15


@pytest.mark.parametrize(
    ("lines", "place", "what"),
    [
        (("a A 192.0.2.1", "b A 192.0.2.300"), "[dns] local_data, line 2", "."),
        (("a A 192.0.2.1", "a CNAME b"), "[dns] local_data, line 1", "A beside CNAME at a"),
        (("*.lan A 192.0.2.1",), "[dns] local_data", r"\*.lan. is a wildcard"),
        (("a.lan DNAME b",), "[dns] local_data", "a.lan. is DNAME"),
        (("a.lan BOGUS x",), "[dns] local_data, line 1", 'unknown type "BOGUS"'),
        (("$INCLUDE /etc/passwd",), "[dns] local_data, line 1", "INCLUDE is off"),
    ],
)
def test_a_line_that_does_not_hold_is_a_config_error_with_its_place(
    lines: tuple[str, ...], place: str, what: str
) -> None:
    with pytest.raises(ConfigError, match=what) as caught:
        ResolverSettings.of(local_data=lines)
    assert caught.value.place == place
    assert caught.value.hint


# Block lists.


@pytest.mark.parametrize("text", ["ads.example. A", "x.y.Ads.Example. A", "ads.example. HTTPS", "ads.example. SOA"])
def test_a_blocked_name_and_all_below_it_do_not_exist(text: str) -> None:
    answer = resolved(text, options=blocking("ads.example"))
    assert (answer.rcode, answer.answer) == (Rcode.NXDOMAIN, ())
    assert [(str(rr.owner).lower(), rr.rtype) for rr in answer.authority] == [("ads.example.", Type.SOA)]
    assert [code for code, _ in answer.ede] == [15]
    assert answer.tags == (tag_of_setting("block"),)
    assert answer.expiry == NOW + LOCAL_TTL_S


@pytest.mark.parametrize("text", ["example. A", "bads.example. A", "ads.example.com. A"])
def test_other_names_are_not_blocked(text: str) -> None:
    assert begin(text, blocking("ads.example"))[1] == Forward(question(text))


@pytest.mark.parametrize(("rtype", "rdata"), [("A", bytes(4)), ("AAAA", bytes(16)), ("TXT", None), ("HTTPS", None)])
def test_with_zeros_a_blocked_name_leads_nowhere(rtype: str, rdata: bytes | None) -> None:
    answer = resolved(f"x.ads.example. {rtype}", options=blocking("ads.example", zeros=True))
    assert answer.rcode == Rcode.NOERROR
    assert [rr.rdata for rr in answer.answer] == ([] if rdata is None else [rdata])
    assert [rr.rtype for rr in answer.authority] == ([Type.SOA] if rdata is None else [])
    assert [code for code, _ in answer.ede] == [15]


@pytest.mark.parametrize("listed", [str(A), f"www.{A}", f"{A}.p2p.alt", "alice.p2p.alt"])
def test_zones_are_blocked_by_key_or_by_the_name_they_are_asked_by(listed: str) -> None:
    text = "www.alice.p2p.alt. A" if listed.startswith("alice") else "www.{a}p2p.alt. A"
    assert resolved(text, options=blocking(listed)).rcode == Rcode.NXDOMAIN


def test_an_alias_does_not_lead_around_a_block_list() -> None:
    options = blocking("tracker.example")
    reply = replied(
        "www.news.example. A", "www.news.example. 60 CNAME x.tracker.example.", "x.tracker.example. 60 A 192.0.2.1"
    )
    answer = resolved("www.news.example. A", reply, options=options)
    assert (answer.rcode, text_of(answer)) == (Rcode.NXDOMAIN, ["www.news.example. 60 CNAME"])
    assert [code for code, _ in answer.ede] == [15]
    zone = found(item_of("a", "www 60 CNAME tracker.example."))
    assert resolved("www.{a} A", zone, options=options).rcode == Rcode.NXDOMAIN


def test_neither_does_a_delegation_and_local_data_holds_behind_it_too() -> None:
    zone = found(item_of("a", "bob 300 NS {b}"))
    answer = resolved("www.bob.{a} A", zone, options=blocking(str(KEYS["b"])))
    assert (answer.rcode, text_of(answer)) == (Rcode.NXDOMAIN, ["www.bob.<a>. 300 CNAME"])
    options = blocking(local_data=(f"www.{KEYS['b']} A 192.0.2.7",))
    answer = resolved("www.bob.{a} A", zone, options=options)
    assert text_of(answer) == ["www.bob.<a>. 300 CNAME", "www.<b>. 300 A"]


@pytest.mark.parametrize("zeros", [False, True])
def test_a_node_without_a_daemon_goes_by_the_same_configuration(tmp_path: Path, zeros: bool) -> None:
    (tmp_path / "ads.txt").write_text("tracker.example\n")
    answer = "zero" if zeros else "nxdomain"
    dns = DnsTable(local_data=(LINES[0],), block=(str(tmp_path / "ads.txt"),), block_answer=answer)
    settings = settings_of(Config(dns=dns))
    assert text_of(resolved("router.lan. A", options=settings)) == ["router.lan. 60 A"]
    blocked = resolved("x.tracker.example. A", options=settings)
    assert (blocked.rcode, len(blocked.answer)) == ((Rcode.NOERROR, 1) if zeros else (Rcode.NXDOMAIN, 0))


def test_a_node_without_a_daemon_withholds_and_raises_what_a_daemon_would() -> None:
    config = Config(upstream=UpstreamTable(withhold_private=True), cache=CacheTable(ttl_s_min=120))
    answer = resolved(
        "x.example. A",
        replied("x.example. A", "x.example. 60 A 192.168.1.1", "x.example. 60 A 192.0.2.1"),
        options=settings_of(config),
    )
    assert [(rr.rdata, rr.ttl) for rr in answer.answer] == [(bytes([192, 0, 2, 1]), 120)]


# Private networks.


WITHHOLDING = replace(ResolverSettings.of(private_zones=["lan.", "Corp.Example"]), withholds_upstreams=True)


def test_an_upstreams_private_addresses_pass_unless_they_are_to_be_withheld() -> None:
    reply = replied("evil.example. A", "evil.example. 60 A 192.168.1.1", "evil.example. 60 A 192.0.2.1")
    assert len(resolved("evil.example. A", reply).answer) == 2
    answer = resolved("evil.example. A", reply, options=WITHHOLDING)
    assert [rr.rdata for rr in answer.answer] == [bytes([192, 0, 2, 1])]
    assert [code for code, _ in answer.ede] == [15]


@pytest.mark.parametrize("name", ["nas.lan.", "lan.", "a.corp.example."])
def test_names_of_the_persons_own_networks_keep_them(name: str) -> None:
    answer = resolved(f"{name} A", replied(f"{name} A", f"{name} 60 A 192.168.1.1"), options=WITHHOLDING)
    assert (len(answer.answer), answer.ede) == (1, ())


def test_an_alias_from_outside_does_not_lead_to_them() -> None:
    reply = replied("evil.example. A", "evil.example. 60 CNAME nas.lan.", "nas.lan. 60 A 192.168.1.1")
    answer = resolved("evil.example. A", reply, options=WITHHOLDING)
    assert text_of(answer) == ["evil.example. 60 CNAME"]


def test_a_name_with_a_dot_is_no_petname_and_says_nothing_of_zones() -> None:
    settings = ResolverSettings.of(petnames={"alice": str(A)}, private_zones=["alice", "lan.", str(KEYS["b"])])
    assert settings.trusted == {A, KEYS["b"]}
    assert settings.private_names == (Name.read("lan."),)
