"""One shard: the records of some cells below a directory, or those of the directory's owner beside the head.

Guarantees: a `Shard` that exists speaks for its own names alone, whatever its message says; what is left out is counted
by reason. Does not know other shards, nor how its message was pinned.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from p2pdns.dns.message import RR, RRset
from p2pdns.dns.name import Name
from p2pdns.dns.registry import OURS_ALONE, Type
from p2pdns.dns.zone import records_in, with_enclosers
from p2pdns.dns.zone.answer import closest_encloser_in
from p2pdns.dns.zone.content import select
from p2pdns.items.shards.directory import Directory
from p2pdns.items.shards.head import Head

_HEAD_ONLY = frozenset([Type.SOA, *OURS_ALONE])
# Readers must know these of the owner of a directory without its own shard.
_BESIDE_DIRECTORY = frozenset([Type.CNAME, Type.DNAME])


@dataclass(frozen=True, slots=True, eq=False)
class Shard:
    """The names of a shard: `nodes` has every name that exists, empty non-terminals and inner directories too.

    The owners of directories below this one are in it too, where its cells have such.
    """

    directory: Directory
    nodes: Mapping[Name, Mapping[int, RRset]]
    dropped: Mapping[str, int]

    @classmethod
    def verified(cls, head: Head, directory: Directory, index: int | None, message: bytes) -> Shard:
        """Return the shard whose message this is, by its index or, with None, the own one; BadItem if it is no DNS."""
        if index is None:
            return cls._verified_own(head, directory, message)
        records, dropped = records_in(message)
        inner = head.inner_of(directory, index)
        kept = []
        for record in records:
            reason = _refusal(head, directory, index, inner, record)
            if reason is None:
                kept.append(record)
            else:
                dropped[reason] += 1
        nodes: dict[Name, dict[int, RRset]] = {}
        for (owner, rtype), rrset in select(head.apex, kept, dropped).items():
            nodes.setdefault(owner, {})[rtype] = rrset
        for owner in inner:
            nodes.setdefault(owner, {})
        with_enclosers(directory.owner, nodes)
        return cls(directory, nodes, dropped)

    @classmethod
    def _verified_own(cls, head: Head, directory: Directory, message: bytes) -> Shard:
        records, dropped = records_in(message)
        owner = directory.owner
        kept = []
        for record in records:
            reason = _refusal_of_own(head, owner, record)
            if reason is None:
                kept.append(record)
            else:
                dropped[reason] += 1
        rrsets = select(head.apex, kept, dropped)
        return cls(directory, {owner: {rtype: rrset for (_, rtype), rrset in rrsets.items()}}, dropped)

    @property
    def lowest_ttl(self) -> int | None:
        return min((rrset.ttl for rrsets in self.nodes.values() for rrset in rrsets.values()), default=None)

    def closest_encloser(self, name: Name) -> Name:
        """Return the longest existing name at or above a name of this shard; the directory's owner exists."""
        return closest_encloser_in(self.nodes, self.directory.owner, name)


def _refusal(head: Head, directory: Directory, index: int, inner: tuple[Name, ...], record: RR) -> str | None:
    """Return why a record is none of this shard's, before the rules for all records of a zone."""
    owner = record.owner
    is_below = owner.is_at_or_below(directory.owner) and owner != directory.owner
    if not is_below or directory.index_of(directory.cell_of(owner)) != index:
        return "foreign-cell"
    # The directories of the head divide its names among them, so each name is in one place.
    if any(owner.is_at_or_below(other) for other in inner):
        return "foreign-cell"
    if record.rtype in _HEAD_ONLY:
        return "head-only"
    # All readers have the head, and some of them not this shard.
    if record.rtype in (Type.NS, Type.DNAME) and any(other.is_at_or_below(owner) for other in inner):
        return "above-directory"
    return None


def _refusal_of_own(head: Head, owner: Name, record: RR) -> str | None:
    if record.owner != owner:
        return "foreign-cell"
    if record.rtype in _HEAD_ONLY or record.rtype in _BESIDE_DIRECTORY:
        return "head-only"
    if record.rtype == Type.NS and owner != head.apex:
        return "head-only"
    return "in-head" if (owner, record.rtype) in head.zone.rrsets else None
