"""The open questions of the clients: equal ones are asked once, each has a deadline, and all are bounded.

The engine has 1024 places for questions. A host has a share of them, and each seat a share of its host's. A question
that finds no place waits in the lanes (`lanes`) until one is free, for 2.5 seconds at most. The engine gives a question
back when its client has no further place at the upstreams; then the question waits in the lanes for such a place.

Guarantees: every waiting client is released exactly once: by an answer, by its deadline, for want of a place, or for
want of an engine. At most 1024 questions have a place; at most an eighth of these are prefetches, which have no client.
No host has more places than stay free, at the engine or among the waiting clients, so there is always room for one
more host. Places go to hosts and lanes in turns, and a question may get its place through any of its clients, so no
client waits behind the questions of another; a client is counted under names of which it cannot have many. A question
is put again at most once when the engine changes. The time and the events are arguments. Does not know the cache, nor
how a response is composed.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass, field
from enum import Enum

from p2pdns.addresses import LOOPBACK_CLIENT, client_host, client_prefix, give_back, is_over_share, unmapped
from p2pdns.dns.life import CLIENT_TIMER_S
from p2pdns.front.gate import Client, ClientQuery
from p2pdns.front.lanes import Lanes
from p2pdns.limits import FORWARDED_MAX, QUESTION_S_MAX, QUESTIONS_MAX
from p2pdns.link import Ask, ClientClass, QuestionFrame
from p2pdns.values import Value

PREFETCHES_MAX = QUESTIONS_MAX // 8  # Prefetches must leave room for questions that a client waits for.
WAITERS_MAX = 8192  # All waiting clients: those that join an equal question cost little, but not nothing.
# Places of one UDP client: an address, or a socket on loopback, where all addresses are one machine. With
# answers after 50 ms, 200 places serve 4,000 questions a second.
DATAGRAMS_PER_CLIENT_MAX = 200
# Queries of one client that wait over UDP, for an answer or a place: c-ares and programs built on it send hundreds at
# once. It is half of what a host may have, so the same address is still heard over TCP.
DATAGRAMS_WAITING_MAX = WAITERS_MAX // 4
WAITERS_PER_CLIENT_MAX = WAITERS_MAX // 2  # Of one host; fewer when fewer are free (`is_over_share`).
# Places of one host, over both transports. A question keeps its place until it is off the table, which may be after its
# responses. It is less than half of the table; fewer when fewer are free (`is_over_share`).
QUESTIONS_PER_CLIENT_MAX = 2 * DATAGRAMS_PER_CLIENT_MAX
QUEUED_S_MAX = 2.5  # The wait for a place. The engine then has 1.5 s left, in which a living node answers.
GRACE_S = 0.25  # For the engine's own explanation of a deadline to arrive.
_LISTED = ClientClass.LISTED  # Every waiter passes it (the registry says why it is bound here).


class Ending(Enum):
    """Why clients are released without an answer of the engine."""

    SLOW = "slow"  # The client timer: a client gets a stale answer, and the question goes on.
    DEADLINE = "deadline"
    NO_ENGINE = "no-engine"
    NO_PLACE = "no-place"  # None became free in time.
    TOO_MANY = "too-many"
    GREEDY = "client-limit"  # This client has too many, and there is room for others.


class WaitingClient(Value, frozen=True):
    """A client whose query waits, and the names that it is counted under.

    `host` is a machine or a link, of which no client has thousands; `seat` tells the clients of a host apart: a socket
    on loopback, an address elsewhere; the engine counts by `prefix` while the query waits for an upstream. `lane` is
    its line among those of its host: over TCP it is not behind queries over UDP. Two datagrams with the same `identity`
    (address, ID, question) are one query; on a stream each query has its own. `is_listed`: a forwarder of others is one
    seat and may have all that a host may have. `is_counted_datagram`: the limits for datagrams apply.
    """

    asked: ClientQuery
    host: str
    seat: str
    prefix: str
    lane: str
    identity: Hashable
    is_listed: bool
    is_counted_datagram: bool

    @classmethod
    def of(cls, asked: ClientQuery) -> WaitingClient:
        """Return the waiting client that a query makes."""
        client = asked.client
        # An IPv6 socket adds flow and scope to address and port.
        address, port = client.address[:2]
        transport = client.transport
        host, seat = client_host(address), unmapped(address)
        if host == LOOPBACK_CLIENT:
            seat = f"{transport.name} {seat} {port}"
        is_listed = client.client_class is _LISTED
        return cls(
            asked=asked,
            host=host,
            seat=seat,
            prefix=client_prefix(address),
            lane=f"{transport.name} {seat}",
            identity=object() if transport.is_stream else (client.address, asked.id, asked.question),
            is_listed=is_listed,
            is_counted_datagram=not (transport.is_stream or is_listed),
        )


@dataclass(slots=True)
class OpenQuestion:
    """One question at the engine, on its way there, or (`is_queued`) without a place yet.

    `owner` is the client that the place is counted under; a prefetch has none. `is_late`: it may wait for no place any
    more. `needs_upstream`: the engine has given it back, and it is put again when there is a place at the upstreams.
    """

    id: int
    key: bytes
    client: Client
    asked_at: float
    waiters: dict[Hashable, WaitingClient] = field(default_factory=dict)
    is_slow: bool = False
    is_sent: bool = False
    is_put_again: bool = False
    is_forwarded: bool = False
    is_prefetch: bool = False
    is_queued: bool = False
    needs_upstream: bool = False
    is_late: bool = False
    owner: WaitingClient | None = None

    def query(self) -> QuestionFrame:
        """Return the frame that puts this question."""
        bits, owner = self.key[-1], self.owner
        ask = Ask(
            deadline=self.asked_at + QUESTION_S_MAX,
            rd=bool(bits & 1),
            do=bool(bits & 2),
            cd=bool(bits & 4),
            client_class=self.client.client_class,
            client_prefix=client_prefix(self.client.address[0]) if owner is None else owner.prefix,
            client_seat="" if owner is None else owner.seat,
            is_prefetch=self.is_prefetch,
        )
        return QuestionFrame(self.id, self.key[:-1], ask)


class Holdings:
    """How many things of one kind the clients hold: in all, by host, by seat, and over UDP by seat."""

    def __init__(self, per_host_max: int, datagrams_max: int) -> None:
        self.count = 0
        self._per_host_max = per_host_max
        self._datagrams_max = datagrams_max
        self._of_host: Counter[Hashable] = Counter()
        self._of_seat: Counter[Hashable] = Counter()
        self._datagrams: Counter[Hashable] = Counter()

    def __len__(self) -> int:
        return len(self._of_host) + len(self._of_seat) + len(self._datagrams)

    def left(self, host: str, free: int) -> int:
        """Return how many more a host may take when so many are free."""
        held = self._of_host[host]
        # `is_over_share`, applied to one after the other: each that the host takes leaves one less free.
        return max(0, min(self._per_host_max - held, (free - held + 1) // 2))

    def may_take(self, waiter: WaitingClient, free: int) -> bool:
        """Return whether a client may take one more when so many are free."""
        if waiter.is_counted_datagram and self._datagrams[waiter.seat] >= self._datagrams_max:
            return False
        left = self.left(waiter.host, free)
        # An IPv4 address shares its host with no other client, and a forwarder of others is one client.
        is_alone = waiter.seat == waiter.host or waiter.is_listed
        return left > 0 and (is_alone or not is_over_share(self._of_seat[waiter.host, waiter.seat], left))

    def take(self, waiter: WaitingClient) -> None:
        """Count one more of a client."""
        self.count += 1
        self._of_host[waiter.host] += 1
        self._of_seat[waiter.host, waiter.seat] += 1
        if waiter.is_counted_datagram:
            self._datagrams[waiter.seat] += 1

    def give_back(self, waiter: WaitingClient) -> None:
        """Count one less of a client."""
        self.count -= 1
        give_back(self._of_host, waiter.host)
        give_back(self._of_seat, (waiter.host, waiter.seat))
        if waiter.is_counted_datagram:
            give_back(self._datagrams, waiter.seat)


class Questions:
    """The table of open questions."""

    def __init__(self, now: float) -> None:
        self.is_connected = False
        self._lost_at = now
        self._next_id = 1
        self._by_key: dict[bytes, OpenQuestion] = {}
        # Each kind of timer has one length, so timers fire in the order of arrival. An answered question leaves all
        # tables at once; else a busy front would keep seconds of them behind one that still waits.
        self._by_id: OrderedDict[int, OpenQuestion] = OrderedDict()
        self._not_slow: OrderedDict[int, OpenQuestion] = OrderedDict()
        self._not_late: OrderedDict[int, OpenQuestion] = OrderedDict()
        self._timers = (
            (self._by_id, QUESTION_S_MAX + GRACE_S),
            (self._not_slow, CLIENT_TIMER_S),
            (self._not_late, QUEUED_S_MAX),
        )
        self._lanes: Lanes[WaitingClient] = Lanes()
        self._upstream_lanes: Lanes[WaitingClient] = Lanes()
        self._waiters = Holdings(WAITERS_PER_CLIENT_MAX, DATAGRAMS_WAITING_MAX)
        self._places = Holdings(QUESTIONS_PER_CLIENT_MAX, DATAGRAMS_PER_CLIENT_MAX)
        self._prefetch_count = 0
        self._forwarded_count = 0
        self._forwarded_of: Counter[Hashable] = Counter()

    def __len__(self) -> int:
        return len(self._by_id)

    @property
    def put_count(self) -> int:
        """The count of questions that have a place at the engine."""
        return self._places.count + self._prefetch_count

    @property
    def holder_count(self) -> int:
        """The count of hosts, seats and prefixes that hold anything; 0 while no question is open."""
        lanes_count = len(self._lanes) + len(self._upstream_lanes)
        return len(self._waiters) + len(self._places) + len(self._forwarded_of) + lanes_count

    def pending(self, key: bytes) -> OpenQuestion | None:
        """Return the open question with that key."""
        return self._by_key.get(key)

    def add(self, key: bytes, asked: ClientQuery, now: float) -> QuestionFrame | Ending | None:
        """Let a client wait; return the frame to send if its question gets a place and there is an engine.

        A stub resolver repeats its datagrams: the same one (address, ID, question) is the same client. A client that
        would be one too many, even without a place, does not wait: the reason is returned.
        """
        waiter = WaitingClient.of(asked)
        pending = self._by_key.get(key)
        if pending is None or waiter.identity not in pending.waiters:
            free = WAITERS_MAX - self._waiters.count
            if not self._waiters.may_take(waiter, free):
                return Ending.GREEDY if free else Ending.TOO_MANY
            self._waiters.take(waiter)
        if pending is None:
            pending = self._enter(key, asked.client, now)
            pending.is_queued = True
        pending.waiters[waiter.identity] = waiter
        if not pending.is_queued:
            return None
        lanes, host = self._lanes, waiter.host
        if pending.needs_upstream:
            lanes, host = self._upstream_lanes, waiter.prefix
        # A client waits behind its own lane only: other lanes wait because they have had their share.
        is_first = lanes.is_empty(host, waiter.lane) and self._may_put(waiter)
        if is_first and (not pending.needs_upstream or self._may_forward(host)):
            return self._put(pending, waiter)
        lanes.add(host, waiter.lane, key, waiter)
        return None

    def next_queries(self, *, has_upstream_place: bool = True) -> list[QuestionFrame]:
        """Return the frames of the questions for which a place has become free.

        Questions that need an upstream come first. `has_upstream_place` is False when no place there became free.
        """
        queries: list[QuestionFrame] = []
        if not (self._lanes or self._upstream_lanes):
            return queries
        forwards = [(self._upstream_lanes, self._may_forward)] if has_upstream_place else []
        for lanes, may_host in (*forwards, (self._lanes, self._may_host_put)):
            while self.put_count < QUESTIONS_MAX and (found := lanes.take(may_host, self._may_put)) is not None:
                key, waiter = found
                query = self._put(self._by_key[key], waiter)
                if query is not None:
                    queries.append(query)
        return queries

    def prefetch(self, key: bytes, client: Client, now: float) -> QuestionFrame | None:
        """Return the frame of a question that no client waits for; None when it is open already or has no room."""
        is_full = self.put_count >= QUESTIONS_MAX or self._prefetch_count >= PREFETCHES_MAX
        if not self.is_connected or is_full or key in self._by_key:
            return None
        pending = self._enter(key, client, now)
        pending.is_sent = pending.is_prefetch = True
        self._prefetch_count += 1
        return pending.query()

    def answered(self, number: int) -> OpenQuestion | None:
        """Take a question off the table because its answer came; None when it is not open any more."""
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
        """Let a question that the engine gave back wait for a place at the upstreams; return it if it may not wait."""
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

    def released(self, pending: OpenQuestion) -> list[ClientQuery]:
        """Return the queries that wait for a question, each for the last time."""
        if pending.is_queued and self._by_id.get(pending.id) is pending:
            # It has no place and no client any more.
            self._remove(pending)
        waiters = list(pending.waiters.values())
        pending.waiters.clear()
        for waiter in waiters:
            self._waiters.give_back(waiter)
        return [waiter.asked for waiter in waiters]

    def engine_connected(self) -> tuple[list[QuestionFrame], list[OpenQuestion]]:
        """Return the frames for a newly connected engine, and the questions that were put twice already."""
        self.is_connected = True
        queries: list[QuestionFrame] = []
        given_up: list[OpenQuestion] = []
        for pending in list(self._by_id.values()):
            if pending.is_queued:
                continue
            if pending.is_sent and pending.is_put_again:
                # Two engines ended while they had this question, so it may be the cause.
                self._remove(pending)
                given_up.append(pending)
                continue
            pending.is_put_again = pending.is_sent
            pending.is_sent = True
            self._not_forwarded(pending)
            queries.append(pending.query())
        return queries, given_up

    def engine_lost(self, now: float) -> None:
        """Note that the engine is gone."""
        if self.is_connected:
            self.is_connected = False
            self._lost_at = now

    def get_timer(self) -> float | None:
        """Return the next time at which `due` may return something; None while no question is open."""
        times = [first.asked_at + length_s for table, length_s in self._timers if (first := _first(table)) is not None]
        if not self.is_connected and (oldest := _first(self._by_id)) is not None:
            times.append(self._hold_until(oldest))
        return min(times, default=None)

    def due(self, now: float) -> list[tuple[OpenQuestion, Ending]]:
        """Return the questions whose time has come; all but those that are merely slow leave the table."""
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
        """Return until when a question waits for an engine: 1.8 s without one, but no longer than its deadline."""
        held = max(pending.asked_at, self._lost_at) + CLIENT_TIMER_S
        return min(held, pending.asked_at + QUESTION_S_MAX + GRACE_S)

    def _enter(self, key: bytes, client: Client, now: float) -> OpenQuestion:
        pending = OpenQuestion(self._next_id, key, client, now)
        self._next_id = self._next_id % 0xFFFFFFFF + 1
        self._by_key[key] = self._by_id[pending.id] = pending
        self._not_slow[pending.id] = self._not_late[pending.id] = pending
        return pending

    def _may_host_put(self, host: str) -> bool:
        return self._places.left(host, QUESTIONS_MAX - self.put_count) > 0

    def _may_put(self, waiter: WaitingClient) -> bool:
        return self._places.may_take(waiter, QUESTIONS_MAX - self.put_count)

    def _may_forward(self, prefix: str) -> bool:
        free = FORWARDED_MAX - self._forwarded_count
        return free > 0 and not is_over_share(self._forwarded_of[prefix], free)

    def _put(self, pending: OpenQuestion, owner: WaitingClient) -> QuestionFrame | None:
        """Give a question a place, in the name of one of its clients; return its frame if there is an engine."""
        self._leave_lanes(pending)
        pending.is_queued = False
        pending.owner, pending.client = owner, owner.asked.client
        self._places.take(owner)
        if pending.needs_upstream:
            # Counted at once; otherwise all that wait would be put for one place.
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
        self._prefetch_count -= pending.is_prefetch
        pending.is_prefetch = pending.is_sent = False
        self._not_forwarded(pending)
        if pending.owner is not None:
            self._places.give_back(pending.owner)
            pending.owner = None

    def _is_forwarded(self, pending: OpenQuestion) -> None:
        if not pending.is_forwarded:
            pending.is_forwarded = True
            self._forwarded_count += 1
            if pending.owner is not None:
                self._forwarded_of[pending.owner.prefix] += 1

    def _not_forwarded(self, pending: OpenQuestion) -> None:
        if pending.is_forwarded:
            pending.is_forwarded = False
            self._forwarded_count -= 1
            if pending.owner is not None:
                give_back(self._forwarded_of, pending.owner.prefix)


def _first(pendings: OrderedDict[int, OpenQuestion]) -> OpenQuestion | None:
    return next(iter(pendings.values()), None)
