"""The look-ups of zones' items: begun for a question or by the node, and what they find, adopted or refused.

Guarantees: of a newer item the mark is committed before questions see it, but for the first item of a look-up, which is
provisional; after any end, good or bad, the waiting questions are woken. Does not know questions, nor when a zone is
looked up again.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable

from p2pdns.dht.lookup.search import ODD
from p2pdns.dht.node.values import GetOutcome
from p2pdns.dns.life import FAILURE_S_MAX, FAILURE_S_MIN
from p2pdns.dns.zone import Zone
from p2pdns.errors import BadItem
from p2pdns.items.item import ImmutableItem, MutableItem
from p2pdns.items.shards.content import content_of
from p2pdns.items.shards.partial import PartialZone
from p2pdns.limits import QUESTION_RPCS_MAX
from p2pdns.overlay.commitments import OddItems
from p2pdns.overlay.entries import KnownZone, LookupUnderWay, Slots, refresh_seconds, report_of
from p2pdns.overlay.inhand import InHand
from p2pdns.overlay.marks import Marks
from p2pdns.overlay.parts import is_part
from p2pdns.overlay.ports import Gets, LookupReport, Means
from p2pdns.resolver.names import tag_of_zone
from p2pdns.resolver.steps import Budget, Missing

REPORTS_MAX = 256  # Look-ups that `lookups` shows.
INCOMPLETE_S_MAX = 30.0  # With an item in hand, the next attempt is worth its cost sooner than without.


class Lookups:
    """The look-ups of one reader."""

    def __init__(
        self,
        means: Means,
        network: Gets,
        in_hand: InHand,
        marks: Marks,
        commitments: OddItems,
        *,
        invalidate: Callable[[tuple[bytes, ...]], None],
        arm_refresh: Callable[[KnownZone, float], None],
        look_for_next_key: Callable[[KnownZone], None],
        cold_get_count_max: int,
        cold_get_count_per_prefix_max: int,
    ) -> None:
        self.reports: deque[LookupReport] = deque(maxlen=REPORTS_MAX)
        self.refresh_count = 0
        self.slots = Slots(cold_get_count_max, cold_get_count_per_prefix_max, self.start)
        self._count = 0
        self._network = network
        self._in_hand = in_hand
        self._marks = marks
        self._commitments = commitments
        self._clock = means.clock
        self._unix_clock = means.unix_clock
        self._tell = means.tell
        self._counters = means.counters
        self._spawn = means.spawn
        self._invalidate = invalidate
        self._arm_refresh = arm_refresh
        self._look_for_next_key = look_for_next_key

    def next_number(self) -> int:
        """Return the number of the next look-up."""
        self._count += 1
        return self._count

    def start(self, entry: KnownZone, budget: Budget | None) -> None:
        """Start a look-up for a question, with its budget, or without one as a refresh by the node."""
        future = asyncio.get_running_loop().create_future
        rpc_max = QUESTION_RPCS_MAX if budget is None else min(budget.rpc_max, QUESTION_RPCS_MAX)
        prefix = None if budget is None else budget.client_prefix
        lookup = LookupUnderWay(self.next_number(), rpc_max, prefix, future(), future(), started_at=self._clock())
        entry.begun(lookup)
        if prefix is None:
            self.refresh_count += 1
        else:
            self.slots.take(lookup)
        # The first requests leave now: they need not wait for other work of this round of the loop.
        self._spawn(self._run(entry, lookup, self._begun(entry, lookup)))

    def _begun(self, entry: KnownZone, lookup: LookupUnderWay) -> Awaitable[GetOutcome]:
        wanted = self._in_hand.wanted(entry, lookup)
        try:
            return self._network.get(
                wanted,
                on_item=lambda item: self._item_found(entry, lookup, item),
                on_patient=lambda: self.slots.ease(lookup),
            )
        except Exception as error:
            # Handled like a look-up that breaks off later, so that the waiting questions are woken in the same way.
            broken: asyncio.Future[GetOutcome] = asyncio.get_running_loop().create_future()
            broken.set_exception(error)
            return broken

    async def _run(self, entry: KnownZone, lookup: LookupUnderWay, begun: Awaitable[GetOutcome]) -> None:
        confirmed: MutableItem | None = None
        try:
            confirmed = await self._conclude(entry, lookup, await begun)
        except Exception as error:
            # After any error the waiting questions are woken, and the next questions do not repeat the look-up at once.
            self._tell("look-up broke off", key=entry.zone_id, reason=repr(error))
            self._counters["lookups-broken-off"] += 1
            entry.fail(Missing.UNREACHABLE, self._clock(), FAILURE_S_MIN, FAILURE_S_MAX)
            # The item may have been shown already, and then no older one may be shown.
            self._take(entry, lookup.item, lookup.zone)
        finally:
            self._end(entry, lookup)
        if confirmed is not None:
            await self._marks.confirmed(entry, confirmed)

    def _item_found(self, entry: KnownZone, lookup: LookupUnderWay, item: MutableItem | ImmutableItem) -> None:
        if not isinstance(item, MutableItem) or not is_part(item, entry.zone_id):
            return
        if entry.has_shown_newer(item):
            self._counters["items-below-the-mark"] += 1
            return
        if lookup.refusal is Missing.CONFLICT or self._commitments.is_refused(entry, lookup, item):
            return
        if lookup.item is not None and not self._in_hand.is_better(entry, item, lookup.item):
            return
        try:
            zone = content_of(item)
        except BadItem as error:
            self._counters[f"item-{error.reason}"] += 1
            return
        shown = entry.item if lookup.item is None else lookup.item
        lookup.item, lookup.zone = item, entry.with_shards_at_hand(zone)
        # An older item that was shown, provisional or settled, must not stay in the front's cache: a newer one exists.
        if shown is not None and self._in_hand.is_better(entry, item, shown):
            self._invalidate((tag_of_zone(entry.zone_id),))
        if not lookup.first.done():
            lookup.first_s = self._clock() - lookup.started_at
            lookup.first.set_result(None)
            self.slots.ease(lookup)

    async def _conclude(self, entry: KnownZone, lookup: LookupUnderWay, outcome: GetOutcome) -> MutableItem | None:
        """Take the outcome of a look-up: commit the mark first, then let questions see the item.

        Return the item that it confirmed, if any.
        """
        lookup.rpc_count, had_commitment = outcome.rpc_count, entry.kept is not None
        if outcome.item is not None:
            self._item_found(entry, lookup, outcome.item)
        if outcome.dropped.get(ODD):
            self._counters["items-odd"] += outcome.dropped[ODD]
            lookup.refusal = Missing.ODD
        if self._commitments.is_conflict(entry, outcome.editions):
            lookup.contradict()
        entry.refusal = lookup.refusal
        if lookup.item is not None and lookup.zone is not None:
            is_settled = outcome.complete and outcome.confirmation.is_of(lookup.item)
            if is_settled and not lookup.refusal and self._commitments.is_due(entry, lookup.item):
                # Both are in one commit: a crash must not leave a settled item whose commitment is forgotten.
                kept = self._commitments.keep(entry, lookup.item)
                await asyncio.gather(kept, self._raise(entry, lookup.item, lookup.zone, is_settled))
            else:
                await self._raise(entry, lookup.item, lookup.zone, is_settled)
        now = self._clock()
        # A look-up that found nothing newer confirms no item: perhaps no contact held the zone, or the holders were
        # silent.
        has_word = entry.item is not None and (
            entry.is_own or (outcome.complete and outcome.confirmation.is_of(entry.item))
        )
        is_confirmed = has_word and lookup.refusal is None
        self.reports.append(report_of(entry, lookup, outcome, is_confirmed, self._unix_clock()))
        if entry.item is not None and is_confirmed:
            if entry.item is not lookup.item and self._commitments.is_due(entry, entry.item):
                await self._commitments.keep(entry, entry.item)
            entry.forgive()
            entry.confirm(now)
        elif entry.item is not None:
            entry.is_unconfirmed = True
            entry.fail(lookup.refusal or Missing.ABSENT, now, FAILURE_S_MIN, INCOMPLETE_S_MAX)
        elif lookup.refusal or lookup.rpc_max >= QUESTION_RPCS_MAX or outcome.rpc_count < lookup.rpc_max:
            # A look-up that one question's budget cut short proves nothing for the next question.
            reason = Missing.ABSENT if entry.mark is None else Missing.OLDER
            reason = reason if outcome.answered_count else Missing.UNREACHABLE
            entry.fail(lookup.refusal or reason, now, FAILURE_S_MIN, FAILURE_S_MAX)
        if lookup.refusal or (outcome.complete and not has_word) or (entry.kept is not None and not had_commitment):
            self._look_for_next_key(entry)
        if entry.item is not None:
            self._arm_refresh(entry, refresh_seconds(entry.zone))
        return entry.item if is_confirmed else None

    async def _raise(self, entry: KnownZone, item: MutableItem, zone: Zone | PartialZone, is_settled: bool) -> None:
        """Take a newer item, after its commit if its key has a mark; a first mark is made when the item is shown."""
        if entry.item is not None and not self._in_hand.is_better(entry, item, entry.item):
            return
        if entry.mark is not None and not entry.present(self._marks.now).is_ahead(item.seq):
            confirmed_unix = self._unix_clock() if is_settled else self._marks.confirmed_unix(entry)
            await self._marks.raised(entry, item, confirmed_unix)
        # A still newer item may have come during the commit, which `_take` then keeps.
        self._take(entry, item, zone)

    def _take(self, entry: KnownZone, item: MutableItem | None, zone: Zone | PartialZone | None) -> None:
        if item is None or entry.has_shown_newer(item) or self._commitments.refuses(entry, item):
            return
        if entry.item is None or self._in_hand.is_better(entry, item, entry.item):
            # Shards may have come during the commit.
            entry.item, entry.zone = item, None if zone is None else entry.with_shards_at_hand(zone)

    async def adopt_arrived(self, entry: KnownZone, item: MutableItem) -> None:
        """Take an item that was put into our storage, and that is newer than the one in hand."""
        try:
            await self._raise(entry, item, content_of(item), False)
        except Exception as error:
            self._tell("item that arrived not adopted", key=item.key, reason=repr(error))
            return
        self._invalidate((tag_of_zone(entry.zone_id),))

    def _end(self, entry: KnownZone, lookup: LookupUnderWay) -> None:
        entry.lookup = None
        for event in (lookup.first, lookup.done):
            if not event.done():
                event.set_result(None)
        if lookup.is_refresh:
            self.refresh_count -= 1
        else:
            self.slots.release(lookup)
