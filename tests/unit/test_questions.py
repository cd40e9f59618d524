"""The table of pending questions."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from p2pdns.front.gate import Passed
from p2pdns.front.questions import (
    BUDGET_S,
    CLIENT_TIMER_S,
    FORWARDED_MAX,
    GRACE_S,
    QUESTIONS_MAX,
    Ending,
    Questions,
    Waiter,
)
from tests.front_messages import CALM, gate, query


def waiter(name: str = "www.example", *, number: int = 1, port: int = 4000, stream: bool = False) -> Waiter:
    """Return a client that waits for a name."""
    door = gate()
    client = door.access.client(("127.0.0.1", port), is_stream=stream)
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
    assert table.is_full(waiter("other.example").asked.key)
    assert not table.is_full(waiter("n0.example").asked.key)


def test_waiters_are_bounded_in_all() -> None:
    table = connected()
    who = waiter(stream=True)
    while not table.is_full(who.asked.key):
        table.add(who.asked.key, who, 0.0)
    pending = table.pending(who.asked.key)
    assert pending is not None
    table.released(pending)
    assert not table.is_full(who.asked.key)


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
    assert table.get_timer() is None
