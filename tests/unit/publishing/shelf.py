"""The overlay as a publication uses it for items with a salt, and zones that need some."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from p2pdns.items.dividing import RENEWED_AFTER_S, Division, gathered
from p2pdns.items.item import MutableItem
from p2pdns.items.shards.pinned import Pinned
from p2pdns.publishing.divided import Dividing, Placed
from p2pdns.publishing.editions import LargeZone, draft_of
from p2pdns.publishing.edits import EditJournal, EditsInMemory
from p2pdns.publishing.replicas import Tell
from tests.overlay_doubles import rrsets
from tests.unit.publishing.test_publication import APEX, SECRET


@dataclass
class Shelf:
    """Items by salt. What is in `refused` cannot be stored, and what is in `hidden` cannot be found."""

    items: dict[bytes, MutableItem] = field(default_factory=dict)
    refused: set[bytes] = field(default_factory=set)
    refuses_from: int | None = None  # The number of items after which everything is refused.
    hidden: set[bytes] = field(default_factory=set)
    drops: Callable[[], bool] = lambda: False  # Whether the next item is held by too few.
    is_alone: bool = False  # No other node is known.
    placed: list[MutableItem] = field(default_factory=list)
    fetched_count: int = 0

    async def fetch(self, salts: Sequence[bytes], tell: Tell) -> Mapping[bytes, MutableItem]:
        """Return what is there."""
        self.fetched_count += len(salts)
        return {salt: self.items[salt] for salt in salts if salt in self.items and salt not in self.hidden}

    async def place(self, items: Sequence[MutableItem], tell: Tell) -> Placed:
        """Keep what is not refused."""
        poor = []
        for one in items:
            known = self.items.get(one.salt)
            if known is not None and known.value == one.value and known.seq > one.seq - RENEWED_AFTER_S * 10**6:
                # It was stored by a publication that did not come to its end.
                self.placed.append(one)
                continue
            if (
                self.is_alone
                or one.salt in self.refused
                or self.drops()
                or (self.refuses_from is not None and len(self.placed) >= self.refuses_from)
            ):
                poor.append(one)
                continue
            self.placed.append(one)
            self.items[one.salt] = one
        return Placed(tuple(poor), {"timeout": len(poor)} if poor else {}, is_alone=self.is_alone)

    def division(self, head: MutableItem) -> Division | list[Pinned]:
        """Return the division that a head begins, or what of it is missing."""

        def value_of(pinned: Pinned) -> bytes | None:
            one = self.items.get(pinned.salt)
            return None if one is None else one.value

        return gathered(APEX, head.value, value_of)


class Draws:
    """Random bytes that no second draw repeats."""

    def __init__(self, mark: bytes = b"") -> None:
        self.count = 0
        self._mark = mark

    def __call__(self, count: int) -> bytes:
        self.count += 1
        return hashlib.sha256(self._mark + self.count.to_bytes(4)).digest()[:count]


def dividing(shelf: Shelf, journal: EditJournal | None = None, mark: bytes = b"") -> Dividing:
    """Return what a publication needs to divide zones."""
    return Dividing(
        lambda seq, value, salt: MutableItem.signed(SECRET, seq, value, salt),
        Draws(mark),
        shelf,
        journal or EditsInMemory(),
    )


def hosts(count: int, *more: str) -> list[str]:
    """Return the lines of a zone with so many hosts."""
    lines = [f"host{number} 300 A 10.{number >> 16}.{number >> 8 & 255}.{number & 255}" for number in range(count)]
    return [*lines, *more]


def large(*lines: str) -> LargeZone:
    """Return the content of a zone that does not fit one item."""
    draft = draft_of(rrsets(APEX, *lines), APEX)
    assert isinstance(draft, LargeZone)
    return draft
