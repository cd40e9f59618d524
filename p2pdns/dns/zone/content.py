"""The rules by which records of a stranger become the RRsets of a zone.

Guarantees: total and deterministic. The order of the records has no influence, and every record that is left out is
counted by reason. docs/spec.md has the same rules as a table, tests/vectors/zones.json has a vector for each.
Does not know: questions, signatures, the origin of the records.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from p2pdns.dns.message import RR, RRset
from p2pdns.dns.message.rdata import NAME_TYPES, rewrite_wires, svcb_params
from p2pdns.dns.name import Name
from p2pdns.dns.registry import Class, Type
from p2pdns.errors import FormatError

TTL_MAX = 0x7FFFFFFF  # RFC 2181 §8; a larger one counts as 0.

DNSSEC_TYPES = frozenset([Type.RRSIG, Type.NSEC, Type.NSEC3, Type.NSEC3PARAM, Type.DNSKEY, Type.DS])
SINGLETONS = {Type.CNAME: "second-cname", Type.SOA: "second-soa", Type.DNAME: "second-dname"}

RRsets = dict[tuple[Name, int], RRset]
Nodes = dict[Name, dict[int, RRset]]


def is_meta_type(rtype: int) -> bool:
    """Return whether a type is for messages and not for zones (RFC 6895 §3.1): 0, OPT, and 128 to 255."""
    return rtype in (0, Type.OPT) or 128 <= rtype <= 255


def refusal_of(apex: Name, record: RR) -> str | None:
    """Return why a record cannot be part of the zone, whatever stands beside it; None when it can."""
    if record.rclass != Class.IN:
        return "class"
    if not record.owner.is_at_or_below(apex):
        return "foreign-owner"
    if is_meta_type(record.rtype):
        return "meta-type"
    # The signature of the item covers the whole zone, and no reader checks DNSSEC records inside it.
    if record.rtype in DNSSEC_TYPES:
        return "dnssec-type"
    if record.rtype == Type.SOA and record.owner != apex:
        return "soa-below-apex"
    # RFC 4592 §4.2 leaves a delegation at a wildcard undefined.
    if record.rtype == Type.NS and record.owner.is_wildcard:
        return "wildcard-ns"
    if record.rtype in (Type.SVCB, Type.HTTPS):
        try:
            svcb_params(record.rdata)
        except FormatError as error:
            return error.reason
    return None


def canonical_rdata(rtype: int, rdata: bytes) -> bytes:
    """Return RDATA with its names in lower case: the form in which RDATA is compared (RFC 4034 §6.2)."""
    # No length of a label is a letter, so names fold as bytes.
    return rewrite_wires(rtype, rdata, bytes.lower)


def select(apex: Name, records: Iterable[RR], dropped: Counter[str]) -> RRsets:
    """Return the RRsets of a zone in canonical order; `dropped` counts the records that are left out, by reason."""
    groups: dict[tuple[tuple[bytes, ...], int], list[RR]] = {}
    for record in records:
        reason = refusal_of(apex, record)
        if reason is not None:
            dropped[reason] += 1
            continue
        groups.setdefault((record.owner.canonical_key(), record.rtype), []).append(record)
    nodes: Nodes = {}
    for key in sorted(groups):
        rrset = _rrset_of(groups[key], dropped)
        nodes.setdefault(rrset.owner, {})[rrset.rtype] = rrset
    return _visible(apex, nodes, dropped)


def _rrset_of(group: list[RR], dropped: Counter[str]) -> RRset:
    owner = group[0].owner if len(group) == 1 else min(group, key=lambda record: record.owner.labels).owner
    rtype = group[0].rtype
    ttl = min(record.ttl if record.ttl <= TTL_MAX else 0 for record in group)
    if len(group) == 1 and rtype not in NAME_TYPES:
        # Most RRsets are such, and neither order nor case matters for them.
        return RRset(owner, rtype, ttl, (group[0].rdata,))
    distinct: dict[bytes, bytes] = {}
    for canonical, rdata in sorted((canonical_rdata(rtype, record.rdata), record.rdata) for record in group):
        distinct.setdefault(canonical, rdata)
    if len(distinct) < len(group):
        dropped["duplicate"] += len(group) - len(distinct)
    rdatas = tuple(distinct.values())
    if rtype in SINGLETONS and len(rdatas) > 1:
        dropped[SINGLETONS[Type(rtype)]] += len(rdatas) - 1
        rdatas = rdatas[:1]
    return RRset(owner, rtype, ttl, rdatas)


def _visible(apex: Name, nodes: Nodes, dropped: Counter[str]) -> RRsets:
    """Return the RRsets that are not hidden by a CNAME beside them, or by a zone cut or DNAME above them."""
    visible: RRsets = {}
    # In canonical order all names below a name follow it directly, so one blocker at a time is enough.
    blocker: Name | None = None
    for owner, rrsets in nodes.items():
        if blocker is not None and owner.is_at_or_below(blocker):
            dropped["occluded"] += _record_count(rrsets)
            continue
        kept = rrsets
        if Type.CNAME in rrsets:
            kept = {Type.CNAME: rrsets[Type.CNAME]}
            reason = "beside-cname"
        elif Type.NS in rrsets and owner != apex:
            kept = {Type.NS: rrsets[Type.NS]}
            reason = "occluded"
        if len(kept) < len(rrsets):
            dropped[reason] += _record_count(rrsets) - _record_count(kept)
        if Type.DNAME in kept or (Type.NS in kept and owner != apex):
            blocker = owner
        for rtype, rrset in kept.items():
            visible[owner, rtype] = rrset
    return visible


def _record_count(rrsets: Mapping[int, RRset]) -> int:
    return sum(len(rrset.rdatas) for rrset in rrsets.values())
