"""What was made with one copy of a key: the items that were signed with it, and which of them are stored.

Guarantees: an item that was made elsewhere, and is newer than the last one that was stored from here, is never taken
for one of ours. Does not know where that is kept.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Protocol

from p2pdns.items.item import MutableItem

Line = tuple[str, int, str]
"""A fact: `signed` or `stored`, the seq, and the SHA-256 of the value in hexadecimal."""


class Memory(Protocol):
    """What a publication asks and tells of the items that were made here."""

    def is_made_here(self, item: MutableItem) -> bool:
        """Return whether an item was made here, or is older than one that was stored from here."""

    def signed(self, item: MutableItem) -> None:
        """Note an item before it leaves."""

    def stored(self, item: MutableItem) -> None:
        """Note that an item is stored: what was older is done with."""


class NoMemory:
    """The memory of a publisher that knows of no other, or does not care."""

    def is_made_here(self, item: MutableItem) -> bool:
        """Return True."""
        return True

    def signed(self, item: MutableItem) -> None:
        """Note nothing."""

    def stored(self, item: MutableItem) -> None:
        """Note nothing."""


class Made:
    """A memory that is kept as lines."""

    def __init__(self, lines: Iterable[Line] = ()) -> None:
        self.lines = list(lines)

    def is_made_here(self, item: MutableItem) -> bool:
        """Return whether an item was signed here, or is older than one that was stored from here."""
        _, seq, digest = line_of("", item)
        stored = max((line[1] for line in self.lines if line[0] == "stored"), default=-1)
        return seq < stored or any(line[1:] == (seq, digest) for line in self.lines)

    def signed(self, item: MutableItem) -> None:
        """Note an item before it leaves."""
        self.lines.append(line_of("signed", item))

    def stored(self, item: MutableItem) -> None:
        """Note that an item is stored, and forget what was older."""
        self.lines = [line for line in self.lines if line[1] >= item.seq] + [line_of("stored", item)]


def line_of(word: str, item: MutableItem) -> Line:
    """Return what is noted of an item."""
    return word, item.seq, hashlib.sha256(item.value).hexdigest()
