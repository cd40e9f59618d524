"""An item in a store, in a reply, and in a row on the disk: values, all frozen.

Guarantees: no value changes after it was made; a stored item that comes from a put was verified. Does not know which
items are accepted (`storage` does), nor SQL.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from p2pdns.dht import bencode, krpc
from p2pdns.errors import BadItem, BadRequest
from p2pdns.items.item import (
    BUILD_UNIX,
    SALT_BYTES_MAX,
    SEQ_PER_SECOND,
    VALUE_BYTES_READ_MAX,
    ImmutableItem,
    Item,
    MutableItem,
    reduced_signature,
    signing_buffer_of_form,
)
from p2pdns.items.keys import ZoneKey
from p2pdns.items.succession import Commitment, commitment_of

VALUE_FORM_BYTES_MAX = 1_000  # BEP 44's limit on the bencoded form, for values that are no byte strings.

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


def check_sizes(request: krpc.Put) -> None:
    """Raise the BadRequest for a put of which a part is too large."""
    text = krpc.string_of(request.value)
    limit, size = (VALUE_FORM_BYTES_MAX, len(request.value)) if text is None else (VALUE_BYTES_READ_MAX, len(text))
    if size > limit:
        raise BadRequest("value-too-big", krpc.VALUE_TOO_BIG, f"{size} bytes, {limit} allowed")
    if isinstance(request, krpc.PutMutable):
        if len(request.salt) > SALT_BYTES_MAX:
            raise BadRequest("salt-too-big", krpc.SALT_TOO_BIG, f"{len(request.salt)} bytes, {SALT_BYTES_MAX} allowed")
        # Nothing could ever supersede the largest seq, so nothing may carry it.
        if request.seq == krpc.SEQ_MAX:
            raise BadRequest("seq-reserved", krpc.PROTOCOL_ERROR)


def is_same(stored: StoredItem, request: krpc.PutMutable) -> bool:
    """Return whether a put has the very item that is stored."""
    return (stored.seq, stored.value, stored.signature) == (request.seq, request.value, request.signature)


def stored_of(item: Item) -> StoredItem:
    """Return an item of ours, or one that was verified, as it is stored."""
    form = bencode.encode(item.value)
    if isinstance(item, ImmutableItem):
        return StoredItem(item.target, form, item=item)
    # Made once for each item that is kept, whose signature was checked for more than this costs.
    commitment = commitment_of(item)
    return StoredItem(item.target, form, item.key.raw, item.seq, item.signature, item.salt, item, commitment)


def verified_immutable(value: bytes) -> StoredItem:
    """Return the immutable item of a bencoded value: its target is its hash, so there is nothing to verify."""
    text = krpc.string_of(value)
    target = krpc.PutImmutable(value, b"").target
    return StoredItem(target, value, item=None if text is None else ImmutableItem(text))


def verified_mutable(request: krpc.PutMutable) -> StoredItem:
    """Return the item of a put; BadItem where the key or the signature does not hold."""
    text = krpc.string_of(request.value)
    if text is not None:
        return stored_of(MutableItem.verified(request.key, request.seq, text, request.signature, request.salt))
    key = ZoneKey.verified(request.key)
    signature = reduced_signature(request.signature)
    if not key.verify(signature, signing_buffer_of_form(request.seq, request.value, request.salt)):
        raise BadItem("signature-wrong")
    return StoredItem(request.target, request.value, key.raw, request.seq, signature, request.salt)
