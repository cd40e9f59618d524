"""RFC 9520: a failure is remembered, for a while, and only for the question that failed."""

from __future__ import annotations

import pytest

from tests.conformance import wire
from tests.conformance.virtual import VirtualFront
from tests.conformance.world import GONE_KEY, Client

FAILURE_S_MAX = 300.0


@pytest.mark.parametrize("behaviour", ["servfail", "refused", "formerr", "garbage"])
def test_the_same_failure_is_not_asked_for_again_at_once(client: Client, behaviour: str) -> None:
    upstream = client.world.upstream
    qname = upstream.fresh(behaviour)
    assert client.ask(qname).rcode == wire.SERVFAIL
    before = len(upstream.queries_for(qname))
    for _ in range(5):
        assert client.ask(qname).rcode == wire.SERVFAIL
    assert len(upstream.queries_for(qname)) == before


def test_a_server_that_fails_is_asked_no_more_often_than_it_may_be(client: Client) -> None:
    # RFC 9520 §3.1: one try to begin with and few more for the same question to the same server.
    upstream = client.world.upstream
    qname = upstream.fresh("servfail")
    client.ask(qname)
    assert len(upstream.queries_for(qname)) <= 3


def test_the_failure_of_one_question_says_nothing_about_another(client: Client) -> None:
    upstream = client.world.upstream
    assert client.ask(upstream.fresh("servfail")).rcode == wire.SERVFAIL
    assert client.ask(upstream.fresh("a")).answer


def test_a_zone_that_was_not_found_is_not_looked_for_again_at_once(client: Client) -> None:
    control = client.world.resolver.control
    client.ask(f"www.{GONE_KEY}")
    before = len(control.call("lookups")["lookups"])
    for number in range(3):
        # Other names of it too: the failure is the zone's.
        assert client.ask(f"n{number}.{GONE_KEY}").rcode == wire.SERVFAIL
    assert len(control.call("lookups")["lookups"]) == before


@pytest.mark.parametrize("is_stream", [False, True])
def test_a_failure_is_kept_for_its_time_and_then_asked_for_again(is_stream: bool) -> None:
    # In this process, where the time is told.
    front = VirtualFront(is_stream=is_stream)
    front.ask("x.example", now=0.0)
    front.fail("x.example", now=0.0, lasts_s=5.0)
    kept = front.ask("x.example", now=4.9)
    assert kept is not None
    assert kept.rcode == wire.SERVFAIL
    assert front.ask("x.example", now=5.0) is None
    assert len(front.asked) == 2


@pytest.mark.parametrize("is_stream", [False, True])
def test_no_failure_is_kept_for_longer_than_five_minutes(is_stream: bool) -> None:
    # In this process, where the time is told.
    front = VirtualFront(is_stream=is_stream)
    front.ask("x.example", now=0.0)
    front.fail("x.example", now=0.0, lasts_s=86_400.0)
    assert front.ask("x.example", now=FAILURE_S_MAX - 1) is not None
    assert front.ask("x.example", now=FAILURE_S_MAX) is None
