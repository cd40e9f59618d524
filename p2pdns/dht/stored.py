"""An item in a store, in a reply, and in a row on the disk: values, all frozen.

Guarantees: no value changes after it was made. Does not know which items are accepted (`storage` does), nor SQL.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from p2pdns.items.item import BUILD_UNIX, SEQ_PER_SECOND, Item
from p2pdns.items.succession import Commitment

# No publisher commits a zone with a lower seq: a seq is a time, and commitments are younger than that. Otherwise a
# thief could put an item of seq 1 at every node, and have all refused that the owner has ever signed.
COMMITTED_SEQ_MIN = BUILD_UNIX * SEQ_PER_SECOND


@dataclass(frozen=True, slots=True)
class StoredItem:
    """A verified item as KRPC carries it: `value` in bencoded form; `key` is None for an immutable one.

    `commitment` is that of a zone to its next key, None where it has none.
    """

    target: bytes
    value: bytes
    key: bytes | None = None
    seq: int = 0
    signature: bytes = b""
    salt: bytes = b""
    item: Item | None = None
    commitment: Commitment | None = None

    @property
    def size_bytes(self) -> int:
        return len(self.value) + len(self.salt)

    def drops_commitment_of(self, held: StoredItem) -> bool:
        """Return whether this item lacks the commitment of one that is held with a lower seq.

        Its publisher never makes such an item (docs/spec.md §3, Succession). With both in the overlay, a reader that
        sees the zone for the first time is shown the conflict.
        """
        counts = held.commitment is not None and held.seq >= COMMITTED_SEQ_MIN
        return counts and self.seq > held.seq and self.commitment != held.commitment


class Selected(NamedTuple):
    """The part of an item that a reply to a get has; the names are those of `krpc.Reply`."""

    key: bytes | None
    signature: bytes | None
    seq: int | None
    value: bytes | None


class Kept(NamedTuple):
    """The outcome of an accepted put; `is_news` unless it only refreshed what was there."""

    stored: StoredItem
    is_news: bool


class Holding(NamedTuple):
    """An item kept for others: when another node last put it, and since when this version of it is here."""

    stored: StoredItem
    put_at: float
    new_at: float


class StoredRow(NamedTuple):
    """A stored item as it survives a restart; `key` is empty for an immutable one, times are Unix seconds, 0 never.

    `other_prefix` has put the item too (empty: only `prefix` has); since `first_unix` there is an item at the target.
    """

    target: bytes
    key: bytes
    salt: bytes
    seq: int
    value: bytes
    signature: bytes
    prefix: str
    put_unix: float
    got_unix: float
    new_unix: float
    other_prefix: str = ""
    first_unix: float = 0.0


class StoredChange(NamedTuple):
    """A change for the disk at a target: write the row, or delete it where `row` is None."""

    target: bytes
    row: StoredRow | None
