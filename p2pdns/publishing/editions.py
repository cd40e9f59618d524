"""Editions of zones of any size: what is to be published, before it is signed, and what a found item begins.

Guarantees: a zone that fits one item is the value of that item; a larger one is refused here if readers would leave out
any of its records. Does not know where items are.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

from p2pdns.dns.labels import HEADER_BYTES
from p2pdns.dns.message import RRset
from p2pdns.dns.name import Name
from p2pdns.dns.registry import DIRECTORY
from p2pdns.dns.zone import Zone
from p2pdns.errors import BadItem, StrangerError, ZoneFileError
from p2pdns.items.dividing import ENTROPY_BYTES, ITEMS_MAX, Division, divide
from p2pdns.items.dividing.sizes import FIXED_BYTES
from p2pdns.items.item import VALUE_BYTES_WRITE_DEFAULT, MutableItem
from p2pdns.items.keys import ZoneKey
from p2pdns.items.packet import compose_packet, size_of, zone_of
from p2pdns.values import replace

# Names of a half of a value, and a quarter of the items that a zone may have: a zone that is smaller can be divided.
SMALL_BYTES_MAX = VALUE_BYTES_WRITE_DEFAULT // 2
SMALL_ZONE_BYTES_MAX = ITEMS_MAX // 4 * VALUE_BYTES_WRITE_DEFAULT

# The type of a directory as it stands in a message. A value without these bytes is no head of a divided zone.
_DIRECTORY = DIRECTORY.to_bytes(2)


@dataclass(frozen=True)
class LargeZone:
    """The content of a zone that does not fit one item: its RRsets in canonical order.

    `made` are records that p2pdns alone makes, as its publisher knew them; a publication carries those of the zone.
    """

    rrsets: tuple[RRset, ...]
    made: tuple[RRset, ...] = ()

    def zone(self, apex: Name) -> Zone:
        """Return the zone; its SOA is made of no item."""
        known: Zone | None = self.__dict__.get("_zone")
        if known is None or known.apex != apex:
            known = Zone.of(apex, self.rrsets, 0)
            # It is asked for some times, and takes a fifth of a second for ten thousand names.
            self.__dict__["_zone"] = known
        return known


Draft: TypeAlias = bytes | LargeZone
"""A zone before it is signed: the value of its only item, or a content that is to be divided."""


_RRSET = struct.Struct("!?HIH")  # Whether p2pdns makes it, type, TTL, count of RDATA.
_SIZE = struct.Struct("!H")
_VALUE, _RRSETS = b"\x00", b"\x01"


def compose_draft(draft: Draft) -> bytes:
    """Return a draft as bytes for a file."""
    if isinstance(draft, bytes):
        return _VALUE + draft
    parts = [_RRSETS]
    for is_made, rrsets in ((False, draft.rrsets), (True, draft.made)):
        for one in rrsets:
            parts += [one.owner.wire(), _RRSET.pack(is_made, one.rtype, one.ttl, len(one.rdatas))]
            parts += [_SIZE.pack(len(rdata)) + rdata for rdata in one.rdatas]
    return b"".join(parts)


def parse_draft(data: bytes) -> Draft:
    """Return the draft that was composed; BadItem for any other bytes."""
    kind, at = data[:1], 1
    if kind == _VALUE:
        return data[1:]
    found: dict[bool, list[RRset]] = {False: [], True: []}
    try:
        while kind == _RRSETS and at < len(data):
            owner, at = Name.parse(data, at)
            is_made, rtype, ttl, count = _RRSET.unpack_from(data, at)
            at += _RRSET.size
            rdatas = []
            for _ in range(count):
                (size,) = _SIZE.unpack_from(data, at)
                rdatas.append(data[at + _SIZE.size : at + _SIZE.size + size])
                at += _SIZE.size + size
            found[is_made].append(RRset(owner, rtype, ttl, tuple(rdatas)))
    except (struct.error, IndexError, StrangerError):
        at = -1
    if kind != _RRSETS or at != len(data):
        raise BadItem("draft-damaged", "no draft of a zone")
    return LargeZone(tuple(found[False]), tuple(found[True]))


def draft_of(
    rrsets: Iterable[RRset],
    apex: Name,
    *,
    made: Iterable[RRset] = (),
    size_bytes_max: int = VALUE_BYTES_WRITE_DEFAULT,
    path: str = "zone",
) -> Draft:
    """Return a content as it is to be published; ZoneFileError where readers would leave out some of it.

    `made` are the records that p2pdns alone makes, but for directories.
    """
    own, beside = list(rrsets), list(made)
    size = size_of([*own, *beside], apex, size_bytes_max=size_bytes_max)
    # Less room than usual is a wish for a small item, and no reason to divide a small zone.
    if not size.over_bytes or size.size_bytes <= VALUE_BYTES_WRITE_DEFAULT:
        return compose_packet(own, apex, made=beside, size_bytes_max=size_bytes_max, path=path)
    ordered = sorted(own, key=lambda rrset: (rrset.owner.canonical_key(), rrset.rtype))
    large = LargeZone(tuple(replace(one, rdatas=tuple(sorted(one.rdatas))) for one in ordered), tuple(beside))
    dropped = {reason: count for reason, count in large.zone(apex).dropped.items() if reason != "duplicate"}
    if dropped:
        reasons = ", ".join(f"{count} × {reason}" for reason, count in sorted(dropped.items()))
        what = f"readers would leave out {sum(dropped.values())} RRs ({reasons})"
        raise ZoneFileError(what, path=path, hint="remove them; docs/spec.md lists what a zone may say")
    return large


@dataclass(frozen=True)
class DividedItem:
    """A head that was found, with all that it pins."""

    item: MutableItem
    division: Division

    @property
    def key(self) -> ZoneKey:
        return self.item.key

    @property
    def seq(self) -> int:
        return self.item.seq

    @property
    def value(self) -> bytes:
        return self.item.value

    @cached_property
    def zone(self) -> Zone:
        """The whole zone."""
        return self.division.zone(self.seq)


Found: TypeAlias = MutableItem | DividedItem
"""An edition that was found: the only item of a zone, or a head with all that it pins."""


@dataclass(frozen=True)
class Extent:
    """How many items a zone takes, how many bytes these have, and the names that take items of their own."""

    item_count: int
    size_bytes: int
    large: tuple[tuple[str, int], ...] = ()


def extent_of(
    draft: Draft, apex: Name, *, made: Iterable[RRset] = (), size_bytes_max: int, path: str = "zone"
) -> Extent:
    """Return how much room a draft takes; ZoneFileError with the numbers where it cannot be divided.

    A division that goes on from another one may take some items more or less.
    """
    if isinstance(draft, bytes):
        return Extent(1, len(draft))
    zone, value_bytes_max = draft.zone(apex), max(size_bytes_max, VALUE_BYTES_WRITE_DEFAULT)
    division = divide(
        zone, entropy=bytes(ENTROPY_BYTES), unix_now=0, made=made, value_bytes_max=value_bytes_max, path=path
    )
    return Extent(division.item_count, division.size_bytes, _large_names(draft, apex, value_bytes_max))


def is_of_small_names(draft: Draft, apex: Name) -> bool:
    """Return whether a draft is far from all that keeps a zone from being divided.

    What is right below the apex, with all below it, is small then, and all of the zone needs few of the items that are
    allowed. Most zones are such.
    """
    if isinstance(draft, bytes):
        return True
    cells: Counter[bytes] = Counter()
    for rrset in draft.rrsets:
        labels = rrset.owner.relative_to(apex)
        size = sum(len(rrset.owner.wire()) + FIXED_BYTES + len(rdata) for rdata in rrset.rdatas)
        cells[labels[-1].lower() if labels else b""] += size
    return max(cells.values(), default=0) <= SMALL_BYTES_MAX and cells.total() <= SMALL_ZONE_BYTES_MAX


def _large_names(draft: LargeZone, apex: Name, value_bytes_max: int) -> tuple[tuple[str, int], ...]:
    """Return the names that have more than one value holds, with their bytes, the largest first."""
    # Composing is slow, and most names are far too small. No RR is larger in a message than uncompressed.
    most: Counter[Name] = Counter()
    for rrset in draft.rrsets:
        most[rrset.owner] += sum(len(rrset.owner.wire()) + FIXED_BYTES + len(rdata) for rdata in rrset.rdatas)
    sizes: Counter[str] = Counter()
    for rrset in draft.rrsets:
        if most[rrset.owner] > value_bytes_max:
            sizes[rrset.owner.text_in(apex)] += size_of([rrset], apex).size_bytes - HEADER_BYTES
    return tuple((name, size) for name, size in sizes.most_common() if size > value_bytes_max)


def is_head(value: bytes) -> bool:
    """Return whether a value may be the head of a divided zone; where not, the item is the whole zone."""
    return _DIRECTORY in value


def zone_in(found: Found) -> Zone:
    """Return the zone of an edition; BadItem where its value is no DNS message."""
    return found.zone if isinstance(found, DividedItem) else zone_of(found)


def zone_of_draft(draft: Draft, apex: Name) -> Zone:
    """Return the zone of a draft; BadItem where its value is no DNS message."""
    return draft.zone(apex) if isinstance(draft, LargeZone) else Zone.verified(apex, draft, 0)


def item_of(found: Found) -> MutableItem:
    """Return the item of an edition that has no salt."""
    return found.item if isinstance(found, DividedItem) else found
