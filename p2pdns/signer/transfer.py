"""Transfers out (RFC 5936, 1995): the records of AXFR and IXFR, and their division into messages.

Guarantees: the first and the last record are the SOA of now; an IXFR that would be longer than the zone is the zone.
Does not know TSIG or sockets.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from p2pdns.dns.message import RR
from p2pdns.signer.content import serial_of
from p2pdns.signer.zone import SignedZone

# Messages of this size leave room for TSIG, and compress well: a pointer reaches 16 kB (RFC 5936 §2.2).
MESSAGE_RDATA_BYTES_MAX = 16_000
_RECORD_FIXED_BYTES = 10


def axfr(zone: SignedZone) -> list[RR]:
    """Return the records of a whole transfer."""
    soa = zone.soa
    return [soa, *zone.made_ns, *zone.records, soa]


def ixfr(zone: SignedZone, serial: int) -> list[RR]:
    """Return the records that bring a secondary from a serial to now: one SOA where it has all."""
    soa = zone.soa
    if serial == serial_of(soa.rdata):
        return [soa]
    whole = axfr(zone)
    steps = zone.steps_since(serial)
    if steps is None:
        return whole
    found = [soa]
    for step in steps:
        found += [step.before, *step.removed, step.after, *step.added]
    found.append(soa)
    return found if _size(found) < _size(whole) else whole


def _size(records: Iterable[RR]) -> int:
    return sum(len(record.owner.wire()) + _RECORD_FIXED_BYTES + len(record.rdata) for record in records)


def divided(records: Iterable[RR]) -> Iterator[list[RR]]:
    """Yield the records of each message of a transfer."""
    part: list[RR] = []
    size = 0
    for record in records:
        more = _size([record])
        if part and size + more > MESSAGE_RDATA_BYTES_MAX:
            yield part
            part, size = [], 0
        part.append(record)
        size += more
    yield part
