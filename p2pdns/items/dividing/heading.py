"""What the head of a divided zone has room for.

Guarantees: the head holds what readers need from it, or the zone is refused with the numbers; the rest of the room goes
by a fixed order, so that the same zone gives the same head. Does not know shards but by their pins.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from p2pdns.dns.message import RRset
from p2pdns.dns.name import Name
from p2pdns.dns.registry import Type
from p2pdns.errors import ZoneFileError
from p2pdns.items.dividing.planning import Content, PlannedDirectory
from p2pdns.items.dividing.sizes import message_of
from p2pdns.items.shards.directory import DIRECT_BITS_MAX, Directory, manifest_count
from p2pdns.items.shards.pinned import PIN_BYTES

# Names of which a copy is tried for the head. Most of a large zone's names do not fit, and each try composes a head.
COPIES_TRIED_MAX = 64
_NO_PIN = bytes(PIN_BYTES)


@dataclass(frozen=True, slots=True)
class Layout:
    """Which RRsets and copies the head has, and which directories name their shards' pins themselves."""

    records: tuple[RRset, ...]  # Without the directories.
    is_direct: Mapping[Name, bool]
    own: Mapping[Name, tuple[RRset, ...]]  # For each directory, what its own shard has.


def laid_out(
    apex: Name,
    plans: Sequence[PlannedDirectory],
    content: Content,
    made: Sequence[RRset],
    *,
    value_bytes_max: int,
    path: str,
) -> Layout:
    """Return the layout of a head; ZoneFileError where not even the directories fit.

    `made` are other records about the zone, and stand in the head like the directories.
    """
    page = _Page(plans, made, value_bytes_max)
    for plan in plans:
        for rrset in plan.own:
            if rrset.rtype == Type.CNAME or (plan.owner == apex and rrset.rtype == Type.SOA):
                page.records.append(rrset)
    if page.over_bytes > 0:
        hint = "divide less deeply: give a part of the zone a key of its own, and delegate to that"
        what = f"{len(plans)} directories are {page.over_bytes} bytes too large for one item"
        raise ZoneFileError(what, path=path, hint=hint)
    for plan in plans:
        page.try_direct(plan)
        for rrset in sorted(plan.own, key=lambda rrset: (len(message_of([rrset])), rrset.rtype)):
            page.try_records([rrset])
    own = {plan.owner: tuple(rrset for rrset in plan.own if rrset not in page.records) for plan in plans}
    for rrsets in _copies(apex, plans, content):
        page.try_records(rrsets)
    return Layout(tuple(page.records), page.is_direct, own)


class _Page:
    """The head as it fills. All directories are in it with own pins, which not all will need in the end."""

    def __init__(self, plans: Sequence[PlannedDirectory], made: Sequence[RRset], value_bytes_max: int) -> None:
        self.records = list(made)
        self.is_direct = {plan.owner: False for plan in plans}
        self._plans = plans
        self._value_bytes_max = value_bytes_max

    @property
    def over_bytes(self) -> int:
        """How many bytes too large the head is; 0 or less where it fits."""
        directories = [self._placeholder(plan) for plan in self._plans]
        return len(message_of([*self.records, *directories])) - self._value_bytes_max

    def try_direct(self, plan: PlannedDirectory) -> None:
        """Let a directory name the pins of its shards, if they fit."""
        if plan.bits <= DIRECT_BITS_MAX:
            self.is_direct[plan.owner] = True
            self.is_direct[plan.owner] = self.over_bytes <= 0

    def try_records(self, rrsets: Sequence[RRset]) -> None:
        """Add those RRsets that are not there, if they fit together."""
        fresh = [rrset for rrset in rrsets if rrset not in self.records]
        self.records += fresh
        if fresh and self.over_bytes > 0:
            del self.records[-len(fresh) :]

    def _placeholder(self, plan: PlannedDirectory) -> RRset:
        is_direct = self.is_direct[plan.owner]
        count = 1 << plan.bits if is_direct else manifest_count(plan.bits)
        own_pin = _NO_PIN if plan.own else None
        return Directory(plan.owner, plan.bits, 0, (_NO_PIN,) * count, own_pin, False, not is_direct).rrset


def _copies(apex: Name, plans: Sequence[PlannedDirectory], content: Content) -> Iterator[list[RRset]]:
    """Yield all of a name at a time, for readers that know no directories: www first, then short names."""
    owners = [plan.owner for plan in plans]
    # Such a reader would apply a wildcard to names that are in shards.
    names = [name for name in content if name not in owners and b"*" not in name.labels]
    ranked = sorted(names, key=lambda name: (name.relative_to(apex) != (b"www",), len(name.labels), name))
    for name in ranked[:COPIES_TRIED_MAX]:
        yield list(content[name])
