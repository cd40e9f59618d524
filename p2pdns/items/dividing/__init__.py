"""A zone of any size as items: the head, and what it pins (docs/spec.md, Dividing).

Guarantees: pure; the same zone, former division, time and entropy give the same items. What has not changed keeps its
value, and so its salt. A reader of the items reads the zone that was divided. Does not sign, and does not know nodes.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from p2pdns.dns.message import RRset, records_of, type_text
from p2pdns.dns.name import Name
from p2pdns.dns.registry import OURS_ALONE
from p2pdns.dns.zone import Zone
from p2pdns.dns.zone.content import select
from p2pdns.errors import BadItem, ZoneFileError
from p2pdns.items.dividing.heading import Layout, laid_out
from p2pdns.items.dividing.planning import PlannedDirectory, planned
from p2pdns.items.dividing.sizes import message_of
from p2pdns.items.item import SEQ_PER_SECOND, VALUE_BYTES_WRITE_DEFAULT
from p2pdns.items.packet import compose_packet, size_of
from p2pdns.items.shards.directory import MANIFEST_PINS_MAX, Directory
from p2pdns.items.shards.head import Head
from p2pdns.items.shards.pinned import Pinned, SaltLetter, pin_of
from p2pdns.items.shards.shard import Shard
from p2pdns.items.shards.values import NONCE_BYTES, First, Manifest, Part, Whole, cut, joined, verified

ENTROPY_BYTES = 32  # Drawn once the content is final: all nonces of a division are made of them.
ITEMS_MAX = 8_192  # Items of one key that a node keeps; a division with more would lose some at each of its holders.

# A head may be so much newer than an item that it pins. Holders count an item's life from its seq, so they have to keep
# those with a salt for this much longer than heads.
RENEWED_AFTER_S = 7 * 86_400

T = TypeVar("T")

ShardKey = tuple[Name, int | None]
"""The owner of a directory, and the index of one of its shards; None for its own shard."""


@dataclass(frozen=True, slots=True)
class ShardEdition:
    """One edition of a shard: its message, and its values, the further parts behind the first one."""

    message: bytes
    values: tuple[bytes, ...]

    @property
    def pin(self) -> bytes:
        return pin_of(self.values[0])


@dataclass(frozen=True)
class Division:
    """A zone as the values of its items: the head's, and those with a salt; a small zone is a head alone."""

    apex: Name
    head: bytes
    directories: Mapping[Name, Directory] = field(default_factory=dict)
    manifests: Mapping[tuple[Name, int], bytes] = field(default_factory=dict)
    shards: Mapping[ShardKey, ShardEdition] = field(default_factory=dict)

    def items(self) -> Iterator[tuple[Pinned, bytes]]:
        """Yield all items with a salt in the order in which they are to be put: parts, shards, manifests."""
        wanted = {key: self._pinned(*key) for key in self.shards}
        for key, edition in self.shards.items():
            for number, value in enumerate(edition.values[1:], 1):
                yield wanted[key].part(number, pin_of(value)), value
        for key, edition in self.shards.items():
            yield wanted[key], edition.values[0]
        for (owner, number), value in self.manifests.items():
            yield self.directories[owner].manifest(number * MANIFEST_PINS_MAX), value

    def fresh_items(self, former: Division | None) -> list[tuple[Pinned, bytes]]:
        """Return the items with a salt that a former division of the zone does not have, in the order of `items`."""
        known = {pinned for pinned, _ in former.items()} if former is not None else frozenset()
        return [(pinned, value) for pinned, value in self.items() if pinned not in known]

    @property
    def item_count(self) -> int:
        """How many items the zone has, the head too."""
        return 1 + len(self.manifests) + sum(len(edition.values) for edition in self.shards.values())

    @property
    def size_bytes(self) -> int:
        """The bytes of all values."""
        editions = self.shards.values()
        return len(self.head) + sum(map(len, self.manifests.values())) + sum(len(v) for e in editions for v in e.values)

    def zone(self, seq: int) -> Zone:
        """Return the whole zone, as readers of all its items see it under a head with this seq."""
        head = Head.verified(self.apex, self.head, seq)
        records = list(records_of(head.zone.rrsets.values()))
        for (owner, index), edition in self.shards.items():
            shard = Shard.verified(head, self.directories[owner], index, edition.message)
            records += records_of(rrset for found in shard.nodes.values() for rrset in found.values())
        dropped: Counter[str] = Counter()
        return Zone(self.apex, select(self.apex, records, dropped), dropped, seq, head.zone.made)

    def _pinned(self, owner: Name, index: int | None) -> Pinned:
        directory = self.directories[owner]
        letter = SaltLetter.OWN if index is None else SaltLetter.SHARD
        return Pinned(letter, owner, directory.epoch, directory.bits, self.shards[owner, index].pin, index or 0)


def divide(
    zone: Zone,
    *,
    entropy: bytes,
    unix_now: float,
    made: Iterable[RRset] = (),
    former: Division | None = None,
    value_bytes_max: int = VALUE_BYTES_WRITE_DEFAULT,
    path: str = "zone",
) -> Division:
    """Return a zone as items; ZoneFileError with the numbers where it cannot be divided. `path` is for the error only.

    `made` are the records that p2pdns alone makes, but for directories. `former` is the division that is published now,
    of any content: what is the same in both keeps its value.
    """
    assert len(entropy) == ENTROPY_BYTES, "entropy is drawn for this division"
    _refuse_made(zone, path)
    beside = tuple(made)
    rrsets = [*zone.rrsets.values(), *beside]
    if not size_of(rrsets, zone.apex, size_bytes_max=value_bytes_max).over_bytes:
        head = compose_packet(zone, zone.apex, made=beside, size_bytes_max=value_bytes_max, path=path)
        return Division(zone.apex, head)
    content = _content(zone.rrsets.values())
    plans = planned(
        zone.apex,
        content,
        {} if former is None else former.directories,
        value_bytes_max=value_bytes_max,
        unix_now=unix_now,
        path=path,
    )
    layout = laid_out(zone.apex, plans, content, beside, value_bytes_max=value_bytes_max, path=path)
    division = _Divider(zone.apex, former, entropy, value_bytes_max).division(plans, layout)
    if division.item_count > ITEMS_MAX:
        what = f"the zone takes {division.item_count} items of {division.size_bytes / 1000:,.0f} kB"
        hint = "divide it: give a part of the zone a key of its own, and delegate to that"
        raise ZoneFileError(f"{what}, {ITEMS_MAX} allowed", path=path, hint=hint)
    _refuse_what_readers_leave_out(division, former, path)
    return division


def gathered(
    apex: Name,
    head: bytes,
    value_of: Callable[[Pinned], bytes | None],
    *,
    on_broken: Callable[[BadItem], None] | None = None,
) -> Division | list[Pinned]:
    """Return the division that a head begins, or the items that are missing; BadItem where one breaks a rule.

    `value_of` returns the value of an item, or None where that is not at hand. All missing items that are known are
    returned together; with them, further ones may become known. With `on_broken`, shards and manifests that break a
    rule are told and left out, as readers do; a head that breaks one is BadItem even so.
    """
    directories = {
        owner: directory
        for owner, directory in Head.verified(apex, head, 0).directories.items()
        if isinstance(directory, Directory)
    }
    missing: list[Pinned] = []
    manifests: dict[tuple[Name, int], bytes] = {}
    shards: dict[ShardKey, ShardEdition] = {}
    for owner, directory in directories.items():
        keys: list[tuple[ShardKey, Pinned]] = []
        if directory.own is not None:
            keys.append(((owner, None), directory.own))
        for first in range(0, directory.shard_count, MANIFEST_PINS_MAX):
            indexes = range(first, min(first + MANIFEST_PINS_MAX, directory.shard_count))
            pins = None
            if directory.by_manifests:
                value = value_of(wanted := directory.manifest(first))
                if value is None:
                    missing.append(wanted)
                    continue
                said = _unless_broken(partial(verified, wanted, value), on_broken)
                if said is None:
                    continue
                assert isinstance(said, Manifest), "a manifest is found under its salt"
                manifests[owner, first // MANIFEST_PINS_MAX], pins = value, said.pins
            keys += [((owner, index), directory.shard(index, pins)) for index in indexes]
        for key, wanted in keys:
            edition = _unless_broken(partial(_edition, wanted, value_of), on_broken)
            if edition is None:
                continue
            if isinstance(edition, ShardEdition):
                shards[key] = edition
            else:
                missing += edition
    return missing or Division(apex, head, directories, manifests, shards)


def _unless_broken(read: Callable[[], T], on_broken: Callable[[BadItem], None] | None) -> T | None:
    try:
        return read()
    except BadItem as trouble:
        if on_broken is None:
            raise
        on_broken(trouble)
        return None


def is_renewed_with(head_seq: int, seq: int) -> bool:
    """Return whether an item with a seq is signed again, with the same value, when a head with that seq pins it."""
    return head_seq - seq > RENEWED_AFTER_S * SEQ_PER_SECOND


def _edition(wanted: Pinned, value_of: Callable[[Pinned], bytes | None]) -> ShardEdition | list[Pinned]:
    value = value_of(wanted)
    if value is None:
        return [wanted]
    said = verified(wanted, value)
    if isinstance(said, Whole):
        return ShardEdition(said.message, (value,))
    assert isinstance(said, First), "a shard is found under its salt"
    further = [(part := wanted.part(number, pin), value_of(part)) for number, pin in enumerate(said.pins, 1)]
    if any(found is None for _, found in further):
        return [part for part, found in further if found is None]
    values = [found for _, found in further if found is not None]
    parts = [verified(part, found) for (part, _), found in zip(further, values, strict=True)]
    message = joined(said, [part for part in parts if isinstance(part, Part)])
    return ShardEdition(message, (value, *values))


def _content(rrsets: Iterable[RRset]) -> dict[Name, list[RRset]]:
    content: dict[Name, list[RRset]] = {}
    for rrset in sorted(rrsets, key=lambda rrset: (rrset.owner.canonical_key(), rrset.rtype)):
        content.setdefault(rrset.owner, []).append(rrset)
    return content


def _refuse_made(zone: Zone, path: str) -> None:
    for owner, rtype in zone.rrsets:
        if rtype in OURS_ALONE:
            what = f"{owner.text_in(zone.apex)} has {type_text(rtype)}, which p2pdns alone makes"
            raise ZoneFileError(what, path=path, hint="remove the record")


class _Divider:
    """The making of values, with the nonces of one division."""

    def __init__(self, apex: Name, former: Division | None, entropy: bytes, value_bytes_max: int) -> None:
        self._apex = apex
        self._former = former
        self._entropy = entropy
        self._value_bytes_max = value_bytes_max

    def division(self, plans: Iterable[PlannedDirectory], layout: Layout) -> Division:
        """Return the division of a plan and a layout."""
        directories: dict[Name, Directory] = {}
        manifests: dict[tuple[Name, int], bytes] = {}
        shards: dict[ShardKey, ShardEdition] = {}
        for plan in plans:
            owner, own_pin = plan.owner, None
            pins = []
            for index, rrsets in enumerate(plan.shards):
                shards[owner, index] = self._edition(plan, index, rrsets)
                pins.append(shards[owner, index].pin)
            if layout.own[owner]:
                shards[owner, None] = self._edition(plan, None, layout.own[owner])
                own_pin = shards[owner, None].pin
            is_direct = layout.is_direct[owner]
            if not is_direct:
                for first in range(0, len(pins), MANIFEST_PINS_MAX):
                    number = first // MANIFEST_PINS_MAX
                    value = self._manifest(owner, number, tuple(pins[first : first + MANIFEST_PINS_MAX]))
                    manifests[owner, number] = value
                pins = [pin_of(value) for (other, _), value in manifests.items() if other == owner]
            directories[owner] = Directory(
                owner, plan.bits, plan.epoch, tuple(pins), own_pin, plan.has_wildcard, not is_direct
            )
        head = message_of([*layout.records, *(directory.rrset for directory in directories.values())])
        return Division(self._apex, head, directories, manifests, shards)

    def _edition(self, plan: PlannedDirectory, index: int | None, rrsets: Iterable[RRset]) -> ShardEdition:
        """Return the former edition of a shard where its message has not changed, else a new one."""
        message = message_of(rrsets)
        former = self._former
        known = None if former is None else former.directories.get(plan.owner)
        if former is not None and known is not None and (known.epoch, known.bits) == (plan.epoch, plan.bits):
            edition = former.shards.get((plan.owner, index))
            if edition is not None and edition.message == message:
                return edition
        nonce = self._nonce(SaltLetter.OWN if index is None else SaltLetter.SHARD, plan.owner, index or 0)
        return ShardEdition(message, cut(message, nonce, self._value_bytes_max))

    def _manifest(self, owner: Name, number: int, pins: tuple[bytes, ...]) -> bytes:
        former = None if self._former is None else self._former.manifests.get((owner, number))
        fresh = Manifest(self._nonce(SaltLetter.MANIFEST, owner, number), pins).compose()
        return former if former is not None and former[1 + NONCE_BYTES :] == fresh[1 + NONCE_BYTES :] else fresh

    def _nonce(self, letter: SaltLetter, owner: Name, index: int) -> bytes:
        """Return the random bytes of one value; nobody who does not know the entropy can foresee them."""
        where = letter.value + owner.folded().wire() + index.to_bytes(2)
        return hashlib.sha256(self._entropy + where).digest()[:NONCE_BYTES]


def _refuse_what_readers_leave_out(division: Division, former: Division | None, path: str) -> None:
    """Raise a ZoneFileError where a reader would not see all records: the reader's rules decide."""
    try:
        head = Head.verified(division.apex, division.head, 0)
        left_out = [dict(head.dropped)]
        # A shard with its former message is read as before, unless a directory was moved.
        is_moved = former is None or former.directories.keys() != division.directories.keys()
        for (owner, index), edition in division.shards.items():
            if index is None or is_moved or former is None or former.shards.get((owner, index)) is not edition:
                shard = Shard.verified(head, division.directories[owner], index, edition.message)
                left_out.append(dict(shard.dropped))
    except BadItem as error:
        raise ZoneFileError(f"readers could not read it: {error}", path=path) from error
    reasons = sorted({reason for counts in left_out for reason in counts if reason != "duplicate"})
    if reasons:
        counts = ", ".join(f"{sum(found.get(reason, 0) for found in left_out)} × {reason}" for reason in reasons)
        hint = "remove them; docs/spec.md lists what a zone may say"
        raise ZoneFileError(f"readers would leave out records ({counts})", path=path, hint=hint)
