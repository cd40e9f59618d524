"""Where the directories of a zone are, and which names are in which shard of them.

Guarantees: a plan has room for every name, or it is refused with the numbers. A plan that was good stays as far as it
still is, so that an edit moves few names. Does not know pins, nonces or what the head has room for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from p2pdns.dns.message import RRset
from p2pdns.dns.name import Name
from p2pdns.dns.registry import Type
from p2pdns.errors import ZoneFileError
from p2pdns.items.dividing.counts import Load, bits_for
from p2pdns.items.dividing.sizes import REACH_BYTES, base_bytes, name_bytes, size_of_message
from p2pdns.items.shards.directory import Directory
from p2pdns.items.shards.head import ENCLOSING_MAX
from p2pdns.items.shards.values import HEAD_BYTES, PARTS_MAX, message_bytes_max

DIRECTORIES_MAX = 48  # A directory takes 20 bytes of the head at least.
EPOCHS_TRIED_MAX = 8  # Names that were made for one shard are scattered by the first new epoch.
KEPT_DIRECTORY_PART = 4  # A directory of a large cell stays until the cell has only a quarter of what would fit.

Content = Mapping[Name, Sequence[RRset]]
"""The RRsets of each name that has any, in canonical order of the names."""


@dataclass(frozen=True, slots=True)
class PlannedDirectory:
    """A directory to be: its shards by index, each with its RRsets, and what its owner has itself."""

    owner: Name
    epoch: int
    bits: int
    has_wildcard: bool
    shards: tuple[tuple[RRset, ...], ...]
    own: tuple[RRset, ...]


@dataclass(frozen=True, slots=True)
class _Ground:
    apex: Name
    content: Content
    former: Mapping[Name, Directory]
    value_bytes_max: int
    unix_now: float
    path: str

    @property
    def room_bytes(self) -> int:
        return message_bytes_max(self.value_bytes_max)

    def refusal(self, what: str, hint: str) -> ZoneFileError:
        return ZoneFileError(what, path=self.path, hint=hint)


def planned(
    apex: Name,
    content: Content,
    former: Mapping[Name, Directory],
    *,
    value_bytes_max: int,
    unix_now: float,
    path: str,
) -> list[PlannedDirectory]:
    """Return the directories of a zone, from the apex down; ZoneFileError where the zone cannot be divided."""
    ground = _Ground(apex, content, former, value_bytes_max, unix_now, path)
    owners = [apex, *_kept_owners(ground)]
    plans: dict[Name, PlannedDirectory] = {}
    while True:
        places = _placed(owners, content)
        for owner in sorted(owners):
            # A new directory changes what is in the one around it, and nothing else.
            if owner in plans:
                continue
            outcome = _plan(ground, owner, owners, places[owner])
            if isinstance(outcome, Name):
                _refuse_too_many(ground, owners, outcome)
                owners.append(outcome)
                break
            plans[owner] = outcome
        else:
            return [plans[owner] for owner in sorted(plans)]


def _kept_owners(ground: _Ground) -> list[Name]:
    """Return the owners of former directories that are still worth one."""
    enough = ground.room_bytes // KEPT_DIRECTORY_PART
    kept: list[Name] = []
    for owner in sorted(ground.former):
        if owner == ground.apex or _is_blocked(ground.content, owner):
            continue
        names = [name for name in ground.content if name.is_at_or_below(owner)]
        if _bytes_of(ground, owner, names) >= enough:
            kept.append(owner)
    return kept


def _is_blocked(content: Content, name: Name) -> bool:
    return any(rrset.rtype in (Type.NS, Type.DNAME) for rrset in content.get(name, ()))


def _placed(owners: Sequence[Name], content: Content) -> dict[Name, list[Name]]:
    """Return for each directory the names that it is the deepest for, its owner's own name too."""
    found: dict[Name, list[Name]] = {owner: [] for owner in owners}
    depths = sorted({len(owner.labels) for owner in owners}, reverse=True)
    for name in content:
        for depth in depths:
            if depth <= len(name.labels) and (owner := name.ancestor(depth)) in found:
                found[owner].append(name)
                break
    return found


def _plan(ground: _Ground, owner: Name, owners: Sequence[Name], names: Sequence[Name]) -> PlannedDirectory | Name:
    """Return the plan for a directory, or the name below it that needs one of its own first."""
    below = [name for name in names if name != owner]
    cells = _cells(owner, below)
    own = tuple(ground.content.get(owner, ()))
    if size_of_message(ground.apex, own) > ground.room_bytes:
        raise _too_large(ground, owner, own)
    sizes = {cell: _bytes_of(ground, owner, cells[cell]) for cell in cells}
    former = ground.former.get(owner)
    for attempt in range(EPOCHS_TRIED_MAX):
        load, bits = _division(ground, owner, sizes, former, attempt)
        large = [shard for shard in load.shards(bits) if not _fits(ground, load, cells, shard)]
        if not large:
            return _with_shards(ground, owner, owners, cells, load, bits, own)
        for shard in large:
            largest = max(shard, key=lambda cell: (sizes[cell], cell))
            # Many small cells in one shard are scattered by another epoch. A large one is large in any.
            if 4 * sizes[largest] >= load.shard_bytes(shard):
                return _nested(ground, owner, cells[largest])
    what = f"{len(sizes)} names below {owner} do not fit {1 << bits} shards of {ground.room_bytes} bytes"
    raise ground.refusal(what, "divide the zone: give a part of it a key of its own, and delegate to that")


def _division(
    ground: _Ground, owner: Name, sizes: Mapping[bytes, int], former: Directory | None, attempt: int
) -> tuple[Load, int]:
    """Return the load of a directory under its epoch, and its bits: the former ones while they hold."""
    base = base_bytes(owner)
    if former is not None and not attempt:
        load = Load(owner, former.epoch, sizes, base, ground.value_bytes_max)
        if (bits := bits_for(load, former.bits)) == former.bits:
            return load, bits
    epoch = int(ground.unix_now) if former is None else max(int(ground.unix_now), former.epoch + 1)
    load = Load(owner, epoch + attempt, sizes, base, ground.value_bytes_max)
    return load, bits_for(load, None if former is None else former.bits)


def _cells(owner: Name, names: Sequence[Name]) -> dict[bytes, list[Name]]:
    cells: dict[bytes, list[Name]] = {}
    place = len(owner.labels) + 1
    for name in names:
        cells.setdefault(name.labels[len(name.labels) - place].lower(), []).append(name)
    return cells


def _bytes_of(ground: _Ground, owner: Name, names: Sequence[Name]) -> int:
    size, before = 0, owner
    for name in names:
        size += name_bytes(ground.apex, name, before, ground.content[name])
        before = name
    return size


def _fits(ground: _Ground, load: Load, cells: Mapping[bytes, Sequence[Name]], shard: list[bytes]) -> bool:
    if load.shard_bytes(shard) <= min(REACH_BYTES, ground.room_bytes):
        return True
    rrsets = [rrset for cell in shard for name in cells[cell] for rrset in ground.content[name]]
    return size_of_message(ground.apex, rrsets) <= ground.room_bytes


def _nested(ground: _Ground, owner: Name, names: Sequence[Name]) -> Name:
    """Return the name at or below the top of a large cell that gets a directory.

    It is the top, or a name below it that all but one value's worth of the cell is at or below: a reverse zone may have
    twelve labels with one child each above its first host.
    """
    depth = len(owner.labels) + 1
    place = names[0].ancestor(depth)
    spare = ground.value_bytes_max - HEAD_BYTES - base_bytes(owner)
    inside = list(names)
    while not _is_blocked(ground.content, place):
        deeper: dict[Name, list[Name]] = {}
        for name in inside:
            if len(name.labels) > depth:
                deeper.setdefault(name.ancestor(depth + 1), []).append(name)
        heavy = max(deeper, key=lambda child: (_bytes_of(ground, owner, deeper[child]), child), default=None)
        if heavy is None or _is_blocked(ground.content, heavy):
            break
        rest = [name for name in names if not name.is_at_or_below(heavy)]
        if _bytes_of(ground, owner, rest) > spare:
            break
        place, inside, depth = heavy, deeper[heavy], depth + 1
    if _is_blocked(ground.content, place):
        raise _too_large(ground, place, ground.content[place])
    return place


def _refuse_too_many(ground: _Ground, owners: Sequence[Name], place: Name) -> None:
    above = [owner for owner in owners if place.is_at_or_below(owner)]
    below = [owner for owner in owners if owner.is_at_or_below(place)]
    deepest = max((sum(one.is_at_or_below(other) for other in owners) for one in below), default=len(above))
    if deepest + 1 > ENCLOSING_MAX or len(owners) >= DIRECTORIES_MAX:
        names = [name for name in ground.content if name.is_at_or_below(place)]
        what = f"{place.text_in(ground.apex)} and the {len(names)} names at and below it have {_kb(ground, names)}"
        limits = f"{ENCLOSING_MAX} directories above one another and {DIRECTORIES_MAX} in all"
        raise ground.refusal(f"{what}, which needs more than {limits}", "delegate a part of it to a key of its own")


def _kb(ground: _Ground, names: Sequence[Name]) -> str:
    return f"{_bytes_of(ground, ground.apex, names) / 1000:,.0f} kB"


def _too_large(ground: _Ground, owner: Name, rrsets: Sequence[RRset]) -> ZoneFileError:
    size = size_of_message(ground.apex, rrsets)
    what = f"{owner.text_in(ground.apex)} has {size} bytes, and {ground.room_bytes} fit {PARTS_MAX + 1} items"
    return ground.refusal(what, "remove records of this name, or give some of them other names")


def _with_shards(
    ground: _Ground,
    owner: Name,
    owners: Sequence[Name],
    cells: Mapping[bytes, Sequence[Name]],
    load: Load,
    bits: int,
    own: tuple[RRset, ...],
) -> PlannedDirectory:
    shards: list[list[RRset]] = [[] for _ in range(1 << bits)]
    for cell, names in cells.items():
        shards[load.index_of(cell, bits)] += [rrset for name in names for rrset in ground.content[name]]
    inner = [other for other in owners if other != owner and other.is_at_or_below(owner)]
    has_wildcard = b"*" in cells or b"*" in _cells(owner, inner)
    return PlannedDirectory(owner, load.epoch, bits, has_wildcard, tuple(map(tuple, shards)), own)
