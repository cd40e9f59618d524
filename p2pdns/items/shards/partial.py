"""A divided zone of which some shards are at hand: what it answers, and what it needs to answer more.

A question machine of one step: `answer` returns the answer, or the items that it needs first; `with_value` takes one of
them. Guarantees: the answer to a question is that of the whole zone, but for additional records, whichever shards are
at hand; nothing is denied for want of an item. A value changes nothing in a `PartialZone`; it gives a new one. Of the
items a bounded number are kept, those that were used last. Does not know look-ups, clocks, or whether the head is
settled.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple, TypeVar

from p2pdns.dns.message import Question, RRset
from p2pdns.dns.name import Name
from p2pdns.dns.registry import Rcode, Type
from p2pdns.dns.zone.answer import CHAIN_LINKS_MAX, Kind, Search, ZoneAnswer, closest_encloser_in, wildcard_of
from p2pdns.errors import BadItem
from p2pdns.items.shards.directory import MANIFEST_PINS_MAX, Directory
from p2pdns.items.shards.head import Head, Unreadable
from p2pdns.items.shards.pinned import PIN_BYTES, Pinned, SaltLetter
from p2pdns.items.shards.shard import Shard
from p2pdns.items.shards.values import First, Manifest, Part, Whole, joined, verified

SHARDS_MAX = 1_024  # Shards of one zone at hand, as messages of a kilobyte each.
PARSED_MAX = 16  # Of them as records, of some 20 kB each. To make them takes 0.3 ms, and fronts keep answers.
SIZE_BYTES_MAX = 8 * 2**20  # Of one zone's items at hand: eight times what its shards take where none has parts.
MANIFESTS_MAX = 64  # Twice what one directory can have; each is 128 pins.
USED_MAX = 2 * SHARDS_MAX  # Salts whose last use is known; of evicted items too, so more than are at hand.
BEGUN_MAX = 64  # Shards whose parts are being fetched: up to 23 kB each, and a question waits for one at a time.


@dataclass(frozen=True, slots=True)
class Needed:
    """The items that a question needs before it can go on, all of them: to be looked up together."""

    items: tuple[Pinned, ...]

    def __str__(self) -> str:
        """Return the first of them in words, for an EDE."""
        return str(self.items[0])


class _HeldManifest(NamedTuple):
    wanted: Pinned
    manifest: Manifest

    @property
    def size_bytes(self) -> int:
        return PIN_BYTES * len(self.manifest.pins)


class _HeldShard(NamedTuple):
    """A shard as its message: its records would take some 20 kB."""

    wanted: Pinned
    message: bytes
    lowest_ttl: int | None
    dropped: Mapping[str, int]

    @property
    def size_bytes(self) -> int:
        return len(self.message)

    @property
    def place(self) -> int | None:
        return None if self.wanted.letter is SaltLetter.OWN else self.wanted.index


class _Begun(NamedTuple):
    """A shard in parts, with those further parts that are here."""

    wanted: Pinned
    first: First
    parts: Mapping[int, Part]

    @property
    def size_bytes(self) -> int:
        return len(self.first.slice) + sum([len(part.slice) for part in self.parts.values()])

    def missing(self) -> list[Pinned]:
        """Return the parts that are not here."""
        pins = enumerate(self.first.pins, 1)
        return [self.wanted.part(number, pin) for number, pin in pins if number not in self.parts]


Held = TypeVar("Held", _HeldManifest, _HeldShard, _Begun)


class _Missing(Exception):
    """A search has come to a name whose shard is not at hand."""

    def __init__(self, *items: Pinned) -> None:
        self.items = items


class _Unknown(Exception):
    """A search has come to a name below a directory that cannot be read."""


class PartialZone:
    """A head, and the manifests and shards of it that are at hand, by their salts."""

    __slots__ = ("_begun", "_lowest_ttl", "_manifests", "_parsed", "_shards", "_used", "head")

    def __init__(self, head: Head) -> None:
        self.head = head
        self._manifests: Mapping[bytes, _HeldManifest] = {}
        self._shards: Mapping[bytes, _HeldShard] = {}
        self._begun: Mapping[bytes, _Begun] = {}
        # The shards that were asked lately, by their salts. All zones of one head share it; it changes no answer.
        self._parsed: OrderedDict[bytes, Shard] = OrderedDict()
        # The salts of all items at hand, the least recently used first; shared likewise.
        self._used: OrderedDict[bytes, None] = OrderedDict()
        self._lowest_ttl: int | None = None

    @property
    def apex(self) -> Name:
        return self.head.apex

    @property
    def negative_soa(self) -> RRset:
        return self.head.zone.negative_soa

    @property
    def expire_seconds(self) -> int:
        """For how many seconds after the signing of its head the zone is fresh; shards have no age of their own."""
        return self.head.zone.expire_seconds

    @property
    def is_empty(self) -> bool:
        """Whether the zone has no record; one with a directory has some, somewhere."""
        return not self.head.directories and self.head.zone.is_empty

    def types_at(self, name: Name) -> Collection[int]:
        """Return the types that a name has, as far as they are at hand."""
        rtypes = _Names(self).at_hand(name)
        if name != self.apex:
            return tuple(rtypes)
        # The head makes an SOA where the publisher gave none.
        return tuple([rtype for rtype in rtypes if rtype != Type.SOA or (name, rtype) in self.head.zone.rrsets])

    @property
    def item_count(self) -> int:
        """How many items are at hand; a shard whose parts are being fetched is one."""
        return len(self._shards) + len(self._begun) + len(self._manifests)

    @property
    def size_bytes(self) -> int:
        """The bytes of the items at hand, without what keeps them: some 2 kB each."""
        return sum([held.size_bytes for held in self._all()])

    @property
    def shard_count(self) -> int:
        """How many shards are at hand."""
        return len(self._shards)

    @property
    def lowest_ttl(self) -> int:
        """The lowest TTL of all that is at hand."""
        if self._lowest_ttl is None:
            ttls = [held.lowest_ttl for held in self._shards.values()]
            self._lowest_ttl = min([self.head.zone.lowest_ttl, *(ttl for ttl in ttls if ttl is not None)])
        return self._lowest_ttl

    @property
    def dropped(self) -> Mapping[str, int]:
        """Reason -> how many records of the head and of the shards at hand were left out."""
        counts = dict(self.head.dropped)
        for held in self._shards.values():
            for reason, count in held.dropped.items():
                counts[reason] = counts.get(reason, 0) + count
        return MappingProxyType(counts)

    def answer(self, question: Question, links_max: int = CHAIN_LINKS_MAX) -> ZoneAnswer | Needed:
        """Return the answer to a question at or below the apex, or the items without which there is none."""
        assert question.name.is_at_or_below(self.head.apex), f"{question.name} is not in {self.head.apex}"
        try:
            return Search(_Names(self), question, links_max).run()
        except _Missing as missing:
            return Needed(missing.items)
        except _Unknown as unknown:
            return ZoneAnswer(Kind.FAILED, Rcode.SERVFAIL, reason=str(unknown))

    def with_value(self, wanted: Pinned, value: bytes) -> PartialZone:
        """Return this zone with one item more; BadItem where its value breaks a rule.

        An item that this head does not pin changes nothing: a newer head may have come while it was looked up.
        """
        said = verified(wanted, value)
        result = self._copy()
        if not self._may_pin(wanted.of or wanted):
            return result
        if isinstance(said, Manifest):
            result._manifests = self._with(self._manifests, _HeldManifest(wanted, said), MANIFESTS_MAX)
        elif isinstance(said, Whole):
            result._take_shard(wanted, said.message)
        elif isinstance(said, First):
            result._begun = self._with(self._begun, _Begun(wanted, said, {}), BEGUN_MAX)
        else:
            result._take_part(wanted, said)
        return result

    def with_head(self, head: Head) -> PartialZone:
        """Return the zone of a newer head, with all that is at hand and that it may pin too."""
        result = PartialZone(head)
        result._manifests = {
            salt: manifest for salt, manifest in self._manifests.items() if result._may_pin(manifest.wanted)
        }
        moved = _with_other_names(self.head, head)
        kept = {salt: held for salt, held in self._shards.items() if result._may_pin(held.wanted)}
        # What an own shard says depends on the head beside it, and a shard on the directories in it. To read all shards
        # of a large zone anew for one more directory would take a third of a second.
        again = [held for held in kept.values() if held.place is None or (held.wanted.owner, held.place) in moved]
        result._shards = kept
        for held in again:
            result._take_shard(held.wanted, held.message)
            has_more_foreign = result._shards[held.wanted.salt].dropped != held.dropped
            if has_more_foreign and result._is_pin_unknown(held.wanted):
                # No publisher pins a shard with foreign names, so it is one of the older head alone.
                result._shards = _without(result._shards, {held.wanted.salt: None})
        result._begun = {salt: begun for salt, begun in self._begun.items() if result._may_pin(begun.wanted)}
        salts = {held.wanted.salt for held in result._all()}
        result._used = OrderedDict.fromkeys([salt for salt in self._used if salt in salts])
        return result

    def with_items_of(self, other: PartialZone) -> PartialZone:
        """Return the zone with the items as well that another edition of it has, and that its head may pin."""
        moved = other.with_head(self.head)
        if not moved.item_count:
            return self
        for held in self._all():
            moved._note_used(held.wanted.salt)
        moved._manifests = {**moved._manifests, **self._manifests}
        moved._shards = {**moved._shards, **self._shards}
        begun = {salt: one for salt, one in {**moved._begun, **self._begun}.items() if salt not in moved._shards}
        moved._begun = begun
        return moved.smaller(SHARDS_MAX, SIZE_BYTES_MAX)

    def smaller(self, item_count_max: int, size_bytes_max: int) -> PartialZone:
        """Return the zone without its least recently used items, so that it has no more than so many and so large."""
        sizes = {held.wanted.salt: held.size_bytes for held in self._all()}
        count, size, gone = len(sizes), sum(sizes.values()), dict[bytes, None]()
        for salt in self._in_order_of_use(sizes):
            if count <= item_count_max and size <= size_bytes_max:
                break
            count, size = count - 1, size - sizes[salt]
            gone[salt] = None
        result = self._copy()
        result._shards = _without(self._shards, gone)
        result._begun = _without(self._begun, gone)
        result._manifests = _without(self._manifests, gone)
        return result

    def without(self, wanted: Pinned) -> PartialZone:
        """Return the zone without one of its items."""
        result, gone = self._copy(), {wanted.salt: None}
        result._shards = _without(self._shards, gone)
        result._begun = _without(self._begun, gone)
        result._manifests = _without(self._manifests, gone)
        return result

    def has(self, wanted: Pinned) -> bool:
        """Return whether an item is at hand."""
        if wanted.of is None:
            return any(wanted.salt in table for table in (self._shards, self._begun, self._manifests))
        begun = self._begun.get(wanted.of.salt)
        return wanted.of.salt in self._shards or (begun is not None and wanted.number in begun.parts)

    def shard_at(self, directory: Directory, index: int | None) -> Shard:
        """Return the shard with an index, or with None the own shard; `_Missing` tells what is not at hand."""
        wanted = self._wanted(directory, index)
        if (held := self._shards.get(wanted.salt)) is not None:
            return self._parsed_of(held, directory)
        begun = self._begun.get(wanted.salt)
        if begun is None:
            raise _Missing(wanted)
        raise _Missing(*begun.missing())

    def shard_at_hand(self, directory: Directory, index: int | None) -> Shard | None:
        """Return a shard if it is at hand."""
        try:
            return self.shard_at(directory, index)
        except _Missing:
            return None

    def _parsed_of(self, held: _HeldShard, directory: Directory) -> Shard:
        shard = self._parsed.get(held.wanted.salt)
        if shard is None:
            shard = Shard.verified(self.head, directory, held.place, held.message)
        self._note_parsed(held.wanted.salt, shard)
        self._note_used(held.wanted.salt)
        return shard

    def _note_parsed(self, salt: bytes, shard: Shard) -> None:
        self._parsed[salt] = shard
        self._parsed.move_to_end(salt)
        if len(self._parsed) > PARSED_MAX:
            self._parsed.popitem(last=False)

    def _wanted(self, directory: Directory, index: int | None) -> Pinned:
        if index is None:
            own = directory.own
            assert own is not None, f"{directory.owner} has no own shard"
            return own
        if not directory.by_manifests:
            return directory.shard(index)
        manifest = directory.manifest(index)
        held = self._manifests.get(manifest.salt)
        if held is None:
            raise _Missing(manifest)
        self._note_used(manifest.salt)
        return directory.shard(index, held.manifest.pins)

    def _may_pin(self, wanted: Pinned) -> bool:
        """Return whether the head pins an item, or a manifest that is not at hand may."""
        directory = self.head.directories.get(wanted.owner)
        if not isinstance(directory, Directory):
            return False
        if (directory.epoch, directory.bits) != (wanted.epoch, wanted.bits):
            return False
        if wanted.letter is SaltLetter.OWN:
            return directory.own == wanted
        if wanted.letter is SaltLetter.MANIFEST:
            return directory.by_manifests and directory.manifest(wanted.index * MANIFEST_PINS_MAX) == wanted
        try:
            return self._wanted(directory, wanted.index) == wanted
        except _Missing:
            return True

    def _is_pin_unknown(self, wanted: Pinned) -> bool:
        """Return whether the pin of a shard stands in a manifest that is not at hand."""
        directory = self.head.directories.get(wanted.owner)
        if wanted.letter is not SaltLetter.SHARD or not isinstance(directory, Directory) or not directory.by_manifests:
            return False
        return directory.manifest(wanted.index).salt not in self._manifests

    def _copy(self) -> PartialZone:
        result = PartialZone(self.head)
        result._manifests, result._shards, result._begun = self._manifests, self._shards, self._begun
        result._parsed, result._used = self._parsed, self._used
        return result

    def _all(self) -> Iterator[_HeldManifest | _HeldShard | _Begun]:
        yield from self._shards.values()
        yield from self._begun.values()
        yield from self._manifests.values()

    def _with(self, known: Mapping[bytes, Held], held: Held, count_max: int) -> Mapping[bytes, Held]:
        """Return a table with one entry more; where there are too many, the least recently used is left out."""
        salt = held.wanted.salt
        kept = {**known, salt: held}
        self._note_used(salt)
        if len(kept) > count_max:
            del kept[next(self._in_order_of_use(kept))]
        return kept

    def _in_order_of_use(self, salts: Collection[bytes]) -> Iterator[bytes]:
        """Yield these salts, the least recently used first."""
        yield from (salt for salt in salts if salt not in self._used)
        yield from (salt for salt in tuple(self._used) if salt in salts)

    def _note_used(self, salt: bytes) -> None:
        self._used[salt] = None
        self._used.move_to_end(salt)
        if len(self._used) > USED_MAX:
            self._used.popitem(last=False)

    def _take_shard(self, wanted: Pinned, message: bytes) -> None:
        directory = self.head.directories.get(wanted.owner)
        assert isinstance(directory, Directory), f"a directory pins {wanted}"
        held = _HeldShard(wanted, message, None, {})
        shard = Shard.verified(self.head, directory, held.place, message)
        held = held._replace(lowest_ttl=shard.lowest_ttl, dropped=shard.dropped or _NOTHING)
        self._shards = self._with(self._shards, held, SHARDS_MAX)
        self._note_parsed(wanted.salt, shard)
        self._begun = _without(self._begun, {wanted.salt: None})

    def _take_part(self, wanted: Pinned, part: Part) -> None:
        assert wanted.of is not None, f"{wanted} is a part"
        begun = self._begun.get(wanted.of.salt)
        # The shard may have been completed or evicted since this part was asked for.
        if begun is None:
            return
        if part.nonce != begun.first.nonce:
            raise BadItem("part-nonce", f"{wanted} is of another edition")
        begun = begun._replace(parts={**begun.parts, wanted.number: part})
        if not begun.missing():
            parts = [begun.parts[number] for number in range(1, len(begun.first.pins) + 1)]
            self._take_shard(begun.wanted, joined(begun.first, parts))
        else:
            self._begun = {**self._begun, wanted.of.salt: begun}


_NOTHING: Mapping[str, int] = MappingProxyType({})


def _without(known: Mapping[bytes, Held], gone: Mapping[bytes, None]) -> Mapping[bytes, Held]:
    """Return a table without some entries."""
    return {salt: held for salt, held in known.items() if salt not in gone}


def _with_other_names(before: Head, head: Head) -> dict[tuple[Name, int], None]:
    """Return the shards, by directory and index, in which a directory has come or gone."""
    owners = [*before.directories, *head.directories]
    changed = [owner for owner in owners if (owner in before.directories) != (owner in head.directories)]
    return {
        (directory.owner, directory.index_of(directory.cell_of(owner))): None
        for owner in changed
        for directory in head.directories.values()
        if isinstance(directory, Directory) and owner != directory.owner and owner.is_at_or_below(directory.owner)
    }


class _Names:
    """The names of a partial zone, for a search; a name whose shard is missing raises `_Missing`."""

    def __init__(self, zone: PartialZone) -> None:
        self._zone = zone
        self._head = zone.head
        self.apex = zone.head.apex
        self.negative_soa = zone.head.zone.negative_soa

    def closest_encloser(self, name: Name) -> Name:
        """Return the longest existing name at or above `name`."""
        directory = self._head.directory_of(name)
        if directory is None:
            # Here no directory is above, so the head has all names that there are.
            return closest_encloser_in(self._head.nodes, self.apex, name)
        # Nothing is below a DNAME, whatever a shard says.
        if name == directory.owner or Type.DNAME in self._head.nodes[directory.owner]:
            return directory.owner
        return self._shard_of(directory, name).closest_encloser(name)

    def has_wildcard(self, encloser: Name) -> bool:
        """Return whether the wildcard right below an existing name exists."""
        wildcard = wildcard_of(encloser)
        if wildcard is None or wildcard in self._head.directories:
            return wildcard is not None
        directory = self._head.directory_of(encloser)
        if directory is None:
            return wildcard in self._head.nodes
        # The flag spares a look-up for each name that does not exist.
        if isinstance(directory, Directory) and encloser == directory.owner and not directory.has_wildcard:
            return False
        return wildcard in self._shard_of(directory, wildcard).nodes

    def links_at(self, name: Name) -> Mapping[int, RRset]:
        """Return the RRsets of an existing name; those of a directory's owner as far as the head has them."""
        directory = self._head.directory_of(name)
        if directory is None or name == directory.owner:
            return self._head.nodes[name]
        return self._shard_of(directory, name).nodes[name]

    def rrsets_at(self, name: Name, rtype: int) -> Mapping[int, RRset]:
        """Return the RRsets of an existing name."""
        rrsets = self.links_at(name)
        directory = self._head.directory_of(name)
        if directory is None or name != directory.owner:
            return rrsets
        if (rtype in rrsets and rtype != Type.ANY) or Type.CNAME in rrsets:
            return rrsets
        if isinstance(directory, Unreadable):
            raise _Unknown(unknown_below(directory))
        if directory.own_pin is None:
            return rrsets
        return {**self._zone.shard_at(directory, None).nodes[name], **rrsets}

    def at_hand(self, name: Name) -> Mapping[int, RRset]:
        """Return the RRsets of any name, as far as they are at hand."""
        directory = self._head.directory_of(name)
        if directory is None or name == directory.owner or isinstance(directory, Unreadable):
            rrsets = self._head.nodes.get(name, {})
            if isinstance(directory, Directory) and directory.own_pin is not None:
                own = self._zone.shard_at_hand(directory, None)
                return rrsets if own is None else {**own.nodes[name], **rrsets}
            return rrsets
        shard = self._zone.shard_at_hand(directory, directory.index_of(directory.cell_of(name)))
        return {} if shard is None else shard.nodes.get(name, {})

    def _shard_of(self, directory: Directory | Unreadable, name: Name) -> Shard:
        if isinstance(directory, Unreadable):
            raise _Unknown(unknown_below(directory))
        return self._zone.shard_at(directory, directory.index_of(directory.cell_of(name)))


def unknown_below(directory: Unreadable) -> str:
    """Return why nothing is known of the names below a directory."""
    return f"the directory at {directory.owner} cannot be read: {directory.reason}"
