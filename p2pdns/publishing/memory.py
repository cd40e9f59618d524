"""The items that were signed with one copy of a key, and which of them are stored.

Guarantees: an item that was made elsewhere, and is newer than the last one that was stored from here, is never taken
for one of ours; neither is one of ours that has another publisher's change in it. Does not know where that is kept.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from enum import Enum
from typing import Protocol

from p2pdns.items.item import MutableItem

Line = tuple[str, int, str]
"""A fact: one of `WORDS`, the seq, and the SHA-256 of the value in hexadecimal."""

SIGNED, MERGED, STORED = "signed", "merged", "stored"
WORDS = (SIGNED, MERGED, STORED)


class Origin(Enum):
    """Where an item was made, as far as a memory can tell."""

    HERE = "here"  # It was signed here, or is older than one that was stored from here.
    MERGED = "merged"  # It was signed here, and has what another publisher changed.
    ELSEWHERE = "elsewhere"
    UNTOLD = "untold"  # There is no memory that could tell.


class Memory(Protocol):
    """The memory of the items that were signed here, as a publication reads and extends it."""

    def origin_of(self, item: MutableItem) -> Origin:
        """Return where an item was made."""

    def signed(self, item: MutableItem, *, is_merged: bool = False) -> None:
        """Note an item before it leaves; with `is_merged` it has what another publisher changed."""

    def stored(self, item: MutableItem) -> None:
        """Note that an item is stored; older items need not be remembered any more."""


class NoMemory:
    """The memory of a publisher that knows of no other, or does not care."""

    def origin_of(self, item: MutableItem) -> Origin:
        """Return that nothing is known."""
        return Origin.UNTOLD

    def signed(self, item: MutableItem, *, is_merged: bool = False) -> None:
        """Note nothing."""

    def stored(self, item: MutableItem) -> None:
        """Note nothing."""


class Made:
    """A memory that is kept as lines."""

    def __init__(self, lines: Iterable[Line] = ()) -> None:
        self.lines = list(lines)

    def origin_of(self, item: MutableItem) -> Origin:
        """Return where an item was made."""
        _, seq, digest = line_of("", item)
        words = {line[0] for line in self.lines if line[1:] == (seq, digest)}
        if words == {MERGED}:
            return Origin.MERGED
        stored = max((line[1] for line in self.lines if line[0] == STORED), default=-1)
        return Origin.HERE if words or seq < stored else Origin.ELSEWHERE

    def signed(self, item: MutableItem, *, is_merged: bool = False) -> None:
        """Note an item before it leaves; with `is_merged` it has what another publisher changed."""
        self.lines.append(line_of(MERGED if is_merged else SIGNED, item))

    def stored(self, item: MutableItem) -> None:
        """Note that an item is stored, and forget what was older."""
        stored = line_of(STORED, item)
        self.lines = [line for line in self.lines if line[1] >= item.seq and line != stored] + [stored]


def line_of(word: str, item: MutableItem) -> Line:
    """Return what is noted of an item."""
    return word, item.seq, hashlib.sha256(item.value).hexdigest()
