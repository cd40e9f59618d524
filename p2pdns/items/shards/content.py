"""What the item of a zone says: the whole zone, or a head with the shards that are at hand.

Guarantees: a divided zone is never read as a whole one, so its head alone denies no name of a shard. Either kind of
content gives an answer, or for a divided zone the items that an answer needs first. Does not know look-ups.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from p2pdns.dns.message import Question, RRset
from p2pdns.dns.message.rdata import rewrite_wires
from p2pdns.dns.name import Name
from p2pdns.dns.zone import Zone
from p2pdns.dns.zone.answer import CHAIN_LINKS_MAX, ZoneAnswer
from p2pdns.items.item import MutableItem
from p2pdns.items.shards.head import Head
from p2pdns.items.shards.partial import Needed, PartialZone
from p2pdns.values import replace


@dataclass(frozen=True, slots=True)
class MovedZone:
    """A divided zone as another apex of the same length shows it: that of a key which this one has followed."""

    inner: PartialZone
    apex: Name

    def answer(self, question: Question, links_max: int = CHAIN_LINKS_MAX) -> ZoneAnswer | Needed:
        """Return the answer to a question at or below the apex, or the items of the other key that it needs."""
        name = question.name.moved(self.apex, self.inner.apex)
        said = self.inner.answer(Question(name, question.rtype, question.rclass), links_max)
        if isinstance(said, Needed):
            return said
        return ZoneAnswer(
            said.kind,
            said.rcode,
            answer=self._moved(said.answer),
            authority=self._moved(said.authority),
            additional=self._moved(said.additional),
            target=None if said.target is None else self._name(said.target),
            delegates=said.delegates,
            reason=said.reason,
        )

    @property
    def negative_soa(self) -> RRset:
        return self._moved((self.inner.negative_soa,))[0]

    @property
    def dropped(self) -> Mapping[str, int]:
        """Reason -> how many records of the head and of the shards at hand were left out."""
        return self.inner.dropped

    @property
    def is_empty(self) -> bool:
        return self.inner.is_empty

    def types_at(self, name: Name) -> Collection[int]:
        """Return the types that a name has, as far as they are at hand."""
        return self.inner.types_at(name.moved(self.apex, self.inner.apex))

    def _moved(self, rrsets: tuple[RRset, ...]) -> tuple[RRset, ...]:
        return tuple(
            [
                replace(
                    rrset,
                    owner=self._name(rrset.owner),
                    rdatas=tuple([rewrite_wires(rrset.rtype, rdata, self._wire) for rdata in rrset.rdatas]),
                )
                for rrset in rrsets
            ]
        )

    def _name(self, name: Name) -> Name:
        return name.moved(self.inner.apex, self.apex) if name.is_at_or_below(self.inner.apex) else name

    def _wire(self, wire: bytes) -> bytes:
        return self._name(Name.parse(wire)[0]).wire()


ZoneContent = Zone | PartialZone | MovedZone
"""What a reader has of a zone: all of it, or a head with some shards, perhaps as the key before shows them."""


def content_of(item: MutableItem) -> Zone | PartialZone:
    """Return what an item says of its zone; BadItem where it has a salt, or its value is no DNS response."""
    head = Head.of(item)
    return PartialZone(head) if head.directories else head.zone


def moved(zone: ZoneContent, apex: Name) -> Zone | MovedZone:
    """Return a zone as another apex of the same length shows it."""
    if isinstance(zone, Zone):
        return zone.at(apex)
    return MovedZone(zone.inner if isinstance(zone, MovedZone) else zone, apex)
