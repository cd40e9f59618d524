"""Directories: the records of a head that say where the names below one name are.

Guarantees: a `Directory` that exists has as many pins as its shards or manifests need. RDATA becomes one only through
`parse`. Does not know the rest of the head, nor what is in a shard.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass

from p2pdns.dns.message import RRset
from p2pdns.dns.name import Name
from p2pdns.dns.registry import DIRECTORY
from p2pdns.errors import FormatError
from p2pdns.items.shards.pinned import PIN_BYTES, Pinned, SaltLetter

DIRECTORY_TTL = 300  # Seconds. Readers of ours do not use it; others may take the lowest TTL of a packet for its life.
VERSION = 1
BITS_MAX = 12  # 4,096 shards: with 0.9 kB each about 3.5 MB, and half of the items that a node keeps for one key.
DIRECT_BITS_MAX = 7  # 128 pins have 512 bytes, which leaves room in a head.
MANIFEST_PINS_MAX = 128  # A manifest then has 517 bytes, and 32 manifests pin all shards.
HAS_WILDCARD, HAS_OWN, BY_MANIFESTS = 1, 2, 4
_FLAGS = HAS_WILDCARD | HAS_OWN | BY_MANIFESTS
_HEAD = struct.Struct("!BBBI")


def manifest_count(bits: int) -> int:
    """Return how many manifests pin 2^bits shards.

    >>> [manifest_count(bits) for bits in (0, 7, 8, 12)]
    [1, 1, 2, 32]
    """
    return max(1, (1 << bits) // MANIFEST_PINS_MAX)


@dataclass(frozen=True, slots=True)
class Directory:
    """The division of the names below `owner` into 2^bits shards.

    `pins` are those of the shards, or of the manifests that pin them (`by_manifests`). `own_pin` is that of the shard
    with what the owner itself has beside the head, if there is one.
    """

    owner: Name
    bits: int
    epoch: int
    pins: tuple[bytes, ...]
    own_pin: bytes | None = None
    has_wildcard: bool = False
    by_manifests: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.bits <= BITS_MAX:
            raise FormatError("directory-bits", f"{self.bits}, {BITS_MAX} allowed")
        if not 0 <= self.epoch < 2**32:
            raise FormatError("directory-epoch", f"{self.epoch} does not fit four bytes")
        if not self.by_manifests and self.bits > DIRECT_BITS_MAX:
            raise FormatError("directory-pins", f"{1 << self.bits} pins do not fit a head")
        pins = self.pins if self.own_pin is None else (*self.pins, self.own_pin)
        if len(self.pins) != self.pin_count or any(len(pin) != PIN_BYTES for pin in pins):
            raise FormatError("directory-pins", f"{len(self.pins)}, {self.pin_count} expected")

    @classmethod
    def parse(cls, owner: Name, rdata: bytes) -> Directory:
        """Return the directory that a record's RDATA says; FormatError with the first rule that it breaks."""
        if rdata[:1] != bytes([VERSION]):
            raise FormatError("directory-version", f"version {VERSION} expected")
        if len(rdata) < _HEAD.size:
            raise FormatError("directory-pins", f"{len(rdata)} bytes")
        _, bits, flags, epoch = _HEAD.unpack_from(rdata)
        if flags & ~_FLAGS:
            raise FormatError("directory-flags", f"{flags:#04x}")
        if (len(rdata) - _HEAD.size) % PIN_BYTES:
            raise FormatError("directory-pins", f"{len(rdata)} bytes")
        pins = cut_pins(rdata[_HEAD.size :])
        own_pin = None
        if flags & HAS_OWN:
            if not pins:
                raise FormatError("directory-pins", "none")
            own_pin, *pins = pins
        has_wildcard, by_manifests = bool(flags & HAS_WILDCARD), bool(flags & BY_MANIFESTS)
        return cls(owner, bits, epoch, tuple(pins), own_pin, has_wildcard, by_manifests)

    def compose(self) -> bytes:
        """Return the RDATA."""
        flags = HAS_WILDCARD * self.has_wildcard | HAS_OWN * (self.own_pin is not None)
        flags |= BY_MANIFESTS * self.by_manifests
        return _HEAD.pack(VERSION, self.bits, flags, self.epoch) + (self.own_pin or b"") + b"".join(self.pins)

    @property
    def rrset(self) -> RRset:
        return RRset(self.owner, DIRECTORY, DIRECTORY_TTL, (self.compose(),))

    @property
    def shard_count(self) -> int:
        return 1 << self.bits

    @property
    def pin_count(self) -> int:
        return manifest_count(self.bits) if self.by_manifests else self.shard_count

    def cell_of(self, name: Name) -> bytes:
        """Return the folded label right below the owner that leads to a name below it."""
        return name.labels[len(name.labels) - len(self.owner.labels) - 1].lower()

    def index_of(self, cell: bytes) -> int:
        """Return the index of the shard that a cell is in."""
        return index_of(self.owner, self.epoch, self.bits, cell)

    @property
    def own(self) -> Pinned | None:
        """What is pinned as the owner's own shard."""
        if self.own_pin is None:
            return None
        return Pinned(SaltLetter.OWN, self.owner, self.epoch, self.bits, self.own_pin)

    def manifest(self, index: int) -> Pinned:
        """Return what is pinned as the manifest for the shard with an index."""
        number = index // MANIFEST_PINS_MAX
        return Pinned(SaltLetter.MANIFEST, self.owner, self.epoch, self.bits, self.pins[number], number)

    def shard(self, index: int, manifest: tuple[bytes, ...] | None = None) -> Pinned:
        """Return what is pinned as the shard with an index, by the directory or by these pins of its manifest."""
        assert (manifest is not None) == self.by_manifests, "pins come from the place that the directory names"
        pin = self.pins[index] if manifest is None else manifest[index % MANIFEST_PINS_MAX]
        return Pinned(SaltLetter.SHARD, self.owner, self.epoch, self.bits, pin, index)


def index_of(owner: Name, epoch: int, bits: int, cell: bytes) -> int:
    """Return the index of the shard of a cell: the first bits of a hash that differs with each epoch.

    Without the epoch, somebody who may add names could make names for one shard once, and use them for ever.
    """
    digest = hashlib.sha256(owner.folded().wire() + epoch.to_bytes(4) + cell).digest()
    return int.from_bytes(digest[:2]) >> (16 - bits)


def cut_pins(data: bytes) -> list[bytes]:
    """Return the pins in bytes whose length is a multiple of a pin's."""
    return [data[at : at + PIN_BYTES] for at in range(0, len(data), PIN_BYTES)]
