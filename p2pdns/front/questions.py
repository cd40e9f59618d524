"""The questions that wait for the engine: equal ones asked once, each with a deadline, all of them bounded.

Guarantees: every waiter is released exactly once, by an answer, by its deadline, or by the absence of an engine;
at most 1024 questions wait, at most half of them for an upstream; a question is put again at most once when the
engine changes. A machine without clock or socket: it is told what happened and when, and says what to do. Does
not know the cache, nor how a response is composed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from enum import Enum

from p2pdns.addresses import prefix_of
from p2pdns.front.gate import Asked, Client
from p2pdns.link import Query

QUESTIONS_MAX = 1024  # What one link carries at a time; each costs the engine a task.
FORWARDED_MAX = QUESTIONS_MAX // 2  # A dead upstream must not keep overlay names out.
WAITERS_MAX = 8192  # All waiters together: equal questions are cheap, not free.
CLIENT_TIMER_S = 1.8  # RFC 8767 §5: below the two seconds after which common stubs ask again.
BUDGET_S = 4.0  # What the engine may take for one question; stubs give up at five seconds.
GRACE_S = 0.25  # For the engine's own explanation of a deadline to arrive.


class Ending(Enum):
    """Why waiters are released without an answer of the engine."""

    SLOW = "slow"  # The client timer: give what is stale; the question itself goes on.
    DEADLINE = "deadline"
    NO_ENGINE = "no-engine"
    TOO_MANY = "too-many"


@dataclass(frozen=True, slots=True)
class Waiter:
    """One client's query that waits, and the way back to it."""

    asked: Asked
    client: Client
    reply: Callable[[bytes], None]


@dataclass(slots=True)
class Pending:
    """One question at the engine, or on its way there."""

    id: int
    key: bytes
    asked: Asked
    client: Client
    asked_at: float
    waiters: dict[Hashable, Waiter] = field(default_factory=dict)
    is_slow: bool = False
    is_sent: bool = False
    is_put_again: bool = False
    is_forwarded: bool = False

    def query(self) -> Query:
        """Return the frame that puts this question."""
        bits = self.key[-1]
        return Query(
            id=self.id,
            question=self.key[:-1],
            rd=bool(bits & 1),
            do=bool(bits & 2),
            cd=bool(bits & 4),
            client_class=self.client.client_class,
            client_prefix=prefix_of(self.client.address),
            deadline=self.asked_at + BUDGET_S,
        )

    def release(self) -> list[Waiter]:
        """Return the waiters, each for the last time."""
        waiters = list(self.waiters.values())
        self.waiters.clear()
        return waiters


class Questions:
    """The table of pending questions."""

    def __init__(self, now: float) -> None:
        self.is_connected = False
        self._lost_at = now
        self._next_id = 1
        self._by_key: dict[bytes, Pending] = {}
        self._by_id: dict[int, Pending] = {}
        self._forwarded_count = 0
        self._waiter_count = 0
        # All timers have one length each, so that arrival order is the order in which they fire.
        self._client_timers: deque[Pending] = deque()
        self._deadlines: deque[Pending] = deque()

    def __len__(self) -> int:
        """Return how many questions are pending."""
        return len(self._by_id)

    def pending(self, key: bytes) -> Pending | None:
        """Return the pending question with that key."""
        return self._by_key.get(key)

    def is_full(self, key: bytes) -> bool:
        """Return whether one more waiter for that key would be too many."""
        return self._waiter_count >= WAITERS_MAX or (key not in self._by_key and len(self._by_id) >= QUESTIONS_MAX)

    def add(self, key: bytes, waiter: Waiter, now: float) -> Query | None:
        """Let a client wait; return the frame to send when its question is new and there is an engine.

        The same datagram again (address, ID) is the same waiter, as stubs repeat themselves.
        """
        pending = self._by_key.get(key)
        is_new = pending is None
        if pending is None:
            pending = Pending(self._next_id, key, waiter.asked, waiter.client, now)
            self._next_id = self._next_id % 0xFFFFFFFF + 1
            self._by_key[key] = self._by_id[pending.id] = pending
            self._client_timers.append(pending)
            self._deadlines.append(pending)
        identity: Hashable = (waiter.client.address, waiter.asked.id, waiter.asked.question)
        if waiter.client.is_stream:
            identity = object()
        if identity not in pending.waiters:
            self._waiter_count += 1
        pending.waiters[identity] = waiter
        if is_new and self.is_connected:
            pending.is_sent = True
            return pending.query()
        return None

    def answered(self, number: int) -> Pending | None:
        """Take a question off the table because its answer came; None when nobody waits for it any more."""
        pending = self._by_id.get(number)
        if pending is not None:
            self._remove(pending)
        return pending

    def forwarded(self, number: int) -> Pending | None:
        """Note that a question waits for an upstream; return it, taken off the table, when that is one too many."""
        pending = self._by_id.get(number)
        if pending is None or pending.is_forwarded:
            return None
        if self._forwarded_count >= FORWARDED_MAX:
            self._remove(pending)
            return pending
        pending.is_forwarded = True
        self._forwarded_count += 1
        return None

    def released(self, pending: Pending) -> list[Waiter]:
        """Return the waiters of a question, each for the last time."""
        waiters = pending.release()
        self._waiter_count -= len(waiters)
        return waiters

    def engine_connected(self) -> tuple[list[Query], list[Pending]]:
        """Return the questions to put to a newly connected engine, and those that were put twice already."""
        self.is_connected = True
        queries: list[Query] = []
        given_up: list[Pending] = []
        for pending in list(self._by_id.values()):
            if pending.is_sent and pending.is_put_again:
                # A question that was with two engines when they went is under suspicion.
                self._remove(pending)
                given_up.append(pending)
                continue
            pending.is_put_again = pending.is_sent
            pending.is_sent = True
            if pending.is_forwarded:
                pending.is_forwarded = False
                self._forwarded_count -= 1
            queries.append(pending.query())
        return queries, given_up

    def engine_lost(self, now: float) -> None:
        """Note that there is no engine any more."""
        if self.is_connected:
            self.is_connected = False
            self._lost_at = now

    def get_timer(self) -> float | None:
        """Return when `due` has something to say next, or None while nothing waits."""
        self._forget_done()
        if not self._by_id:
            return None
        times = [self._deadlines[0].asked_at + BUDGET_S + GRACE_S]
        if self._client_timers:
            times.append(self._client_timers[0].asked_at + CLIENT_TIMER_S)
        if not self.is_connected:
            times.append(self._hold_until(self._deadlines[0]))
        return min(times)

    def due(self, now: float) -> list[tuple[Pending, Ending]]:
        """Return the questions whose time has come; all but the slow ones are off the table then."""
        due: list[tuple[Pending, Ending]] = []
        if not self.is_connected:
            for pending in list(self._by_id.values()):
                if now < self._hold_until(pending):
                    break
                self._remove(pending)
                due.append((pending, Ending.NO_ENGINE))
        self._forget_done()
        while self._deadlines and now >= self._deadlines[0].asked_at + BUDGET_S + GRACE_S:
            pending = self._deadlines.popleft()
            if pending.id in self._by_id:
                self._remove(pending)
                due.append((pending, Ending.DEADLINE))
        while self._client_timers and now >= self._client_timers[0].asked_at + CLIENT_TIMER_S:
            pending = self._client_timers.popleft()
            if pending.id in self._by_id:
                pending.is_slow = True
                due.append((pending, Ending.SLOW))
        return due

    def _hold_until(self, pending: Pending) -> float:
        """Return how long a question is held without an engine: its deadline, or 1.8 s without one."""
        held = max(pending.asked_at, self._lost_at) + CLIENT_TIMER_S
        return min(held, pending.asked_at + BUDGET_S + GRACE_S)

    def _forget_done(self) -> None:
        for timers in (self._client_timers, self._deadlines):
            while timers and timers[0].id not in self._by_id:
                timers.popleft()

    def _remove(self, pending: Pending) -> None:
        del self._by_id[pending.id]
        del self._by_key[pending.key]
        if pending.is_forwarded:
            self._forwarded_count -= 1
