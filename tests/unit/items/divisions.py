"""Divided zones for tests, made by hand: which names have directories, of how many shards, is the test's choice.

Written against docs/spec.md and not against items/dividing, so that the readers are tried with zones that no divider of
ours would make.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from p2pdns.dns.message import RR, Message, Question, RRset, records_of
from p2pdns.dns.message.wire import compose
from p2pdns.dns.name import Name
from p2pdns.dns.registry import Type
from p2pdns.dns.zone import Zone
from p2pdns.dns.zone.answer import ZoneAnswer
from p2pdns.items.shards.head import Head
from p2pdns.items.shards.partial import Needed, PartialZone

SEQ = 1_790_000_000_000_000
DIRECTORY = 65310
GETS_MAX = 400  # A search that needs more does not end.


@dataclass(frozen=True)
class Made:
    """How one directory is made. `own_types` are the types of its owner that are in the own shard."""

    owner: Name
    bits: int = 0
    by_manifests: bool = False
    own_types: frozenset[int] = frozenset()
    epoch: int = 1_790_000_000
    part_bytes: int = 0  # Of a slice; 0 leaves shards whole.


@dataclass
class Items:
    """A divided zone: the head's value, and the values under salts."""

    apex: Name
    head: bytes = b""
    values: dict[bytes, bytes] = field(default_factory=dict)

    def read_head(self) -> Head:
        """Return the head as a reader sees it."""
        return Head.verified(self.apex, self.head, SEQ)

    def partial(self) -> PartialZone:
        """Return the zone of a reader who has the head alone."""
        return PartialZone(self.read_head())


def packet(records: Sequence[RR]) -> bytes:
    """Return the message with these records."""
    return compose(Message(0, 0x8000, None, tuple(records)))


def pin(value: bytes) -> bytes:
    """Return the first four bytes of a hash."""
    return hashlib.sha256(value).digest()[:4]


def salt(letter: bytes, owner: Name, epoch: int, bits: int, index: int, number: int, pinned: bytes) -> bytes:
    """Return the salt as the page gives it."""
    where = epoch.to_bytes(4) + bytes([bits]) + index.to_bytes(2) + bytes([number])
    return letter + hashlib.sha256(owner.folded().wire() + where + pinned).digest()[:15]


def index(owner: Name, epoch: int, bits: int, label: bytes) -> int:
    """Return the index of a cell."""
    digest = hashlib.sha256(owner.folded().wire() + epoch.to_bytes(4) + label.lower()).digest()
    return int.from_bytes(digest) >> (256 - bits)


def exists_below(zone: Zone, owner: Name, label: bytes) -> bool:
    """Return whether a name exists in a zone."""
    return owner.child(label) in zone.nodes


def divided(zone: Zone, mades: Sequence[Made], copies: Sequence[RRset] = ()) -> Items:
    """Return the items of a zone with these directories."""
    items = Items(zone.apex)
    head: list[RR] = list(records_of(copies))
    owners = {made.owner: made for made in mades}
    contents: dict[tuple[Name, int | None], list[RRset]] = {}
    for rrset in zone.rrsets.values():
        made = next(
            (
                owners[rrset.owner.ancestor(depth)]
                for depth in range(len(rrset.owner.labels), 0, -1)
                if rrset.owner.ancestor(depth) in owners
            ),
            None,
        )
        if made is None or (rrset.owner == made.owner and rrset.rtype not in made.own_types):
            head += rrset.records()
        elif rrset.owner == made.owner:
            contents.setdefault((made.owner, None), []).append(rrset)
        else:
            label = rrset.owner.labels[len(rrset.owner.labels) - len(made.owner.labels) - 1]
            contents.setdefault((made.owner, index(made.owner, made.epoch, made.bits, label)), []).append(rrset)
    for made in mades:
        head.append(RR(made.owner, DIRECTORY, 1, 300, directory(zone, made, contents, items.values)))
    items.head = packet(head)
    return items


def directory(
    zone: Zone, made: Made, contents: Mapping[tuple[Name, int | None], list[RRset]], values: dict[bytes, bytes]
) -> bytes:
    """Return the RDATA of a directory, after all that it pins is among the values."""
    owner, epoch, bits = made.owner, made.epoch, made.bits

    def place(letter: bytes, at: int, value: bytes, number: int = 0) -> bytes:
        values[salt(letter, owner, epoch, bits, at, number, pin(value))] = value
        return pin(value)

    def shard(letter: bytes, part_letter: bytes, at: int, rrsets: list[RRset]) -> bytes:
        message = packet(records_of(rrsets))
        nonce = hashlib.sha256(letter + owner.wire() + at.to_bytes(2)).digest()[-4:]
        slices = [message]
        if made.part_bytes:
            slices = [message[start : start + made.part_bytes] for start in range(0, len(message), made.part_bytes)]
        if len(slices) == 1 or len(slices) > 25:
            return place(letter, at, b"\0" + nonce + message)
        pins = [place(part_letter, at, b"\3" + nonce + piece, n) for n, piece in enumerate(slices[1:], 1)]
        return place(letter, at, b"\1" + nonce + bytes([len(pins)]) + b"".join(pins) + slices[0])

    own = contents.get((owner, None), [])
    own_pin = shard(b"a", b"b", 0, own) if made.own_types else b""
    pins = [shard(b"s", b"p", at, contents.get((owner, at), [])) for at in range(1 << bits)]
    if made.by_manifests:
        groups = [pins[first : first + 128] for first in range(0, len(pins), 128)]
        pins = [place(b"m", at, b"\2" + b"mani" + b"".join(group)) for at, group in enumerate(groups)]
    flags = exists_below(zone, owner, b"*") | 2 * bool(made.own_types) | 4 * made.by_manifests
    return bytes([1, bits, flags]) + epoch.to_bytes(4) + own_pin + b"".join(pins)


def asked(zone: PartialZone, question: Question, values: Mapping[bytes, bytes]) -> tuple[ZoneAnswer, PartialZone, int]:
    """Return the answer of a zone whose items are all to be had, the zone then, and after how many rounds of gets."""
    for rounds in range(GETS_MAX):
        outcome = zone.answer(question)
        if isinstance(outcome, ZoneAnswer):
            return outcome, zone, rounds
        assert isinstance(outcome, Needed)
        for wanted in outcome.items:
            zone = zone.with_value(wanted, values[wanted.salt])
    raise AssertionError(f"{question} needs items without end")


def is_blocked(zone: Zone, name: Name) -> bool:
    """Return whether a name cannot have a directory: it has NS below the apex."""
    return Type.NS in zone.nodes.get(name, {}) and name != zone.apex
