"""The editions of one zone that a look-up has met, and which of them its reader may not adopt.

Guarantees: an edition without the commitment that the reader has kept is odd, whatever its seq; each value is parsed
once, however many contacts return it; few editions are kept, and a conflict among all is one among these. Does not know
contacts, nor who has kept which commitment.
"""

from __future__ import annotations

from p2pdns.items.item import MutableItem
from p2pdns.items.succession import Commitment, commitment_of

# Commitments of which editions are kept. The holder of a secret key can sign any number of editions. For a conflict,
# the oldest and the newest one of each commitment are enough; two commitments are a conflict, so few of them are too.
COMMITMENTS_MAX = 8


class Editions:
    """What one look-up has met. `kept` is the commitment that its reader has kept; None is none."""

    __slots__ = ("_commitments", "_kept", "_met", "_wants_all")

    def __init__(self, kept: Commitment | None = None, *, wants_all: bool = False) -> None:
        self._kept = kept
        self._wants_all = wants_all
        self._commitments: dict[bytes, Commitment | None] = {}
        # The oldest and the newest edition of each commitment, and of those without any.
        self._met: dict[Commitment | None, tuple[MutableItem, MutableItem]] = {}

    def is_odd(self, item: MutableItem) -> bool:
        """Return whether an item lacks the commitment that was kept of its key."""
        return self._kept is not None and self._commitment_of(item) != self._kept

    def note(self, item: MutableItem) -> None:
        """Note an item that is not odd."""
        if not self._wants_all:
            return
        commitment = self._commitment_of(item)
        oldest, newest = self._met.get(commitment, (item, item))
        self._met[commitment] = min(oldest, item, key=_order_of), max(newest, item, key=_order_of)
        if len(self._met) > COMMITMENTS_MAX:
            # The oldest edition stays: a publisher goes on with its commitment.
            del self._met[max(self._met, key=lambda one: _order_of(self._met[one][0]))]

    def needs_older(self, best: MutableItem) -> bool:
        """Return whether contacts are to show older editions too, now that `best` is the newest that was met.

        Only a zone with a commitment is worth the bytes. Nodes of ours show an older edition with one in any case.
        """
        return self._wants_all and self._commitment_of(best) is not None

    @property
    def met(self) -> tuple[MutableItem, ...]:
        """The oldest and the newest edition of each commitment, the oldest first; empty unless all were wanted."""
        found = {_order_of(item): item for pair in self._met.values() for item in pair}
        return tuple(item for _, item in sorted(found.items()))

    def _commitment_of(self, item: MutableItem) -> Commitment | None:
        if item.value not in self._commitments:
            self._commitments[item.value] = commitment_of(item)
        return self._commitments[item.value]


def _order_of(item: MutableItem) -> tuple[int, bytes]:
    return item.seq, item.value
