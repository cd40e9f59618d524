"""RFC 2308: negative answers, and for how long they may be kept."""

from __future__ import annotations

import pytest

from tests.conformance import wire
from tests.conformance.upstream import MINIMUM_S
from tests.conformance.virtual import VirtualFront
from tests.conformance.world import BLOCKED, KEY, OTHER_KEY, Client


def soa_minimum(one: wire.Record) -> int:
    """Return the last number of an SOA."""
    return int.from_bytes(one.rdata[-4:])


@pytest.mark.parametrize(
    ("qname", "qtype", "rcode"),
    [("nosuch", wire.A, wire.NXDOMAIN), ("www", wire.TXT, wire.NOERROR), ("empty", wire.A, wire.NOERROR)],
    ids=["no such name", "no such type", "an empty non-terminal"],
)
def test_a_negative_answer_of_a_zone_has_its_soa_and_lives_as_long_as_the_minimum_says(
    client: Client, qname: str, qtype: int, rcode: int
) -> None:
    response = client.ask(f"{qname}.{KEY}", qtype)
    assert (response.rcode, response.answer) == (rcode, ())
    (soa,) = response.authority
    assert (soa.owner, soa.rtype) == (wire.name(KEY), wire.SOA)
    # The SOA's own TTL is 300, its minimum 60: the lower counts.
    assert soa_minimum(soa) == MINIMUM_S
    assert soa.ttl <= MINIMUM_S


@pytest.mark.parametrize(
    ("qname", "apex"),
    [
        (f"www.{'n' * 52}", "n" * 52),
        (f"www.{'n' * 52}.p2p.alt", "p2p.alt"),
        ("www.nobody.p2p.alt", "p2p.alt"),
        (f"www.{KEY}.home.example", f"{KEY}.home.example"),
        ("www.nobody.p2p.alt.home.example", "p2p.alt.home.example"),
        ("x.alt", "alt"),
        ("x.test", "test"),
        (f"x.{BLOCKED}", BLOCKED),
    ],
    ids=["no key", "no key below a suffix", "no petname", "key searched", "suffix searched", "alt", "test", "blocked"],
)
def test_whatever_is_denied_here_has_an_soa_by_which_it_can_be_kept(client: Client, qname: str, apex: str) -> None:
    response = client.ask(qname)
    assert (response.rcode, response.answer) == (wire.NXDOMAIN, ())
    assert [(one.owner, one.rtype) for one in response.authority] == [(wire.name(apex), wire.SOA)]
    assert 0 < response.authority[0].ttl <= soa_minimum(response.authority[0])


def test_a_zone_without_soa_gets_one_for_its_negative_answers(client: Client) -> None:
    (soa,) = client.ask(f"nosuch.{OTHER_KEY}").authority
    assert (soa.owner, soa.rtype) == (wire.name(OTHER_KEY), wire.SOA)
    assert soa.ttl <= soa_minimum(soa) == 300


@pytest.mark.parametrize("behaviour", ["missing", "nodata"])
def test_a_negative_answer_of_an_upstream_is_kept_as_long_as_its_soas_minimum_says(
    client: Client, behaviour: str
) -> None:
    qname = client.world.upstream.fresh(behaviour)
    for _ in range(2):
        response = client.ask(qname)
        (soa,) = response.authority
        assert soa.rtype == wire.SOA
        assert soa.ttl <= MINIMUM_S
    assert len(client.world.upstream.queries_for(qname)) == 1


def test_a_negative_answer_without_soa_is_given_and_not_kept(client: Client) -> None:
    qname = client.world.upstream.fresh("nosoa")
    for _ in range(2):
        response = client.ask(qname)
        assert (response.rcode, response.authority) == (wire.NXDOMAIN, ())
    assert len(client.world.upstream.queries_for(qname)) == 2


def test_an_alias_to_nowhere_is_nxdomain_with_the_alias(client: Client) -> None:
    for qname in (f"dead.{KEY}", client.world.upstream.fresh("deadend")):
        response = client.ask(qname)
        assert response.rcode == wire.NXDOMAIN
        assert [one.rtype for one in response.answer] == [wire.CNAME]
        assert [one.rtype for one in response.authority] == [wire.SOA]


def test_an_absence_behind_an_alias_or_a_delegation_has_the_soa_of_the_zone_that_says_so(client: Client) -> None:
    for qname in (f"nosuch.friend.{KEY}", f"nosuch.tree.{KEY}"):
        response = client.ask(qname)
        assert response.rcode == wire.NXDOMAIN
        assert [one.owner for one in response.authority] == [wire.name(OTHER_KEY)]


def test_absence_of_a_type_says_nothing_about_other_types(client: Client) -> None:
    assert client.ask(f"www.{KEY}", wire.TXT).answer == ()
    assert client.ask(f"www.{KEY}", wire.AAAA).answer


@pytest.mark.parametrize("is_stream", [False, True])
def test_the_soa_of_a_negative_answer_counts_down_and_the_answer_ends_with_it(is_stream: bool) -> None:
    # In this process, where the time is told; both doors lead here.
    front = VirtualFront(is_stream=is_stream)
    assert front.ask("gone.example", now=0.0) is None
    front.deny("gone.example", ttl=60, now=0.0)
    for now, left in ((1.0, 59), (30.0, 30), (59.0, 1)):
        response = front.ask("gone.example", now=now)
        assert response is not None
        assert (response.rcode, response.authority[0].ttl) == (wire.NXDOMAIN, left)
    assert front.ask("gone.example", now=60.0) is None
