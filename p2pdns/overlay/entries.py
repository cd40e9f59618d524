"""The known zones, the look-ups under way, and the questions that wait for a look-up.

Guarantees: look-ups for questions stay within the share of the node and of each client prefix; no prefix has more slots
than are free; the prefix with the fewest look-ups begins next, and within a prefix the clients take turns, keys that
were never found absent first. Does not know the result of a look-up.
"""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

from p2pdns.addresses import give_back, is_over_share
from p2pdns.dht.node.values import GetOutcome
from p2pdns.dns.zone import Zone
from p2pdns.items.item import MutableItem, Present
from p2pdns.items.keys import ZoneId
from p2pdns.items.shards.content import ZoneContent
from p2pdns.items.shards.partial import PartialZone
from p2pdns.items.shards.pinned import Pinned
from p2pdns.overlay.ports import KeptCommitment, LookupReport, Mark
from p2pdns.resolver.steps import Budget, Missing
from p2pdns.timing import Timer

NEVER = float("-inf")
LOOKUP_RPCS_USUAL = 40  # The charge for a look-up that has not ended: about as many RPCs as it sends in all.
REFRESH_S_MAX = 300.0  # A change is seen after this at the latest.
REFRESH_S_MIN = 30.0  # However short the TTLs of a zone, the overlay is not asked more often.
# Clients' look-ups that have an item or only wait for silent contacts. Each keeps a shortlist of some 50 kB, and half
# as many as the link has room for questions are enough.
PATIENT_GETS_MAX = 512
# Remembered failures of keys without an item, 150 bytes each: enough for seven minutes of 37 new keys a second.
ABSENCES_MAX = 16_384


@dataclass(slots=True, eq=False)
class LookupUnderWay:
    """A look-up under way. `first` is done at the first valid item or at the end, `done` at the end.

    `refusal`: it has met an item that may not be adopted, ODD or CONFLICT.
    """

    number: int
    rpc_max: int
    prefix: str | None
    first: asyncio.Future[None]
    done: asyncio.Future[None]
    item: MutableItem | None = None
    zone: Zone | PartialZone | None = None
    rpc_count: int = 0
    started_at: float = 0.0
    first_s: float | None = None
    holds_slot: bool = False
    holds_share: bool = False
    is_patient: bool = False
    refusal: Missing | None = None

    @property
    def is_refresh(self) -> bool:
        return self.prefix is None

    def contradict(self) -> None:
        """Note that the items met contradict each other: none of them counts."""
        self.refusal, self.item, self.zone = Missing.CONFLICT, None, None


@dataclass(slots=True, eq=False)
class KnownZone:
    """A zone with its newest known item.

    `was_settled`: a complete look-up ended at this item or at an older one, and contacts confirmed that. `is_own`: this
    daemon publishes the zone, which confirms the item. `is_unconfirmed`: the last look-up did not confirm the item.
    `mark`: the highest seq of the key that was ever shown; its item may be lost. `waiters`: questions that wait for
    room; a look-up that another question begins serves them too. `asked_by`: the client prefix that asked last. `kept`:
    the commitment that is kept of the key. `refusal`: why the last look-up adopted an item no further, ODD or CONFLICT.
    `looked_again_at`: when it was last looked up because shards were missing.
    `shown`: the zone of a key that has followed this one, as it is and under this key.
    """

    zone_id: ZoneId
    item: MutableItem | None = None
    zone: Zone | PartialZone | None = None
    mark: Mark | None = None
    shown_count: int = 0
    was_settled: bool = False
    is_own: bool = False
    is_unconfirmed: bool = False
    confirmed_at: float = NEVER
    asked_at: float = NEVER
    looked_again_at: float = NEVER
    lookup: LookupUnderWay | None = None
    failure: Missing | None = None
    retry_at: float = NEVER
    backoff_s: float = 0.0
    refresh: Timer | None = None
    waiters: list[asyncio.Future[None]] = field(default_factory=list)
    asked_by: str = ""
    kept: KeptCommitment | None = None
    refusal: Missing | None = None
    shown: tuple[ZoneContent, ZoneContent] | None = None

    @property
    def was_absent(self) -> bool:
        return self.item is None and self.failure is not None

    @property
    def seq_max(self) -> int:
        """The highest seq known of the key; -1 where none is."""
        return max(-1 if self.item is None else self.item.seq, -1 if self.mark is None else self.mark.seq)

    def has_shown_newer(self, item: MutableItem) -> bool:
        """Return whether a newer item than this one was shown or adopted before."""
        return self.mark is not None and item.seq < self.mark.seq

    def present(self, now: Present) -> Present:
        """Return the clock and the seqs by which the items of the key are judged."""
        return now.of_key(None if self.mark is None else self.mark.seq)

    def confirm(self, now: float) -> None:
        """Note that the item in hand is the newest now."""
        self.was_settled, self.is_unconfirmed, self.confirmed_at = True, False, now

    def forgive(self) -> None:
        """Forget failures."""
        self.failure, self.retry_at, self.backoff_s = None, NEVER, 0.0

    def fail(self, reason: Missing, now: float, seconds_min: float, seconds_max: float) -> None:
        """Remember a failure for twice as long as the last one."""
        self.backoff_s = min(max(seconds_min, self.backoff_s * 2), seconds_max)
        self.failure, self.retry_at = reason, now + self.backoff_s

    def begun(self, lookup: LookupUnderWay) -> None:
        """Note the look-up that has begun, and wake the questions that wait for one."""
        self.lookup = lookup
        wake(self.waiters)

    def with_shards_at_hand(self, zone: Zone | PartialZone) -> Zone | PartialZone:
        """Return a zone with all that is at hand and that it pins too: no look-up is needed for that."""
        if not isinstance(zone, PartialZone):
            return zone
        known = None if self.lookup is None else self.lookup.zone
        for other in (known, self.zone):
            if isinstance(other, PartialZone) and other is not zone:
                zone = zone.with_items_of(other)
        return zone

    def has_items(self, items: Iterable[Pinned]) -> bool:
        """Return whether all of these items are at hand."""
        zones = (self.zone, None if self.lookup is None else self.lookup.zone)
        held = [zone for zone in zones if isinstance(zone, PartialZone)]
        return all(any(zone.has(wanted) for zone in held) for wanted in items)

    def value_found(self, wanted: Pinned, value: bytes) -> None:
        """Take a pinned value into the zone in hand, and into the one that a look-up has found; BadItem if it is bad.

        A zone of which the head does not pin it stays as it is.
        """
        if isinstance(self.zone, PartialZone):
            self.zone = self.zone.with_value(wanted, value)
        if self.lookup is not None and isinstance(self.lookup.zone, PartialZone):
            self.lookup.zone = self.lookup.zone.with_value(wanted, value)

    def stop_refresh(self) -> None:
        """Cancel the timer of the next refresh."""
        if self.refresh is not None:
            self.refresh.cancel()
            self.refresh = None


def report_of(
    entry: KnownZone, lookup: LookupUnderWay, outcome: GetOutcome, is_confirmed: bool, unix_now: float
) -> LookupReport:
    """Return the report of a look-up that has ended, as `lookups` and a trace show it."""
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
    """The failures of keys without an item whose entry was evicted."""

    def __init__(self, count_max: int = ABSENCES_MAX) -> None:
        self._count_max = count_max
        self._kept: OrderedDict[bytes, tuple[ZoneId, Missing, float, float]] = OrderedDict()

    def keep(self, entry: KnownZone) -> None:
        """Keep the failure of an entry that is evicted."""
        if entry.failure is not None:
            self._kept[entry.zone_id.raw] = (entry.zone_id, entry.failure, entry.retry_at, entry.backoff_s)
            if len(self._kept) > self._count_max:
                self._kept.popitem(last=False)

    def give_back(self, entry: KnownZone) -> None:
        """Give a new entry the failure that is kept of its key."""
        kept = self._kept.pop(entry.zone_id.raw, None)
        if kept is not None:
            _, entry.failure, entry.retry_at, entry.backoff_s = kept

    def has(self, zone_id: ZoneId) -> bool:
        """Return whether a failure of a key is kept."""
        return zone_id.raw in self._kept

    def forget(self, zone_id: ZoneId) -> bool:
        """Forget the failure of a key; return whether there was one."""
        return self._kept.pop(zone_id.raw, None) is not None

    def zone_ids(self) -> list[ZoneId]:
        """Return the zones whose failures are kept."""
        return [zone_id for zone_id, *_ in self._kept.values()]

    def clear(self) -> None:
        """Forget all failures."""
        self._kept.clear()


def wake(waiters: list[asyncio.Future[None]]) -> None:
    """Wake the questions that wait for a look-up to begin."""
    for started in waiters:
        if not started.done():
            started.set_result(None)
    waiters.clear()


def refresh_seconds(zone: Zone | PartialZone | None) -> float:
    """Return for how long an item of this content is taken for the newest before the overlay is asked again."""
    if zone is None:
        return REFRESH_S_MAX
    return max(REFRESH_S_MIN, min(REFRESH_S_MAX, float(zone.lowest_ttl)))


def charge_of(lookup: LookupUnderWay | None) -> tuple[int, int]:
    """Return the number of a look-up, and the RPCs charged to a question that waited for it."""
    if lookup is None:
        return 0, 0
    return lookup.number, lookup.rpc_count if lookup.done.done() else LOOKUP_RPCS_USUAL


def make_room(entries: OrderedDict[bytes, KnownZone], absences: Absences, count_max: int, newest: KnownZone) -> None:
    """Evict entries: keys without an item first, then the least recently asked; a key that is being looked up stays."""
    excess = len(entries) - count_max
    if excess <= 0:
        return
    idle = [entry for entry in entries.values() if entry.lookup is None and entry is not newest]
    # Anybody can ask for any number of absent keys. Their failures are remembered for longer, in `absences`.
    idle.sort(key=lambda entry: entry.item is not None)
    for entry in idle[:excess]:
        entry.stop_refresh()
        absences.keep(entry)
        del entries[entry.zone_id.raw]


class Seeker(Protocol):
    """That for which a question waits until a look-up begins: a zone, or pinned items of one."""

    waiters: list[asyncio.Future[None]]

    @property
    def lookup(self) -> LookupUnderWay | None: ...

    @property
    def was_absent(self) -> bool: ...


@dataclass(slots=True, eq=False)
class _Waiter:
    entry: Seeker
    budget: Budget
    started: asyncio.Future[None]
    start: Callable[[Budget], None]


class _Line:
    """The waiting questions of one client prefix: its clients take turns, keys that were never found absent first."""

    def __init__(self) -> None:
        self._by_seat: tuple[OrderedDict[str, deque[_Waiter]], ...] = (OrderedDict(), OrderedDict())

    def __bool__(self) -> bool:
        return any(self._by_seat)

    @property
    def has_new(self) -> bool:
        """Whether a question waits for a key that was never found absent."""
        return bool(self._by_seat[0])

    @property
    def first(self) -> _Waiter:
        by_seat = self._by_seat[0] or self._by_seat[1]
        return next(iter(by_seat.values()))[0]

    def append(self, waiter: _Waiter) -> None:
        """Put a question at the end of the line."""
        by_seat = self._by_seat[waiter.entry.was_absent]
        by_seat.setdefault(waiter.budget.client_seat, deque()).append(waiter)

    def remove(self, waiter: _Waiter) -> None:
        """Take a question out of the line; its client has its next turn after the others."""
        seat = waiter.budget.client_seat
        for by_seat in self._by_seat:
            queue = by_seat.get(seat)
            if queue is not None and waiter in queue:
                queue.remove(waiter)
                by_seat.move_to_end(seat)
                if not queue:
                    del by_seat[seat]


class Slots:
    """The slots for cold look-ups. `start` begins the look-up of a question that has waited for one.

    A look-up holds a slot of the node and a share of its client's prefix until `ease` is called: then it has an item or
    loads the node no more. From then on it counts as patient, and there may be many more patient look-ups.
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

    def has_room(self, budget: Budget) -> bool:
        """Return whether a question may begin a look-up at once."""
        free = self.count_max - self._count
        prefix = budget.client_prefix
        held = self._by_prefix[prefix]
        if free <= 0 or (prefix and is_over_share(held, free)):
            return False
        return budget.is_privileged or held < self._per_prefix_max

    async def begun(self, entry: KnownZone, budget: Budget, timeout_s: float) -> bool:
        """Wait for a slot; return whether a look-up of the key was begun, for this question or for another."""
        return await self.begun_by(entry, partial(self._start, entry), budget, timeout_s)

    async def begun_by(self, seeker: Seeker, start: Callable[[Budget], None], budget: Budget, timeout_s: float) -> bool:
        """Wait for a slot and have the look-up begun by `start`; return whether one was begun, here or elsewhere."""
        waiter = _Waiter(seeker, budget, asyncio.get_running_loop().create_future(), start)
        self._lines.setdefault(budget.client_prefix, _Line()).append(waiter)
        seeker.waiters.append(waiter.started)
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
        """Count a look-up for a client as begun."""
        assert lookup.prefix is not None, "the node's own look-ups hold no slot"
        lookup.holds_slot = lookup.holds_share = True
        self._count += 1
        self._by_prefix[lookup.prefix] += 1

    def ease(self, lookup: LookupUnderWay) -> None:
        """Give back the slot of a look-up that has its first item or loads the node no more, if the patient have room.

        With an item the look-up gives back its client's share in any case: the rest of it only refines the answer, in
        the node's own interest.
        """
        prefix = lookup.prefix
        if prefix is None or not (lookup.holds_slot or lookup.holds_share):
            return
        free = self._patient_max - self._patient_count
        has_room = free > 0 and not (prefix and is_over_share(self._patient_of[prefix], free))
        if lookup.holds_share and (has_room or lookup.item is not None):
            lookup.holds_share = False
            give_back(self._by_prefix, prefix)
        if lookup.holds_slot and has_room:
            lookup.holds_slot, lookup.is_patient = False, True
            self._count -= 1
            self._patient_count += 1
            self._patient_of[prefix] += 1
        self.serve()

    def release(self, lookup: LookupUnderWay) -> None:
        """Count a look-up as ended, and give back all that it still holds."""
        assert lookup.prefix is not None, "the node's own look-ups hold no slot"
        if lookup.holds_share:
            give_back(self._by_prefix, lookup.prefix)
        if lookup.holds_slot:
            self._count -= 1
        if lookup.is_patient:
            self._patient_count -= 1
            give_back(self._patient_of, lookup.prefix)
        lookup.holds_slot = lookup.holds_share = lookup.is_patient = False
        self.serve()

    def serve(self) -> None:
        """Begin the look-ups of waiting questions that have room now, the prefix with the fewest look-ups first."""
        if self._is_serving:
            # A look-up that finds its item in our own storage gives its slot back as it begins. The next question then
            # begins in the next round of the loop: with recursion, a long queue would be a deep stack.
            asyncio.get_running_loop().call_soon(self.serve)
            return
        self._is_serving = True
        try:
            while (waiter := self._next()) is not None:
                self._leave(waiter)
                if not waiter.started.done():
                    waiter.started.set_result(None)
                if waiter.entry.lookup is None:
                    waiter.start(waiter.budget)
        finally:
            self._is_serving = False

    def _next(self) -> _Waiter | None:
        """Return the question that begins next; if all else is equal, keys once found absent come last."""
        best: tuple[int, bool] | None = None
        chosen: _Waiter | None = None
        for prefix, line in self._lines.items():
            rank = (self._by_prefix[prefix], not line.has_new)
            if (best is None or rank < best) and self.has_room((waiter := line.first).budget):
                best, chosen = rank, waiter
        return chosen
