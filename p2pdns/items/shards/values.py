"""The values of items with a salt: shards, whole or begun, their further parts, and manifests.

Guarantees: a value that exists keeps the rules of docs/spec.md; bytes from strangers become one only through
`verified`, against the pin under which they were looked for, and each fault has one reason. Does not know the records
in a message (`shard`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from p2pdns.errors import BadItem
from p2pdns.items.item import VALUE_BYTES_WRITE_DEFAULT
from p2pdns.items.shards.directory import MANIFEST_PINS_MAX, cut_pins
from p2pdns.items.shards.pinned import PIN_BYTES, Pinned, SaltLetter, pin_of

KIND_WHOLE, KIND_FIRST, KIND_MANIFEST, KIND_PART = range(4)
NONCE_BYTES = 4  # Whoever may edit one record cannot foresee them: to meet an old pin takes 2³² publications.
HEAD_BYTES = 1 + NONCE_BYTES
PARTS_MAX = 24  # Further parts of a shard: asked for together, they are as many requests as a look-up's last round.
_KINDS = {
    SaltLetter.MANIFEST: (KIND_MANIFEST,),
    SaltLetter.SHARD: (KIND_WHOLE, KIND_FIRST),
    SaltLetter.OWN: (KIND_WHOLE, KIND_FIRST),
    SaltLetter.PART: (KIND_PART,),
    SaltLetter.OWN_PART: (KIND_PART,),
}


@dataclass(frozen=True, slots=True)
class Whole:
    """A shard that fits one value: its message."""

    nonce: bytes
    message: bytes

    def compose(self) -> bytes:
        """Return the value."""
        return bytes([KIND_WHOLE]) + self.nonce + self.message


@dataclass(frozen=True, slots=True)
class First:
    """The first value of a shard in parts: the pins of the further ones, and the beginning of its message."""

    nonce: bytes
    pins: tuple[bytes, ...]
    slice: bytes

    def __post_init__(self) -> None:
        if not 1 <= len(self.pins) <= PARTS_MAX:
            raise BadItem("part-count", f"{len(self.pins)}, from 1 to {PARTS_MAX} allowed")
        if not self.slice:
            raise BadItem("part-empty", "the first slice of the message")

    def compose(self) -> bytes:
        """Return the value."""
        return bytes([KIND_FIRST]) + self.nonce + bytes([len(self.pins)]) + b"".join(self.pins) + self.slice


@dataclass(frozen=True, slots=True)
class Part:
    """A further part of a shard: a slice of its message, and the nonce of the shard."""

    nonce: bytes
    slice: bytes

    def __post_init__(self) -> None:
        if not self.slice:
            raise BadItem("part-empty", "a slice of the message")

    def compose(self) -> bytes:
        """Return the value."""
        return bytes([KIND_PART]) + self.nonce + self.slice


@dataclass(frozen=True, slots=True)
class Manifest:
    """The pins of some shards, in the order of their indexes."""

    nonce: bytes
    pins: tuple[bytes, ...]

    def compose(self) -> bytes:
        """Return the value."""
        return bytes([KIND_MANIFEST]) + self.nonce + b"".join(self.pins)


SaltedValue = Whole | First | Part | Manifest


def verified(wanted: Pinned, value: bytes) -> SaltedValue:
    """Return what a value says that came for a pin; BadItem with the first rule that it breaks."""
    wanted.check(value)
    if len(value) < HEAD_BYTES:
        raise BadItem("shard-too-short", f"{len(value)} bytes, {HEAD_BYTES} at least")
    kind, nonce, rest = value[0], value[1:HEAD_BYTES], value[HEAD_BYTES:]
    if kind not in _KINDS[wanted.letter]:
        raise BadItem("shard-kind", f"{kind} in a {wanted}")
    if kind == KIND_WHOLE:
        return Whole(nonce, rest)
    if kind == KIND_PART:
        return Part(nonce, rest)
    if kind == KIND_MANIFEST:
        expected = min(1 << wanted.bits, MANIFEST_PINS_MAX)
        if len(rest) != expected * PIN_BYTES:
            raise BadItem("manifest-pins", f"{len(rest)} bytes of pins, {expected * PIN_BYTES} expected")
        return Manifest(nonce, tuple(cut_pins(rest)))
    count = rest[0] if rest else 0
    if not 1 <= count <= PARTS_MAX:
        raise BadItem("part-count", f"{count}, from 1 to {PARTS_MAX} allowed")
    end = 1 + count * PIN_BYTES
    # Pins that are cut short leave no byte for the slice either.
    if len(rest) <= end:
        raise BadItem("part-empty", "the first slice of the message")
    return First(nonce, tuple(cut_pins(rest[1:end])), rest[end:])


def joined(first: First, parts: Sequence[Part]) -> bytes:
    """Return the message of a shard in parts; BadItem `part-nonce` where one belongs to another edition of it."""
    assert len(parts) == len(first.pins), "all parts of a shard are there"
    if any(part.nonce != first.nonce for part in parts):
        raise BadItem("part-nonce", "a part of another edition of the shard")
    return first.slice + b"".join([part.slice for part in parts])


def part_count(message_bytes: int, value_bytes_max: int = VALUE_BYTES_WRITE_DEFAULT) -> int:
    """Return how many further parts a message of a size needs; more than `PARTS_MAX` where it has no room.

    >>> [part_count(size) for size in (935, 936, 23_278, 23_279)]
    [0, 1, 24, 25]
    """
    if message_bytes <= value_bytes_max - HEAD_BYTES:
        return 0
    # Each further part has room for a slice, and takes a pin's bytes from the first.
    over = message_bytes - (value_bytes_max - HEAD_BYTES - 1)
    gained = value_bytes_max - HEAD_BYTES - PIN_BYTES
    return max(1, -(-over // gained))


def message_bytes_max(value_bytes_max: int = VALUE_BYTES_WRITE_DEFAULT) -> int:
    """Return the size of the longest message that a shard can have.

    >>> message_bytes_max()
    23278
    """
    return value_bytes_max - HEAD_BYTES - 1 + PARTS_MAX * (value_bytes_max - HEAD_BYTES - PIN_BYTES)


def cut(message: bytes, nonce: bytes, value_bytes_max: int = VALUE_BYTES_WRITE_DEFAULT) -> tuple[bytes, ...]:
    """Return the values of a shard: that of the shard itself, then those of its further parts."""
    count = part_count(len(message), value_bytes_max)
    if not count:
        return (Whole(nonce, message).compose(),)
    first_bytes = value_bytes_max - HEAD_BYTES - 1 - count * PIN_BYTES
    step = value_bytes_max - HEAD_BYTES
    parts = [Part(nonce, message[at : at + step]).compose() for at in range(first_bytes, len(message), step)]
    return First(nonce, tuple(map(pin_of, parts)), message[:first_bytes]).compose(), *parts
