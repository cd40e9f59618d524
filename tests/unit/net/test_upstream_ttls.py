"""How long what an upstream says is kept and told: the floor of the configuration, and absences."""

from __future__ import annotations

import pytest

from p2pdns.dns.message import Message, RRset
from p2pdns.dns.registry import Rcode, Type
from p2pdns.resolver.names import ResolverSettings
from p2pdns.resolver.steps import Replied
from tests.overlay_doubles import NOW, found, item_of, question, reply_to
from tests.unit.resolver.test_resolver import resolved

FLOOR = ResolverSettings(ttl_s_min=120)
ASKED = question("www.example. A")


def soa(ttl: int, minimum: int) -> RRset:
    """Return the SOA that an upstream puts beside an absence."""
    owner = question("example. A").name
    return RRset(owner, Type.SOA, ttl, (b"\x00\x00" + bytes(16) + minimum.to_bytes(4),))


def absence(*sets: RRset, rcode: int = 3, lines: tuple[str, ...] = ()) -> Replied:
    """Return a reply that says that something is not there."""
    reply = reply_to(ASKED, *lines, rcode=rcode)
    authority = tuple(rr for rrset in sets for rr in rrset.records())
    return Replied(Message(0, reply.flags, ASKED, reply.answer, authority))


def test_an_upstreams_ttls_are_raised_to_the_floor_and_no_further() -> None:
    answer = resolved("www.example. A", Replied(reply_to(ASKED, "www.example. 20 A 192.0.2.1")), options=FLOOR)
    assert (answer.answer[0].ttl, answer.expiry) == (120, NOW + 120)
    answer = resolved("www.example. A", Replied(reply_to(ASKED, "www.example. 300 A 192.0.2.1")), options=FLOOR)
    assert (answer.answer[0].ttl, answer.expiry) == (300, NOW + 300)
    answer = resolved("www.example. A", absence(soa(900, 10)), options=FLOOR)
    assert (answer.authority[0].ttl, answer.expiry) == (120, NOW + 120)


def test_the_floor_holds_no_answer_of_the_overlay_back() -> None:
    answer = resolved("www.{a} A", found(item_of("a", "www 20 A 192.0.2.1")), options=FLOOR)
    assert (answer.answer[0].ttl, answer.expiry) == (20, NOW + 20)


@pytest.mark.parametrize(("ttl", "minimum", "expected"), [(900, 60, 60), (60, 900, 60), (900, 0, 0)])
@pytest.mark.parametrize("rcode", [Rcode.NXDOMAIN, Rcode.NOERROR])
def test_an_absence_lasts_for_the_lower_of_the_soas_ttl_and_minimum(
    ttl: int, minimum: int, expected: int, rcode: Rcode
) -> None:
    answer = resolved("www.example. A", absence(soa(ttl, minimum), rcode=int(rcode)))
    assert (answer.authority[0].ttl, answer.expiry) == (expected, NOW + expected)


@pytest.mark.parametrize("rcode", [Rcode.NXDOMAIN, Rcode.NOERROR])
@pytest.mark.parametrize("lines", [(), ("www.example. 600 CNAME other.example.",)], ids=["alone", "behind an alias"])
def test_an_absence_without_an_soa_is_not_kept(rcode: Rcode, lines: tuple[str, ...]) -> None:
    servers = RRset(question("example. A").name, Type.NS, 600, (question("ns.example. A").name.wire(),))
    # What an alias without a word on its target leads to is asked for by itself.
    outcomes = [absence(servers, rcode=int(rcode), lines=lines)]
    outcomes += [absence(servers, rcode=int(rcode))] if lines and rcode == Rcode.NOERROR else []
    assert resolved("www.example. A", *outcomes).expiry == NOW


def test_an_absence_behind_an_alias_lasts_no_longer_than_the_alias() -> None:
    lines = ("www.example. 30 CNAME other.example.",)
    assert resolved("www.example. A", absence(soa(900, 600), rcode=0, lines=lines)).expiry == NOW + 30
