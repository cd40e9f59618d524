"""The editions of one zone that a look-up has met, and which of them its reader may not adopt.

Guarantees: an edition without the commitment that the reader has kept is odd, whatever its seq; each value is parsed
once, however many contacts return it. Does not know contacts, nor who has kept which commitment.
"""

from __future__ import annotations

from p2pdns.items.item import MutableItem
from p2pdns.items.succession import Commitment, breaks_commitment, commitment_of


class Editions:
    """What one look-up has met. `kept` is the commitment that its reader has kept; None is none."""

    __slots__ = ("_is_odd", "_kept", "_met", "_wants_all")

    def __init__(self, kept: Commitment | None = None, *, wants_all: bool = False) -> None:
        self._kept = kept
        self._wants_all = wants_all
        self._is_odd: dict[bytes, bool] = {}
        self._met: dict[tuple[int, bytes], MutableItem] = {}

    def is_odd(self, item: MutableItem) -> bool:
        """Return whether an item lacks the commitment that was kept of its key."""
        if self._kept is None:
            return False
        is_odd = self._is_odd.get(item.value)
        if is_odd is None:
            is_odd = self._is_odd[item.value] = breaks_commitment(item, self._kept)
        return is_odd

    def note(self, item: MutableItem) -> None:
        """Note an item that is not odd."""
        if self._wants_all:
            self._met.setdefault((item.seq, item.value), item)

    def needs_older(self, best: MutableItem) -> bool:
        """Return whether contacts are to show older editions too, now that `best` is the newest that was met.

        Only a zone with a commitment is worth the bytes. Nodes of ours show an older edition with one in any case.
        """
        return self._wants_all and commitment_of(best) is not None

    @property
    def met(self) -> tuple[MutableItem, ...]:
        """The editions, the oldest first; empty unless all were wanted."""
        return tuple(item for _, item in sorted(self._met.items()))
