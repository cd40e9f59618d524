"""What an item may say: the rules that turn records made by a stranger into the RRsets of a zone.

Guarantees: total and deterministic; the order in which the records came has no influence; whatever is left out is
counted by reason. docs/spec.md has the same rules as a table, tests/vectors/zones.json has a vector for each.
Does not know: questions, signatures, where the records came from.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from p2pdns.dns.message import RR, RRset
from p2pdns.dns.message.rdata import rewrite_names, svcb_params
from p2pdns.dns.name import Name
from p2pdns.dns.registry import Class, Type
from p2pdns.errors import FormatError

TTL_MAX = 0x7FFFFFFF  # RFC 2181 §8; what is larger counts as 0.

DNSSEC_TYPES = frozenset([Type.RRSIG, Type.NSEC, Type.NSEC3, Type.NSEC3PARAM, Type.DNSKEY, Type.DS])
SINGLETONS = {Type.CNAME: "second-cname", Type.SOA: "second-soa", Type.DNAME: "second-dname"}

RRsets = dict[tuple[Name, int], RRset]
Nodes = dict[Name, dict[int, RRset]]


@dataclass
class Counter:
    """How many records were left out, by reason."""

    counts: dict[str, int]

    def add(self, reason: str, count: int = 1) -> None:
        """Count records that were left out."""
        self.counts[reason] = self.counts.get(reason, 0) + count


def is_meta_type(rtype: int) -> bool:
    """Return whether a type belongs to messages and not to zones (RFC 6895 §3.1): 0, OPT, and 128 to 255."""
    return rtype in (0, Type.OPT) or 128 <= rtype <= 255


def refusal_of(apex: Name, record: RR) -> str | None:
    """Return why a record cannot be part of the zone, whatever stands beside it; None when it can."""
    if record.rclass != Class.IN:
        return "class"
    if not record.owner.is_at_or_below(apex):
        return "foreign-owner"
    if is_meta_type(record.rtype):
        return "meta-type"
    # The signature of the item covers everything; DNSSEC records inside it would promise what nobody checks.
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
    """Return what RDATA compares by: names in it in lower case (RFC 4034 §6.2)."""
    return rewrite_names(rtype, rdata, Name.folded)


def select(apex: Name, records: Iterable[RR], dropped: dict[str, int]) -> RRsets:
    """Return the RRsets that records make, in canonical order; what is left out is counted in `dropped`."""
    counter = Counter(dropped)
    groups: dict[tuple[tuple[bytes, ...], int], list[RR]] = {}
    for record in records:
        reason = refusal_of(apex, record)
        if reason is not None:
            counter.add(reason)
            continue
        groups.setdefault((record.owner.canonical_key(), record.rtype), []).append(record)
    nodes: Nodes = {}
    for key in sorted(groups):
        rrset = _rrset_of(groups[key], counter)
        nodes.setdefault(rrset.owner, {})[rrset.rtype] = rrset
    return _visible(apex, nodes, counter)


def _rrset_of(group: list[RR], counter: Counter) -> RRset:
    owner = min(group, key=lambda record: record.owner.labels).owner
    rtype = group[0].rtype
    ttl = min(record.ttl if record.ttl <= TTL_MAX else 0 for record in group)
    distinct: dict[bytes, bytes] = {}
    for canonical, rdata in sorted((canonical_rdata(rtype, record.rdata), record.rdata) for record in group):
        distinct.setdefault(canonical, rdata)
    if len(distinct) < len(group):
        counter.add("duplicate", len(group) - len(distinct))
    rdatas = tuple(distinct.values())
    if rtype in SINGLETONS and len(rdatas) > 1:
        counter.add(SINGLETONS[Type(rtype)], len(rdatas) - 1)
        rdatas = rdatas[:1]
    return RRset(owner, rtype, ttl, rdatas)


def _visible(apex: Name, nodes: Nodes, counter: Counter) -> RRsets:
    """Return what is left when CNAMEs win over data, and cuts and DNAMEs hide what is below them."""
    visible: RRsets = {}
    # Canonical order puts everything below a name directly behind it, so one blocker at a time is enough.
    blocker: Name | None = None
    for owner, rrsets in nodes.items():
        if blocker is not None and owner.is_at_or_below(blocker):
            counter.add("occluded", _record_count(rrsets))
            continue
        kept = rrsets
        if Type.CNAME in rrsets:
            kept = {Type.CNAME: rrsets[Type.CNAME]}
            reason = "beside-cname"
        elif Type.NS in rrsets and owner != apex:
            kept = {Type.NS: rrsets[Type.NS]}
            reason = "occluded"
        if len(kept) < len(rrsets):
            counter.add(reason, _record_count(rrsets) - _record_count(kept))
        if Type.DNAME in kept or (Type.NS in kept and owner != apex):
            blocker = owner
        for rtype, rrset in kept.items():
            visible[owner, rtype] = rrset
    return visible


def _record_count(rrsets: Mapping[int, RRset]) -> int:
    return sum(len(rrset.rdatas) for rrset in rrsets.values())
