"""The content of the signer's zone as a value: RRsets, the difference between two contents, and serials.

Guarantees: nothing here changes a content that was passed in; two records with equal names in another case are one.
Does not know messages, files or keys. The SOA is part of a content only where the zone file or a client gave one.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from p2pdns.dns.message import RR, RRset, records_of
from p2pdns.dns.name import Name
from p2pdns.dns.registry import Type
from p2pdns.dns.zone import MICROSECONDS, Zone
from p2pdns.dns.zone.content import RRsets, canonical_rdata
from p2pdns.values import replace

SERIAL_MODULUS = 2**32
_SOA_SERIAL_AT = -20  # Serial, refresh, retry, expire and minimum are the last 20 bytes of the RDATA.

Content = Mapping[tuple[Name, int], RRset]


@dataclass(frozen=True)
class ZoneChange:
    """The records that a change takes out of a zone and puts into it; a new TTL is both."""

    removed: tuple[RR, ...] = ()
    added: tuple[RR, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.removed or self.added)


def identity_of(record: RR) -> tuple[Name, int, bytes]:
    """Return what makes a record the same record, whatever its TTL and its spelling."""
    return record.owner, record.rtype, canonical_rdata(record.rtype, record.rdata)


def difference(old: Content, new: Content) -> ZoneChange:
    """Return the change that makes the one content the other; a record whose TTL differs is removed and added."""
    before = {(*identity_of(record), record.ttl): record for record in records_of(old.values())}
    after = {(*identity_of(record), record.ttl): record for record in records_of(new.values())}
    removed = tuple(record for key, record in before.items() if key not in after)
    added = tuple(record for key, record in after.items() if key not in before)
    return ZoneChange(removed, added)


def changed(content: Content, change: ZoneChange) -> RRsets:
    """Return the content after a change; what it removes may be missing, and what it adds may be there already."""
    found = dict(content)
    for record in change.removed:
        remove(found, record)
    for record in change.added:
        add(found, record)
    return found


def add(rrsets: RRsets, record: RR) -> None:
    """Put a record into RRsets; all records of its RRset get its TTL (RFC 2181 §5.2)."""
    key = (record.owner, record.rtype)
    known = rrsets.get(key)
    # A zone has one SOA, so another one takes its place.
    others = () if known is None or record.rtype == Type.SOA else known.rdatas
    kept = [rdata for rdata in others if not _is_same(record, rdata)]
    owner = record.owner if known is None else known.owner
    rrsets[key] = RRset(owner, record.rtype, record.ttl, tuple(sorted([*kept, record.rdata])))


def remove(rrsets: RRsets, record: RR) -> None:
    """Take a record out of RRsets, if it is there."""
    key = (record.owner, record.rtype)
    known = rrsets.get(key)
    if known is None:
        return
    kept = tuple(rdata for rdata in known.rdatas if not _is_same(record, rdata))
    if kept:
        rrsets[key] = replace(known, rdatas=kept)
    else:
        del rrsets[key]


def _is_same(record: RR, rdata: bytes) -> bool:
    return canonical_rdata(record.rtype, rdata) == canonical_rdata(record.rtype, record.rdata)


def content_of(rrsets: Iterable[RRset]) -> RRsets:
    """Return RRsets as a content."""
    return {(rrset.owner, rrset.rtype): rrset for rrset in rrsets}


def is_newer(serial: int, than: int) -> bool:
    """Return whether one serial comes after another (RFC 1982 §3.2).

    >>> is_newer(1, 0), is_newer(0, 2**32 - 1), is_newer(0, 0)
    (True, True, False)
    """
    return 0 < (serial - than) % SERIAL_MODULUS < SERIAL_MODULUS // 2


def next_serial(serial: int, now: float) -> int:
    """Return the serial after one: the time where that is later, as readers' own SOAs have it; else one more."""
    by_clock = int(now) % SERIAL_MODULUS
    return by_clock if is_newer(by_clock, serial) else incremented(serial)


def incremented(serial: int) -> int:
    """Return one more. Zero means "no serial yet" to some servers, so it is left out, as BIND does.

    >>> incremented(7), incremented(2**32 - 1)
    (8, 1)
    """
    return (serial + 1) % SERIAL_MODULUS or 1


def serial_of(rdata: bytes) -> int:
    """Return the serial in the RDATA of an SOA."""
    return int(struct.unpack_from("!I", rdata, len(rdata) + _SOA_SERIAL_AT)[0])


def with_serial(rdata: bytes, serial: int) -> bytes:
    """Return the RDATA of an SOA with another serial."""
    at = len(rdata) + _SOA_SERIAL_AT
    return rdata[:at] + struct.pack("!I", serial) + rdata[at + 4 :]


def own_soa(content: Content, apex: Name) -> RR | None:
    """Return the SOA that a content has, None where its SOA is made."""
    rrset = content.get((apex, Type.SOA))
    return None if rrset is None else rrset.records()[0]


def soa_of(content: Content, apex: Name, serial: int) -> RR:
    """Return the SOA to show for a content: its own, or one made as readers of the zone make it, with this serial."""
    own = own_soa(content, apex)
    if own is not None:
        return replace(own, rdata=with_serial(own.rdata, serial))
    return Zone.of(apex, (), serial * MICROSECONDS).soa.records()[0]


def with_soa_serial(content: Content, apex: Name, serial: int) -> RRsets:
    """Return the content with this serial in its SOA, if it has one."""
    found = dict(content)
    own = own_soa(content, apex)
    if own is not None:
        found[apex, Type.SOA] = RRset(own.owner, Type.SOA, own.ttl, (with_serial(own.rdata, serial),))
    return found
