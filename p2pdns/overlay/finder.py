"""The overlay as readers see it: `await zone(zone_id, settled, budget)`, a zone as far as a question needs it.

Guarantees: one look-up a zone however many ask; a reader's seq never goes back, and what is shown goes through the door
of `marks`; a seq from the future hides nothing and is never remembered; a failure is not repeated before its time. Does
not know what is asked of a zone, nor how a look-up works.
"""

from __future__ import annotations

import asyncio
import math
from collections import Counter, OrderedDict, deque
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import replace

from p2pdns.dht.node import GetOutcome
from p2pdns.dns.life import FAILURE_S_MAX, FAILURE_S_MIN
from p2pdns.dns.zone import Zone
from p2pdns.errors import BadItem
from p2pdns.items.item import ImmutableItem, MutableItem
from p2pdns.items.keys import ZoneId
from p2pdns.items.packet import zone_of
from p2pdns.limits import QUESTION_RPCS_MAX, QUESTION_S_MAX
from p2pdns.overlay import ports
from p2pdns.overlay.entries import (
    NEVER,
    REFRESH_S_MIN,
    Absences,
    KnownZone,
    LookupUnderWay,
    Slots,
    charge_of,
    make_room,
    refresh_seconds,
    report_of,
)
from p2pdns.overlay.marks import Marks
from p2pdns.overlay.parts import is_part, parts_of, zone_id_of
from p2pdns.overlay.ports import Gets, LookupReport, Mark, ReaderState, Tell
from p2pdns.resolver.names import tag_of_zone
from p2pdns.resolver.steps import Budget, Found, Missing, NotFound, ZoneOutcome
from p2pdns.timing import Clock, Later, UnixClock

ENTRIES_MAX = 2_048  # Zones kept parsed: about 20 kB each; their items stay in the reader's database anyway.
INVALIDATED_AT_ONCE = 256  # Tags in one frame to the front: some 10 kB.
REPORTS_MAX = 256  # Look-ups that `lookups` shows.
COLD_GETS_MAX = 64  # In flight for the node: at α = 4, what a socket buffer holds of their replies.
COLD_GETS_PER_PREFIX_MAX = 8  # So that one network's questions leave room for the others'.
REFRESHES_MAX = 16  # Background look-ups in flight; they may wait, questions may not.
LOOKUP_RPCS_MIN = 24  # With fewer a look-up cannot ask the 20 nearest, so it is not begun.
PREFETCH_SHARE = 0.85  # Of the time to the next refresh: the front asks early in the last tenth of an answer's life.
REFRESH_RETRY_S = 5.0  # How long a refresh waits for room.
INCOMPLETE_S_MAX = 30.0  # With an item in hand another attempt is worth its cost sooner than without.
# An item we hold is shown when the network has said nothing for this long: a living one answers in a tenth of it.
HELD_WAIT_S = 0.2
SHOWN_TRIES_MAX = 3  # While a mark is committed a newer item may be shown to others; then that one is shown instead.


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
        self.reports: deque[LookupReport] = deque(maxlen=REPORTS_MAX)
        self.counters: Counter[str] = Counter()
        self._network = network
        self._state = state
        self._clock = clock
        self._unix_clock = unix_clock
        self._marks = Marks(state, clock, unix_clock, tell)
        self._tell = tell
        self._later = later
        self._entry_count_max = entry_count_max
        self._held_wait_s = held_wait_s
        self._entries: OrderedDict[bytes, KnownZone] = OrderedDict()
        self._absences = Absences()
        self._slots = Slots(cold_get_count_max, cold_get_count_per_prefix_max, self._start)
        self._refresh_count = 0
        self._lookup_count = 0
        # In the order of their start: a set would be cancelled in an order that no seed decides.
        self._tasks: dict[asyncio.Task[None], None] = {}
        self._is_closed = False

    async def zone(self, zone_id: ZoneId, settled: bool, budget: Budget) -> ZoneOutcome:
        """Return a zone as far as a question needs it: at once what is good enough, else what a look-up brings."""
        for _ in range(SHOWN_TRIES_MAX):
            entry = self._entry(zone_id)
            outcome = await self._best(entry, settled, budget)
            if isinstance(outcome, Found):
                outcome = await self._marks.shown(entry, outcome, budget)
            if not isinstance(outcome, NotFound) or outcome.reason is not Missing.OLDER:
                break
        return outcome

    async def _best(self, entry: KnownZone, settled: bool, budget: Budget) -> ZoneOutcome:
        entry.asked_at = self._clock()
        if budget.is_prefetch:
            await self._confirm_early(entry, budget)
            # Nobody waits, so there is time for the end of a look-up.
            settled = True
        last: LookupUnderWay | None = None
        while not self._is_closed:
            if (known := self._known(entry, last)) is not None:
                return known
            # A look-up that was cut short on a poorer question's budget is made again, on this one's.
            was_own = last is not None and last.rpc_max >= budget.rpc_max
            if was_own or budget.cold_get_max <= 0 or budget.rpc_max < LOOKUP_RPCS_MIN:
                return self._in_hand(entry, last, Missing.BUDGET)
            if entry.lookup is None and not await self._started(entry, budget):
                break
            if (lookup := entry.lookup) is None:
                continue
            last = lookup
            if not await self._has_news(entry, lookup, settled, budget) or not lookup.done.done():
                break
        return self._in_hand(entry, last, Missing.DEADLINE)

    def item_arrived(self, target: bytes, item: MutableItem | ImmutableItem) -> None:
        """Take note of a valid put that reached our storage: it ends a failure and may be news of a zone in use."""
        if not isinstance(item, MutableItem) or target != item.target:
            return
        zone_id = zone_id_of(item)
        if not is_part(item, zone_id):
            return
        entry = self._entries.get(zone_id.raw)
        if entry is None or self._marks.is_below(entry, item):
            if entry is None and self._absences.forget(zone_id):
                self.on_invalidate((tag_of_zone(zone_id),))
            return
        had_failed = entry.failure is not None
        entry.forgive()
        if entry.item is not None and self._is_better(entry, item, entry.item):
            self._spawn(self._adopt_arrived(entry, item))
        elif had_failed:
            self.on_invalidate((tag_of_zone(zone_id),))

    def published(self, item: MutableItem) -> None:
        """Take what this node has published itself, already committed, as the newest there is."""
        try:
            zone = zone_of(item)
        except BadItem:
            # A publisher may store what is no zone; readers see none then, here as elsewhere.
            return
        zone_id = zone_id_of(item)
        entry = self._entry(zone_id)
        entry.forgive()
        if entry.item is None or not self._is_better(entry, entry.item, item):
            entry.item, entry.zone, entry.mark, entry.is_own = item, zone, Mark(item.seq), True
            entry.confirm(self._clock())
        self.on_invalidate((tag_of_zone(zone_id),))

    def flush(self, zone_id: ZoneId | None = None) -> None:
        """Look up again what is asked next, of one key or of all; marks stay."""
        entries = list(self._entries.values()) if zone_id is None else [self._entry(zone_id)]
        if zone_id is None:
            self._absences.clear()
        for entry in entries:
            entry.forgive()
            entry.confirmed_at = NEVER
        if zone_id is not None:
            self.on_invalidate((tag_of_zone(zone_id),))

    def joined(self) -> None:
        """Look up again what was asked for in vain: there are contacts to ask now."""
        zone_ids = [
            *self._absences.zone_ids(),
            *(entry.zone_id for entry in self._entries.values() if entry.failure is not None),
        ]
        self._absences.clear()
        for entry in self._entries.values():
            entry.forgive()
        for first in range(0, len(zone_ids), INVALIDATED_AT_ONCE):
            self.on_invalidate(tuple(map(tag_of_zone, zone_ids[first : first + INVALIDATED_AT_ONCE])))

    @property
    def unconfirmed_count(self) -> int:
        """How many of the zones in hand the last look-up has not confirmed."""
        return sum(entry.is_unconfirmed for entry in self._entries.values())

    def report_of(self, number: int) -> LookupReport | None:
        """Return how a look-up ended; None while it goes on, and once others have taken its place in the list."""
        return next((report for report in reversed(self.reports) if report.number == number), None)

    def under_way(self, number: int) -> LookupUnderWay | None:
        """Return a look-up that has not ended."""
        lookups = (entry.lookup for entry in self._entries.values())
        return next((lookup for lookup in lookups if lookup is not None and lookup.number == number), None)

    def forget(self, zone_id: ZoneId) -> None:
        """Drop everything known of a key here; its mark is the state's to clear."""
        entry = self._entries.pop(zone_id.raw, None)
        self._absences.forget(zone_id)
        if entry is not None:
            entry.stop_refresh()
        self.on_invalidate((tag_of_zone(zone_id),))

    def forget_above(self, seq: int) -> None:
        """Drop everything known of the keys whose mark lies above a seq; the marks are the state's to clear."""
        for entry in [entry for entry in self._entries.values() if entry.seq_max > seq]:
            self.forget(entry.zone_id)

    async def close(self) -> None:
        """End every look-up and timer."""
        self._is_closed = True
        self._slots.count_max = 0
        for entry in self._entries.values():
            entry.stop_refresh()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # What is known.

    def _entry(self, zone_id: ZoneId) -> KnownZone:
        entry = self._entries.get(zone_id.raw)
        if entry is None:
            entry = self._entries[zone_id.raw] = self._remembered(zone_id)
            self._absences.give_back(entry)
            make_room(self._entries, self._absences, self._entry_count_max, entry)
        self._entries.move_to_end(zone_id.raw)
        return entry

    def _remembered(self, zone_id: ZoneId) -> KnownZone:
        """Return what survived the last process: an item that was confirmed lately still is."""
        entry = KnownZone(zone_id, mark=self._state.mark(zone_id))
        held = self._state.held(zone_id)
        if held is None or self._marks.is_below(entry, held.item):
            return entry
        try:
            entry.zone = zone_of(held.item)
        except BadItem as error:
            self.counters[f"item-{error.reason}"] += 1
            return entry
        entry.item = held.item
        entry.was_settled = held.confirmed_unix > 0
        entry.is_own = held.is_own
        age = self._marks.now.unix - held.confirmed_unix
        # A confirmation that lies ahead comes of a clock that was set back, and says nothing about the age.
        if entry.was_settled and age >= 0:
            entry.confirmed_at = self._clock() - age
        return entry

    def _known(self, entry: KnownZone, last: LookupUnderWay | None) -> ZoneOutcome | None:
        """Return what needs no look-up: an item confirmed lately, or a failure that is not to be repeated yet."""
        now = self._clock()
        number, rpc_count = charge_of(last)
        refresh_s = refresh_seconds(entry.zone)
        is_confirmed = now - entry.confirmed_at < refresh_s
        is_showable = entry.item is not None and not self._marks.is_below(entry, entry.item)
        if is_showable and entry.item and entry.zone is not None and (is_confirmed or now < entry.retry_at):
            return Found(
                item=entry.item,
                zone=entry.zone,
                settled=entry.was_settled,
                confirmed_at=entry.confirmed_at,
                fresh=self._is_fresh(entry.item, entry.zone),
                unconfirmed=not is_confirmed,
                good_until=entry.confirmed_at + refresh_s + QUESTION_S_MAX if is_confirmed else math.inf,
                lookup=number,
                rpc_count=rpc_count,
            )
        if entry.failure is not None and now < entry.retry_at:
            return NotFound(entry.failure, entry.retry_at, number, rpc_count)
        return None

    def _in_hand(self, entry: KnownZone, lookup: LookupUnderWay | None, reason: Missing) -> ZoneOutcome:
        """Return the best item there is while nothing better can be waited for: never called settled."""
        number, rpc_count = charge_of(lookup)
        item, zone, previous = entry.item, entry.zone, None
        if (
            lookup is not None
            and lookup.item is not None
            and (item is None or self._is_better(entry, lookup.item, item))
        ):
            previous = zone if entry.was_settled else None
            item, zone = lookup.item, lookup.zone
        if item is None or zone is None:
            return NotFound(reason, 0.0, number, rpc_count)
        fresh = self._is_fresh(item, zone)
        return Found(item, zone, False, entry.confirmed_at, fresh, False, previous, number, rpc_count)

    def _is_fresh(self, item: MutableItem, zone: Zone) -> bool:
        return self._marks.now.unix < item.signed_at_unix + zone.expire_seconds

    def _is_better(self, entry: KnownZone, new: MutableItem, old: MutableItem) -> bool:
        return self._marks.present(entry).prefers(new, old)

    # Waiting.

    async def _started(self, entry: KnownZone, budget: Budget) -> bool:
        return await self._slots.started(entry, budget, budget.deadline - self._clock())

    async def _has_news(self, entry: KnownZone, lookup: LookupUnderWay, settled: bool, budget: Budget) -> bool:
        """Return whether the look-up has an item, or for `settled` its end, before the question's patience is over."""
        event = lookup.done if settled else lookup.first
        patience_s = budget.deadline - self._clock()
        if entry.item is not None and not settled:
            patience_s = min(patience_s, self._held_wait_s)
        await asyncio.wait({event}, timeout=max(0.0, patience_s))
        return event.done()

    async def _confirm_early(self, entry: KnownZone, budget: Budget) -> None:
        """Refresh an item a little before its time, and wait for that.

        Its name is asked so often that somebody would have to wait for the look-up otherwise.
        """
        refresh_s = refresh_seconds(entry.zone)
        age = self._clock() - entry.confirmed_at
        is_nearly_over = max(REFRESH_S_MIN, PREFETCH_SHARE * refresh_s) <= age < refresh_s
        if entry.item is None or not is_nearly_over or self._clock() < entry.retry_at or self._is_closed:
            return
        if entry.lookup is None:
            if self._refresh_count >= REFRESHES_MAX:
                return
            self.counters["prefetches"] += 1
            self._start(entry, None)
        assert entry.lookup is not None, "it is under way"
        await asyncio.wait({entry.lookup.done}, timeout=max(0.0, budget.deadline - self._clock()))

    # Looking up.

    def _start(self, entry: KnownZone, budget: Budget | None) -> None:
        """Start a look-up: on a question's account, or as a refresh on the node's."""
        future = asyncio.get_running_loop().create_future
        self._lookup_count += 1
        rpc_max = QUESTION_RPCS_MAX if budget is None else min(budget.rpc_max, QUESTION_RPCS_MAX)
        prefix = None if budget is None else budget.client_prefix
        lookup = LookupUnderWay(self._lookup_count, rpc_max, prefix, future(), future(), started_at=self._clock())
        entry.begun(lookup)
        if prefix is None:
            self._refresh_count += 1
        else:
            self._slots.take(lookup)
        # The first requests leave now: behind what else is begun in this round they would wait for nothing.
        self._spawn(self._run(entry, lookup, self._begun(entry, lookup)))

    def _begun(self, entry: KnownZone, lookup: LookupUnderWay) -> Awaitable[GetOutcome]:
        # Replies to a get with a seq leave out what is not newer; a refresh can do without, a question cannot.
        # Nor may one from the future be named: saner ones lie below it.
        held = entry.item if lookup.is_refresh else None
        present = self._marks.present(entry)
        known_seq = held.seq if held is not None and not present.is_ahead(held.seq) else None
        if entry.item is None and entry.mark is not None:
            # What lies below the mark is of no use, and the item that made the mark is wanted as well.
            known_seq = entry.mark.seq - 1 if entry.mark.seq else None
        (part,) = parts_of(entry.zone_id)
        deadline = self._clock() + QUESTION_S_MAX
        wanted = replace(part, known_seq=known_seq, present=present, rpc_max=lookup.rpc_max, deadline=deadline)
        try:
            return self._network.get(
                wanted,
                on_item=lambda item: self._item_found(entry, lookup, item),
                on_patient=lambda: self._slots.ease(lookup),
            )
        except Exception as error:
            # As if it had broken off later: whoever waits is told in the same way.
            broken: asyncio.Future[GetOutcome] = asyncio.get_running_loop().create_future()
            broken.set_exception(error)
            return broken

    async def _run(self, entry: KnownZone, lookup: LookupUnderWay, begun: Awaitable[GetOutcome]) -> None:
        try:
            await self._conclude(entry, lookup, await begun)
        except Exception as error:
            # Whatever broke, the questions that wait are told, and the next ones do not repeat it at once.
            self._tell("look-up broke off", key=entry.zone_id, reason=repr(error))
            self.counters["lookups-broken-off"] += 1
            entry.fail(Missing.UNREACHABLE, self._clock(), FAILURE_S_MIN, FAILURE_S_MAX)
            # It may have been shown already, and then nothing older may be.
            self._take(entry, lookup.item, lookup.zone)
        finally:
            self._end(entry, lookup)

    def _item_found(self, entry: KnownZone, lookup: LookupUnderWay, item: MutableItem | ImmutableItem) -> None:
        if not isinstance(item, MutableItem) or not is_part(item, entry.zone_id):
            return
        if self._marks.is_below(entry, item):
            self.counters["items-below-the-mark"] += 1
            return
        if lookup.item is not None and not self._is_better(entry, item, lookup.item):
            return
        try:
            zone = zone_of(item)
        except BadItem as error:
            self.counters[f"item-{error.reason}"] += 1
            return
        shown = entry.item if lookup.item is None else lookup.item
        lookup.item, lookup.zone = item, zone
        # Who has seen an older item, provisional or settled, must not keep it: a newer one exists.
        if shown is not None and self._is_better(entry, item, shown):
            self.on_invalidate((tag_of_zone(entry.zone_id),))
        self._has_first(lookup)

    def _has_first(self, lookup: LookupUnderWay) -> None:
        if not lookup.first.done():
            lookup.first_s = self._clock() - lookup.started_at
            lookup.first.set_result(None)
            self._slots.ease(lookup)

    async def _conclude(self, entry: KnownZone, lookup: LookupUnderWay, outcome: GetOutcome) -> None:
        """Take the end of a look-up: the mark first, then what others may see."""
        lookup.rpc_count = outcome.rpc_count
        if outcome.item is not None:
            self._item_found(entry, lookup, outcome.item)
        if lookup.item is not None and lookup.zone is not None:
            is_settled = outcome.complete and outcome.confirms(lookup.item)
            await self._raise(entry, lookup.item, lookup.zone, is_settled)
        now = self._clock()
        is_confirmed = entry.is_confirmed_by(outcome)
        self.reports.append(report_of(entry, lookup, outcome, is_confirmed, self._unix_clock()))
        if entry.item is not None and is_confirmed:
            entry.forgive()
            entry.confirm(now)
            self._spawn(self._marks.confirmed(entry, entry.item))
        elif entry.item is not None:
            entry.is_unconfirmed = True
            entry.fail(Missing.ABSENT, now, FAILURE_S_MIN, INCOMPLETE_S_MAX)
        elif lookup.rpc_max >= QUESTION_RPCS_MAX or outcome.rpc_count < lookup.rpc_max:
            # A look-up cut short on one question's budget says nothing to the next question.
            reason = Missing.ABSENT if entry.mark is None else Missing.OLDER
            reason = reason if outcome.answered_count else Missing.UNREACHABLE
            entry.fail(reason, now, FAILURE_S_MIN, FAILURE_S_MAX)
        if entry.item is not None:
            self._arm_refresh(entry, refresh_seconds(entry.zone))

    async def _raise(self, entry: KnownZone, item: MutableItem, zone: Zone, is_settled: bool) -> None:
        """Take a newer item, after its commit where its key has a mark; a first mark is made when it is shown."""
        if entry.item is not None and not self._is_better(entry, item, entry.item):
            return
        if entry.mark is not None and not self._marks.present(entry).is_ahead(item.seq):
            confirmed_unix = self._unix_clock() if is_settled else self._marks.confirmed_unix(entry)
            await self._marks.raised(entry, item, confirmed_unix)
        # Something still newer may have come while the commit was under way.
        self._take(entry, item, zone)

    def _take(self, entry: KnownZone, item: MutableItem | None, zone: Zone | None) -> None:
        if item is None or self._marks.is_below(entry, item):
            return
        if entry.item is None or self._is_better(entry, item, entry.item):
            entry.item, entry.zone = item, zone

    async def _adopt_arrived(self, entry: KnownZone, item: MutableItem) -> None:
        try:
            await self._raise(entry, item, zone_of(item), False)
        except Exception as error:
            self._tell("item that arrived not adopted", key=item.key, reason=repr(error))
            return
        self.on_invalidate((tag_of_zone(entry.zone_id),))

    def _end(self, entry: KnownZone, lookup: LookupUnderWay) -> None:
        entry.lookup = None
        for event in (lookup.first, lookup.done):
            if not event.done():
                event.set_result(None)
        if lookup.is_refresh:
            self._refresh_count -= 1
        else:
            self._slots.release(lookup)

    # Refreshing.

    def _arm_refresh(self, entry: KnownZone, seconds: float) -> None:
        entry.stop_refresh()
        if not self._is_closed:
            entry.refresh = self._later(seconds, lambda: self._refresh(entry))

    def _refresh(self, entry: KnownZone) -> None:
        """Look a zone up again if it was asked for since the last time."""
        entry.refresh = None
        is_current = self._entries.get(entry.zone_id.raw) is entry
        # The question that a look-up was made for counts, however long it took.
        is_asked = entry.asked_at + refresh_seconds(entry.zone) + QUESTION_S_MAX >= self._clock()
        if self._is_closed or entry.lookup is not None or not is_current or not is_asked:
            return
        if self._refresh_count >= REFRESHES_MAX:
            self._arm_refresh(entry, REFRESH_RETRY_S)
            return
        self.counters["refreshes"] += 1
        self._start(entry, None)

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks[task] = None
        task.add_done_callback(lambda done: self._tasks.pop(done, None))
