"""The questions that wait for the engine: equal ones asked once, each with a deadline, all of them bounded.

Guarantees: every waiter is released exactly once, by an answer, by its deadline, or by the absence of an engine;
at most 1024 questions wait, at most half of them for an upstream, and at most an eighth is asked without a waiter, for
the clients to come; no host has more places than it leaves free, of the table, of the half of it that may wait for an
upstream, and of the waiters, so that however many fill them there is room for one more; a question is put again at most
once when the engine changes. A machine without clock or socket: it is told what happened and when, and says what to do.
Does not know the cache, nor how a response is composed.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from enum import Enum
from typing import TypeVar

from p2pdns.addresses import LOOPBACK_CLIENT, client_host, client_prefix, is_over_share, unmapped
from p2pdns.front.gate import Asked, Client
from p2pdns.link import ClientClass, Query

QUESTIONS_MAX = 1024  # What one link carries at a time; each costs the engine a task.
FORWARDED_MAX = QUESTIONS_MAX // 2  # A dead upstream must not keep overlay names out.
PREFETCHES_MAX = QUESTIONS_MAX // 8  # What nobody waits for must leave room for what somebody does.
WAITERS_MAX = 8192  # All waiters together: equal questions are cheap, not free.
# Queries of one client that wait over UDP, where nothing else holds it back: of an address, and on loopback, where all
# addresses are one machine, of a socket. dnsmasq, behind which networks ask from one address, has 150 at a time.
DATAGRAMS_PER_CLIENT_MAX = 200
# Questions that one host has put, over either transport, until they are off the table, which may be later than its
# responses. Less than half of the table, and where that is fuller, no more than are free: see `is_over_share`.
QUESTIONS_PER_CLIENT_MAX = 2 * DATAGRAMS_PER_CLIENT_MAX
CLIENT_TIMER_S = 1.8  # RFC 8767 §5: below the two seconds after which common stubs ask again.
BUDGET_S = 4.0  # What the engine may take for one question; stubs give up at five seconds.
GRACE_S = 0.25  # For the engine's own explanation of a deadline to arrive.

K = TypeVar("K")


class Ending(Enum):
    """Why waiters are released without an answer of the engine."""

    SLOW = "slow"  # The client timer: give what is stale; the question itself goes on.
    DEADLINE = "deadline"
    NO_ENGINE = "no-engine"
    TOO_MANY = "too-many"
    GREEDY = "client-limit"  # Too many of one client, while there is room for others.


@dataclass(frozen=True, slots=True)
class Waiter:
    """One client's query that waits, and the way back to it."""

    asked: Asked
    client: Client
    reply: Callable[[bytes], None]

    @property
    def host(self) -> str:
        """Return what it is counted under: a machine or a link, which nobody has thousands of."""
        return client_host(self.client.address[0])

    @property
    def seat(self) -> str:
        """Return what it is counted under among those of its host: a socket on loopback, elsewhere an address."""
        # A socket for IPv6 adds flow and scope to these two.
        address, port = self.client.address[:2]
        if self.host == LOOPBACK_CLIENT:
            return f"{'tcp' if self.client.is_stream else 'udp'} {unmapped(address)} {port}"
        return unmapped(address)

    @property
    def is_listed(self) -> bool:
        """Return whether it is a forwarder of others, which is one seat and has all that a host may have."""
        return self.client.client_class is ClientClass.LISTED

    @property
    def is_counted_datagram(self) -> bool:
        """Return whether it came over UDP from somebody who has a share of that."""
        return not (self.client.is_stream or self.is_listed)

    @property
    def identity(self) -> Hashable:
        """Return what makes it one waiter: a datagram may be the same again (address, ID), a query on a stream not."""
        return id(self) if self.client.is_stream else (self.client.address, self.asked.id, self.asked.question)


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
    is_prefetch: bool = False
    host: str = ""  # Of the client that put it; nobody puts what is fetched ahead.
    seat: str = ""

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
            client_prefix=client_prefix(self.client.address[0]),
            client_seat=self.seat,
            deadline=self.asked_at + BUDGET_S,
            is_prefetch=self.is_prefetch,
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
        # All timers have one length each, so that order of arrival is the order in which they fire. What is answered
        # leaves at once: behind one that waits, seconds of a busy front would gather.
        self._by_id: OrderedDict[int, Pending] = OrderedDict()
        self._not_slow: OrderedDict[int, Pending] = OrderedDict()
        self._forwarded_count = 0
        self._prefetch_count = 0
        self._waiter_count = 0
        self._datagrams: Counter[str] = Counter()
        self._waiters_of: Counter[str] = Counter()
        self._put: Counter[str] = Counter()
        self._put_from: Counter[tuple[str, str]] = Counter()
        self._forwarded_of: Counter[str] = Counter()

    def __len__(self) -> int:
        """Return how many questions are pending."""
        return len(self._by_id)

    def pending(self, key: bytes) -> Pending | None:
        """Return the pending question with that key."""
        return self._by_key.get(key)

    def refusal(self, key: bytes, waiter: Waiter) -> Ending | None:
        """Return why one more waiter for that key would be too many; None when it is not."""
        pending = self._by_key.get(key)
        if pending is not None and waiter.identity in pending.waiters:
            return None
        if self._waiter_count >= WAITERS_MAX or (pending is None and len(self._by_id) >= QUESTIONS_MAX):
            return Ending.TOO_MANY
        host, seat = waiter.host, waiter.seat
        if waiter.is_counted_datagram and self._datagrams[seat] >= DATAGRAMS_PER_CLIENT_MAX:
            return Ending.GREEDY
        if is_over_share(self._waiters_of[host], WAITERS_MAX - self._waiter_count):
            return Ending.GREEDY
        if pending is not None:
            return None
        put = self._put[host]
        if put >= QUESTIONS_PER_CLIENT_MAX or is_over_share(put, QUESTIONS_MAX - len(self._by_id)):
            return Ending.GREEDY
        # An IPv4 address, and a forwarder, shares with nobody.
        is_alone = seat == host or waiter.is_listed
        free = QUESTIONS_PER_CLIENT_MAX - put
        return Ending.GREEDY if not is_alone and is_over_share(self._put_from[host, seat], free) else None

    def add(self, key: bytes, waiter: Waiter, now: float) -> Query | None:
        """Let a client wait; return the frame to send when its question is new and there is an engine.

        The same datagram again (address, ID) is the same waiter, as stubs repeat themselves.
        """
        pending = self._by_key.get(key)
        is_new = pending is None
        if pending is None:
            pending = self._enter(key, waiter.asked, waiter.client, now)
            pending.host, pending.seat = waiter.host, waiter.seat
            self._put[pending.host] += 1
            self._put_from[pending.host, pending.seat] += 1
        identity = waiter.identity
        if identity not in pending.waiters:
            self._waiter_count += 1
            self._waiters_of[waiter.host] += 1
            if waiter.is_counted_datagram:
                self._datagrams[waiter.seat] += 1
        pending.waiters[identity] = waiter
        if is_new and self.is_connected:
            pending.is_sent = True
            return pending.query()
        return None

    def prefetch(self, key: bytes, asked: Asked, client: Client, now: float) -> Query | None:
        """Return the frame that asks a question for those to come, or None when it is asked already or has no room."""
        is_full = len(self._by_id) >= QUESTIONS_MAX or self._prefetch_count >= PREFETCHES_MAX
        if not self.is_connected or is_full or key in self._by_key:
            return None
        pending = self._enter(key, asked, client, now)
        pending.is_sent = pending.is_prefetch = True
        self._prefetch_count += 1
        return pending.query()

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
        free = FORWARDED_MAX - self._forwarded_count
        if not free or (pending.host and is_over_share(self._forwarded_of[pending.host], free)):
            self._remove(pending)
            return pending
        pending.is_forwarded = True
        self._forwarded_count += 1
        if pending.host:
            self._forwarded_of[pending.host] += 1
        return None

    def released(self, pending: Pending) -> list[Waiter]:
        """Return the waiters of a question, each for the last time."""
        waiters = pending.release()
        self._waiter_count -= len(waiters)
        for waiter in waiters:
            _give_back(self._waiters_of, waiter.host)
            if waiter.is_counted_datagram:
                _give_back(self._datagrams, waiter.seat)
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
            self._not_forwarded(pending)
            queries.append(pending.query())
        return queries, given_up

    def engine_lost(self, now: float) -> None:
        """Note that there is no engine any more."""
        if self.is_connected:
            self.is_connected = False
            self._lost_at = now

    def get_timer(self) -> float | None:
        """Return when `due` has something to say next, or None while nothing waits."""
        oldest = _first(self._by_id)
        if oldest is None:
            return None
        times = [oldest.asked_at + BUDGET_S + GRACE_S]
        not_slow = _first(self._not_slow)
        if not_slow is not None:
            times.append(not_slow.asked_at + CLIENT_TIMER_S)
        if not self.is_connected:
            times.append(self._hold_until(oldest))
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
        while (oldest := _first(self._by_id)) is not None and now >= oldest.asked_at + BUDGET_S + GRACE_S:
            self._remove(oldest)
            due.append((oldest, Ending.DEADLINE))
        while (oldest := _first(self._not_slow)) is not None and now >= oldest.asked_at + CLIENT_TIMER_S:
            del self._not_slow[oldest.id]
            oldest.is_slow = True
            due.append((oldest, Ending.SLOW))
        return due

    def _hold_until(self, pending: Pending) -> float:
        """Return how long a question is held without an engine: its deadline, or 1.8 s without one."""
        held = max(pending.asked_at, self._lost_at) + CLIENT_TIMER_S
        return min(held, pending.asked_at + BUDGET_S + GRACE_S)

    def _enter(self, key: bytes, asked: Asked, client: Client, now: float) -> Pending:
        pending = Pending(self._next_id, key, asked, client, now)
        self._next_id = self._next_id % 0xFFFFFFFF + 1
        self._by_key[key] = self._by_id[pending.id] = self._not_slow[pending.id] = pending
        return pending

    def _remove(self, pending: Pending) -> None:
        del self._by_id[pending.id]
        del self._by_key[pending.key]
        self._not_slow.pop(pending.id, None)
        self._prefetch_count -= pending.is_prefetch
        if pending.host:
            _give_back(self._put, pending.host)
            _give_back(self._put_from, (pending.host, pending.seat))
        self._not_forwarded(pending)

    def _not_forwarded(self, pending: Pending) -> None:
        if pending.is_forwarded:
            pending.is_forwarded = False
            self._forwarded_count -= 1
            if pending.host:
                _give_back(self._forwarded_of, pending.host)


def _first(pendings: OrderedDict[int, Pending]) -> Pending | None:
    return next(iter(pendings.values()), None)


def _give_back(counts: Counter[K], holder: K) -> None:
    counts[holder] -= 1
    # A holder that has nothing here any more is forgotten, so that there are never more than waiters.
    if not counts[holder]:
        del counts[holder]
