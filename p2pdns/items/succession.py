"""Succession: the commitment of a zone to its next key, and the two values that reveal that key.

A commitment is one record of TYPE65311 at the apex. It binds the zone to a next key without naming it. The values are
immutable items that only the holder of the next key can make; they stay secret until the zone moves there, and then
anybody can keep them alive (docs/spec.md §3, Succession).

Guarantees: pure; a `Commitment` has its size, and a `Succession` that exists was signed by the key that the old key's
zone has committed itself to. Does not know who has seen which commitment, nor where the next key is kept.
"""

from __future__ import annotations

import hashlib
from dataclasses import InitVar, dataclass

from p2pdns.dns.message import RRset
from p2pdns.dns.registry import COMMITMENT
from p2pdns.dns.zone import Zone
from p2pdns.errors import BadItem, KeyFileError
from p2pdns.items.item import VALUE_BYTES_WRITE_MAX, ImmutableItem, MutableItem
from p2pdns.items.keys import KEY_BYTES, SIGNATURE_BYTES, SecretKey, ZoneKey
from p2pdns.items.packet import compose_packet

DIGEST_BYTES = 32  # SHA-256 of the next key.
TARGET_BYTES = 20
# Two places of the overlay: an attacker hides the next key only if he surrounds both.
VALUES_COUNT = 2
COMMITMENT_BYTES = DIGEST_BYTES + VALUES_COUNT * TARGET_BYTES
COMMITMENT_TTL = 0  # Nobody asks for this record, so it has no life in a cache.
KIND = b"n"  # No signing buffer of BEP 44 begins like this: those begin with a digit.
VALUE_BYTES = len(KIND) + 1 + 2 * KEY_BYTES + SIGNATURE_BYTES
HOPS_MAX = 8  # Keys that one name may be followed through: more than a person uses up, and the loop has an end.

# Where the type of the record stands in a message. A value without these two bytes has no commitment, and need not be
# parsed to know that.
_TYPE = COMMITMENT.to_bytes(2)
_VERIFIED = object()


@dataclass(frozen=True)
class Commitment:
    """What a zone has committed itself to: the SHA-256 of the next key, and the targets of the two values."""

    next_digest: bytes
    targets: tuple[bytes, bytes]

    def __post_init__(self) -> None:
        sizes = (len(self.next_digest), *map(len, self.targets))
        if sizes != (DIGEST_BYTES, TARGET_BYTES, TARGET_BYTES):
            raise BadItem("commitment-size", f"{sum(sizes)} bytes, {COMMITMENT_BYTES} expected")

    @classmethod
    def verified(cls, rdata: bytes) -> Commitment:
        """Return the commitment in the RDATA of a record of TYPE65311; BadItem where it has another size."""
        if len(rdata) != COMMITMENT_BYTES:
            raise BadItem("commitment-size", f"{len(rdata)} bytes, {COMMITMENT_BYTES} expected")
        second = DIGEST_BYTES + TARGET_BYTES
        return cls(rdata[:DIGEST_BYTES], (rdata[DIGEST_BYTES:second], rdata[second:]))

    @property
    def rdata(self) -> bytes:
        """The RDATA: digest, then both targets."""
        return self.next_digest + b"".join(self.targets)

    def record_of(self, key: ZoneKey) -> RRset:
        """Return the record that a zone carries."""
        return RRset(key.apex, COMMITMENT, COMMITMENT_TTL, (self.rdata,))


@dataclass(frozen=True)
class Succession:
    """The next key of a zone, as one of its two values says. Only `verified` makes one."""

    old_key: ZoneKey
    next_key: ZoneKey
    made_by: InitVar[object] = None

    def __post_init__(self, made_by: object) -> None:
        if made_by is not _VERIFIED:
            raise TypeError("a succession is made by Succession.verified")

    @classmethod
    def verified(cls, old_key: ZoneKey, commitment: Commitment, value: bytes) -> Succession:
        """Return the succession that a value under one of the committed targets says; BadItem with the reason.

        The target alone proves nothing about the key: whoever makes a commitment chooses its targets freely.
        """
        if len(value) != VALUE_BYTES:
            raise BadItem("succession-size", f"{len(value)} bytes, {VALUE_BYTES} expected")
        kind, index, old_raw, next_raw = value[:1], value[1], value[2:34], value[34:66]
        if kind != KIND:
            raise BadItem("succession-kind", f"it begins with {kind!r}, not with {KIND!r}")
        if not 1 <= index <= VALUES_COUNT:
            raise BadItem("succession-index", f"{index} is not one of 1 to {VALUES_COUNT}")
        if old_raw != old_key.raw:
            raise BadItem("succession-of-another-key", "it was made for the zone of another key")
        if ImmutableItem(value).target != commitment.targets[index - 1]:
            raise BadItem("succession-target", f"it is not the value {index} of the commitment")
        if hashlib.sha256(next_raw).digest() != commitment.next_digest:
            raise BadItem("succession-not-committed", "the zone has committed itself to another next key")
        if next_raw == old_raw:
            raise BadItem("succession-to-itself", "a key cannot follow itself")
        next_key = ZoneKey.verified(next_raw)
        if not next_key.verify(value[-SIGNATURE_BYTES:], value[:-SIGNATURE_BYTES]):
            raise BadItem("succession-signature", "the next key did not sign it")
        return cls(old_key, next_key, _VERIFIED)


def succession_values(old_key: ZoneKey, next_secret: SecretKey) -> tuple[ImmutableItem, ImmutableItem]:
    """Return the two values that reveal the next key. They are the same each time, so nobody has to keep them.

    KeyFileError where both keys are one.
    """
    if next_secret.zone_key == old_key:
        raise KeyFileError("a key cannot follow itself", hint='make the next one with "p2pdns keygen --next"')
    return _value(1, old_key, next_secret), _value(2, old_key, next_secret)


def _value(index: int, old_key: ZoneKey, next_secret: SecretKey) -> ImmutableItem:
    signed = KIND + index.to_bytes(1) + old_key.raw + next_secret.zone_key.raw
    return ImmutableItem(signed + next_secret.sign(signed))


def commitment_to(old_key: ZoneKey, next_secret: SecretKey) -> Commitment:
    """Return the commitment of a zone to its next key; KeyFileError where both keys are one."""
    first, second = succession_values(old_key, next_secret)
    return Commitment(hashlib.sha256(next_secret.zone_key.raw).digest(), (first.target, second.target))


def commitment_of_zone(zone: Zone) -> Commitment | None:
    """Return the commitment of a zone; None where it has none, more than one record, or one of another size.

    Two records count as none, even equal ones: readers that choose differently among several would part ways.
    """
    records = [record for record in zone.made if record.rtype == COMMITMENT and record.owner == zone.apex]
    if len(records) != 1:
        return None
    try:
        return Commitment.verified(records[0].rdata)
    except BadItem:
        return None


def with_commitment(
    value: bytes,
    key: ZoneKey,
    commitment: Commitment,
    *,
    size_bytes_max: int = VALUE_BYTES_WRITE_MAX,
    path: str = "zone",
) -> bytes:
    """Return the value of a zone with this commitment, in the place of any other; BadItem where it is no zone.

    ZoneFileError where the record does not fit beside the others; `path` is for that.
    """
    zone = Zone.verified(key.apex, value, 0)
    if commitment_of_zone(zone) == commitment:
        return value
    others = [RRset(one.owner, one.rtype, one.ttl, (one.rdata,)) for one in zone.made if one.rtype != COMMITMENT]
    made = [*others, commitment.record_of(key)]
    return compose_packet(zone, key.apex, made=made, size_bytes_max=size_bytes_max, path=path)


def commitment_of(item: MutableItem) -> Commitment | None:
    """Return the commitment that an item carries, a whole zone or a head; None where it has none or is no zone."""
    if item.salt or _TYPE not in item.value:
        return None
    try:
        return commitment_of_zone(Zone.verified(item.key.apex, item.value, item.seq))
    except BadItem:
        return None


def breaks_commitment(item: MutableItem, kept: Commitment | None) -> bool:
    """Return whether an item lacks the commitment that was seen of its key before; compared whole."""
    return kept is not None and commitment_of(item) != kept


def are_in_conflict(items: list[MutableItem]) -> bool:
    """Return whether one of these items of a key lacks the commitment of one with a lower seq.

    Nodes of ours refuse to store such an item, and its publisher never makes one: it is a thief's, or a mistake.
    """
    kept: Commitment | None = None
    for item in sorted(items, key=lambda one: (one.seq, one.value)):
        # Read once for each item: it may come from a stranger, and a value costs some 2 ms.
        commitment = commitment_of(item)
        if kept is not None and commitment != kept:
            return True
        kept = commitment
    return False
