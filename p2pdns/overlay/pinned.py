"""The pinned items of divided zones: their look-ups, which all questions share, and those that cannot be found.

Guarantees: the items that a question needs together are looked up together, as one look-up of its budget; what is found
stays at hand, whether or not the rest is found; an item that nobody has is not looked for again before its time; of all
zones together a bounded number of items is at hand, and the zone with the most gives up those that it used least
recently. Does not know the question, nor which head is the newest.
"""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from p2pdns.dht.lookup.verdict import Verdict
from p2pdns.dht.node.values import GetOutcome, Wanted
from p2pdns.dns.life import FAILURE_S_MAX, FAILURE_S_MIN
from p2pdns.errors import BadItem
from p2pdns.items.item import ImmutableItem, Item, MutableItem
from p2pdns.items.keys import ZoneId
from p2pdns.items.shards.partial import SHARDS_MAX, SIZE_BYTES_MAX, Needed, PartialZone
from p2pdns.items.shards.pinned import Pinned
from p2pdns.limits import QUESTION_RPCS_MAX, QUESTION_S_MAX
from p2pdns.overlay.entries import KnownZone, LookupUnderWay, Slots, charge_of, wake
from p2pdns.overlay.parts import key_of
from p2pdns.overlay.ports import Gets, LookupReport, Means
from p2pdns.overlay.successions import rest_of
from p2pdns.resolver.steps import Budget, Missing

RPCS_MIN = 4  # With fewer for an item, hardly a look-up finds it, so it is not begun.
# For each of several items looked up together: with α = 4 they take twice the requests, and at the median they come no
# sooner (measured among 1,000 simulated nodes: 4.7 requests an item with α = 2, 9.2 with 4).
TOGETHER_ALPHA = 2
PASSES_MAX = 3  # What quick look-ups leave of their requests is for those that had too few.
FAILURES_MAX = 4_096  # Items that nobody had, some 300 bytes each: a question can make five of them.
# Of all zones at hand: with what keeps them some 32 MB, as much as the zones in one item take.
ITEMS_AT_HAND_MAX = 8_192
BYTES_AT_HAND_MAX = 16 * 2**20
SHRUNK_TO = 15 / 16  # A zone gives up so much at once, because to rank its items takes milliseconds.


@dataclass(frozen=True, slots=True)
class Gotten:
    """How the look-up of some pinned items ended: `missing` is None where all of them are at hand.

    `charges` are the numbers and requests of the look-ups that the question waited for, none where it waited for none.
    """

    missing: Missing | None
    charges: tuple[tuple[int, int], ...] = ()
    retry_at: float = 0.0


@dataclass(slots=True, eq=False)
class _Round:
    """Items of one zone that are looked up together. `missing` are those that were not found, and why."""

    entry: KnownZone
    needed: Needed
    lookup: LookupUnderWay | None = None
    waiters: list[asyncio.Future[None]] = field(default_factory=list)
    missing: dict[Pinned, Missing] = field(default_factory=dict)
    broken: dict[Pinned, None] = field(default_factory=dict)

    @property
    def was_absent(self) -> bool:
        return False


@dataclass(frozen=True, slots=True)
class _Failure:
    zone_id: ZoneId
    reason: Missing
    retry_at: float
    backoff_s: float


class PinnedItems:
    """The look-ups of pinned items of one reader."""

    def __init__(
        self,
        means: Means,
        network: Gets,
        slots: Slots,
        *,
        reports: deque[LookupReport],
        next_number: Callable[[], int],
        is_current: Callable[[KnownZone], bool],
    ) -> None:
        self._network = network
        self._slots = slots
        self._clock = means.clock
        self._unix_clock = means.unix_clock
        self._tell = means.tell
        self._counters = means.counters
        self._reports = reports
        self._spawn = means.spawn
        self._next_number = next_number
        self._is_current = is_current
        self._rounds: dict[bytes, _Round] = {}
        # By target, the longest remembered first.
        self._failures: OrderedDict[bytes, _Failure] = OrderedDict()
        # The divided zones that were given an item, with the number and the bytes of their items.
        self._sizes: dict[bytes, tuple[KnownZone, int, int]] = {}

    @property
    def at_hand(self) -> tuple[int, int]:
        """How many items are at hand, and their bytes."""
        self._sizes = {raw: row for raw, row in self._sizes.items() if self._is_current(row[0])}
        sizes = self._sizes.values()
        return sum([count for _, count, _ in sizes]), sum([size for _, _, size in sizes])

    def under_way(self) -> Iterable[LookupUnderWay]:
        """Yield the look-ups that have not ended."""
        return (one.lookup for one in self._rounds.values() if one.lookup is not None)

    async def found(self, entry: KnownZone, needed: Needed, budget: Budget) -> Gotten:
        """Look for the items that a question needs next, unless another question does so already."""
        for wanted in needed.items:
            failure = self._failures.get(wanted.target(key_of(entry.zone_id)))
            if failure is not None and self._clock() < failure.retry_at:
                return Gotten(failure.reason, retry_at=failure.retry_at)
        place = self._place_of(entry, needed)
        charges: dict[int, int] = {}

        def gotten(missing: Missing | None, retry_at: float = 0.0) -> Gotten:
            return Gotten(missing, tuple(charges.items()), retry_at)

        while not entry.has_items(needed.items):
            rest = rest_of(budget, charges)
            is_affordable = rest.cold_get_max > 0 and rest.rpc_max >= RPCS_MIN * len(needed.items)
            current = self._rounds.get(place)
            if current is None:
                if not is_affordable:
                    return gotten(Missing.BUDGET)
                current = self._rounds[place] = _Round(entry, needed)
            if current.lookup is None and not await self._has_begun(place, current, rest):
                return gotten(Missing.DEADLINE)
            lookup = current.lookup
            assert lookup is not None, "it has begun"
            await asyncio.wait({lookup.done}, timeout=max(0.0, budget.deadline - self._clock()))
            charges.update([charge_of(lookup)])
            if not lookup.done.done():
                return gotten(Missing.DEADLINE)
            missing = [current.missing[wanted] for wanted in needed.items if wanted in current.missing]
            if not missing:
                break
            # A look-up that a smaller budget cut short is made again, on the budget of this question.
            if missing[0] is not Missing.BUDGET or lookup.rpc_max >= rest_of(budget, charges).rpc_max:
                return gotten(missing[0], self._retry_at(entry, current.missing))
        return gotten(None)

    def _retry_at(self, entry: KnownZone, missing: Iterable[Pinned]) -> float:
        failures = (self._failures.get(wanted.target(key_of(entry.zone_id))) for wanted in missing)
        return max((failure.retry_at for failure in failures if failure is not None), default=0.0)

    async def _has_begun(self, place: bytes, current: _Round, budget: Budget) -> bool:
        if self._slots.has_room(budget):
            self._start(place, current, budget)
            return True

        def start(budget: Budget) -> None:
            self._start(place, current, budget)

        try:
            return await self._slots.begun_by(current, start, budget, budget.deadline - self._clock())
        finally:
            if current.lookup is None and not current.waiters and self._rounds.get(place) is current:
                del self._rounds[place]

    def _start(self, place: bytes, current: _Round, budget: Budget) -> None:
        future = asyncio.get_running_loop().create_future
        rpc_max = min(budget.rpc_max, QUESTION_RPCS_MAX)
        lookup = LookupUnderWay(
            self._next_number(), rpc_max, budget.client_prefix, future(), future(), started_at=self._clock()
        )
        current.lookup = lookup
        wake(current.waiters)
        self._slots.take(lookup)
        self._spawn(self._run(place, current, lookup))

    async def _run(self, place: bytes, current: _Round, lookup: LookupUnderWay) -> None:
        outcomes: dict[Pinned, GetOutcome] = {}
        try:
            await self._looked_up(current, lookup, outcomes)
        except Exception as error:
            # The waiting questions are woken after any error.
            self._tell("look-up of a shard broke off", key=current.entry.zone_id, reason=repr(error))
            self._counters["lookups-broken-off"] += 1
        finally:
            for wanted in current.needed.items:
                if (reason := self._reason(current, wanted, outcomes.get(wanted))) is not None:
                    current.missing[wanted] = reason
                    self._note_failure(current.entry.zone_id, wanted, reason)
            self._report(current, lookup, list(outcomes.values()))
            del self._rounds[place]
            for event in (lookup.first, lookup.done):
                if not event.done():
                    event.set_result(None)
            self._slots.release(lookup)

    async def _looked_up(self, current: _Round, lookup: LookupUnderWay, outcomes: dict[Pinned, GetOutcome]) -> None:
        left, share = lookup.rpc_max, 0
        missing = list(current.needed.items)
        for _ in range(PASSES_MAX):
            if not missing or left // len(missing) <= share:
                break
            share = left // len(missing)
            ended = await asyncio.gather(*self._gets(current, lookup, missing, share))
            for wanted, outcome in zip(missing, ended, strict=True):
                outcomes[wanted] = outcome if wanted not in outcomes else _added(outcomes[wanted], outcome)
                left -= outcome.rpc_count
                lookup.rpc_count += outcome.rpc_count
            missing = [wanted for wanted in missing if outcomes[wanted].verdict is Verdict.BUDGET]

    def _gets(
        self, current: _Round, lookup: LookupUnderWay, missing: list[Pinned], rpc_max: int
    ) -> list[asyncio.Future[GetOutcome]]:
        """Begin one get for each item; the slot is given back once none of them loads the node any more."""
        entry, urgent = current.entry, dict.fromkeys(missing)
        key = key_of(entry.zone_id)

        def calm(wanted: Pinned) -> None:
            urgent.pop(wanted, None)
            if not urgent:
                self._slots.ease(lookup)

        def begun(wanted: Pinned) -> asyncio.Future[GetOutcome]:
            get = self._network.get(
                Wanted(
                    wanted.target(key),
                    key,
                    wanted.salt,
                    rpc_max=rpc_max,
                    deadline=self._clock() + QUESTION_S_MAX,
                    pinned=wanted,
                    alpha=TOGETHER_ALPHA if len(current.needed.items) > 1 else None,
                ),
                on_item=lambda item: self._took(current, lookup, wanted, item),
                on_patient=lambda: calm(wanted),
            )
            return asyncio.ensure_future(get)

        return [begun(wanted) for wanted in missing]

    def _took(self, current: _Round, lookup: LookupUnderWay, wanted: Pinned, item: Item) -> None:
        """Take an item that has the pinned value."""
        if isinstance(item, ImmutableItem):
            return
        try:
            wanted.check(item.value)
            current.entry.value_found(wanted, item.value)
        except BadItem as error:
            self._counters[f"item-{error.reason}"] += 1
            current.broken[wanted] = None
            return
        if lookup.first_s is None:
            lookup.first_s = self._clock() - lookup.started_at
        self._failures.pop(item.target, None)
        self._keep_bounds(current.entry)

    @staticmethod
    def _reason(current: _Round, wanted: Pinned, outcome: GetOutcome | None) -> Missing | None:
        """Return why an item is missing; None where it was found."""
        if wanted in current.broken:
            return Missing.BROKEN
        if outcome is None:
            return Missing.UNREACHABLE
        if outcome.item is not None:
            return None
        if outcome.verdict in (Verdict.BUDGET, Verdict.DEADLINE):
            return Missing.BUDGET if outcome.verdict is Verdict.BUDGET else Missing.DEADLINE
        return Missing.ABSENT if outcome.answered_count else Missing.UNREACHABLE

    # What cannot be found.

    def _note_failure(self, zone_id: ZoneId, wanted: Pinned, reason: Missing) -> None:
        if reason in (Missing.BUDGET, Missing.DEADLINE):
            # That says nothing about the item.
            return
        target = wanted.target(key_of(zone_id))
        before = self._failures.pop(target, None)
        backoff_s = min(max(FAILURE_S_MIN, 0.0 if before is None else 2 * before.backoff_s), FAILURE_S_MAX)
        self._failures[target] = _Failure(zone_id, reason, self._clock() + backoff_s, backoff_s)
        if len(self._failures) > FAILURES_MAX:
            self._failures.popitem(last=False)

    def arrived(self, item: MutableItem) -> ZoneId | None:
        """Handle a put of a salted item into our storage; return the zone that a failure is forgiven of, if any."""
        failure = self._failures.pop(item.target, None)
        return None if failure is None else failure.zone_id

    def forgive(self, zone_id: ZoneId | None = None) -> list[ZoneId]:
        """Forget the failures of one zone or of all; return the zones that had any."""
        gone = [target for target, one in self._failures.items() if zone_id is None or one.zone_id == zone_id]
        return list(dict.fromkeys(self._failures.pop(target).zone_id for target in gone))

    # What is at hand.

    def _keep_bounds(self, entry: KnownZone) -> None:
        self._note_size(entry)
        own = self._sizes.get(entry.zone_id.raw)
        if own is not None and (own[1] > SHARDS_MAX or own[2] > SIZE_BYTES_MAX):
            self._shrink(entry, SHARDS_MAX, SIZE_BYTES_MAX)
        while (largest := self._largest()) is not None:
            entry, count, size = largest
            self._shrink(entry, int(count * SHRUNK_TO), int(size * SHRUNK_TO))

    def _largest(self) -> tuple[KnownZone, int, int] | None:
        """Return the zone that has most of what there is too much of; None where there is not too much."""
        count, size = self.at_hand
        if count > ITEMS_AT_HAND_MAX:
            return max(self._sizes.values(), key=lambda row: row[1])
        return max(self._sizes.values(), key=lambda row: row[2]) if size > BYTES_AT_HAND_MAX else None

    def _shrink(self, entry: KnownZone, item_count_max: int, size_bytes_max: int) -> None:
        self._counters["shards-evicted"] += 1
        if isinstance(entry.zone, PartialZone):
            entry.zone = entry.zone.smaller(item_count_max, size_bytes_max)
        if entry.lookup is not None and isinstance(entry.lookup.zone, PartialZone):
            entry.lookup.zone = entry.lookup.zone.smaller(item_count_max, size_bytes_max)
        self._note_size(entry)

    def _note_size(self, entry: KnownZone) -> None:
        zones = (entry.zone, None if entry.lookup is None else entry.lookup.zone)
        held = [zone for zone in zones if isinstance(zone, PartialZone)]
        count = max((zone.item_count for zone in held), default=0)
        if count:
            self._sizes[entry.zone_id.raw] = (entry, count, max(zone.size_bytes for zone in held))
        else:
            self._sizes.pop(entry.zone_id.raw, None)

    def _report(self, current: _Round, lookup: LookupUnderWay, outcomes: list[GetOutcome]) -> None:
        """Add one report for all items that were looked up together."""
        firsts = [outcome.first_s for outcome in outcomes if outcome.first_s is not None]
        bad = [outcome.verdict for outcome in outcomes if outcome.item is None]
        dropped: Counter[str] = Counter()
        for outcome in outcomes:
            dropped.update(outcome.dropped)
        self._reports.append(
            LookupReport(
                zone_id=current.entry.zone_id,
                rpcs=lookup.rpc_count,
                retransmits=sum(outcome.retransmit_count for outcome in outcomes),
                peers=sum(outcome.peer_count for outcome in outcomes),
                first_ms=min(firsts) * 1000 if firsts else None,
                complete_ms=(self._clock() - lookup.started_at) * 1000,
                verdict=bad[0] if bad else Verdict.FOUND if outcomes else Verdict.NO_CONTACTS,
                at=self._unix_clock(),
                number=lookup.number,
                answered=tuple(dict.fromkeys(address for outcome in outcomes for address in outcome.answered)),
                dropped=dropped,
                was_stored_here=bool(outcomes) and all(outcome.rpcs_to_first == 0 for outcome in outcomes),
                pinned=_words_of(current.needed),
            )
        )

    @staticmethod
    def _place_of(entry: KnownZone, needed: Needed) -> bytes:
        """Return what the look-up is for: one item, or the further parts of one shard, however many are missing."""
        first = needed.items[0]
        place = first.salt if first.of is None else b"parts of" + first.of.salt
        return entry.zone_id.raw + place


def _words_of(needed: Needed) -> str:
    """Return the items that were looked up together, in words."""
    first, more = needed.items[0], len(needed.items) - 1
    return f"{first} and {more} more" if more else str(first)


def _added(before: GetOutcome, outcome: GetOutcome) -> GetOutcome:
    """Return the outcome of two passes for one item."""
    dropped = Counter(before.dropped)
    dropped.update(outcome.dropped)
    return replace(
        outcome,
        rpc_count=before.rpc_count + outcome.rpc_count,
        retransmit_count=before.retransmit_count + outcome.retransmit_count,
        dropped=dict(dropped),
    )
