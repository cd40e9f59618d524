"""The table of pending questions."""

from __future__ import annotations

import gc
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from p2pdns.front.gate import Passed
from p2pdns.front.questions import (
    BUDGET_S,
    CLIENT_TIMER_S,
    DATAGRAMS_PER_CLIENT_MAX,
    FORWARDED_MAX,
    GRACE_S,
    QUESTIONS_MAX,
    QUESTIONS_PER_CLIENT_MAX,
    WAITERS_MAX,
    Ending,
    Pending,
    Questions,
    Waiter,
)
from tests.front_messages import CALM, gate, query

GREEDY = "192.168.1.1"


def waiter(
    name: str = "www.example", *, number: int = 1, host: str = "127.0.0.1", port: int = 4000, stream: bool = False
) -> Waiter:
    """Return a client that waits for a name."""
    door = gate(["127.0.0.0/8", "::1/128", "192.168.0.0/16", "fd00::/8"], listed=["192.168.9.9"])
    client = door.access.client((host, port), is_stream=stream)
    verdict = door.verdict(query(name, number=number), client, 0.0)
    assert isinstance(verdict, Passed)
    return Waiter(verdict.asked, client, lambda _: None)


def connected(now: float = 0.0) -> Questions:
    """Return an empty table with an engine."""
    table = Questions(now)
    table.engine_connected()
    return table


def add(table: Questions, who: Waiter, now: float) -> int:
    """Let somebody wait; return the number of the question."""
    table.add(who.asked.key, who, now)
    pending = table.pending(who.asked.key)
    assert pending is not None
    return pending.id


def refused(table: Questions, who: Waiter) -> Ending | None:
    """Return why somebody may not wait."""
    return table.refusal(who.asked.key, who)


def test_equal_questions_are_asked_once() -> None:
    table = connected()
    first = waiter()
    asked = table.add(first.asked.key, first, 0.0)
    assert asked is not None
    assert asked.question == first.asked.key[:-1]
    assert (asked.rd, asked.do, asked.cd, asked.deadline) == (True, False, False, BUDGET_S)
    second = waiter("WWW.example", port=4001)
    assert table.add(second.asked.key, second, 1.0) is None
    pending = table.answered(asked.id)
    assert pending is not None
    assert table.released(pending) == [first, second]
    assert table.released(pending) == []
    assert len(table) == 0


def test_what_was_answered_is_forgotten_however_long_another_question_waits() -> None:
    """Thousands a second kept for seconds would have to be looked through in one go, by whoever asks next."""

    def kept_count() -> int:
        return sum(isinstance(kept, Pending) for kept in gc.get_objects())

    before = kept_count()
    table = connected()
    add(table, waiter("slow.example"), 0.0)
    for number in range(QUESTIONS_MAX):
        table.answered(add(table, waiter(f"n{number}.example"), 0.1))
    assert len(table) == 1
    assert kept_count() == before + 1


def test_a_repeated_datagram_waits_once_and_a_repeated_query_on_a_stream_twice() -> None:
    table = connected()
    number = add(table, waiter(), 0.0)
    add(table, waiter(), 0.5)
    add(table, waiter(stream=True), 0.5)
    add(table, waiter(stream=True), 0.5)
    pending = table.answered(number)
    assert pending is not None
    assert len(table.released(pending)) == 3


def test_the_client_timer_fires_once_and_the_question_goes_on_until_its_deadline() -> None:
    table = connected()
    add(table, waiter(), 10.0)
    assert table.get_timer() == 10.0 + CLIENT_TIMER_S
    assert table.due(11.0) == []
    ((pending, ending),) = table.due(10.0 + CLIENT_TIMER_S)
    assert ending is Ending.SLOW
    assert table.get_timer() == 10.0 + BUDGET_S + GRACE_S
    ((same, ending),) = table.due(20.0)
    assert same is pending
    assert ending is Ending.DEADLINE
    assert table.get_timer() is None


def test_without_an_engine_a_question_is_held_for_the_client_timer() -> None:
    table = Questions(0.0)
    who = waiter()
    assert table.add(who.asked.key, who, 5.0) is None
    assert table.get_timer() == 5.0 + CLIENT_TIMER_S
    assert [ending for _, ending in table.due(5.0 + CLIENT_TIMER_S)] == [Ending.NO_ENGINE]
    assert len(table) == 0


def test_when_the_engine_goes_what_waits_is_held_from_then_on() -> None:
    table = connected()
    add(table, waiter(), 0.0)
    table.due(1.9)
    table.engine_lost(2.0)
    assert table.due(3.7) == []
    assert [ending for _, ending in table.due(2.0 + CLIENT_TIMER_S)] == [Ending.NO_ENGINE]


def test_a_question_is_put_again_once() -> None:
    table = Questions(0.0)
    add(table, waiter(), 0.0)
    for put_again in (False, True):
        queries, given_up = table.engine_connected()
        assert (len(queries), given_up) == (1, [])
        pending = table.pending(waiter().asked.key)
        assert pending is not None
        assert pending.is_put_again == put_again
        table.engine_lost(0.5)
    queries, given_up = table.engine_connected()
    assert queries == []
    assert [pending.key for pending in given_up] == [waiter().asked.key]
    assert len(table) == 0


def test_the_table_is_bounded_and_joining_a_question_still_works_when_it_is_full() -> None:
    table = connected()
    for i in range(QUESTIONS_MAX):
        add(table, waiter(f"n{i}.example"), 0.0)
    assert refused(table, waiter("other.example", host="127.0.0.2")) is Ending.TOO_MANY
    assert refused(table, waiter("n0.example", host="127.0.0.2")) is None


def test_waiters_are_bounded_in_all() -> None:
    table = connected()
    who = waiter(stream=True)
    count = 0
    while refused(table, who) is None:
        table.add(who.asked.key, who, 0.0)
        who, count = replace(who), count + 1
    assert (refused(table, who), count) == (Ending.TOO_MANY, WAITERS_MAX)
    pending = table.pending(who.asked.key)
    assert pending is not None
    assert len(table.released(pending)) == WAITERS_MAX
    assert refused(table, who) is None


def test_one_address_has_so_many_queries_waiting_over_udp_and_others_go_on() -> None:
    table = connected()
    held = [waiter(f"n{i}.example", host=GREEDY, port=4000 + i) for i in range(DATAGRAMS_PER_CLIENT_MAX)]
    numbers = [add(table, who, 0.0) for who in held]
    for name in ("other.example", "n0.example"):
        assert refused(table, waiter(name, number=9, host=GREEDY)) is Ending.GREEDY
        # The same address as a socket for both families shows it.
        assert refused(table, waiter(name, number=9, host=f"::ffff:{GREEDY}")) is Ending.GREEDY
        assert refused(table, waiter(name, host="192.168.1.2")) is None
        assert refused(table, waiter(name, host="fd00::1")) is None
    # Who repeats what it has asked waits as before.
    assert refused(table, held[0]) is None
    pending = table.answered(numbers[0])
    assert pending is not None
    table.released(pending)
    assert refused(table, waiter("other.example", host=GREEDY)) is None


def test_on_loopback_a_socket_is_a_client_and_the_whole_machine_has_no_more_than_any_address() -> None:
    table = connected()
    for i in range(DATAGRAMS_PER_CLIENT_MAX):
        add(table, waiter(f"n{i}.example"), 0.0)
    assert refused(table, waiter("other.example")) is Ending.GREEDY
    port = 5000
    while refused(table, who := waiter(f"p{port}.example", port=port)) is None:
        add(table, who, 0.0)
        port += 1
    assert len(table) == QUESTIONS_PER_CLIENT_MAX
    assert refused(table, waiter("other.example", host="127.0.0.2")) is None


def test_a_forwarder_that_is_listed_has_what_an_address_may_have_over_one_socket() -> None:
    table = connected()
    number = 0
    while refused(table, who := waiter(f"n{number}.example", host="192.168.9.9")) is None:
        add(table, who, 0.0)
        number += 1
    assert number == QUESTIONS_PER_CLIENT_MAX


def test_who_joins_the_question_of_another_is_counted_too() -> None:
    table = connected()
    add(table, waiter(host="127.0.0.2"), 0.0)
    for number in range(DATAGRAMS_PER_CLIENT_MAX):
        assert refused(table, waiter(number=number)) is None
        add(table, waiter(number=number), 0.0)
    assert refused(table, waiter(number=DATAGRAMS_PER_CLIENT_MAX)) is Ending.GREEDY


def test_over_both_transports_one_address_cannot_take_what_may_wait_for_an_upstream() -> None:
    table = connected()
    over_udp, number = 0, 0
    while refused(table, who := waiter(f"n{number}.example", stream=over_udp >= DATAGRAMS_PER_CLIENT_MAX)) is None:
        assert table.forwarded(add(table, who, 0.0)) is None
        over_udp, number = over_udp + (not who.client.is_stream), number + 1
    assert (number, len(table)) == (QUESTIONS_PER_CLIENT_MAX, QUESTIONS_PER_CLIENT_MAX)
    assert refused(table, who) is Ending.GREEDY
    # Over a stream it may still wait for what is asked already, and others have room.
    assert refused(table, waiter("n0.example", stream=True)) is None
    assert table.forwarded(add(table, waiter("other.example", host="127.0.0.2"), 0.0)) is None


def test_a_question_counts_until_it_is_off_the_table_though_its_client_has_a_stale_answer() -> None:
    table = connected()
    for i in range(QUESTIONS_PER_CLIENT_MAX):
        pending = table.pending((who := waiter(f"n{i}.example")).asked.key)
        assert pending is None
        add(table, who, 0.0)
        pending = table.pending(who.asked.key)
        assert pending is not None
        table.released(pending)
    assert refused(table, waiter("other.example")) is Ending.GREEDY
    table.due(BUDGET_S + GRACE_S)
    assert refused(table, waiter("other.example")) is None
    assert not table._put
    assert not table._datagrams


def test_forwarded_questions_hold_half_of_the_table_at_most() -> None:
    table = connected()
    numbers = [add(table, waiter(f"n{i}.example"), 0.0) for i in range(FORWARDED_MAX + 1)]
    assert [table.forwarded(number) for number in numbers[:-1]] == [None] * FORWARDED_MAX
    assert table.forwarded(numbers[0]) is None
    last = table.forwarded(numbers[-1])
    assert last is not None
    assert last.id == numbers[-1]
    # An answered one makes room.
    table.answered(numbers[0])
    assert table.forwarded(add(table, waiter("later.example"), 0.0)) is None


@CALM
@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("ask"), st.integers(0, 8)),
            st.tuples(st.just("answer"), st.integers(1, 12)),
            st.tuples(st.just("forward"), st.integers(1, 12)),
            st.tuples(st.just("engine"), st.integers(0, 1)),
            st.tuples(st.just("wait"), st.integers(0, 30)),
        ),
        max_size=60,
    )
)
def test_every_waiter_is_released_exactly_once(steps: list[tuple[str, int]]) -> None:
    table, now, asked, released = Questions(0.0), 0.0, 0, 0
    for step, number in steps:
        if step == "ask":
            table.add(waiter(f"n{number}").asked.key, waiter(f"n{number}", stream=True), now)
            asked += 1
        elif step == "answer":
            pending = table.answered(number)
            released += len(table.released(pending)) if pending else 0
        elif step == "forward":
            table.forwarded(number)
        elif step == "engine" and number:
            released += sum(len(table.released(pending)) for pending in table.engine_connected()[1])
        elif step == "engine":
            table.engine_lost(now)
        else:
            now += number / 10
            timer = table.get_timer()
            due = table.due(now)
            assert bool(due) == (timer is not None and timer <= now)
            released += sum(len(table.released(pending)) for pending, how in due if how is not Ending.SLOW)
    for later in (CLIENT_TIMER_S, BUDGET_S + GRACE_S):
        released += sum(len(table.released(p)) for p, how in table.due(now + later) if how is not Ending.SLOW)
    assert released == asked
    assert len(table) == 0
    assert not table._put
    assert not table._datagrams
    assert table.get_timer() is None
