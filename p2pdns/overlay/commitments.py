"""The commitments of the known zones: which one is kept of a key, and which items lack it.

Guarantees: the first commitment that a complete look-up settled is the one that counts, and it is on the disk (or the
disk has refused it) before the item is confirmed; a client prefix has no more of them kept than it makes new marks.
Does not know look-ups, nor the values that tell a next key.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from p2pdns.items.item import MutableItem
from p2pdns.items.keys import ZoneId
from p2pdns.items.succession import are_in_conflict, breaks_commitment, commitment_of
from p2pdns.overlay.entries import KnownZone, LookupUnderWay
from p2pdns.overlay.marks import Marks
from p2pdns.overlay.ports import KeptCommitment, ReaderState, Tell
from p2pdns.resolver.steps import Missing


class OddItems:
    """The judgement of items by the commitments that are kept."""

    def __init__(self, state: ReaderState, marks: Marks, counters: Counter[str], tell: Tell) -> None:
        self._state = state
        self._marks = marks
        self._counters = counters
        self._tell = tell

    def kept(self, zone_id: ZoneId) -> KeptCommitment | None:
        """Return the commitment that is kept of a key."""
        return self._state.commitments.kept(zone_id)

    def refuses(self, entry: KnownZone, item: MutableItem) -> bool:
        """Return whether an item of a key is not to be adopted, and count it if so.

        It lacks the commitment that is kept. Where none is kept yet, it lacks that of an item in hand with a lower seq.
        """
        if entry.kept is not None:
            is_odd = breaks_commitment(item, entry.kept.commitment)
        else:
            is_odd = entry.item is not None and are_in_conflict([entry.item, item]) and item.seq > entry.item.seq
        self._counters["items-odd"] += is_odd
        return is_odd

    def is_refused(self, entry: KnownZone, lookup: LookupUnderWay, item: MutableItem) -> bool:
        """Return whether an item that a look-up has met may not be adopted; the look-up then knows why."""
        if self.refuses(entry, item):
            lookup.refusal = Missing.ODD if entry.kept is not None else Missing.CONFLICT
        elif lookup.item is not None and self.is_conflict(entry, [lookup.item, item]):
            lookup.contradict()
        else:
            return False
        return True

    def is_conflict(self, entry: KnownZone, items: Sequence[MutableItem]) -> bool:
        """Return whether these items, with the one in hand, contradict each other for who has kept no commitment."""
        in_hand = [] if entry.item is None else [entry.item]
        return entry.kept is None and are_in_conflict([*items, *in_hand])

    def is_due(self, entry: KnownZone, item: MutableItem) -> bool:
        """Return whether a settled item, expired or not, has a commitment to be kept: none is kept of its key."""
        if entry.kept is not None or commitment_of(item) is None:
            return False
        return not entry.present(self._marks.now).is_ahead(item.seq)

    async def keep(self, entry: KnownZone, item: MutableItem) -> None:
        """Keep the commitment of a settled item for ever, within the budget of the client that has asked for it."""
        commitment = commitment_of(item)
        if commitment is None or entry.kept is not None:
            return
        if not self._marks.may_remember(entry):
            self._counters["commitments-rationed"] += 1
            return
        try:
            await self._state.commitments.keep(entry.zone_id, commitment)
        except Exception as error:
            # It holds for this process, as far as memory has room.
            self._tell("commitment to a next key not stored", key=entry.zone_id, reason=repr(error))
        entry.kept = self.kept(entry.zone_id)
        self._counters["commitments-kept"] += entry.kept is not None
