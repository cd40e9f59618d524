"""The questions of the clients: equal ones asked once, each with a deadline, all of them bounded.

A question is put to the engine where there is a place for it: 1024 in all, a share of them for each host, and of that a
share for each seat. Beyond its share it waits in the lanes (`lanes`) until a place is free, or for 2.5 seconds. One
that the engine gives back, because all places at the upstreams are taken that its client may have, waits in the lanes
for those.

Guarantees: every waiter is released exactly once, by an answer, by its deadline, for want of a place, or by the absence
of an engine; at most 1024 questions are put, and at most an eighth of them without a waiter, for the clients to come;
no host has more places than it leaves free, of the table and of the waiters, so that however many fill them there is
room for one more; a question that waits for a place is taken in turns, and through each of its waiters, so that nobody
waits behind what another has asked; a question is put again at most once when the engine changes. A machine without
clock or socket: it is told what happened and when, and says what to do. Does not know the cache, nor how a response is
composed.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from typing import TypeVar

from p2pdns.addresses import is_over_share
from p2pdns.dns.life import CLIENT_TIMER_S
from p2pdns.front.gate import Client, ClientQuery
from p2pdns.front.lanes import Lanes
from p2pdns.front.waiting import Ending, OpenQuestion, WaitingClient
from p2pdns.limits import FORWARDED_MAX, QUESTION_S_MAX, QUESTIONS_MAX
from p2pdns.link import QuestionFrame

PREFETCHES_MAX = QUESTIONS_MAX // 8  # What nobody waits for must leave room for what somebody does.
WAITERS_MAX = 8192  # All waiters together: equal questions are cheap, not free.
# Questions that one client has put over UDP: of an address, and on loopback, where all addresses are one machine, of a
# socket. Further ones wait for these; with answers of 50 ms that is 4,000 a second.
DATAGRAMS_PER_CLIENT_MAX = 200
# Queries of one client that wait over UDP, for an answer or a place: c-ares and what is built on it send hundreds at
# once. Half of what a host may have, so that the same address is still heard over TCP.
DATAGRAMS_WAITING_MAX = WAITERS_MAX // 4
WAITERS_PER_CLIENT_MAX = WAITERS_MAX // 2  # Of one host, and where the waiters are fuller no more than are free.
# Questions that one host has put, over either transport, until they are off the table, which may be later than its
# responses. Less than half of the table, and where that is fuller, no more than are free: see `is_over_share`.
QUESTIONS_PER_CLIENT_MAX = 2 * DATAGRAMS_PER_CLIENT_MAX
# How long a question may wait for a place: it leaves the engine a second and a half, in which what is alive answers.
QUEUED_S_MAX = 2.5
GRACE_S = 0.25  # For the engine's own explanation of a deadline to arrive.

K = TypeVar("K")


class Questions:
    """The table of pending questions."""

    def __init__(self, now: float) -> None:
        self.is_connected = False
        self._lost_at = now
        self._next_id = 1
        self._by_key: dict[bytes, OpenQuestion] = {}
        # All timers have one length each, so that order of arrival is the order in which they fire. What is answered
        # leaves at once: behind one that waits, seconds of a busy front would gather.
        self._by_id: OrderedDict[int, OpenQuestion] = OrderedDict()
        self._not_slow: OrderedDict[int, OpenQuestion] = OrderedDict()
        self._not_late: OrderedDict[int, OpenQuestion] = OrderedDict()
        self._lanes: Lanes[WaitingClient] = Lanes()
        self._upstream_lanes: Lanes[WaitingClient] = Lanes()
        self._put_count = 0
        self._forwarded_count = 0
        self._prefetch_count = 0
        self._waiter_count = 0
        self._datagrams: Counter[str] = Counter()
        self._waiters_of: Counter[str] = Counter()
        self._waiters_from: Counter[tuple[str, str]] = Counter()
        self._put_datagrams: Counter[str] = Counter()
        self._put_of: Counter[str] = Counter()
        self._put_from: Counter[tuple[str, str]] = Counter()
        self._forwarded_of: Counter[str] = Counter()

    def __len__(self) -> int:
        """Return how many questions are pending."""
        return len(self._by_id)

    @property
    def put_count(self) -> int:
        """How many of them have a place at the engine."""
        return self._put_count

    @property
    def holder_count(self) -> int:
        """How many hosts, seats and prefixes it keeps anything of; none while nothing is pending."""
        counts = (self._datagrams, self._waiters_of, self._put_datagrams, self._put_of, self._forwarded_of)
        by_seat = (self._waiters_from, self._put_from)
        return sum(map(len, counts)) + sum(map(len, by_seat)) + len(self._lanes) + len(self._upstream_lanes)

    def pending(self, key: bytes) -> OpenQuestion | None:
        """Return the pending question with that key."""
        return self._by_key.get(key)

    def refusal(self, key: bytes, waiter: WaitingClient) -> Ending | None:
        """Return why one more waiter for that key would be too many, even without a place; None when it is not."""
        pending = self._by_key.get(key)
        if pending is not None and waiter.identity in pending.waiters:
            return None
        free = WAITERS_MAX - self._waiter_count
        if not free:
            return Ending.TOO_MANY
        host, seat = waiter.host, waiter.seat
        if waiter.is_counted_datagram and self._datagrams[seat] >= DATAGRAMS_WAITING_MAX:
            return Ending.GREEDY
        left = _left(self._waiters_of[host], free, WAITERS_PER_CLIENT_MAX)
        if not left:
            return Ending.GREEDY
        is_over = not _is_alone(waiter) and is_over_share(self._waiters_from[host, seat], left)
        return Ending.GREEDY if is_over else None

    def add(self, key: bytes, waiter: WaitingClient, now: float) -> QuestionFrame | None:
        """Let a client wait; return the frame to send when its question is put by that, and there is an engine.

        The same datagram again (address, ID) is the same waiter, as stubs repeat themselves.
        """
        pending = self._by_key.get(key)
        if pending is None:
            pending = self._enter(key, waiter.asked, waiter.client, now)
            pending.is_queued = True
        if waiter.identity not in pending.waiters:
            self._waiter_count += 1
            self._waiters_of[waiter.host] += 1
            self._waiters_from[waiter.host, waiter.seat] += 1
            if waiter.is_counted_datagram:
                self._datagrams[waiter.seat] += 1
        pending.waiters[waiter.identity] = waiter
        if not pending.is_queued:
            return None
        lanes, host = self._lanes, waiter.host
        if pending.needs_upstream:
            lanes, host = self._upstream_lanes, waiter.prefix
        # Behind those of its own lane, and before those of others that have had their share.
        is_first = lanes.is_empty(host, waiter.lane) and self._may_put(waiter)
        if is_first and (not pending.needs_upstream or self._may_forward(host)):
            return self._put(pending, waiter)
        lanes.add(host, waiter.lane, key, waiter)
        return None

    def next_queries(self, *, has_upstream_place: bool = True) -> list[QuestionFrame]:
        """Return the frames of the questions for which a place has become free.

        Those that need an upstream come first; of them none, where only a place of the table was given back.
        """
        queries: list[QuestionFrame] = []
        if not (self._lanes or self._upstream_lanes):
            return queries
        forwards = [(self._upstream_lanes, self._may_forward)] if has_upstream_place else []
        for lanes, may_host in (*forwards, (self._lanes, self._may_host_put)):
            while self._put_count < QUESTIONS_MAX and (found := lanes.take(may_host, self._may_put)) is not None:
                key, waiter = found
                query = self._put(self._by_key[key], waiter)
                if query is not None:
                    queries.append(query)
        return queries

    def prefetch(self, key: bytes, asked: ClientQuery, client: Client, now: float) -> QuestionFrame | None:
        """Return the frame that asks a question for those to come, or None when it is asked already or has no room."""
        is_full = self._put_count >= QUESTIONS_MAX or self._prefetch_count >= PREFETCHES_MAX
        if not self.is_connected or is_full or key in self._by_key:
            return None
        pending = self._enter(key, asked, client, now)
        pending.is_sent = pending.is_prefetch = True
        self._put_count += 1
        self._prefetch_count += 1
        return pending.query()

    def answered(self, number: int) -> OpenQuestion | None:
        """Take a question off the table because its answer came; None when nobody waits for it any more."""
        pending = self._by_id.get(number)
        if pending is None or pending.is_queued:
            return None
        self._remove(pending)
        return pending

    def forwarded(self, number: int) -> None:
        """Note that a question has a place at the upstreams."""
        pending = self._by_id.get(number)
        if pending is not None and not pending.is_queued:
            self._is_forwarded(pending)

    def postponed(self, number: int) -> OpenQuestion | None:
        """Let a question that the engine gave back wait for a place at the upstreams; return it when it cannot."""
        pending = self._by_id.get(number)
        if pending is None or pending.is_queued:
            return None
        if pending.is_late or not pending.waiters:
            self._remove(pending)
            return pending
        self._give_place_back(pending)
        pending.is_queued = pending.needs_upstream = True
        for waiter in pending.waiters.values():
            self._upstream_lanes.add(waiter.prefix, waiter.lane, pending.key, waiter)
        return None

    def released(self, pending: OpenQuestion) -> list[WaitingClient]:
        """Return the waiters of a question, each for the last time."""
        if pending.is_queued and self._by_id.get(pending.id) is pending:
            # Without a place and without a waiter it would wait for nothing.
            self._remove(pending)
        waiters = pending.release()
        self._waiter_count -= len(waiters)
        for waiter in waiters:
            _give_back(self._waiters_of, waiter.host)
            _give_back(self._waiters_from, (waiter.host, waiter.seat))
            if waiter.is_counted_datagram:
                _give_back(self._datagrams, waiter.seat)
        return waiters

    def engine_connected(self) -> tuple[list[QuestionFrame], list[OpenQuestion]]:
        """Return the questions to put to a newly connected engine, and those that were put twice already."""
        self.is_connected = True
        queries: list[QuestionFrame] = []
        given_up: list[OpenQuestion] = []
        for pending in list(self._by_id.values()):
            if pending.is_queued:
                continue
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
        """Return when `due` may have something to say next, or None while nothing waits."""
        oldest = _first(self._by_id)
        if oldest is None:
            return None
        times = [oldest.asked_at + QUESTION_S_MAX + GRACE_S]
        not_slow = _first(self._not_slow)
        if not_slow is not None:
            times.append(not_slow.asked_at + CLIENT_TIMER_S)
        not_late = _first(self._not_late)
        if not_late is not None:
            times.append(not_late.asked_at + QUEUED_S_MAX)
        if not self.is_connected:
            times.append(self._hold_until(oldest))
        return min(times)

    def due(self, now: float) -> list[tuple[OpenQuestion, Ending]]:
        """Return the questions whose time has come; all but the slow ones are off the table then."""
        due: list[tuple[OpenQuestion, Ending]] = []
        if not self.is_connected:
            for pending in list(self._by_id.values()):
                if now < self._hold_until(pending):
                    break
                self._remove(pending)
                due.append((pending, Ending.NO_ENGINE))
        while (oldest := _first(self._not_late)) is not None and now >= oldest.asked_at + QUEUED_S_MAX:
            del self._not_late[oldest.id]
            oldest.is_late = True
            if oldest.is_queued:
                self._remove(oldest)
                due.append((oldest, Ending.NO_PLACE))
        while (oldest := _first(self._by_id)) is not None and now >= oldest.asked_at + QUESTION_S_MAX + GRACE_S:
            self._remove(oldest)
            due.append((oldest, Ending.DEADLINE))
        while (oldest := _first(self._not_slow)) is not None and now >= oldest.asked_at + CLIENT_TIMER_S:
            del self._not_slow[oldest.id]
            oldest.is_slow = True
            due.append((oldest, Ending.SLOW))
        return due

    def _hold_until(self, pending: OpenQuestion) -> float:
        """Return how long a question is held without an engine: its deadline, or 1.8 s without one."""
        held = max(pending.asked_at, self._lost_at) + CLIENT_TIMER_S
        return min(held, pending.asked_at + QUESTION_S_MAX + GRACE_S)

    def _enter(self, key: bytes, asked: ClientQuery, client: Client, now: float) -> OpenQuestion:
        pending = OpenQuestion(self._next_id, key, asked, client, now)
        self._next_id = self._next_id % 0xFFFFFFFF + 1
        self._by_key[key] = self._by_id[pending.id] = pending
        self._not_slow[pending.id] = self._not_late[pending.id] = pending
        return pending

    def _may_host_put(self, host: str) -> bool:
        return _left(self._put_of[host], QUESTIONS_MAX - self._put_count, QUESTIONS_PER_CLIENT_MAX) > 0

    def _may_put(self, waiter: WaitingClient) -> bool:
        """Return whether a client may have one more place at the engine."""
        host, seat = waiter.host, waiter.seat
        left = _left(self._put_of[host], QUESTIONS_MAX - self._put_count, QUESTIONS_PER_CLIENT_MAX)
        if not left or (waiter.is_counted_datagram and self._put_datagrams[seat] >= DATAGRAMS_PER_CLIENT_MAX):
            return False
        return _is_alone(waiter) or not is_over_share(self._put_from[host, seat], left)

    def _may_forward(self, prefix: str) -> bool:
        free = FORWARDED_MAX - self._forwarded_count
        return free > 0 and not is_over_share(self._forwarded_of[prefix], free)

    def _put(self, pending: OpenQuestion, owner: WaitingClient) -> QuestionFrame | None:
        """Give a question a place, through one of its waiters; return its frame when there is an engine."""
        self._leave_lanes(pending)
        pending.is_queued = False
        pending.client, pending.asked = owner.client, owner.asked
        pending.host, pending.seat, pending.prefix = owner.host, owner.seat, owner.prefix
        pending.is_datagram = owner.is_counted_datagram
        self._put_count += 1
        self._put_of[pending.host] += 1
        self._put_from[pending.host, pending.seat] += 1
        if pending.is_datagram:
            self._put_datagrams[pending.seat] += 1
        if pending.needs_upstream:
            # At once, or all that wait would be put for one place.
            self._is_forwarded(pending)
        pending.is_sent = self.is_connected
        return pending.query() if self.is_connected else None

    def _leave_lanes(self, pending: OpenQuestion) -> None:
        if not (self._lanes or self._upstream_lanes):
            return
        for waiter in pending.waiters.values():
            self._lanes.discard(waiter.host, waiter.lane, pending.key)
            self._upstream_lanes.discard(waiter.prefix, waiter.lane, pending.key)

    def _remove(self, pending: OpenQuestion) -> None:
        del self._by_id[pending.id]
        del self._by_key[pending.key]
        self._not_slow.pop(pending.id, None)
        self._not_late.pop(pending.id, None)
        if pending.is_queued:
            self._leave_lanes(pending)
        else:
            self._give_place_back(pending)

    def _give_place_back(self, pending: OpenQuestion) -> None:
        self._put_count -= 1
        self._prefetch_count -= pending.is_prefetch
        pending.is_prefetch = pending.is_sent = False
        self._not_forwarded(pending)
        if pending.host:
            _give_back(self._put_of, pending.host)
            _give_back(self._put_from, (pending.host, pending.seat))
        if pending.is_datagram:
            _give_back(self._put_datagrams, pending.seat)
        pending.host = pending.seat = pending.prefix = ""
        pending.is_datagram = False

    def _is_forwarded(self, pending: OpenQuestion) -> None:
        if not pending.is_forwarded:
            pending.is_forwarded = True
            self._forwarded_count += 1
            if pending.prefix:
                self._forwarded_of[pending.prefix] += 1

    def _not_forwarded(self, pending: OpenQuestion) -> None:
        if pending.is_forwarded:
            pending.is_forwarded = False
            self._forwarded_count -= 1
            if pending.prefix:
                _give_back(self._forwarded_of, pending.prefix)


def _left(held: int, free: int, held_max: int) -> int:
    """Return how many further places a holder may take, of those that are free, before it has its share."""
    # As `is_over_share` has it, for each of them: with each that it takes one less is free.
    return max(0, min(held_max - held, (free - held + 1) // 2))


def _is_alone(waiter: WaitingClient) -> bool:
    """Return whether a client shares what its host has with nobody: an IPv4 address, and a forwarder."""
    return waiter.seat == waiter.host or waiter.is_listed


def _first(pendings: OrderedDict[int, OpenQuestion]) -> OpenQuestion | None:
    return next(iter(pendings.values()), None)


def _give_back(counts: Counter[K], holder: K) -> None:
    counts[holder] -= 1
    # A holder that has nothing here any more is forgotten, so that there are never more than waiters.
    if not counts[holder]:
        del counts[holder]
