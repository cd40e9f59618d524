"""Zones answered here: the special-use names of the RFCs, `alt`, `internal` and our suffixes, each with its SOA."""

from __future__ import annotations

import pytest

from p2pdns.dns.message import Question, Rcode, Type, names_in
from p2pdns.dns.name import Name
from p2pdns.resolver import Answered, Forward, Replied, Resolution, Resolved, ResolverSettings, Step
from p2pdns.resolver.local import SPECIAL_USE
from tests.overlay_doubles import NOW, A, reply_to

SETTINGS = ResolverSettings.of(petnames={"alice": str(A)})

# RFC 6761 §6.1 and RFC 6303 §4.1 to 4.6, as their tables have them; RFC 7793 §3.
PRIVATE_REVERSE = [
    "10.in-addr.arpa",
    *(f"{number}.172.in-addr.arpa" for number in range(16, 32)),
    "168.192.in-addr.arpa",
    "0.in-addr.arpa",
    "127.in-addr.arpa",
    "254.169.in-addr.arpa",
    "2.0.192.in-addr.arpa",
    "100.51.198.in-addr.arpa",
    "113.0.203.in-addr.arpa",
    "255.255.255.255.in-addr.arpa",
    *(f"{number}.100.in-addr.arpa" for number in range(64, 128)),
    ".".join("0" * 32) + ".ip6.arpa",
    "1." + ".".join("0" * 31) + ".ip6.arpa",
    "d.f.ip6.arpa",
    "8.e.f.ip6.arpa",
    "9.e.f.ip6.arpa",
    "a.e.f.ip6.arpa",
    "b.e.f.ip6.arpa",
    "8.b.d.0.1.0.0.2.ip6.arpa",
]
# RFC 6761 §6.2 to 6.4, RFC 7686, RFC 8375, RFC 9462 §6.4.
FORWARD_ZONES = ["localhost", "invalid", "test", "onion", "local", "home.arpa", "resolver.arpa"]


def first_step(name: str, rtype: Type = Type.A) -> Step:
    """Return what a question needs first."""
    question = Question(Name.read(name), rtype)
    return Resolution(question, settings=SETTINGS, now=NOW, deadline=NOW + 4).next_step(NOW)


def told(name: str, rtype: Type = Type.A) -> Resolved:
    """Return the answer to a question that needs nobody."""
    step = first_step(name, rtype)
    assert isinstance(step, Answered), f"{name} is asked of others: {step}"
    return step.answer


def soa_owner(answer: Resolved) -> str:
    """Return the owner of the SOA in the authority section."""
    (rr,) = answer.authority
    assert rr.rtype == Type.SOA
    assert len(names_in(rr.rtype, rr.rdata)) == 2
    return str(rr.owner)


def test_the_special_names_are_those_of_the_rfcs_and_no_others() -> None:
    expected = [Name.read(text + ".") for text in (*PRIVATE_REVERSE, *FORWARD_ZONES)]
    assert set(SPECIAL_USE) == set(expected)


@pytest.mark.parametrize("apex", [*PRIVATE_REVERSE, *FORWARD_ZONES])
def test_a_special_zone_has_soa_and_ns_and_denies_the_rest_with_its_soa(apex: str) -> None:
    for rtype in (Type.SOA, Type.NS):
        answer = told(f"{apex}.", rtype)
        assert (answer.rcode, [rr.rtype for rr in answer.answer], answer.is_authoritative) == (0, [rtype], True)
    for name, rtype in ((f"{apex}.", Type.MX), (f"no.such.name.{apex}.", Type.MX), (f"NO.{apex.upper()}.", Type.MX)):
        answer = told(name, rtype)
        assert answer.rcode in (Rcode.NOERROR, Rcode.NXDOMAIN)
        assert (answer.answer, soa_owner(answer), answer.ad_eligible) == ((), f"{apex}.", False)
        assert answer.expiry > NOW


@pytest.mark.parametrize("name", ["host.test", "a.b.invalid", "x.onion", "nas.home.arpa", "5.1.168.192.in-addr.arpa"])
def test_a_name_in_a_special_zone_does_not_exist(name: str) -> None:
    assert told(f"{name}.").rcode == Rcode.NXDOMAIN


@pytest.mark.parametrize("name", ["localhost", "LOCALHOST", "db.localhost", "a.b.localhost"])
def test_localhost_and_every_name_below_it_is_this_host(name: str) -> None:
    assert [rr.rdata for rr in told(f"{name}.").answer] == [bytes([127, 0, 0, 1])]
    assert [rr.rdata for rr in told(f"{name}.", Type.AAAA).answer] == [bytes(15) + b"\x01"]
    assert (told(f"{name}.", Type.TXT).rcode, told(f"{name}.", Type.TXT).answer) == (Rcode.NOERROR, ())


@pytest.mark.parametrize("name", ["1.0.0.127.in-addr.arpa", f"1.{'.'.join('0' * 31)}.ip6.arpa"])
def test_the_loopback_addresses_have_a_name(name: str) -> None:
    (rr,) = told(f"{name}.", Type.PTR).answer
    assert names_in(Type.PTR, rr.rdata) == (Name.read("localhost."),)


@pytest.mark.parametrize("name", ["_dns.resolver.arpa", "dns.resolver.arpa", "resolver.arpa"])
def test_a_resolver_without_encrypted_doors_says_nodata_to_discovery(name: str) -> None:
    # RFC 9462 §4: no designated resolver is NODATA; NXDOMAIN would say the same of names that may come.
    answer = told(f"{name}.", Type.SVCB)
    assert (answer.rcode, answer.answer, soa_owner(answer)) == (Rcode.NOERROR, (), "resolver.arpa.")


def test_the_ds_of_home_arpa_is_its_parents_to_deny() -> None:
    # RFC 8375 §4: only the parent can prove to a validating stub that the zone is not signed.
    asked = Question(Name.read("home.arpa."), Type.DS)
    resolution = Resolution(asked, settings=SETTINGS, now=NOW, deadline=NOW + 4)
    assert resolution.next_step(NOW) == Forward(asked)
    lines = ("arpa. 60 NS a.example.", "home.arpa. 60 TXT proof", "x.test. 60 TXT lie")
    end = resolution.step_done(Replied(reply_to(asked, authority=lines)), NOW)
    assert isinstance(end, Answered)
    assert [str(rr.owner) for rr in end.answer.authority] == ["arpa.", "home.arpa."]
    assert isinstance(first_step("nas.home.arpa.", Type.DS), Answered)
    assert isinstance(first_step("test.", Type.DS), Answered)


# Names that RFC 6761 and 6303 do not keep from resolvers, or that merely look like those they do.
@pytest.mark.parametrize(
    "name",
    [
        "example",
        "example.com",
        "example.net",
        "example.org",
        "local.example",
        "invalid.example",
        "xn--test",
        "mytest",
        "onion.example",
        "arpa",
        "in-addr.arpa",
        "ip6.arpa",
        "172.in-addr.arpa",
        "15.172.in-addr.arpa",
        "32.172.in-addr.arpa",
        "192.in-addr.arpa",
        "63.100.in-addr.arpa",
        "128.100.in-addr.arpa",
        "11.in-addr.arpa",
        "c.e.f.ip6.arpa",
        "2.0.0.2.ip6.arpa",
        "ipv4only.arpa",
        "foo.internal",
        "p2pdns-internal",
        "notalt",
    ],
)
def test_a_name_beside_the_special_ones_is_forwarded(name: str) -> None:
    assert isinstance(first_step(f"{name}."), Forward)


@pytest.mark.parametrize(
    ("name", "rtype", "rcode", "owner"),
    [
        ("alt", Type.A, Rcode.NOERROR, "alt."),
        ("alt", Type.NS, Rcode.NOERROR, "alt."),
        ("alt", Type.DS, Rcode.NOERROR, "alt."),
        ("ALT", Type.SOA, Rcode.NOERROR, "alt."),
        ("internal", Type.A, Rcode.NOERROR, "internal."),
        ("internal", Type.SOA, Rcode.NOERROR, "internal."),
        ("p2p.alt", Type.A, Rcode.NOERROR, "p2p.alt."),
        ("P2P.Alt", Type.TXT, Rcode.NOERROR, "p2p.alt."),
        ("p2pdns.internal", Type.MX, Rcode.NOERROR, "p2pdns.internal."),
        ("gnu.alt", Type.A, Rcode.NXDOMAIN, "alt."),
        ("www.eth.alt", Type.AAAA, Rcode.NXDOMAIN, "alt."),
        ("xp2p.alt", Type.A, Rcode.NXDOMAIN, "alt."),
        ("nobody.p2p.alt", Type.A, Rcode.NXDOMAIN, "p2p.alt."),
        ("www.nobody.p2pdns.internal", Type.A, Rcode.NXDOMAIN, "p2pdns.internal."),
    ],
)
def test_above_and_beside_our_suffixes_the_answer_is_ours(name: str, rtype: Type, rcode: Rcode, owner: str) -> None:
    answer = told(f"{name}.", rtype)
    # RFC 8020: NXDOMAIN for `alt` or `internal` would deny every name of ours below it.
    assert (answer.rcode, answer.answer, soa_owner(answer)) == (rcode, (), owner)


@pytest.mark.parametrize("suffix", ["p2p.alt", "p2pdns.internal"])
@pytest.mark.parametrize("rtype", [Type.SOA, Type.NS])
def test_a_suffix_has_soa_and_ns(suffix: str, rtype: Type) -> None:
    assert [(str(rr.owner), rr.rtype) for rr in told(f"{suffix}.", rtype).answer] == [(f"{suffix}.", rtype)]


@pytest.mark.parametrize("rtype", [Type.A, Type.SOA])
def test_between_a_long_suffix_and_its_top_every_name_exists(rtype: Type) -> None:
    settings = ResolverSettings.of(suffixes=["zone.of.alt"])
    for name in ("of.alt.", "alt."):
        step = Resolution(Question(Name.read(name), rtype), settings=settings, now=NOW, deadline=NOW + 4).next_step(NOW)
        assert isinstance(step, Answered)
        assert step.answer.rcode == Rcode.NOERROR
