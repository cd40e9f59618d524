"""The head of a zone: the item without a salt, with its directories taken out.

Guarantees: all readers of one head see the same directories and the same records, in whatever order these stand. A
directory that cannot be read is kept as such, because the names below it are unknown, and not absent. A head without
directories is a whole zone. Does not know shards.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from p2pdns.dns.message import RR, RRset
from p2pdns.dns.name import Name
from p2pdns.dns.registry import DIRECTORY, Class, Type
from p2pdns.dns.zone import Zone, is_made, records_in, with_enclosers
from p2pdns.dns.zone.content import refusal_of, select
from p2pdns.errors import BadItem, FormatError
from p2pdns.items.item import MutableItem
from p2pdns.items.shards.directory import Directory

ENCLOSING_MAX = 3  # Directories at or above one name. More would only hide which of them a name belongs to.


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A directory of which only the place is known, and the reason why."""

    owner: Name
    reason: str


class Head:
    """The directories of a zone, and the records that the head itself has."""

    __slots__ = ("_depths", "directories", "dropped", "nodes", "zone")

    directories: Mapping[Name, Directory | Unreadable]  # In canonical order.
    dropped: Mapping[str, int]  # Reason -> how many records were left out, or could not be read.
    zone: Zone  # Without directories and without copies of records that are in shards.
    nodes: Mapping[Name, Mapping[int, RRset]]  # The names that the head has: those of the zone and of directories.

    def __init__(self, apex: Name, records: Iterable[RR], dropped: Counter[str], seq: int) -> None:
        found, others = _sorted_out(apex, records)
        directories = _kept(apex, found, others, dropped)
        self.directories = MappingProxyType(directories)
        self._depths = sorted({len(owner.labels) for owner in directories}, reverse=True)
        made = tuple([record for record in others if is_made(record, apex)])
        own = [record for record in others if record not in made and not self._is_copy(record.owner)]
        rrsets = select(apex, own, dropped)
        self.dropped = MappingProxyType(dropped)
        self.zone = Zone(apex, rrsets, dropped, seq, made)
        nodes = {name: dict(found) for name, found in self.zone.nodes.items()}
        for owner in directories:
            nodes.setdefault(owner, {})
        with_enclosers(apex, nodes)
        self.nodes = MappingProxyType(nodes)

    @classmethod
    def verified(cls, apex: Name, value: bytes, seq: int) -> Head:
        """Return what the value of a stranger's item says; BadItem where it is no DNS response."""
        return cls(apex, *records_in(value), seq)

    @classmethod
    def of(cls, item: MutableItem) -> Head:
        """Return what an item says; BadItem where it has a salt, or its value is no DNS response."""
        if item.salt:
            raise BadItem("zone-with-salt", "the head of a zone is the item of its key without a salt")
        return cls.verified(item.key.apex, item.value, item.seq)

    @property
    def apex(self) -> Name:
        return self.zone.apex

    def directory_of(self, name: Name) -> Directory | Unreadable | None:
        """Return the deepest directory at or above a name; None where the head itself says all about it."""
        label_count = len(name.labels)
        for depth in self._depths:
            if depth <= label_count and (found := self.directories.get(name.ancestor(depth))) is not None:
                return found
        return None

    def inner_of(self, directory: Directory, index: int) -> tuple[Name, ...]:
        """Return the owners of the directories below a directory, in its shard with an index."""
        return tuple(
            [
                owner
                for owner in self.directories
                if owner != directory.owner
                and owner.is_at_or_below(directory.owner)
                and directory.index_of(directory.cell_of(owner)) == index
            ]
        )

    def _is_copy(self, owner: Name) -> bool:
        return owner not in self.directories and self.directory_of(owner) is not None


def _sorted_out(apex: Name, records: Iterable[RR]) -> tuple[dict[Name, list[RR]], list[RR]]:
    """Return the records of directories by their owners, and all other records."""
    found: dict[Name, list[RR]] = {}
    others = []
    for record in records:
        is_directory = record.rtype == DIRECTORY and record.rclass == Class.IN
        if is_directory and record.owner.is_at_or_below(apex):
            found.setdefault(record.owner, []).append(record)
        else:
            others.append(record)
    return found, others


def _kept(
    apex: Name, found: dict[Name, list[RR]], others: list[RR], dropped: Counter[str]
) -> dict[Name, Directory | Unreadable]:
    """Return the directories that count, from the apex down: which records are copies depends on those above."""
    kept: dict[Name, Directory | Unreadable] = {}
    blockers = _blockers(apex, others)
    for owner in sorted(found):
        above = [other for other in kept if owner.is_at_or_below(other)]
        # A name with DNAME may have an own shard, so its directory stays. A zone cut has nothing but its NS.
        if any(
            owner.is_at_or_below(blocker) and (is_cut or owner != blocker) and _counts(blocker, owner, above)
            for blocker, is_cut in blockers.items()
        ):
            dropped["occluded"] += len(found[owner])
        elif len(above) >= ENCLOSING_MAX:
            dropped["directory-too-deep"] += len(found[owner])
        else:
            kept[owner] = _read(owner, found[owner], dropped)
    return kept


def _blockers(apex: Name, records: Iterable[RR]) -> dict[Name, bool]:
    """Return the names below which nothing of this zone is, and whether they are zone cuts; else they have DNAME."""
    types: dict[Name, list[int]] = {}
    for record in records:
        if refusal_of(apex, record) is None:
            types.setdefault(record.owner, []).append(record.rtype)
    cuts = {owner: Type.NS in rtypes and owner != apex for owner, rtypes in types.items()}
    # Beside a CNAME there is nothing else, so neither NS nor DNAME counts there.
    return {
        owner: cuts[owner]
        for owner, rtypes in types.items()
        if Type.CNAME not in rtypes and (Type.DNAME in rtypes or cuts[owner])
    }


def _counts(blocker: Name, owner: Name, above: list[Name]) -> bool:
    """Return whether the records at a name are no copies: it has a directory, or lies below none."""
    return blocker == owner or blocker in above or not any(blocker.is_at_or_below(other) for other in above)


def _read(owner: Name, records: list[RR], dropped: Counter[str]) -> Directory | Unreadable:
    distinct = list(dict.fromkeys(record.rdata for record in records))
    if len(records) > len(distinct):
        dropped["duplicate"] += len(records) - len(distinct)
    try:
        if len(distinct) > 1:
            raise FormatError("second-directory", f"{len(distinct)} at {owner}")
        return Directory.parse(owner, distinct[0])
    except FormatError as error:
        dropped[error.reason] += len(distinct)
        return Unreadable(owner, error.reason)
