"""The table of pending questions."""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
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
from tests.front_messages import CALM, crowd, gate, query

GREEDY = "192.168.1.1"
# What one machine may call itself: any of 127.0.0.0/8, and in IPv6 any address of a /64.
LOOPBACKS = ["127.0.0.1", "127.0.0.2", "127.255.255.254", "::1", "::ffff:127.0.0.1", "::ffff:7f00:5"]
DOOR = gate(
    ["127.0.0.0/8", "::1/128", "192.168.0.0/16", "10.0.0.0/8", "fd00::/8"], listed=["192.168.9.9", "fd00:9::/32"]
)
ONE_LINK = ["fd00::1", "fd00::2", "fd00::ffff:ffff:ffff:ffff", "fd00:0:0:0:abcd::"]


def waiter(
    name: str = "www.example", *, number: int = 1, host: str = "127.0.0.1", port: int = 4000, stream: bool = False
) -> Waiter:
    """Return a client that waits for a name."""
    client = DOOR.access.client((host, port), is_stream=stream)
    verdict = DOOR.verdict(query(name, number=number), client, 0.0)
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
    assert refused(table, waiter("other.example", host=GREEDY)) is Ending.TOO_MANY
    assert refused(table, waiter("n0.example", host=GREEDY)) is None


def test_waiters_are_bounded_in_all_and_none_has_more_than_half() -> None:
    table = connected()
    who, held = waiter(stream=True), [0, 0]
    for turn in range(2):
        while refused(table, who) is None:
            table.add(who.asked.key, who, 0.0)
            who, held[turn] = replace(who), held[turn] + 1
        assert refused(table, who) is Ending.GREEDY
        who = waiter(host=GREEDY, stream=True)
    # A second host has half of the rest.
    assert held == [WAITERS_MAX // 2, WAITERS_MAX // 4]
    for number in range(WAITERS_MAX // 4):
        who = waiter(host=crowd(number))
        assert refused(table, who) is None
        table.add(who.asked.key, who, 0.0)
    assert refused(table, waiter(host="192.168.1.2")) is Ending.TOO_MANY
    pending = table.pending(who.asked.key)
    assert pending is not None
    assert len(table.released(pending)) == WAITERS_MAX
    assert refused(table, who) is None
    assert not table._waiters_of


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
    for host in LOOPBACKS:
        assert refused(table, waiter("other.example", host=host, port=53)) is Ending.GREEDY
    assert refused(table, waiter("other.example", host=GREEDY)) is None


def fill(table: Questions, clients: Sequence[tuple[str, int]], *, stream: bool = False) -> Counter[tuple[str, int]]:
    """Let clients ask for ever new names in turn until none may; return how many each has at the engine."""
    held: Counter[tuple[str, int]] = Counter()
    asking = list(clients)
    while asking:
        for client in list(asking):
            who = waiter(f"n{len(table)}.example", host=client[0], port=client[1], stream=stream)
            if refused(table, who) is None:
                add(table, who, 0.0)
                held[client] += 1
            else:
                asking.remove(client)
    return held


@pytest.mark.parametrize("addresses", [LOOPBACKS, ONE_LINK], ids=["loopback", "a /64"])
def test_all_addresses_of_a_machine_are_one_host(addresses: list[str]) -> None:
    table = connected()
    held = fill(table, [(address, 4000) for address in addresses])
    assert sum(held.values()) <= QUESTIONS_PER_CLIENT_MAX <= QUESTIONS_MAX // 2
    assert fill(table, [(GREEDY, 4000)]).total() == DATAGRAMS_PER_CLIENT_MAX


@pytest.mark.parametrize("host_count", [1, 2, 4, 8, 40])
@pytest.mark.parametrize("stream", [False, True])
def test_whatever_some_hosts_ask_there_is_a_place_for_another(host_count: int, stream: bool) -> None:
    table = connected()
    held = fill(table, [(crowd(number), 4000) for number in range(host_count)], stream=stream)
    assert max(held.values()) - 1 <= min(QUESTIONS_MAX // 2, QUESTIONS_MAX - len(table))
    assert max(held.values()) - min(held.values()) <= 1
    assert refused(table, waiter("other.example")) is None
    assert refused(table, waiter("other.example", stream=True)) is None


@pytest.mark.parametrize("socket_count", [1, 2, 4, 20])
@pytest.mark.parametrize("stream", [False, True])
def test_whatever_some_sockets_of_loopback_ask_there_is_a_place_for_another(socket_count: int, stream: bool) -> None:
    table = connected()
    held = fill(table, [(LOOPBACKS[n % 2], 4000 + n) for n in range(socket_count)], stream=stream)
    assert max(held.values()) - 1 <= QUESTIONS_PER_CLIENT_MAX - len(table)
    # systemd-resolved and a browser are other sockets.
    assert refused(table, waiter("other.example", port=53)) is None
    assert refused(table, waiter("other.example", port=53, stream=True)) is None
    assert refused(table, waiter("other.example", host="::1")) is None


def test_one_address_of_a_link_leaves_places_for_its_neighbours() -> None:
    table = connected()
    assert fill(table, [("fd00::bad", 4000 + n) for n in range(9)]).total() == DATAGRAMS_PER_CLIENT_MAX
    assert refused(table, waiter("other.example", host="fd00::1")) is None
    assert refused(table, waiter("other.example", host="fd00:0:0:1::bad")) is None


def test_one_host_has_half_of_what_may_wait_for_an_upstream_and_any_number_leaves_room() -> None:
    table = connected()
    given_up: Counter[str] = Counter()
    for number in range(FORWARDED_MAX // 2 + 1):
        host = LOOPBACKS[number % 2]
        given_up[host] += table.forwarded(add(table, waiter(f"n{number}.example", host=host), 0.0)) is not None
    assert given_up.total() == 1
    # A question given up leaves its place.
    assert len(table) == FORWARDED_MAX // 2
    for host in ("192.168.1.1", "192.168.1.2", "192.168.1.3"):
        for number in range(FORWARDED_MAX // 2):
            table.forwarded(add(table, waiter(f"n{number}.{host}", host=host), 0.0))
    assert table.forwarded(add(table, waiter("other.example", host="192.168.2.1"), 0.0)) is None
    # A new engine has forwarded none of them yet.
    table.engine_connected()
    assert not table._forwarded_of


def test_the_engine_hears_of_a_client_by_its_prefix_and_its_seat() -> None:
    table = connected()

    def heard(name: str, **client: Any) -> tuple[str, str]:
        sent = table.add((who := waiter(name, **client)).asked.key, who, 0.0)
        assert sent is not None
        return sent.client_prefix, sent.client_seat

    assert heard("a") == ("loopback", "udp 127.0.0.1 4000")
    assert heard("b", host="::1", port=5, stream=True) == ("loopback", "tcp ::1 5")
    assert heard("c", host="fd00::7") == ("fd00::/64", "fd00::7")
    assert heard("d", host="::ffff:192.168.1.1") == ("192.168.1.1", "192.168.1.1")


def test_a_forwarder_that_is_listed_has_what_an_address_may_have_over_one_socket() -> None:
    table = connected()
    for host in ("192.168.9.9", "fd00:9::1"):
        assert fill(connected(), [(host, 4000)]).total() == QUESTIONS_PER_CLIENT_MAX
    assert refused(table, waiter(host="192.168.9.9")) is None


def test_who_joins_the_question_of_another_is_counted_too() -> None:
    table = connected()
    add(table, waiter(host="127.0.0.2"), 0.0)
    for number in range(DATAGRAMS_PER_CLIENT_MAX):
        assert refused(table, waiter(number=number)) is None
        add(table, waiter(number=number), 0.0)
    assert refused(table, waiter(number=DATAGRAMS_PER_CLIENT_MAX)) is Ending.GREEDY


def test_over_both_transports_one_address_cannot_take_what_may_wait_for_an_upstream() -> None:
    table = connected()
    held = fill(table, [(GREEDY, 4000)]) + fill(table, [(GREEDY, 4000)], stream=True)
    assert (held.total(), len(table)) == (QUESTIONS_PER_CLIENT_MAX, QUESTIONS_PER_CLIENT_MAX)
    for number in range(len(table)):
        table.forwarded(number + 1)
    assert len(table) == FORWARDED_MAX // 2
    # Over a stream it may still wait for what is asked already, and others have room.
    assert refused(table, waiter("n0.example", host=GREEDY, stream=True)) is None
    assert table.forwarded(add(table, waiter("other.example"), 0.0)) is None


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
    numbers = [add(table, waiter(f"n{i}.example", host=crowd(i)), 0.0) for i in range(FORWARDED_MAX + 1)]
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
    for counts in (table._put, table._put_from, table._datagrams, table._waiters_of, table._forwarded_of):
        assert not counts
    assert table.get_timer() is None
