"""The check of every item before a client sees it: its mark is on the disk, or a note says why it is not.

Guarantees: no item below its key's mark is shown; an item that is shown was committed as the mark before, or is
provisional and carries a note with the reason; a client prefix makes no more new marks than its budget allows, and
commitments are kept within the same budget; an item from the future becomes no mark. Does not know look-ups.
"""

from __future__ import annotations

import contextlib
from dataclasses import replace

from p2pdns.errors import Unavailable
from p2pdns.items.item import MutableItem, Present
from p2pdns.items.keys import ZoneId
from p2pdns.overlay.entries import KnownZone
from p2pdns.overlay.ports import Mark, ReaderState, Tell
from p2pdns.rates import PREFIXES_MAX, PrefixRates
from p2pdns.resolver.steps import WORDS, Budget, Found, Missing, NotFound, ZoneOutcome
from p2pdns.timing import Clock, UnixClock

# A client that asked for throw-away zones made 210 marks a second: the table of two million would be full in three
# hours. No person opens a zone that is new to the machine every five seconds; one page may link to hundreds.
NEW_MARKS_PER_SECOND = 0.2
NEW_MARKS_BURST = 1_024.0
CONFIRMED_LONG_AGO = 1.0  # Unix time of a mark that was settled at an unknown time: any look-up is newer.

_AHEAD = "signed more than 24 hours ahead of this machine's clock: no mark is kept of it"
_RATIONED = "this client has asked for too many new zones: no mark is kept of this one yet"
_REFUSED = "no mark of this zone is kept on the disk: after a restart an older item could pass for the newest"
_BEHIND = "this machine's clock is behind the newest item it has seen"


class Marks:
    """The marks of the known zones, and the bounds that they set to the time."""

    def __init__(self, state: ReaderState, clock: Clock, unix_clock: UnixClock, tell: Tell) -> None:
        self._state = state
        self._tell = tell
        self._clock = clock
        self._unix_clock = unix_clock
        self._new_marks = PrefixRates(NEW_MARKS_PER_SECOND, NEW_MARKS_BURST, PREFIXES_MAX, is_lasting=True)

    @property
    def now(self) -> Present:
        return Present(self._unix_clock(), self._state.newest_seq)

    async def shown(self, entry: KnownZone, found: Found, budget: Budget) -> ZoneOutcome:
        """Return an item as it may be shown, once its mark is committed; NotFound if it is below the mark."""
        note = await self._note_on(entry, found.item, budget)
        if entry.has_shown_newer(found.item):
            return NotFound(Missing.OLDER, 0.0, found.lookup, found.rpc_count)
        notes = (_BEHIND,) if self.now.is_clock_behind else ()
        if entry.refusal is not None:
            notes = (*notes, WORDS[entry.refusal])
        if note:
            return replace(found, settled=False, notes=(*notes, note))
        entry.shown_count += 1
        if entry.shown_count > 1:
            self._state.keep(entry.zone_id)
        return replace(found, notes=notes) if notes else found

    def may_remember(self, entry: KnownZone) -> bool:
        """Return whether a commitment of a key may be kept: those of strangers share the budget of new marks."""
        if entry.is_own or self.is_kept_alive(entry.zone_id):
            return True
        return self._new_marks.take(entry.asked_by, self._clock())

    def is_kept_alive(self, zone_id: ZoneId) -> bool:
        """Return whether somebody relies on a key here: it is a petname's or a private zone's, pinned or our own."""
        held = self._state.held(zone_id)
        return self._state.is_protected(zone_id) or (held is not None and (held.is_own or held.is_pinned))

    async def _note_on(self, entry: KnownZone, item: MutableItem, budget: Budget) -> str:
        """Commit an item as the mark of its key; return in words why it did not become the mark, or an empty text."""
        mark = entry.mark
        if mark is not None and (item.seq < mark.seq or (item.seq == mark.seq and mark.is_on_disk)):
            return ""
        if entry.present(self.now).is_ahead(item.seq):
            return _AHEAD
        if mark is None and not self._state.is_protected(entry.zone_id):
            if not self._new_marks.take(budget.client_prefix, self._clock()):
                return _RATIONED
        return "" if await self.raised(entry, item, self.confirmed_unix(entry)) else _REFUSED

    async def raised(self, entry: KnownZone, item: MutableItem, confirmed_unix: float) -> bool:
        """Commit an item as the mark of its key; return whether the mark is on the disk."""
        # The state logs the error of the disk, and the client that is shown the item gets a note.
        with contextlib.suppress(Unavailable):
            await self._state.adopt(item, confirmed_unix)
        entry.mark = self._state.mark(entry.zone_id) or Mark(item.seq, is_on_disk=False)
        return entry.mark.is_on_disk

    async def confirmed(self, entry: KnownZone, item: MutableItem) -> None:
        """Store the time of a confirmation; no question waits for it, and its loss costs a look-up after a restart."""
        if entry.mark is None or item.seq != entry.mark.seq:
            return
        try:
            await self._state.adopt(item, self._unix_clock())
        except Exception as error:
            self._tell("confirmation not stored", key=item.key, reason=repr(error))

    def confirmed_unix(self, entry: KnownZone) -> float:
        """Return when the item in hand was last confirmed; 0 when it never was."""
        if not entry.was_settled:
            return 0.0
        age = self._clock() - entry.confirmed_at
        return max(CONFIRMED_LONG_AGO, self._unix_clock() - age)
