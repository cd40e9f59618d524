"""A whole zone in one item: the value of a pkarr signed packet.

The value is a DNS response without a question: id 0, flags 0x8000, every RR in the answer section, names compressed.
Guarantees: the same RRsets give the same bytes, in whatever order they come. A reader of a value composed here loses
no RR. A zone that does not fit is refused with its size and its largest RRsets. Does not know secret keys or the time.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from dataclasses import dataclass

from p2pdns.dns.labels import HEADER_BYTES, MESSAGE_BYTES_MAX
from p2pdns.dns.message import Message, RRset, records_of, type_text
from p2pdns.dns.message.wire import compose
from p2pdns.dns.name import Name
from p2pdns.dns.registry import COMMITMENT, DIRECTORY, Flag
from p2pdns.dns.zone import Zone
from p2pdns.errors import BadItem, FormatError, ZoneFileError
from p2pdns.items.item import VALUE_BYTES_WRITE_DEFAULT, VALUE_BYTES_WRITE_MAX, MutableItem
from p2pdns.values import replace

PACKET_ID = 0
PACKET_FLAGS = int(Flag.QR)  # A response that claims nothing else.
RR_FIXED_BYTES = 12  # Owner as a pointer (2), type, class, TTL and length of the RDATA (10).
LARGEST_SHOWN = 3  # RRsets named when a zone is too large.


@dataclass(frozen=True)
class PacketSize:
    """The size of a zone in an item, and its largest RRsets: owner relative to the apex, type, bytes."""

    size_bytes: int
    size_bytes_max: int
    largest: tuple[tuple[str, str, int], ...]

    @property
    def over_bytes(self) -> int:
        return max(0, self.size_bytes - self.size_bytes_max)


def zone_of(item: MutableItem) -> Zone:
    """Return the whole zone that an item holds; BadItem where its value is no DNS message, or a divided zone's head.

    A head alone would deny the names that are in shards; `items/shards` reads it.
    """
    if item.salt:
        raise BadItem("zone-with-salt", "a zone is the item of its key without a salt")
    zone = Zone.verified(item.key.apex, item.value, item.seq)
    if any(record.rtype == DIRECTORY for record in zone.made):
        raise BadItem("zone-divided", "the item is the head of a divided zone")
    return zone


def compose_packet(
    content: Zone | Iterable[RRset],
    apex: Name,
    *,
    made: Iterable[RRset] = (),
    size_bytes_max: int = VALUE_BYTES_WRITE_DEFAULT,
    path: str = "zone",
) -> bytes:
    """Return the value of an item with these RRsets; `made` are those that p2pdns alone makes, `path` is for errors."""
    made = list(made)
    ordered = _in_order([*_rrsets_of(content), *made])
    size = size_of(ordered, apex, size_bytes_max=size_bytes_max)
    if size.over_bytes:
        raise _too_large(size, path, made)
    value = _compose(ordered)
    # The rules of the reader decide, so that no RR is signed that readers would leave out.
    dropped = dict(Zone.verified(apex, value, 0).dropped)
    dropped.pop("duplicate", None)  # The reader keeps one of the two, so none is lost.
    if dropped:
        reasons = ", ".join(f"{count} × {reason}" for reason, count in sorted(dropped.items()))
        what = f"readers would leave out {sum(dropped.values())} RRs ({reasons})"
        raise ZoneFileError(what, path=path, hint="remove them; docs/spec.md lists what a zone may say")
    return value


def size_of(
    content: Zone | Iterable[RRset], apex: Name, *, size_bytes_max: int = VALUE_BYTES_WRITE_DEFAULT
) -> PacketSize:
    """Return how many bytes the RRsets take in an item, and the largest of them."""
    ordered = _in_order(content)
    shares = [_share_of(rrset) for rrset in ordered]
    ranking = sorted(zip(shares, ordered, strict=True), key=lambda share: -share[0])[:LARGEST_SHOWN]
    largest = tuple((rrset.owner.text_in(apex), type_text(rrset.rtype), share) for share, rrset in ranking)
    size_bytes = HEADER_BYTES + sum(shares)
    # More RRs than this do not fit into a message; for them the sum of sizes is near enough.
    if sum(len(rrset.rdatas) for rrset in ordered) * RR_FIXED_BYTES < MESSAGE_BYTES_MAX:
        with contextlib.suppress(FormatError):
            size_bytes = len(_compose(ordered))
    return PacketSize(size_bytes, size_bytes_max, largest)


def _share_of(rrset: RRset) -> int:
    return sum(RR_FIXED_BYTES + len(rdata) for rdata in rrset.rdatas)


def _rrsets_of(content: Zone | Iterable[RRset]) -> Iterable[RRset]:
    # `Zone.rrsets` is without a made SOA, so a made SOA is never published.
    return content.rrsets.values() if isinstance(content, Zone) else content


def _in_order(content: Zone | Iterable[RRset]) -> list[RRset]:
    """Return the RRsets in canonical order, their RDATA too, so that publishing a zone again gives the same value."""
    ordered = sorted(_rrsets_of(content), key=lambda rrset: (rrset.owner.canonical_key(), rrset.rtype))
    return [replace(rrset, rdatas=tuple(sorted(rrset.rdatas))) for rrset in ordered]


def _compose(ordered: list[RRset]) -> bytes:
    return compose(Message(PACKET_ID, PACKET_FLAGS, None, records_of(ordered), (), ()))


def _too_large(size: PacketSize, path: str, made: list[RRset]) -> ZoneFileError:
    listed = ", ".join(f"{owner} {rtype} ({count} bytes)" for owner, rtype, count in size.largest)
    hint = "shorten or remove RRs; names and addresses are cheap, long TXT and many targets are not"
    if size.size_bytes_max < size.size_bytes <= VALUE_BYTES_WRITE_MAX:
        hint += f"; up to {VALUE_BYTES_WRITE_MAX} bytes can be published on request"
    what = f"{size.over_bytes} bytes too large for one item: {size.size_bytes}, {size.size_bytes_max} allowed"
    if committed := [rrset for rrset in made if rrset.rtype == COMMITMENT]:
        # No line of the zone file says this record, so its author would look for it in vain.
        what += f", with {_share_of(committed[0])} of the commitment to the next key"
    return ZoneFileError(f"{what}; largest: {listed}", path=path, hint=hint)
