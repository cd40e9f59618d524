"""Pins and salts: which items of a key belong to one edition of a divided zone.

Guarantees: a `Pinned` accepts values with its pin alone, and its salt says place, epoch and pin, so that an item that
was signed for another place, division or edition is never found in its stead. Does not know the content of values.
"""

from __future__ import annotations

import hashlib
from enum import Enum

from p2pdns.dns.name import Name
from p2pdns.errors import BadItem
from p2pdns.items.item import mutable_target
from p2pdns.items.keys import ZoneKey

# A pin chooses among editions that the key has signed for one place, and their last bytes are random: four suffice.
PIN_BYTES = 4
SALT_DIGEST_BYTES = 15  # Behind a letter; a look-up of 16 bytes more is no larger datagram in practice.


class SaltLetter(Enum):
    """What a salted item is: the first letter of its salt."""

    MANIFEST = b"m"
    SHARD = b"s"
    OWN = b"a"  # What the owner of a directory has itself, beside the head.
    PART = b"p"  # A further part of a shard.
    OWN_PART = b"b"


PART_OF = {SaltLetter.SHARD: SaltLetter.PART, SaltLetter.OWN: SaltLetter.OWN_PART}
_WORDS = {SaltLetter.MANIFEST: "manifest", SaltLetter.SHARD: "shard", SaltLetter.OWN: "own shard"}
_WORDS |= {SaltLetter.PART: "shard", SaltLetter.OWN_PART: "own shard"}


def pin_of(value: bytes) -> bytes:
    """Return the pin of a value."""
    return hashlib.sha256(value).digest()[:PIN_BYTES]


class Pinned:
    """One salted item that a head, a manifest or a shard pins; equal if letter, directory and pin are.

    `owner` is that of the directory; `number` counts the further parts of a shard from 1, and `of` is that shard.
    """

    # Slots: a reader keeps one for each of some hundred shards.
    __slots__ = ("bits", "epoch", "index", "letter", "number", "of", "owner", "pin", "salt")

    salt: bytes  # 16 bytes.

    def __init__(
        self,
        letter: SaltLetter,
        owner: Name,
        epoch: int,
        bits: int,
        pin: bytes,
        index: int = 0,
        *,
        number: int = 0,
        of: Pinned | None = None,
    ) -> None:
        self.letter = letter
        self.owner = owner
        self.epoch = epoch
        self.bits = bits
        self.pin = pin
        self.index = index
        self.number = number
        self.of = of
        self.salt = self._salt()

    def part(self, number: int, pin: bytes) -> Pinned:
        """Return the further part of this shard that has a number and a pin."""
        letter = PART_OF[self.letter]
        return Pinned(letter, self.owner, self.epoch, self.bits, pin, self.index, number=number, of=self)

    def _salt(self) -> bytes:
        where = self.epoch.to_bytes(4) + bytes([self.bits]) + self.index.to_bytes(2) + bytes([self.number])
        digest = hashlib.sha256(self.owner.folded().wire() + where + self.pin).digest()
        return self.letter.value + digest[:SALT_DIGEST_BYTES]

    def target(self, key: ZoneKey) -> bytes:
        """Return the target of the item of a key."""
        return mutable_target(key.raw, self.salt)

    def check(self, value: bytes) -> None:
        """Raise BadItem `pin-wrong` for any value but the pinned one."""
        if pin_of(value) != self.pin:
            raise BadItem("pin-wrong", f"a value of {self}")

    def __eq__(self, other: object) -> bool:
        return self.salt == other.salt if isinstance(other, Pinned) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.salt)

    def __str__(self) -> str:
        """Return the item in words for an error: `shard 5 of 8 of a.example.`."""
        count = f" {self.index + 1} of {1 << self.bits}" if self.letter in (SaltLetter.SHARD, SaltLetter.PART) else ""
        count = f" {self.index + 1}" if self.letter is SaltLetter.MANIFEST else count
        part = f"part {self.number} of " if self.number else ""
        return f"{part}{_WORDS[self.letter]}{count} of {self.owner}"

    def __repr__(self) -> str:
        return f"<Pinned {self}>"
