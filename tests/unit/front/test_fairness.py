"""Fairness among connections, without any: who is taken, who makes room, how much may wait, whose turn it is."""

from __future__ import annotations

import pytest

from p2pdns.config import LimitsTable
from p2pdns.front.doors.fairness import (
    QUERIES_IN_A_ROW_MAX,
    QUERIES_WAITING_MAX,
    QUERIES_WAITING_OWN_MAX,
    QUERIES_WAITING_PER_CLIENT_MAX,
    Account,
    Fairness,
)


class Line:
    """A connection that is idle or not, as the test says."""

    def __init__(self) -> None:
        self.is_idle = True


class World:
    """Fairness, and the connections that it was told of."""

    def __init__(self, connections_max: int = 150, per_client_max: int = 20) -> None:
        self.fairness: Fairness[Line] = Fairness(LimitsTable(connections_max, per_client_max))
        self.now = 0.0
        self.given_up: Line | None = None

    def open(self, host: str = "a", *, is_idle: bool = True) -> Account[Line]:
        """Open a connection, which must be taken."""
        account = Account(Line(), host, self.now)
        account.connection.is_idle = is_idle
        is_taken, self.given_up = self.fairness.admit(account)
        assert is_taken
        return account

    def is_refused(self, host: str = "a") -> bool:
        """Return whether one more connection is not taken, for which no other one goes either."""
        is_taken, given_up = self.fairness.admit(Account(Line(), host, self.now))
        return not is_taken and given_up is None

    def wait(self, account: Account[Line], count: int) -> int:
        """Let so many queries wait, as far as there is room; return how many had room."""
        for done in range(count):
            if not self.fairness.has_room(account):
                return done
            self.fairness.waits(account)
        return count

    def order(self) -> list[Line]:
        """Return the connections in the order of their turns, to the end."""
        turns = []
        while (turn := self.fairness.next_turn(QUERIES_IN_A_ROW_MAX)) is not None:
            turns.append(turn[0])
        return turns


def test_a_client_with_all_its_connections_gives_up_its_own_that_was_idle_for_longest() -> None:
    world = World(per_client_max=3)
    other = world.open("other")
    first, second, busy = world.open(), world.open(), world.open(is_idle=False)
    world.fairness.brought(first, 1.0)
    late = world.open()
    assert world.given_up is second.connection
    world.open()
    assert world.given_up is first.connection
    assert set(world.fairness.accounts) >= {other, busy, late}
    assert len(world.fairness.accounts) == 4


def test_a_client_whose_connections_all_wait_has_no_further_one_though_others_are_idle() -> None:
    world = World(per_client_max=2)
    world.open("other")
    for _ in range(2):
        world.open(is_idle=False)
    assert world.is_refused()
    assert world.fairness.counters == {"accepted": 3, "client-limit": 1}


def test_a_full_door_gives_up_the_longest_idle_connection_of_whatever_client() -> None:
    world = World(connections_max=3)
    world.open("a", is_idle=False)
    oldest, newer = world.open("b"), world.open("c")
    world.open("d")
    assert world.given_up is oldest.connection
    world.fairness.brought(newer, 1.0)
    world.open("e")
    assert world.given_up is not newer.connection


@pytest.mark.parametrize(("has", "is_taken"), [(0, True), (1, True), (2, False), (3, False)])
def test_where_none_is_idle_a_client_that_has_two_fewer_takes_one_of_the_client_that_has_most(
    has: int, is_taken: bool
) -> None:
    world = World(connections_max=3 + has)
    greedy = [world.open("greedy", is_idle=False) for _ in range(3)]
    for _ in range(has):
        world.open("late", is_idle=False)
    if is_taken:
        world.open("late")
        assert world.given_up is greedy[0].connection
    else:
        assert world.is_refused("late")
        assert world.fairness.counters["limit"] == 1


def test_a_closed_connection_is_forgotten_however_often_it_is_closed() -> None:
    world = World(per_client_max=2)
    for _ in range(5):
        account, other = world.open(is_idle=False), world.open(is_idle=False)
        world.fairness.wants_turn(account)
        for one in (account, account, other):
            world.fairness.close(one)
        assert not world.fairness.has_turns
    assert not world.fairness.accounts
    assert world.fairness.counters == {"accepted": 10}


def test_new_limits_hold_for_the_next_connection() -> None:
    world = World(per_client_max=1)
    world.open(is_idle=False)
    world.fairness.limits = LimitsTable(tcp_connections_per_client_max=2)
    world.open(is_idle=False)
    assert world.is_refused()


def test_one_connection_has_so_many_queries_waiting() -> None:
    world = World()
    account = world.open()
    assert world.wait(account, 1_000) == QUERIES_WAITING_MAX == account.waiting_count
    # Its next answer is what it hears of; it does not wait for others of its client.
    assert world.fairness.answered(account, 1.0) == []
    assert world.wait(account, 1_000) == 1


def test_one_client_has_so_many_queries_waiting_and_each_connection_two_that_no_other_takes() -> None:
    world = World()
    greedy = [world.open() for _ in range(2)]
    assert sum(world.wait(one, 1_000) for one in greedy) == QUERIES_WAITING_PER_CLIENT_MAX
    late, other = world.open(), world.open("other")
    assert world.wait(late, 1_000) == QUERIES_WAITING_OWN_MAX
    assert world.wait(other, 1_000) == QUERIES_WAITING_MAX


def test_connections_hear_once_that_their_client_has_room_again() -> None:
    world = World()
    first, second = world.open(), world.open()
    stalled, gone = world.open(), world.open()
    for one in (first, second, stalled, gone):
        world.wait(one, 1_000)
    world.fairness.close(gone)
    other = world.open("other")
    world.fairness.waits(other)
    assert world.fairness.answered(other, 1.0) == []
    assert world.fairness.answered(first, 1.0) == [second.connection, stalled.connection]
    assert world.fairness.answered(first, 1.0) == []


def test_what_waits_of_a_connection_that_is_gone_counts_for_its_client_until_it_is_answered() -> None:
    world = World()
    gone = [world.open() for _ in range(2)]
    for one in gone:
        world.wait(one, QUERIES_WAITING_MAX)
        world.fairness.close(one)
    waiting_count = world.fairness.waiting["a"]
    late = world.open()
    assert world.wait(late, 1_000) == max(QUERIES_WAITING_OWN_MAX, QUERIES_WAITING_PER_CLIENT_MAX - waiting_count)
    for one in gone:
        for _ in range(one.waiting_count):
            world.fairness.answered(one, 1.0)
    assert world.fairness.waiting["a"] == late.waiting_count
    for _ in range(late.waiting_count):
        world.fairness.answered(late, 1.0)
    assert not world.fairness.waiting


def test_turns_go_around_and_a_second_wish_changes_no_place() -> None:
    world = World()
    first, second, third = (world.open() for _ in range(3))
    for one in (first, second, first, third):
        world.fairness.wants_turn(one)
    assert world.order() == [first.connection, second.connection, third.connection]
    assert not world.fairness.has_turns


@pytest.mark.parametrize(("left", "count"), [(100, QUERIES_IN_A_ROW_MAX), (1, 1)])
def test_a_turn_is_a_few_queries_and_never_more_than_are_left(left: int, count: int) -> None:
    world = World()
    account = world.open()
    world.fairness.wants_turn(account)
    assert world.fairness.next_turn(left) == (account.connection, count)


@pytest.mark.parametrize("left", [0, -1])
def test_with_nothing_left_nobody_loses_a_turn(left: int) -> None:
    world = World()
    account = world.open()
    world.fairness.wants_turn(account)
    assert world.fairness.next_turn(left) is None
    assert world.fairness.has_turns


def test_a_connection_is_idle_from_its_last_query_or_answer_and_never_while_it_waits() -> None:
    world = World()
    account = world.open()
    assert world.fairness.idle_due(account, 3.0) == 10.0
    world.fairness.brought(account, 4.0)
    assert world.fairness.idle_due(account, 5.0) == 14.0
    world.fairness.waits(account)
    assert world.fairness.idle_due(account, 20.0) == 30.0
    world.fairness.answered(account, 21.0)
    assert world.fairness.idle_due(account, 25.0) == 31.0
