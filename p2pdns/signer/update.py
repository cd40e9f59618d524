"""The rules of RFC 2136 §3: a content and the sections of an UPDATE give a new content, or an rcode with a reason.

Guarantees: pure; an UPDATE is applied whole or not at all; its records are judged in their order. TYPE65310 and
TYPE65311 are refused, as are records that no zone of ours can have. Does not know messages, TSIG, or what fits in an
item.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from p2pdns.dns.life import sane_ttl
from p2pdns.dns.message import RR, records_of, type_text
from p2pdns.dns.name import Name
from p2pdns.dns.registry import OURS_ALONE, Class, Rcode, Type
from p2pdns.dns.zone.content import RRsets, canonical_rdata, is_meta_type, refusal_of, select
from p2pdns.signer.content import Content, add, identity_of, is_newer, own_soa, remove, serial_of
from p2pdns.values import replace

# One item has room for some eighty records; a client that sends more than this has mistaken the zone.
UPDATE_RECORDS_MAX = 1_000
_NOT_ADDED = (Type.ANY, Type.AXFR, Type.IXFR, Type.MAILA, Type.MAILB)


class UpdateRefused(Exception):
    """An UPDATE that is not applied: the rcode, and the reason in words."""

    def __init__(self, rcode: int, reason: str) -> None:
        super().__init__(reason)
        self.rcode = rcode
        self.reason = reason


@dataclass(frozen=True)
class Update:
    """The two sections of an UPDATE, names moved to the apex of the zone; empty RDATA is b""."""

    prerequisites: Sequence[RR]
    records: Sequence[RR]


def updated(content: Content, apex: Name, update: Update) -> RRsets:
    """Return the content after an UPDATE; UpdateRefused with the first reason against it."""
    count = len(update.prerequisites) + len(update.records)
    if count > UPDATE_RECORDS_MAX:
        raise UpdateRefused(Rcode.REFUSED, f"{count} records in one UPDATE, {UPDATE_RECORDS_MAX} allowed")
    _check_prerequisites(content, apex, update.prerequisites)
    _scan(apex, update.records)
    found = dict(content)
    for record in update.records:
        _apply(found, apex, record)
    _refuse_unkept(found, apex)
    return found


def _check_prerequisites(content: Content, apex: Name, prerequisites: Sequence[RR]) -> None:
    """Check the prerequisite section (RFC 2136 §3.2.5)."""
    owners = {owner for owner, _ in content} | {apex}
    wanted: dict[tuple[Name, int], set[bytes]] = {}
    for record in prerequisites:
        if record.ttl != 0:
            raise UpdateRefused(Rcode.FORMERR, "a prerequisite with a TTL")
        if not record.owner.is_at_or_below(apex):
            raise UpdateRefused(Rcode.NOTZONE, f"the prerequisite {record.owner} is outside the zone")
        rtype, name = record.rtype, f"{record.owner} {type_text(record.rtype)}"
        if record.rclass in (Class.ANY, Class.NONE):
            if record.rdata:
                raise UpdateRefused(Rcode.FORMERR, "a prerequisite of class ANY or NONE with RDATA")
            is_there = record.owner in owners if rtype == Type.ANY else (record.owner, rtype) in content
            if rtype == Type.SOA and record.owner == apex:
                is_there = True  # The SOA of a zone is always there, if only a made one.
            if record.rclass == Class.ANY and not is_there:
                absent = Rcode.NXDOMAIN if rtype == Type.ANY else Rcode.NXRRSET
                raise UpdateRefused(absent, f"{name} is not there, as the prerequisite says")
            if record.rclass == Class.NONE and is_there:
                present = Rcode.YXDOMAIN if rtype == Type.ANY else Rcode.YXRRSET
                raise UpdateRefused(present, f"{name} is there, against the prerequisite")
        elif record.rclass == Class.IN:
            wanted.setdefault((record.owner, rtype), set()).add(canonical_rdata(rtype, record.rdata))
        else:
            raise UpdateRefused(Rcode.FORMERR, f"a prerequisite of class {record.rclass}")
    for (owner, rtype), rdatas in wanted.items():
        rrset = content.get((owner, rtype))
        if rrset is None or {canonical_rdata(rtype, rdata) for rdata in rrset.rdatas} != rdatas:
            raise UpdateRefused(Rcode.NXRRSET, f"{owner} {type_text(rtype)} has other data than the prerequisite")


def _scan(apex: Name, records: Sequence[RR]) -> None:
    """Check the form of the update section before anything of it is applied (RFC 2136 §3.4.1.3)."""
    for record in records:
        rtype, kind = record.rtype, type_text(record.rtype)
        if not record.owner.is_at_or_below(apex):
            raise UpdateRefused(Rcode.NOTZONE, f"{record.owner} is outside the zone")
        if record.rclass not in (Class.IN, Class.ANY, Class.NONE):
            raise UpdateRefused(Rcode.FORMERR, f"a record of class {record.rclass}")
        if rtype in _NOT_ADDED and not (record.rclass == Class.ANY and rtype == Type.ANY):
            raise UpdateRefused(Rcode.FORMERR, f"{kind} is a type of questions")
        if record.rclass != Class.IN and record.ttl != 0:
            raise UpdateRefused(Rcode.FORMERR, "a removal with a TTL")
        if record.rclass == Class.ANY and record.rdata:
            raise UpdateRefused(Rcode.FORMERR, "a removal of an RRset with RDATA")
        if is_meta_type(rtype) and rtype != Type.ANY:
            raise UpdateRefused(Rcode.FORMERR, f"{kind} belongs to messages, not to zones")
        if rtype in OURS_ALONE:
            raise UpdateRefused(Rcode.REFUSED, f"{kind} is made by p2pdns alone")
        if record.rclass == Class.IN and (reason := refusal_of(apex, record)) is not None:
            raise UpdateRefused(Rcode.REFUSED, f"{record.owner} {kind}: no zone here can have it ({reason})")


def _apply(rrsets: RRsets, apex: Name, record: RR) -> None:
    """Apply one record of the update section (RFC 2136 §3.4.2)."""
    if record.rclass == Class.IN:
        _add(rrsets, apex, record)
        return
    is_apex = record.owner == apex
    if record.rclass == Class.ANY:
        for owner, rtype in list(rrsets):
            # §3.4.2.3: SOA and NS of the apex are removed by nothing that names no data.
            is_kept = is_apex and rtype in (Type.SOA, Type.NS)
            if owner == record.owner and record.rtype in (Type.ANY, rtype) and not is_kept:
                del rrsets[owner, rtype]
        return
    if record.rtype == Type.SOA:
        return
    # §3.4.2.4: the last NS of the apex stays.
    if is_apex and record.rtype == Type.NS and len(_rdatas(rrsets, apex, Type.NS)) == 1:
        return
    remove(rrsets, record)


def _rdatas(rrsets: Content, owner: Name, rtype: int) -> tuple[bytes, ...]:
    rrset = rrsets.get((owner, rtype))
    return () if rrset is None else rrset.rdatas


def _add(rrsets: RRsets, apex: Name, record: RR) -> None:
    """Add one record, or leave it out where §3.4.2.2 ignores it."""
    types = {rtype for owner, rtype in rrsets if owner == record.owner}
    # The apex has an SOA, if only a made one.
    if record.rtype == Type.CNAME and (types - {Type.CNAME} or record.owner == apex):
        return
    if record.rtype != Type.CNAME and Type.CNAME in types:
        return
    if record.rtype == Type.SOA:
        own = own_soa(rrsets, apex)
        if own is not None and not is_newer(serial_of(record.rdata), serial_of(own.rdata)):
            return
    if record.rtype in (Type.CNAME, Type.SOA, Type.DNAME):
        rrsets.pop((record.owner, record.rtype), None)
    add(rrsets, replace(record, ttl=sane_ttl(record.ttl)))


def _refuse_unkept(rrsets: RRsets, apex: Name) -> None:
    """Refuse a content of which readers would leave something out: records beside a delegation or below a DNAME."""
    dropped: Counter[str] = Counter()
    kept = {identity_of(record) for record in records_of(select(apex, records_of(rrsets.values()), dropped).values())}
    for record in records_of(rrsets.values()):
        if identity_of(record) not in kept:
            what = f"{record.owner} {type_text(record.rtype)} would be left out by every reader"
            raise UpdateRefused(Rcode.REFUSED, f"{what} ({', '.join(sorted(dropped))})")
