"""The table of pending questions: its places, its waiters and its timers."""

from __future__ import annotations

import gc
from typing import Any

import pytest

from p2pdns.dns.life import CLIENT_TIMER_S
from p2pdns.front.pending import (
    DATAGRAMS_PER_CLIENT_MAX,
    DATAGRAMS_WAITING_MAX,
    GRACE_S,
    QUESTIONS_PER_CLIENT_MAX,
    QUEUED_S_MAX,
    WAITERS_MAX,
    Ending,
    OpenQuestion,
    Questions,
)
from p2pdns.limits import QUESTION_S_MAX, QUESTIONS_MAX
from p2pdns.link import QuestionFrame
from tests.front_messages import crowd
from tests.front_questions import (
    GREEDY,
    LOOPBACKS,
    ONE_LINK,
    add,
    connected,
    end,
    fill,
    has_place,
    put_next,
    refused,
    waiter,
)


def test_equal_questions_are_asked_once() -> None:
    table = connected()
    first = waiter()
    asked = table.add(first.key, first, 0.0)
    assert isinstance(asked, QuestionFrame)
    assert asked.question == first.key[:-1]
    ask = asked.ask
    assert (ask.rd, ask.do, ask.cd, ask.deadline) == (True, False, False, QUESTION_S_MAX)
    second = waiter("WWW.example", port=4001)
    assert table.add(second.key, second, 1.0) is None
    pending = table.answered(asked.id)
    assert pending is not None
    assert table.released(pending) == [first, second]
    assert table.released(pending) == []
    assert len(table) == 0


def test_what_was_answered_is_forgotten_however_long_another_question_waits() -> None:
    """Thousands a second kept for seconds would have to be looked through in one go, by whoever asks next."""

    def kept_count() -> int:
        return sum(isinstance(kept, OpenQuestion) for kept in gc.get_objects())

    before = kept_count()
    table = connected()
    add(table, waiter("slow.example"), 0.0)
    for number in range(QUESTIONS_MAX):
        pending = table.answered(add(table, waiter(f"n{number}.example"), 0.1))
        assert pending is not None
        table.released(pending)
        del pending
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
    # Where it has a place, the time for which it may wait for one says nothing.
    assert table.get_timer() == 10.0 + QUEUED_S_MAX
    assert table.due(10.0 + QUEUED_S_MAX) == []
    assert table.get_timer() == 10.0 + QUESTION_S_MAX + GRACE_S
    ((same, ending),) = table.due(20.0)
    assert same is pending
    assert ending is Ending.DEADLINE
    assert table.get_timer() is None


def test_without_an_engine_a_question_is_held_for_the_client_timer() -> None:
    table = Questions(0.0)
    who = waiter()
    assert table.add(who.key, who, 5.0) is None
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
        pending = table.pending(waiter().key)
        assert pending is not None
        assert pending.is_put_again == put_again
        table.engine_lost(0.5)
    queries, given_up = table.engine_connected()
    assert queries == []
    assert [pending.key for pending in given_up] == [waiter().key]
    assert len(table) == 0


def test_the_table_is_bounded_and_what_is_beyond_waits_for_a_place() -> None:
    table = connected()
    numbers = [add(table, waiter(f"n{i}.example", host=crowd(i)), 0.0) for i in range(QUESTIONS_MAX)]
    assert table.put_count == QUESTIONS_MAX
    assert not has_place(table, waiter("other.example", host=GREEDY))
    assert has_place(table, waiter("n0.example", host=GREEDY))
    assert put_next(table) == []
    assert end(table, numbers[1]) == ["other"]
    assert table.put_count == QUESTIONS_MAX


def test_waiters_are_bounded_in_all_and_none_has_more_than_half() -> None:
    table = connected()
    held = [0, 0]
    for turn, host in enumerate((GREEDY, "192.168.1.3")):
        who = waiter(host=host, stream=True)
        # Over a connection each query counts, also one that is byte for byte the same.
        while refused(table, who) is None:
            held[turn] += 1
        assert refused(table, who) is Ending.GREEDY
    # A second host has half of the rest.
    assert held == [WAITERS_MAX // 2, WAITERS_MAX // 4]
    for number in range(WAITERS_MAX // 4):
        assert refused(table, waiter(host=crowd(number))) is None
    assert refused(table, waiter(host="192.168.1.2")) is Ending.TOO_MANY
    pending = table.answered(1)
    assert pending is not None
    assert len(table.released(pending)) == WAITERS_MAX
    assert table.holder_count == 0
    assert refused(table, who) is None


@pytest.mark.parametrize("host", ["127.0.0.1", "fd00::1"])
def test_one_socket_of_a_machine_leaves_its_others_room_to_wait(host: str) -> None:
    table = connected()
    who = waiter(host=host, stream=True)
    while refused(table, who) is None:
        pass
    neighbour = waiter(host="::1" if host == "127.0.0.1" else "fd00::2", stream=True)
    for _ in range(WAITERS_MAX // 8):
        assert refused(table, neighbour) is None


def test_one_address_has_so_many_queries_put_over_udp_and_others_go_on() -> None:
    table = connected()
    held = [waiter(f"n{i}.example", host=GREEDY, port=4000 + i) for i in range(DATAGRAMS_PER_CLIENT_MAX)]
    numbers = [add(table, who, 0.0) for who in held]
    assert not has_place(table, waiter("beyond.example", number=9, host=GREEDY))
    # The same address as a socket for both families shows it.
    assert not has_place(table, waiter("mapped.example", number=9, host=f"::ffff:{GREEDY}"))
    assert has_place(table, waiter("others.example", host="192.168.1.2"))
    assert has_place(table, waiter("link.example", host="fd00::1"))
    # Over TCP it is held back by its connections.
    assert has_place(table, waiter("tcp.example", host=GREEDY, stream=True))
    assert end(table, numbers[0]) == ["beyond"]
    assert end(table, numbers[1]) == ["mapped"]


def test_one_address_has_so_many_queries_waiting_over_udp_and_is_heard_over_tcp_beyond_that() -> None:
    table = connected()
    for i in range(DATAGRAMS_WAITING_MAX):
        assert refused(table, waiter(f"n{i}.example", host=GREEDY)) is None
    for name in ("other.example", "n0.example"):
        assert refused(table, waiter(name, number=9, host=GREEDY)) is Ending.GREEDY
        assert refused(table, waiter(name, host=GREEDY, stream=True)) is None
        assert refused(table, waiter(name, host="192.168.1.2")) is None
    # Who repeats what it has asked waits as before.
    assert refused(table, waiter("n0.example", host=GREEDY)) is None
    pending = table.answered(1)
    assert pending is not None
    table.released(pending)
    assert refused(table, waiter("other.example", host=GREEDY)) is None


def test_on_loopback_a_socket_is_a_client_and_the_whole_machine_has_no_more_than_any_address() -> None:
    table = connected()
    for i in range(DATAGRAMS_PER_CLIENT_MAX):
        assert has_place(table, waiter(f"n{i}.example"))
    assert not has_place(table, waiter("other.example"))
    port = 5000
    while has_place(table, waiter(f"p{port}.example", port=port)):
        port += 1
    assert table.put_count == QUESTIONS_PER_CLIENT_MAX
    for host in LOOPBACKS:
        assert not has_place(table, waiter(f"{len(table)}.example", host=host, port=53))
    assert has_place(table, waiter("outside.example", host=GREEDY))


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
    assert max(held.values()) - 1 <= min(QUESTIONS_MAX // 2, QUESTIONS_MAX - table.put_count)
    assert max(held.values()) - min(held.values()) <= 1
    assert has_place(table, waiter("other.example", stream=stream))


@pytest.mark.parametrize("socket_count", [1, 2, 4, 20])
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("newcomer", ["127.0.0.1", "::1"])
def test_whatever_some_sockets_of_loopback_ask_there_is_a_place_for_another(
    socket_count: int, stream: bool, newcomer: str
) -> None:
    table = connected()
    held = fill(table, [(LOOPBACKS[n % 2], 4000 + n) for n in range(socket_count)], stream=stream)
    assert max(held.values()) - 1 <= QUESTIONS_PER_CLIENT_MAX - table.put_count
    # systemd-resolved and a browser are other sockets.
    assert has_place(table, waiter("other.example", host=newcomer, port=53, stream=stream))


def test_one_address_of_a_link_leaves_places_for_its_neighbours() -> None:
    table = connected()
    assert fill(table, [("fd00::bad", 4000 + n) for n in range(9)]).total() == DATAGRAMS_PER_CLIENT_MAX
    assert has_place(table, waiter("other.example", host="fd00::1"))
    assert has_place(table, waiter("another.example", host="fd00:0:0:1::bad"))


def test_the_engine_hears_of_a_client_by_its_prefix_and_its_seat() -> None:
    table = connected()

    def heard(name: str, **client: Any) -> tuple[str, str]:
        sent = table.add((who := waiter(name, **client)).key, who, 0.0)
        assert isinstance(sent, QuestionFrame)
        return sent.ask.client_prefix, sent.ask.client_seat

    assert heard("a") == ("loopback", "udp 127.0.0.1 4000")
    assert heard("b", host="::1", port=5, stream=True) == ("loopback", "tcp ::1 5")
    assert heard("c", host="fd00::7") == ("fd00::/64", "fd00::7")
    assert heard("d", host="::ffff:192.168.1.1") == ("192.168.1.1", "192.168.1.1")


def test_a_forwarder_that_is_listed_has_what_an_address_may_have_over_one_socket() -> None:
    for host in ("192.168.9.9", "fd00:9::1"):
        assert fill(table := connected(), [(host, 4000)]).total() == QUESTIONS_PER_CLIENT_MAX
    assert refused(table, waiter(host="192.168.9.9")) is None


def test_who_joins_the_question_of_another_is_counted_too() -> None:
    table = connected()
    add(table, waiter(host="127.0.0.2"), 0.0)
    for number in range(DATAGRAMS_WAITING_MAX):
        assert refused(table, waiter(number=number)) is None
    assert refused(table, waiter(number=DATAGRAMS_WAITING_MAX)) is Ending.GREEDY


def test_over_both_transports_one_address_has_no_more_than_its_places() -> None:
    table = connected()
    held = fill(table, [(GREEDY, 4000)]) + fill(table, [(GREEDY, 4000)], stream=True)
    assert held.total() == table.put_count == QUESTIONS_PER_CLIENT_MAX
    # Over a stream it may still wait for what is asked already, and others have room.
    assert has_place(table, waiter("f0.example", host=GREEDY, stream=True))
    assert has_place(table, waiter("other.example"))


def test_a_question_counts_until_it_is_off_the_table_though_its_client_has_a_stale_answer() -> None:
    table = connected()
    for i in range(DATAGRAMS_PER_CLIENT_MAX):
        who = waiter(f"n{i}.example")
        assert has_place(table, who)
        pending = table.pending(who.key)
        assert pending is not None
        table.released(pending)
    who = waiter("other.example")
    assert not has_place(table, who)
    pending = table.pending(who.key)
    assert pending is not None
    table.released(pending)
    table.due(QUESTION_S_MAX + GRACE_S)
    assert has_place(table, who)
    table.due(2 * (QUESTION_S_MAX + GRACE_S))
    assert table.put_count == 0
