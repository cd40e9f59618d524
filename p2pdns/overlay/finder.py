"""The overlay for readers: `await zone(zone_id, settled, budget)` returns a zone as far as a question needs it.

Guarantees: one look-up a zone for all questions; a reader's seq never goes back, and every item that is shown passes
the checks of `marks` and `commitments`; a seq from the future hides no item and is never remembered; a failed look-up
is not repeated before its time; a key that another one has followed is answered by the zone of that one. Does not know
the question that a zone is fetched for, nor how a look-up works.
"""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Coroutine
from dataclasses import replace

from p2pdns.errors import BadItem
from p2pdns.items.item import ImmutableItem, MutableItem
from p2pdns.items.keys import ZoneId
from p2pdns.items.shards.content import content_of
from p2pdns.limits import QUESTION_S_MAX
from p2pdns.overlay import ports
from p2pdns.overlay.commitments import OddItems
from p2pdns.overlay.entries import (
    NEVER,
    REFRESH_S_MIN,
    Absences,
    KnownZone,
    LookupUnderWay,
    make_room,
    refresh_seconds,
)
from p2pdns.overlay.inhand import InHand
from p2pdns.overlay.lookups import Lookups
from p2pdns.overlay.marks import Marks
from p2pdns.overlay.parts import is_part, zone_id_of
from p2pdns.overlay.pinned import PinnedItems
from p2pdns.overlay.ports import Gets, LookupReport, Mark, Means, ReaderState, Tell
from p2pdns.overlay.successions import Successions, rest_of
from p2pdns.resolver.names import tag_of_zone
from p2pdns.resolver.steps import Budget, FetchPinned, Found, Missing, NotFound, ZoneOutcome
from p2pdns.timing import Clock, Later, UnixClock

ENTRIES_MAX = 2_048  # Zones kept parsed: about 20 kB each; their items stay in the reader's database anyway.
INVALIDATED_AT_ONCE = 256  # Tags in one frame to the front: some 10 kB.
COLD_GETS_MAX = 64  # In flight for the node: at α = 4, what a socket buffer holds of their replies.
COLD_GETS_PER_PREFIX_MAX = 8  # So that the questions of one network leave room for those of others.
REFRESHES_MAX = 16  # Look-ups in the background at once; they may wait, questions may not.
LOOKUP_RPCS_MIN = 24  # With fewer RPCs a look-up cannot ask the 20 nearest contacts, so it is not begun.
PREFETCH_SHARE = 0.85  # Of the time to the next refresh: the front prefetches in the last tenth of an answer's life.
# Between two look-ups of a head whose shards cannot be found: a zone may claim thousands that were never put.
LOOK_AGAIN_S_MIN = 5.0
REFRESH_RETRY_S = 5.0  # How long a refresh waits for room.
# An item in hand is shown if the network is silent for this long: a working network answers in a tenth of it.
HELD_WAIT_S = 0.2
SHOWN_TRIES_MAX = 3  # During the commit of a mark, others may see a newer item; then that one is shown instead.


class Overlay:
    """Zones by their ids, found, kept, refreshed."""

    def __init__(
        self,
        network: Gets,
        state: ReaderState,
        *,
        clock: Clock,
        unix_clock: UnixClock,
        tell: Tell,
        on_invalidate: Callable[[tuple[bytes, ...]], None] = lambda tags: None,
        later: Later = ports.later,
        entry_count_max: int = ENTRIES_MAX,
        cold_get_count_max: int = COLD_GETS_MAX,
        cold_get_count_per_prefix_max: int = COLD_GETS_PER_PREFIX_MAX,
        held_wait_s: float = HELD_WAIT_S,
    ) -> None:
        self.on_invalidate = on_invalidate
        self.counters: Counter[str] = Counter()
        self._clock = clock
        self._marks = Marks(state, clock, unix_clock, tell)
        self._commitments = OddItems(state, self._marks, self.counters, tell)
        self._in_hand = InHand(state, self._marks, self._commitments, clock, self.counters)
        means = Means(clock, unix_clock, tell, self.counters, self._spawn)
        self._successions = Successions(
            means,
            network,
            state.commitments,
            later=later,
            is_kept_alive=self._marks.is_kept_alive,
            on_revealed=self._revealed,
        )
        self._later = later
        self._entry_count_max = entry_count_max
        self._held_wait_s = held_wait_s
        self._entries: OrderedDict[bytes, KnownZone] = OrderedDict()
        self._absences = Absences()
        self._lookups = Lookups(
            means,
            network,
            self._in_hand,
            self._marks,
            self._commitments,
            # Whoever makes an overlay may say later what is to be told.
            invalidate=lambda tags: self.on_invalidate(tags),
            arm_refresh=self._arm_refresh,
            look_for_next_key=self._successions.look_at_once,
            cold_get_count_max=cold_get_count_max,
            cold_get_count_per_prefix_max=cold_get_count_per_prefix_max,
        )
        self._pinned = PinnedItems(
            means,
            network,
            self._lookups.slots,
            reports=self._lookups.reports,
            next_number=self._lookups.next_number,
            is_current=lambda entry: self._entries.get(entry.zone_id.raw) is entry,
        )
        # Tasks in the order of their start: the order of a set would differ between runs with the same seed.
        self._tasks: dict[asyncio.Task[None], None] = {}
        self._is_closed = False

    async def zone(self, zone_id: ZoneId, settled: bool, budget: Budget) -> ZoneOutcome:
        """Return a zone as far as a question needs it: the item in hand if it is good enough, else from a look-up.

        Where the key has been succeeded, it is the zone of the last key that follows, under the name of this one.
        """
        return await self._successions.followed(zone_id, settled, budget, entry_of=self._entry, fetch=self.unfollowed)

    async def unfollowed(self, zone_id: ZoneId, settled: bool, budget: Budget) -> ZoneOutcome:
        """Return the zone of this very key, also where another key has followed it."""
        for _ in range(SHOWN_TRIES_MAX):
            entry = self._entry(zone_id)
            outcome = await self._best(entry, settled, budget)
            if isinstance(outcome, Found):
                outcome = await self._marks.shown(entry, outcome, budget)
            if not isinstance(outcome, NotFound) or outcome.reason is not Missing.OLDER:
                break
        return outcome

    async def pinned(self, step: FetchPinned, budget: Budget) -> ZoneOutcome:
        """Find pinned items of a divided zone, and return the zone with them; NotFound where one is missing.

        The look-ups for the items are the first of the outcome's `earlier`, if there was one.
        """
        gotten = await self._pinned.found(self._entry(step.pinned_by), step.needed, budget)
        first = gotten.charges[0][0] if gotten.charges else 0
        if gotten.missing is not None:
            return NotFound(gotten.missing, gotten.retry_at, earlier=gotten.charges, pinned_lookup=first)
        outcome = await self.zone(step.zone_id, step.settled, rest_of(budget, dict(gotten.charges)))
        return replace(outcome, earlier=(*gotten.charges, *outcome.earlier), pinned_lookup=first)

    async def _best(self, entry: KnownZone, settled: bool, budget: Budget) -> ZoneOutcome:
        entry.asked_at, entry.asked_by = self._clock(), budget.client_prefix
        if budget.is_prefetch:
            await self._confirm_early(entry, budget)
            # No client waits for a prefetch, so there is time for the end of a look-up.
            settled = True
        last: LookupUnderWay | None = None
        looks_again = budget.looks_again and self._clock() - entry.looked_again_at >= LOOK_AGAIN_S_MIN
        if looks_again:
            entry.looked_again_at = self._clock()
        while not self._is_closed:
            # A head whose shards cannot be found is looked up in spite of its confirmation.
            is_known_enough = last is not None or not looks_again
            if is_known_enough and (known := self._in_hand.known(entry, last)) is not None:
                return known
            # A look-up that a smaller budget cut short is made again, on the budget of this question.
            was_own = last is not None and last.rpc_max >= budget.rpc_max
            if was_own or budget.cold_get_max <= 0 or budget.rpc_max < LOOKUP_RPCS_MIN:
                return self._in_hand.best(entry, last, Missing.BUDGET)
            if entry.lookup is None:
                if self._lookups.slots.has_room(budget):
                    self._lookups.start(entry, budget)
                elif not await self._lookups.slots.begun(entry, budget, budget.deadline - self._clock()):
                    break
            if (lookup := entry.lookup) is None:
                continue
            last = lookup
            if not await self._has_news(entry, lookup, settled, budget) or not lookup.done.done():
                break
        return self._in_hand.best(entry, last, Missing.DEADLINE)

    def item_arrived(self, target: bytes, item: MutableItem | ImmutableItem) -> None:
        """Handle a valid put into our storage: it ends a remembered failure, and may be newer than the item in hand."""
        if not isinstance(item, MutableItem) or target != item.target:
            return
        zone_id = zone_id_of(item)
        if not is_part(item, zone_id):
            if self._pinned.arrived(item) is not None:
                self.on_invalidate((tag_of_zone(zone_id),))
            return
        entry = self._entries.get(zone_id.raw)
        if entry is None:
            if self._absences.has(zone_id) and not self._commitments.refuses(self._in_hand.remembered(zone_id), item):
                self._absences.forget(zone_id)
                self.on_invalidate((tag_of_zone(zone_id),))
            return
        if entry.has_shown_newer(item) or entry.failure is Missing.CONFLICT:
            return
        if self._commitments.refuses(entry, item):
            return
        had_failed = entry.failure is not None
        entry.forgive()
        if entry.item is not None and self._in_hand.is_better(entry, item, entry.item):
            self._spawn(self._lookups.adopt_arrived(entry, item))
        elif had_failed:
            self.on_invalidate((tag_of_zone(zone_id),))

    def published(self, item: MutableItem) -> None:
        """Take an item that this node published, and that is committed already, for the newest."""
        try:
            zone = content_of(item)
        except BadItem:
            # A publisher may store an item that is no zone. Readers see no zone then, here as elsewhere.
            return
        zone_id = zone_id_of(item)
        entry = self._entry(zone_id)
        if self._commitments.refuses(entry, item):
            return
        entry.forgive()
        if self._commitments.is_due(entry, item):
            self._spawn(self._commitments.keep(entry, item))
        if entry.item is None or not self._in_hand.is_better(entry, entry.item, item):
            zone = entry.with_shards_at_hand(zone)
            entry.item, entry.zone, entry.mark, entry.is_own = item, zone, Mark(item.seq), True
            entry.confirm(self._clock())
        self.on_invalidate((tag_of_zone(zone_id),))

    def flush(self, zone_id: ZoneId | None = None) -> None:
        """Have the next question of one key and those that follow it, or of every key, cause a look-up; marks stay."""
        entries = list(self._entries.values()) if zone_id is None else self._successions.way(zone_id, self._entry)
        if zone_id is None:
            self._absences.clear()
            self._pinned.forgive()
        for entry in entries:
            self._pinned.forgive(entry.zone_id)
            entry.forgive()
            entry.confirmed_at = NEVER
        if zone_id is not None:
            self.on_invalidate(tuple(tag_of_zone(entry.zone_id) for entry in entries))

    def joined(self) -> None:
        """Forget all failures, because there are contacts to ask now."""
        zone_ids = [
            *self._absences.zone_ids(),
            *self._pinned.forgive(),
            *(entry.zone_id for entry in self._entries.values() if entry.failure is not None),
        ]
        self._absences.clear()
        for entry in self._entries.values():
            entry.forgive()
        for first in range(0, len(zone_ids), INVALIDATED_AT_ONCE):
            self.on_invalidate(tuple(map(tag_of_zone, zone_ids[first : first + INVALIDATED_AT_ONCE])))

    @property
    def reports(self) -> deque[LookupReport]:
        """The look-ups that ended last."""
        return self._lookups.reports

    @property
    def refused(self) -> list[tuple[ZoneId, Missing]]:
        """The zones of which the last look-up met an item that may not be adopted, and why."""
        return [(entry.zone_id, entry.refusal) for entry in self._entries.values() if entry.refusal is not None]

    @property
    def unconfirmed_count(self) -> int:
        """How many of the zones in hand were not confirmed by their last look-up."""
        return sum(entry.is_unconfirmed for entry in self._entries.values())

    def report_of(self, number: int) -> LookupReport | None:
        """Return how a look-up ended; None while it goes on, and once its report was evicted."""
        return next((report for report in reversed(self.reports) if report.number == number), None)

    def under_way(self, number: int) -> LookupUnderWay | None:
        """Return a look-up that has not ended."""
        lookups = (*(entry.lookup for entry in self._entries.values()), *self._pinned.under_way())
        return next((lookup for lookup in lookups if lookup is not None and lookup.number == number), None)

    @property
    def shards_at_hand(self) -> tuple[int, int]:
        """How many items of divided zones are at hand beside their heads, and their bytes."""
        return self._pinned.at_hand

    def forget(self, zone_id: ZoneId) -> None:
        """Drop the entry of a zone and its failures; its mark is cleared by the state."""
        entry = self._entries.pop(zone_id.raw, None)
        self._absences.forget(zone_id)
        self._pinned.forgive(zone_id)
        self._successions.forget(zone_id)
        if entry is not None:
            entry.stop_refresh()
        self.on_invalidate((tag_of_zone(zone_id),))

    def forget_above(self, seq: int) -> None:
        """Forget the zones whose mark lies above a seq; the marks are cleared by the state."""
        for entry in [entry for entry in self._entries.values() if entry.seq_max > seq]:
            self.forget(entry.zone_id)

    async def close(self) -> None:
        """End every look-up and timer."""
        self._is_closed = True
        self._lookups.slots.count_max = 0
        self._successions.close()
        for entry in self._entries.values():
            entry.stop_refresh()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # What is known.

    def look_for_next_key(self, zone_id: ZoneId) -> None:
        """Look at once for the values that tell the next key of a zone: they were just put."""
        self._successions.look_at_once(self._entry(zone_id), are_put=True)

    def _revealed(self, zone_id: ZoneId) -> None:
        """Have the answers under a key end, because another key has followed it."""
        entry = self._entries.get(zone_id.raw)
        if entry is not None:
            entry.kept = self._commitments.kept(zone_id)
            entry.stop_refresh()
        self.on_invalidate((tag_of_zone(zone_id),))

    def _entry(self, zone_id: ZoneId) -> KnownZone:
        entry = self._entries.get(zone_id.raw)
        if entry is None:
            entry = self._entries[zone_id.raw] = self._in_hand.remembered(zone_id)
            self._absences.give_back(entry)
            make_room(self._entries, self._absences, self._entry_count_max, entry)
        self._entries.move_to_end(zone_id.raw)
        return entry

    # Waiting.

    async def _has_news(self, entry: KnownZone, lookup: LookupUnderWay, settled: bool, budget: Budget) -> bool:
        """Return whether the look-up has an item, or for `settled` has ended, before the question's time is over."""
        event = lookup.done if settled else lookup.first
        patience_s = budget.deadline - self._clock()
        if entry.item is not None and not settled:
            patience_s = min(patience_s, self._held_wait_s)
        await asyncio.wait({event}, timeout=max(0.0, patience_s))
        return event.done()

    async def _confirm_early(self, entry: KnownZone, budget: Budget) -> None:
        """Refresh an item a little before its confirmation runs out, and wait for the end of the look-up.

        Its name is asked so often that otherwise some client would have to wait for this look-up.
        """
        refresh_s = refresh_seconds(entry.zone)
        age = self._clock() - entry.confirmed_at
        is_nearly_over = max(REFRESH_S_MIN, PREFETCH_SHARE * refresh_s) <= age < refresh_s
        if entry.item is None or not is_nearly_over or self._clock() < entry.retry_at or self._is_closed:
            return
        if entry.lookup is None:
            if self._lookups.refresh_count >= REFRESHES_MAX:
                return
            self.counters["prefetches"] += 1
            self._lookups.start(entry, None)
        assert entry.lookup is not None, "it is under way"
        await asyncio.wait({entry.lookup.done}, timeout=max(0.0, budget.deadline - self._clock()))

    # Refreshing.

    def _arm_refresh(self, entry: KnownZone, seconds: float) -> None:
        entry.stop_refresh()
        if not self._is_closed:
            entry.refresh = self._later(seconds, lambda: self._refresh(entry))

    def _refresh(self, entry: KnownZone) -> None:
        """Look a zone up again if it was asked for since the last time."""
        entry.refresh = None
        is_current = self._entries.get(entry.zone_id.raw) is entry
        # The question that the last look-up was made for counts too, so its time is added.
        is_asked = entry.asked_at + refresh_seconds(entry.zone) + QUESTION_S_MAX >= self._clock()
        if self._is_closed or entry.lookup is not None or not is_current or not is_asked:
            return
        if self._lookups.refresh_count >= REFRESHES_MAX:
            self._arm_refresh(entry, REFRESH_RETRY_S)
            return
        self.counters["refreshes"] += 1
        self._lookups.start(entry, None)

    def _spawn(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks[task] = None
        task.add_done_callback(self._tasks.pop)
        return task
