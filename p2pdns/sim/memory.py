"""State that outlives a process, in memory: a stand-in for the database with its rules of marks.

Guarantees: a mark never goes back; an item below its key's mark is not held. Does not know disks.
"""

from __future__ import annotations

from dataclasses import replace

from p2pdns.items.item import MutableItem
from p2pdns.items.keys import ZoneId
from p2pdns.overlay.parts import zone_id_of
from p2pdns.overlay.ports import Held, Mark


class MemoryState:
    """The state of one machine: `ReaderState` of the overlay, and `OwnState` of publishing."""

    def __init__(self, marks: dict[ZoneId, Held] | None = None) -> None:
        self.marks = {} if marks is None else marks

    @property
    def newest_seq(self) -> int | None:
        """Return the highest seq of all."""
        return max((held.item.seq for held in self.marks.values()), default=None)

    def mark(self, zone_id: ZoneId, salt: bytes = b"") -> Mark | None:
        """Return the highest seq of a zone."""
        held = self.marks.get(zone_id)
        return None if held is None else Mark(held.item.seq)

    def is_protected(self, zone_id: ZoneId) -> bool:
        """Return whether the zone is this machine's own."""
        held = self.marks.get(zone_id)
        return held is not None and held.is_own

    def keep(self, zone_id: ZoneId) -> None:
        """Do nothing: every item is kept."""

    def held(self, zone_id: ZoneId, salt: bytes = b"") -> Held | None:
        """Return the newest item of a zone."""
        return self.marks.get(zone_id)

    def kept_alive(self) -> list[Held]:
        """Return own and pinned items."""
        return [held for held in self.marks.values() if held.is_own or held.is_pinned]

    async def adopt(self, item: MutableItem, confirmed_unix: float, *, own: bool = False, pinned: bool = False) -> None:
        """Raise the mark of the item's zone to the item."""
        zone_id = zone_id_of(item)
        before = self.marks.get(zone_id)
        if before is None:
            self.marks[zone_id] = Held(item, confirmed_unix, own, pinned)
            return
        newest = before.item if before.item.supersedes(item) else item
        confirmed = confirmed_unix if newest == item else before.confirmed_unix
        is_own, is_pinned = own or before.is_own, pinned or before.is_pinned
        self.marks[zone_id] = replace(before, item=newest, confirmed_unix=confirmed, is_own=is_own, is_pinned=is_pinned)
