"""The items in hand: what they are worth without a look-up, and what a look-up needs not show again.

Guarantees: no item below its key's mark is used, and none without the commitment that is kept of its key; a
confirmation counts until the zone is due for a refresh, and none that lies in the future. Does not know look-ups, but
for the item that one has found so far.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace

from p2pdns.dht.node.values import Wanted
from p2pdns.dns.zone import Zone
from p2pdns.errors import BadItem
from p2pdns.items.item import MutableItem
from p2pdns.items.keys import ZoneId
from p2pdns.items.shards.content import content_of
from p2pdns.items.shards.partial import PartialZone
from p2pdns.limits import QUESTION_S_MAX
from p2pdns.overlay.commitments import OddItems
from p2pdns.overlay.entries import KnownZone, LookupUnderWay, charge_of, refresh_seconds
from p2pdns.overlay.marks import Marks
from p2pdns.overlay.parts import parts_of
from p2pdns.overlay.ports import ReaderState
from p2pdns.resolver.steps import Found, Missing, NotFound, ZoneOutcome
from p2pdns.timing import Clock


class InHand:
    """The judgement of items in hand."""

    def __init__(
        self, state: ReaderState, marks: Marks, commitments: OddItems, clock: Clock, counters: Counter[str]
    ) -> None:
        self._state = state
        self._marks = marks
        self._commitments = commitments
        self._clock = clock
        self._counters = counters

    def remembered(self, zone_id: ZoneId) -> KnownZone:
        """Return a new entry with the item and mark that the state has kept; a recent confirmation still counts."""
        entry = KnownZone(zone_id, mark=self._state.mark(zone_id), kept=self._state.commitments.kept(zone_id))
        held = self._state.held(zone_id)
        if held is None or entry.has_shown_newer(held.item) or self._commitments.refuses(entry, held.item):
            return entry
        try:
            entry.zone = content_of(held.item)
        except BadItem as error:
            self._counters[f"item-{error.reason}"] += 1
            return entry
        entry.item = held.item
        entry.was_settled = held.confirmed_unix > 0
        entry.is_own = held.is_own
        age = self._marks.now.unix - held.confirmed_unix
        # A confirmation in the future means that the clock was set back since, so its age is unknown.
        if entry.was_settled and age >= 0:
            entry.confirmed_at = self._clock() - age
        return entry

    def known(self, entry: KnownZone, last: LookupUnderWay | None) -> ZoneOutcome | None:
        """Return the outcome that needs no look-up: an item confirmed lately, or a failure before its time is over."""
        now = self._clock()
        number, rpc_count = charge_of(last)
        refresh_s = refresh_seconds(entry.zone)
        is_confirmed = now - entry.confirmed_at < refresh_s and entry.refusal is None
        is_showable = entry.item is not None and not entry.has_shown_newer(entry.item)
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

    def best(self, entry: KnownZone, lookup: LookupUnderWay | None, reason: Missing) -> ZoneOutcome:
        """Return the best item known, as not settled, for a question that can wait no longer."""
        number, rpc_count = charge_of(lookup)
        item, zone, previous = entry.item, entry.zone, None
        found = None if lookup is None else lookup.item
        if lookup is not None and found is not None and (item is None or self.is_better(entry, found, item)):
            previous = zone if entry.was_settled else None
            item, zone = found, lookup.zone
        if item is None or zone is None:
            refusal = None if lookup is None else lookup.refusal
            return NotFound(refusal or reason, 0.0, number, rpc_count)
        fresh = self._is_fresh(item, zone)
        return Found(item, zone, False, entry.confirmed_at, fresh, False, previous, number, rpc_count)

    def wanted(self, entry: KnownZone, lookup: LookupUnderWay) -> Wanted:
        """Return the item to look up for a zone."""
        # Replies to a get with a seq leave out items that are not newer: a refresh does not need them, a question does.
        # A seq from the future is not sent either, because valid newer items lie below it.
        held = entry.item if lookup.is_refresh else None
        present = entry.present(self._marks.now)
        known_seq = held.seq if held is not None and not present.is_ahead(held.seq) else None
        if entry.item is None and entry.mark is not None:
            # Items below the mark are of no use, but the item that made the mark is wanted.
            known_seq = entry.mark.seq - 1 if entry.mark.seq else None
        (part,) = parts_of(entry.zone_id)
        return replace(
            part,
            known_seq=known_seq,
            present=present,
            rpc_max=lookup.rpc_max,
            deadline=self._clock() + QUESTION_S_MAX,
            commitment=None if entry.kept is None else entry.kept.commitment,
            wants_editions=entry.kept is None,
        )

    def is_better(self, entry: KnownZone, new: MutableItem, old: MutableItem) -> bool:
        """Return whether readers prefer an item of a key to another one."""
        return entry.present(self._marks.now).prefers(new, old)

    def _is_fresh(self, item: MutableItem, zone: Zone | PartialZone) -> bool:
        return self._marks.now.unix < item.signed_at_unix + zone.expire_seconds
