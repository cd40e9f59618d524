"""Sizes of names in messages, before these are composed.

Guarantees: an estimate is the size of the composed message, or above it by the names that RDATA share, as long as all
of it is within a pointer's reach (16 kB). Does not know directories or values.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from p2pdns.dns.labels import HEADER_BYTES
from p2pdns.dns.message import Message, RRset, records_of
from p2pdns.dns.message.rdata import COMPRESSIBLE, pieces_of
from p2pdns.dns.message.wire import compose
from p2pdns.dns.name import Name
from p2pdns.items.packet import PACKET_FLAGS, PACKET_ID
from p2pdns.values import replace

POINTER_BYTES = 2
FIXED_BYTES = 10  # Of an RR: type, class, TTL and length of the RDATA.
COMPOSED_BYTES_MAX = 60_000  # Below the 65,535 bytes of a message, and far above what any shard holds.
REACH_BYTES = 15_000  # Below the 16,383 bytes of a pointer's reach, so that an estimate holds.


def message_of(rrsets: Iterable[RRset]) -> bytes:
    """Return the message with these RRsets in canonical order: the same RRsets give the same bytes."""
    ordered = sorted(rrsets, key=lambda rrset: (rrset.owner.canonical_key(), rrset.rtype))
    return compose(Message(PACKET_ID, PACKET_FLAGS, None, records_of(map(_in_order, ordered)), (), ()))


def size_of_message(apex: Name, rrsets: Sequence[RRset]) -> int:
    """Return the size of the message with these RRsets, or an estimate of it where no message has so much room."""
    if not rrsets:
        return HEADER_BYTES
    sizes = [name_bytes(apex, rrset.owner, None, [rrset]) for rrset in rrsets]
    if sum(sizes) > COMPOSED_BYTES_MAX:
        return sum(sizes)
    return len(message_of(rrsets))


def _in_order(rrset: RRset) -> RRset:
    return replace(rrset, rdatas=tuple(sorted(rrset.rdatas)))


def base_bytes(owner: Name) -> int:
    """Return the bytes of a shard's message beside its names: the header, and the name that all of them end in."""
    return HEADER_BYTES + len(owner.wire())


def name_bytes(apex: Name, owner: Name, before: Name | None, rrsets: Sequence[RRset]) -> int:
    """Return the bytes that a name and its RRsets take behind the name before it in canonical order."""
    shared = len(apex.labels) if before is None else _shared_count(owner, before)
    fresh = owner.labels[: len(owner.labels) - shared]
    size = sum(len(label) + 1 for label in fresh)
    for rrset in rrsets:
        for rdata in rrset.rdatas:
            size += POINTER_BYTES + FIXED_BYTES + _rdata_bytes(apex, rrset.rtype, rdata)
    return size


def _shared_count(one: Name, other: Name) -> int:
    count = 0
    for mine, its in zip(one.canonical_key(), other.canonical_key(), strict=False):
        if mine != its:
            break
        count += 1
    return count


def _rdata_bytes(apex: Name, rtype: int, rdata: bytes) -> int:
    if rtype not in COMPRESSIBLE:
        return len(rdata)
    end = apex.wire()
    size = 0
    for is_name, raw in pieces_of(rtype, rdata):
        is_inside = is_name and raw.endswith(end)
        size += len(raw) - len(end) + POINTER_BYTES if is_inside else len(raw)
    return size
