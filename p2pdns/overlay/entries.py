"""What is known of each zone, the look-ups under way, and the questions that wait for one.

Guarantees: look-ups on questions' accounts stay within the node's and each client prefix's share; no prefix has more
slots than are free, the prefix that has fewest begins next, and in it the clients take turns, with keys that were
never found absent first. Does not know what a look-up brings.
"""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field

from p2pdns.addresses import is_over_share
from p2pdns.dht.node import GetOutcome
from p2pdns.dns.zone import Zone
from p2pdns.items.item import MutableItem
from p2pdns.items.keys import ZoneId
from p2pdns.overlay.ports import LookupReport, Mark
from p2pdns.resolver.steps import Budget, Missing
from p2pdns.timing import Timer

NEVER = float("-inf")
# What a look-up is counted with that goes on after its first item: about as much as it will have sent at its end.
LOOKUP_RPCS_USUAL = 40
REFRESH_S_MAX = 300.0  # A change is seen after this at the latest.
REFRESH_S_MIN = 30.0  # However short the TTLs of a zone, the overlay is not asked more often.
# Look-ups of clients that have an item or only wait for silent contacts. Each keeps a shortlist of some 50 kB, and half
# of the questions that the link has room for are enough.
PATIENT_GETS_MAX = 512
# Keys without an item whose failures are remembered, 150 bytes each: at 37 new ones a second those of seven minutes.
ABSENCES_MAX = 16_384


@dataclass(slots=True, eq=False)
class LookupUnderWay:
    """A look-up under way. `first` is done at the first valid item or at the end, `done` at the end."""

    number: int
    rpc_max: int
    prefix: str | None
    first: asyncio.Future[None]
    done: asyncio.Future[None]
    item: MutableItem | None = None
    zone: Zone | None = None
    rpc_count: int = 0
    started_at: float = 0.0
    first_s: float | None = None
    holds_slot: bool = False
    holds_share: bool = False
    is_patient: bool = False

    @property
    def is_refresh(self) -> bool:
        """Whether the node asks on its own account."""
        return self.prefix is None


@dataclass(slots=True, eq=False)
class KnownZone:
    """What is known of one zone.

    `was_settled`: some complete look-up ended at this item or at an older one, and contacts confirmed that.
    `is_own`: this daemon publishes the zone, which confirms it. `is_unconfirmed`: the last look-up did not confirm it.
    `mark`: the highest seq of the key that was ever shown, of which the item need not be in hand.
    """

    zone_id: ZoneId
    item: MutableItem | None = None
    zone: Zone | None = None
    mark: Mark | None = None
    shown_count: int = 0
    was_settled: bool = False
    is_own: bool = False
    is_unconfirmed: bool = False
    confirmed_at: float = NEVER
    asked_at: float = NEVER
    lookup: LookupUnderWay | None = None
    failure: Missing | None = None
    retry_at: float = NEVER
    backoff_s: float = 0.0
    refresh: Timer | None = None
    # Of questions that wait for room: a look-up that others begin is theirs as well.
    waiters: list[asyncio.Future[None]] = field(default_factory=list)

    @property
    def was_absent(self) -> bool:
        """Whether the key was looked up in vain before, and nothing is known of it."""
        return self.item is None and self.failure is not None

    @property
    def seq_max(self) -> int:
        """The highest seq known of the key; -1 where none is."""
        return max(-1 if self.item is None else self.item.seq, -1 if self.mark is None else self.mark.seq)

    def is_confirmed_by(self, outcome: GetOutcome) -> bool:
        """Return whether the item in hand is the newest: contacts confirmed it at the end of a complete look-up.

        That a look-up found nothing newer is not enough: in it nobody may hold the zone, or those that do keep silent.
        """
        if self.item is None:
            return False
        return self.is_own or (outcome.complete and outcome.confirms(self.item))

    def confirm(self, now: float) -> None:
        """Take the item in hand for the newest from now on."""
        self.was_settled, self.is_unconfirmed, self.confirmed_at = True, False, now

    def forgive(self) -> None:
        """Forget failures."""
        self.failure, self.retry_at, self.backoff_s = None, NEVER, 0.0

    def fail(self, reason: Missing, now: float, seconds_min: float, seconds_max: float) -> None:
        """Remember a failure, for twice as long as the last one."""
        self.backoff_s = min(max(seconds_min, self.backoff_s * 2), seconds_max)
        self.failure, self.retry_at = reason, now + self.backoff_s

    def begun(self, lookup: LookupUnderWay) -> None:
        """Take a look-up, and tell the questions that wait for one."""
        self.lookup = lookup
        for started in self.waiters:
            if not started.done():
                started.set_result(None)
        self.waiters.clear()

    def stop_refresh(self) -> None:
        """Cancel the next refresh."""
        if self.refresh is not None:
            self.refresh.cancel()
            self.refresh = None


def report_of(
    entry: KnownZone, lookup: LookupUnderWay, outcome: GetOutcome, is_confirmed: bool, unix_now: float
) -> LookupReport:
    """Return a look-up that has ended as `lookups` and a trace show it."""
    return LookupReport(
        zone_id=entry.zone_id,
        rpcs=outcome.rpc_count,
        retransmits=outcome.retransmit_count,
        peers=outcome.peer_count,
        first_ms=None if outcome.first_s is None else outcome.first_s * 1000,
        complete_ms=outcome.done_s * 1000,
        verdict=outcome.verdict,
        at=unix_now,
        is_refresh=lookup.is_refresh,
        number=lookup.number,
        seq=None if lookup.item is None else lookup.item.seq,
        answered=outcome.answered,
        dropped=outcome.dropped,
        was_stored_here=outcome.rpcs_to_first == 0,
        is_confirmed=None if entry.item is None else is_confirmed,
    )


class Absences:
    """Keys that were looked up in vain and have lost their entry: how long that holds, and how often it happened."""

    def __init__(self, count_max: int = ABSENCES_MAX) -> None:
        self._count_max = count_max
        self._kept: OrderedDict[bytes, tuple[ZoneId, Missing, float, float]] = OrderedDict()

    def keep(self, entry: KnownZone) -> None:
        """Keep what an entry that goes knows of failures."""
        if entry.failure is not None:
            self._kept[entry.zone_id.raw] = (entry.zone_id, entry.failure, entry.retry_at, entry.backoff_s)
            if len(self._kept) > self._count_max:
                self._kept.popitem(last=False)

    def give_back(self, entry: KnownZone) -> None:
        """Tell a new entry what was known of its key."""
        kept = self._kept.pop(entry.zone_id.raw, None)
        if kept is not None:
            _, entry.failure, entry.retry_at, entry.backoff_s = kept

    def forget(self, zone_id: ZoneId) -> bool:
        """Forget the failures of a key; return whether there were any."""
        return self._kept.pop(zone_id.raw, None) is not None

    def zone_ids(self) -> list[ZoneId]:
        """Return whose failures are kept."""
        return [zone_id for zone_id, *_ in self._kept.values()]

    def clear(self) -> None:
        """Forget all."""
        self._kept.clear()


def refresh_seconds(zone: Zone | None) -> float:
    """Return how long an item of this content is good before the overlay is asked again."""
    if zone is None:
        return REFRESH_S_MAX
    return max(REFRESH_S_MIN, min(REFRESH_S_MAX, float(zone.lowest_ttl)))


def charge_of(lookup: LookupUnderWay | None) -> tuple[int, int]:
    """Return the number of a look-up, and the RPCs that whoever waited for it is charged with."""
    if lookup is None:
        return 0, 0
    return lookup.number, lookup.rpc_count if lookup.done.done() else LOOKUP_RPCS_USUAL


def make_room(entries: OrderedDict[bytes, KnownZone], absences: Absences, count_max: int, newest: KnownZone) -> None:
    """Make room, keys without an item first, and then the oldest question; a key that is being looked up stays."""
    excess = len(entries) - count_max
    if excess <= 0:
        return
    idle = [entry for entry in entries.values() if entry.lookup is None and entry is not newest]
    # Absent keys are asked for at will. What is left of them is their failure, and that is remembered longer.
    idle.sort(key=lambda entry: entry.item is not None)
    for entry in idle[:excess]:
        entry.stop_refresh()
        absences.keep(entry)
        del entries[entry.zone_id.raw]


@dataclass(slots=True, eq=False)
class _Waiter:
    entry: KnownZone
    budget: Budget
    started: asyncio.Future[None]


class _Line:
    """The questions of one client prefix that wait: its clients by turns, keys that were never found absent first."""

    def __init__(self) -> None:
        self._by_seat: tuple[OrderedDict[str, deque[_Waiter]], ...] = (OrderedDict(), OrderedDict())

    def __bool__(self) -> bool:
        """Return whether anybody waits."""
        return any(self._by_seat)

    @property
    def has_new(self) -> bool:
        """Whether a key waits that was not found absent before."""
        return bool(self._by_seat[0])

    @property
    def first(self) -> _Waiter:
        """Whose turn it is."""
        by_seat = self._by_seat[0] or self._by_seat[1]
        return next(iter(by_seat.values()))[0]

    def append(self, waiter: _Waiter) -> None:
        """Put a question in line."""
        by_seat = self._by_seat[waiter.entry.was_absent]
        by_seat.setdefault(waiter.budget.client_seat, deque()).append(waiter)

    def remove(self, waiter: _Waiter) -> None:
        """Take a question out of line; its seat has its next turn behind the others."""
        seat = waiter.budget.client_seat
        for by_seat in self._by_seat:
            queue = by_seat.get(seat)
            if queue is not None and waiter in queue:
                queue.remove(waiter)
                by_seat.move_to_end(seat)
                if not queue:
                    del by_seat[seat]


class Slots:
    """Room for cold look-ups. `start` begins one and takes its room with `take`.

    A look-up holds a slot of the node and a share of its client's prefix until it is patient, which `ease` is told: it
    has an item, or loads the node no more. Then it counts among the patient, of which there may be many more.
    """

    def __init__(
        self,
        count_max: int,
        per_prefix_max: int,
        start: Callable[[KnownZone, Budget], None],
        patient_max: int = PATIENT_GETS_MAX,
    ) -> None:
        self.count_max = count_max
        self._per_prefix_max = per_prefix_max
        self._patient_max = patient_max
        self._start = start
        self._count = 0
        self._by_prefix: Counter[str] = Counter()
        self._patient_count = 0
        self._patient_of: Counter[str] = Counter()
        self._lines: OrderedDict[str, _Line] = OrderedDict()
        self._is_serving = False

    async def started(self, entry: KnownZone, budget: Budget, timeout_s: float) -> bool:
        """Return whether a look-up of the key is under way, after waiting for room."""
        if self._has_room(budget):
            self._start(entry, budget)
            return True
        waiter = _Waiter(entry, budget, asyncio.get_running_loop().create_future())
        self._lines.setdefault(budget.client_prefix, _Line()).append(waiter)
        entry.waiters.append(waiter.started)
        try:
            await asyncio.wait({waiter.started}, timeout=max(0.0, timeout_s))
        finally:
            self._leave(waiter)
        return waiter.started.done()

    def _leave(self, waiter: _Waiter) -> None:
        prefix = waiter.budget.client_prefix
        line = self._lines.get(prefix)
        if line is not None:
            line.remove(waiter)
            if not line:
                del self._lines[prefix]
        if waiter.started in waiter.entry.waiters:
            waiter.entry.waiters.remove(waiter.started)

    def take(self, lookup: LookupUnderWay) -> None:
        """Count a look-up in that is made for a client."""
        assert lookup.prefix is not None, "the node's own look-ups hold no slot"
        lookup.holds_slot = lookup.holds_share = True
        self._count += 1
        self._by_prefix[lookup.prefix] += 1

    def ease(self, lookup: LookupUnderWay) -> None:
        """Let others begin in place of a look-up that has its first item or is patient, where there is room for it.

        With an item its client's share is free in any case: what is still asked only refines the answer, and is the
        node's own interest.
        """
        prefix = lookup.prefix
        if prefix is None or not (lookup.holds_slot or lookup.holds_share):
            return
        free = self._patient_max - self._patient_count
        has_room = free > 0 and not (prefix and is_over_share(self._patient_of[prefix], free))
        if lookup.holds_share and (has_room or lookup.item is not None):
            lookup.holds_share = False
            self._give_back(self._by_prefix, prefix)
        if lookup.holds_slot and has_room:
            lookup.holds_slot, lookup.is_patient = False, True
            self._count -= 1
            self._patient_count += 1
            self._patient_of[prefix] += 1
        self.serve()

    def release(self, lookup: LookupUnderWay) -> None:
        """Count a look-up out, with whatever it still holds."""
        assert lookup.prefix is not None, "the node's own look-ups hold no slot"
        if lookup.holds_share:
            self._give_back(self._by_prefix, lookup.prefix)
        if lookup.holds_slot:
            self._count -= 1
        if lookup.is_patient:
            self._patient_count -= 1
            self._give_back(self._patient_of, lookup.prefix)
        lookup.holds_slot = lookup.holds_share = lookup.is_patient = False
        self.serve()

    def _give_back(self, counts: Counter[str], prefix: str) -> None:
        counts[prefix] -= 1
        if counts[prefix] <= 0:
            del counts[prefix]

    def serve(self) -> None:
        """Let waiting questions go on that have room now, of the prefix that has fewest look-ups first."""
        if self._is_serving:
            # A look-up that finds its item in our own storage gives room back as it begins. Who waits for that goes on
            # in the next round: a long queue would be a deep stack.
            asyncio.get_running_loop().call_soon(self.serve)
            return
        self._is_serving = True
        try:
            while (waiter := self._next()) is not None:
                self._leave(waiter)
                if not waiter.started.done():
                    waiter.started.set_result(None)
                if waiter.entry.lookup is None:
                    self._start(waiter.entry, waiter.budget)
        finally:
            self._is_serving = False

    def _next(self) -> _Waiter | None:
        """Return the question that begins next; a key found absent before has to wait where all else is equal."""
        best: tuple[int, bool] | None = None
        chosen: _Waiter | None = None
        for prefix, line in self._lines.items():
            rank = (self._by_prefix[prefix], not line.has_new)
            if (best is None or rank < best) and self._has_room((waiter := line.first).budget):
                best, chosen = rank, waiter
        return chosen

    def _has_room(self, budget: Budget) -> bool:
        free = self.count_max - self._count
        prefix = budget.client_prefix
        held = self._by_prefix[prefix]
        if free <= 0 or (prefix and is_over_share(held, free)):
            return False
        return budget.is_privileged or held < self._per_prefix_max
