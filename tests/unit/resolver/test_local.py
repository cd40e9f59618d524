"""Zones answered here: the special-use names of the RFCs, `alt`, `internal` and our suffixes, each with its SOA."""

from __future__ import annotations

import pytest

from p2pdns.dns.message import Question
from p2pdns.dns.message.rdata import names_in
from p2pdns.dns.name import Name
from p2pdns.dns.registry import Rcode, Type
from p2pdns.errors import ConfigError
from p2pdns.resolver.local import SPECIAL_USE
from p2pdns.resolver.names import ResolverSettings
from p2pdns.resolver.resolution import Resolution
from p2pdns.resolver.steps import Answered, Fetch, Forward, Replied, Resolved, Step
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


def first_step(name: str, rtype: Type = Type.A, *, settings: ResolverSettings = SETTINGS) -> Step:
    """Return what a question needs first."""
    question = Question(Name.read(name), rtype)
    return Resolution(question, settings=settings, now=NOW, deadline=NOW + 4).next_step(NOW)


def told(name: str, rtype: Type = Type.A, *, settings: ResolverSettings = SETTINGS) -> Resolved:
    """Return the answer to a question that needs nobody."""
    step = first_step(name, rtype, settings=settings)
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


@pytest.mark.parametrize("apex", ["home.arpa", *PRIVATE_REVERSE])
def test_the_ds_of_a_delegated_zone_is_its_parents_to_deny(apex: str) -> None:
    """RFC 8375 §4, RFC 6303 §7: only the parent can prove to a validating stub that the zone is not signed."""
    asked = Question(Name.read(f"{apex}."), Type.DS)
    assert first_step(f"{apex}.", Type.DS) == Forward(asked)
    assert isinstance(first_step(f"{apex}.", Type.DNSKEY), Answered)
    assert isinstance(first_step(f"host.{apex}.", Type.DS), Answered)


@pytest.mark.parametrize("apex", ["test", "invalid", "onion", "local", "localhost", "p2p.alt", "alt"])
def test_the_ds_of_a_zone_that_is_not_in_the_dns_is_denied_here(apex: str) -> None:
    assert told(f"{apex}.", Type.DS).answer == ()


@pytest.mark.parametrize("label", [str(A), "alice", str(A).upper()])
def test_the_ds_of_a_zone_of_ours_is_answered_by_its_parent(label: str) -> None:
    # RFC 4035 §3.1.4.1: and so without a look-up.
    answer = told(f"{label}.p2p.alt.", Type.DS)
    assert (answer.rcode, answer.answer, soa_owner(answer)) == (Rcode.NOERROR, (), "p2p.alt.")
    assert answer.is_authoritative
    for name in (f"www.{label}.p2p.alt.", f"{A}."):
        assert isinstance(first_step(name, Type.DS), Fetch)
    assert isinstance(first_step(f"{label}.p2p.alt.", Type.DNSKEY), Fetch)
    assert told("nobody.p2p.alt.", Type.DS).rcode == Rcode.NXDOMAIN


FORWARDING = ResolverSettings.of(forward_local=["home.arpa", "168.192.in-addr.arpa", "2.1.10.in-addr.arpa", "local"])


@pytest.mark.parametrize(
    "name", ["home.arpa.", "nas.home.arpa.", "5.1.168.192.IN-ADDR.ARPA.", "9.2.1.10.in-addr.arpa."]
)
@pytest.mark.parametrize("rtype", [Type.A, Type.PTR, Type.SOA, Type.DS])
def test_a_zone_that_is_named_for_it_is_asked_of_the_upstreams(name: str, rtype: Type) -> None:
    asked = Question(Name.read(name).folded(), rtype)
    assert first_step(name, rtype, settings=FORWARDING) == Forward(asked)


@pytest.mark.parametrize("name", ["10.in-addr.arpa.", "1.10.in-addr.arpa."])
def test_what_lies_above_a_name_that_is_asked_of_the_upstreams_exists(name: str) -> None:
    """RFC 8020: below a name that does not exist a client asks for nothing."""
    answer = told(name, settings=FORWARDING)
    assert (answer.rcode, soa_owner(answer)) == (Rcode.NOERROR, "10.in-addr.arpa.")
    assert told("3.1.10.in-addr.arpa.", settings=FORWARDING).rcode == Rcode.NXDOMAIN


def test_aliases_into_a_zone_of_the_upstreams_are_followed_and_believed() -> None:
    asked = Question(Name.read("www.example."), Type.A)
    lines = ("www.example. 60 CNAME nas.home.arpa.", "nas.home.arpa. 60 A 192.168.1.9")
    for settings, addresses in ((FORWARDING, [bytes([192, 168, 1, 9])]), (SETTINGS, [])):
        resolution = Resolution(asked, settings=settings, now=NOW, deadline=NOW + 4)
        assert resolution.next_step(NOW) == Forward(asked)
        end = resolution.step_done(Replied(reply_to(asked, *lines)), NOW)
        assert isinstance(end, Answered)
        assert [rr.rdata for rr in end.answer.answer if rr.rtype == Type.A] == addresses


@pytest.mark.parametrize("name", [f"www.{A}.local.", f"{A}.home.arpa.", "www.alice.p2p.alt.home.arpa."])
def test_a_name_of_ours_is_not_passed_on_with_a_zone_of_the_upstreams(name: str) -> None:
    assert told(name, settings=FORWARDING).rcode == Rcode.NXDOMAIN


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("example.com", "is not kept from the upstreams"),
        ("in-addr.arpa", "is not kept from the upstreams"),
        ("internal", "is not kept from the upstreams"),
        ("p2p.alt", "is not kept from the upstreams"),
        ("localhost", "is answered by this machine alone"),
        ("x.invalid", "is answered by this machine alone"),
        ("onion", "is answered by this machine alone"),
        ("resolver.arpa", "is answered by this machine alone"),
        ("a" * 64, "is not a name"),
    ],
)
def test_what_no_upstream_may_hear_of_cannot_be_named(text: str, what: str) -> None:
    with pytest.raises(ConfigError, match=what) as caught:
        ResolverSettings.of(forward_local=[text])
    assert caught.value.place == "[dns] forward_local"
    assert caught.value.hint


@pytest.mark.parametrize(
    "name", ["use-application-dns.net.", "USE-application-DNS.net.", "www.use-application-dns.net."]
)
@pytest.mark.parametrize("rtype", [Type.A, Type.AAAA])
def test_browsers_are_asked_to_keep_to_this_resolver_where_that_is_configured(name: str, rtype: Type) -> None:
    answer = told(name, rtype, settings=ResolverSettings(keeps_browsers=True))
    assert (answer.rcode, answer.answer, soa_owner(answer)) == (Rcode.NXDOMAIN, (), "use-application-dns.net.")
    assert isinstance(first_step(name, rtype), Forward)


def test_of_the_ds_of_a_zone_only_what_is_at_or_above_it_is_believed() -> None:
    asked = Question(Name.read("home.arpa."), Type.DS)
    resolution = Resolution(asked, settings=SETTINGS, now=NOW, deadline=NOW + 4)
    assert resolution.next_step(NOW) == Forward(asked)
    lines = ("arpa. 60 NS a.example.", "home.arpa. 60 TYPE47 00", "x.test. 60 TYPE47 00")
    end = resolution.step_done(Replied(reply_to(asked, authority=lines)), NOW)
    assert isinstance(end, Answered)
    assert [str(rr.owner) for rr in end.answer.authority] == ["arpa.", "home.arpa."]


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
