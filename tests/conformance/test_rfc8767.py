"""RFC 8767: stale answers.

Once with the daemon, and then in this process, bytes in and bytes out: there the time is told, and a day is soon over.
"""

from __future__ import annotations

import pytest

from tests.conformance import wire
from tests.conformance.upstream import ADDRESS
from tests.conformance.virtual import VirtualFront
from tests.conformance.world import Client
from tests.live.front_process import wait_until

NAME = "www.example"
STALE_EDE, STALE_NXDOMAIN_EDE = 3, 19
STALE_TTL_S = 30
CLIENT_TIMER_S = 1.8
DAY_S = 86_400.0


@pytest.fixture(params=[False, True], ids=["udp", "tcp"])
def front(request: pytest.FixtureRequest) -> VirtualFront:
    """A front that holds an answer of 60 s from time 0, for either door."""
    made = VirtualFront(is_stream=request.param)
    made.ask(NAME, now=0.0)
    made.tell(NAME, ttl=60, now=0.0)
    return made


@pytest.mark.parametrize("behaviour", ["fails", "falls"], ids=["SERVFAIL", "silence"])
def test_when_the_only_upstream_is_lost_its_last_answer_is_given(client: Client, behaviour: str) -> None:
    qname = client.world.upstream.fresh(behaviour)
    responses = [client.ask(qname, additional=[wire.opt()])]

    def is_stale() -> bool:
        responses.append(client.ask(qname, additional=[wire.opt()]))
        return STALE_EDE in responses[-1].ede

    wait_until(is_stale, "the end of a TTL of one second")
    assert {response.rcode for response in responses} == {wire.NOERROR}
    assert {response.answer[0].rdata for response in responses} == {ADDRESS}
    assert [response.answer[0].ttl for response in responses if response.ede] == [STALE_TTL_S]


def test_an_answer_is_not_stale_before_its_time(front: VirtualFront) -> None:
    response = front.ask(NAME, now=59.9)
    assert response is not None
    assert (response.answer[0].ttl, response.ede) == (1, ())


def test_an_expired_answer_is_asked_for_again_first(front: VirtualFront) -> None:
    assert front.ask(NAME, now=60.0) is None
    assert len(front.asked) == 2
    front.tell(NAME, ttl=60, now=60.1)
    assert (front.last().answer[0].ttl, front.last().ede) == (60, ())


def test_a_client_waits_for_1_8_seconds_and_gets_the_stale_answer_with_ttl_30_and_its_reason(
    front: VirtualFront,
) -> None:
    before = len(front.late)
    assert front.ask(NAME, now=100.0) is None
    front.funnel.handle_timer(100.0 + CLIENT_TIMER_S - 0.01)
    assert len(front.late) == before
    timer = front.funnel.get_timer()
    assert timer == pytest.approx(100.0 + CLIENT_TIMER_S)
    front.funnel.handle_timer(100.0 + CLIENT_TIMER_S)
    response = front.last()
    assert (response.rcode, response.answer[0].ttl, response.ede) == (wire.NOERROR, STALE_TTL_S, (STALE_EDE,))


def test_the_refresh_goes_on_behind_a_stale_answer(front: VirtualFront) -> None:
    front.ask(NAME, now=100.0)
    front.funnel.handle_timer(100.0 + CLIENT_TIMER_S)
    front.tell(NAME, ttl=60, now=103.0)
    response = front.ask(NAME, now=104.0)
    assert response is not None
    assert (response.answer[0].ttl, response.ede) == (59, ())


def test_a_failure_is_answered_with_what_is_stale_and_both_reasons(front: VirtualFront) -> None:
    front.ask(NAME, now=100.0)
    front.fail(NAME, now=100.5)
    response = front.last()
    assert (response.rcode, response.answer[0].ttl) == (wire.NOERROR, STALE_TTL_S)
    assert set(response.ede) == {STALE_EDE, 22}


def test_after_a_failure_the_stale_answer_is_given_at_once_for_a_while(front: VirtualFront) -> None:
    front.ask(NAME, now=100.0)
    front.fail(NAME, now=100.5, lasts_s=5.0)
    assert front.ask(NAME, now=104.0) is not None
    assert len(front.asked) == 2
    # Then there is another attempt (RFC 8767 §5: the failure recheck timer).
    assert front.ask(NAME, now=106.0) is None
    assert len(front.asked) == 3


def test_a_client_without_edns_gets_the_stale_answer_without_a_reason(front: VirtualFront) -> None:
    front.ask(NAME, now=100.0, with_opt=False)
    front.funnel.handle_timer(100.0 + CLIENT_TIMER_S)
    assert (front.last().opt, front.last().answer[0].ttl) == (None, STALE_TTL_S)


@pytest.mark.parametrize(("age_s", "rcode"), [(DAY_S - 1, wire.NOERROR), (DAY_S + 1, wire.SERVFAIL)])
def test_after_a_day_a_stale_answer_is_given_no_more(front: VirtualFront, age_s: float, rcode: int) -> None:
    front.ask(NAME, now=60.0 + age_s)
    front.fail(NAME, now=60.0 + age_s)
    assert front.last().rcode == rcode


def test_a_new_answer_ends_the_stale_one_even_where_it_is_an_absence(front: VirtualFront) -> None:
    front.ask(NAME, now=100.0)
    front.deny(NAME, ttl=60, now=100.0)
    assert front.last().rcode == wire.NXDOMAIN
    front.ask(NAME, now=170.0)
    front.fail(NAME, now=170.0)
    assert (front.last().rcode, STALE_NXDOMAIN_EDE in front.last().ede) == (wire.NXDOMAIN, True)


def test_an_answer_whose_ttl_was_zero_is_never_stale(front: VirtualFront) -> None:
    front.ask("zero.example", now=0.0)
    front.tell("zero.example", ttl=0, now=0.0, stale_s=0.0)
    front.ask("zero.example", now=1.0)
    front.fail("zero.example", now=1.0)
    assert front.last().rcode == wire.SERVFAIL
