"""RFC 8482: ANY gets one RRset, and always an answer."""

from __future__ import annotations

import pytest

from tests.conformance import wire
from tests.conformance.wire import ANY
from tests.conformance.world import KEY, Client


@pytest.mark.parametrize("qname", [KEY, f"www.{KEY}", f"web.{KEY}", f"any.wild.{KEY}", f"unknown.{KEY}"])
def test_any_gets_one_rrset_and_the_same_each_time(client: Client, qname: str) -> None:
    types = [{one.rtype for one in client.ask(qname, ANY).answer} for _ in range(3)]
    assert len(types[0]) == 1
    assert types[0] == types[1] == types[2]


def test_any_at_an_alias_gets_the_alias_alone(client: Client) -> None:
    assert [one.rtype for one in client.ask(f"alias.{KEY}", ANY).answer] == [wire.CNAME]


def test_any_at_a_missing_name_is_nxdomain_and_at_an_empty_one_no_data(client: Client) -> None:
    assert client.ask(f"nosuch.{KEY}", ANY).rcode == wire.NXDOMAIN
    response = client.ask(f"empty.{KEY}", ANY)
    assert (response.rcode, response.answer) == (wire.NOERROR, ())


def test_any_is_answered_for_names_of_our_own(client: Client) -> None:
    response = client.ask("p2p.alt", ANY)
    assert len({one.rtype for one in response.answer}) == 1


def test_any_is_passed_on_for_others(client: Client) -> None:
    assert client.ask(client.world.upstream.fresh("a"), ANY).answer


def test_any_in_class_chaos_is_answered(client: Client) -> None:
    response = client.ask("version.bind", ANY, qclass=wire.CH)
    assert [one.rtype for one in response.answer] == [wire.TXT]
