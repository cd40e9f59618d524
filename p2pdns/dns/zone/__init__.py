"""A zone: verified content under one apex, and its answers.

Guarantees: a `Zone` that exists keeps every rule of `content` and never changes. It always has an SOA, which is made
from the item where the publisher gave none. Records that p2pdns alone makes are no content: they stand apart, and
neither hide a record nor are hidden by one.
Does not know: signatures (items/), suffixes and other zones (resolver/).
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from types import MappingProxyType

from p2pdns.dns.life import negative_ttl
from p2pdns.dns.message import RR, Question, RRset, records_of
from p2pdns.dns.message.rdata import rewrite_wires
from p2pdns.dns.message.wire import parse
from p2pdns.dns.name import Name
from p2pdns.dns.registry import OURS_ALONE, Class, Type
from p2pdns.dns.zone.answer import CHAIN_LINKS_MAX, Search, Tree, ZoneAnswer
from p2pdns.dns.zone.content import RRsets, select
from p2pdns.errors import BadItem, FormatError
from p2pdns.values import replace

MADE_SOA_TTL = 300  # Seconds; for this long, resolvers keep negative answers of a zone without an SOA of its own.
MADE_SOA_RETRY = 60  # Seconds; no server transfers these zones, so the field only has to be sane.
EXPIRE_S_MIN = 30 * 86400  # An item lives at least this long after it was signed, whatever its SOA says.
MICROSECONDS = 1_000_000  # The seq of an item counts these.


def records_in(value: bytes) -> tuple[tuple[RR, ...], Counter[str]]:
    """Return the records of a packet (docs/spec.md §3), and how many were left out of it, by reason.

    BadItem where the value is no DNS response. The rules on what a zone may say are `content`'s.
    """
    bad_rdata: dict[str, int] = {}
    try:
        message = parse(value, bad_rdata=bad_rdata)
    except FormatError as error:
        raise BadItem("not-dns", str(error)) from error
    if not message.is_response:
        raise BadItem("dns-query", "the value is a query, not a response")
    # Other readers of pkarr packets look at the answer section only, and must see the same zone.
    elsewhere = len(message.authority) + len(message.additional)
    # The plus sign leaves out counts of 0.
    return message.answer, +Counter({"bad-rdata": sum(bad_rdata.values()), "other-section": elsewhere})


class Zone:
    """The content of one item: the RRsets at and below its key."""

    __slots__ = ("_seq", "_tree", "apex", "dropped", "made", "rrsets", "soa")

    apex: Name
    rrsets: Mapping[tuple[Name, int], RRset]  # In canonical order, without a made SOA.
    dropped: Mapping[str, int]  # Reason -> how many records were left out.
    soa: RRset
    made: tuple[RR, ...]  # The records of the zone that p2pdns alone makes, as they stand in the item.

    def __init__(
        self, apex: Name, rrsets: RRsets, dropped: dict[str, int], seq: int, made: tuple[RR, ...] = ()
    ) -> None:
        self.apex = apex
        self.rrsets = MappingProxyType(rrsets)
        self.dropped = MappingProxyType(dropped)
        self.made = made
        self._seq = seq
        self.soa = rrsets.get((apex, Type.SOA)) or _made_soa(apex, seq)
        self._tree = self._grow()

    @classmethod
    def verified(cls, apex: Name, value: bytes, seq: int) -> Zone:
        """Return the zone in the value of a stranger's item; BadItem where the value is no DNS response.

        `seq` is the item's. A made SOA takes its serial from it.
        """
        records, dropped = records_in(value)
        # A commitment or a directory beside a CNAME would be dropped if it were judged as content.
        made = tuple(record for record in records if is_made(record, apex))
        content = [record for record in records if not is_made(record, apex)] if made else records
        return cls(apex, select(apex, content, dropped), dropped, seq, made)

    @classmethod
    def of(cls, apex: Name, rrsets: Iterable[RRset], seq: int) -> Zone:
        """Return the zone made of RRsets of our own, under the same rules as a stranger's."""
        dropped: Counter[str] = Counter()
        return cls(apex, select(apex, records_of(rrsets), dropped), dropped, seq)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Zone):
            return NotImplemented
        mine, theirs = (self.apex, self.soa, self.made), (other.apex, other.soa, other.made)
        return mine == theirs and dict(self.rrsets) == dict(other.rrsets)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"<Zone {self.apex} of {len(self.rrsets)} RRsets>"

    @property
    def expire_seconds(self) -> int:
        """For how many seconds after its signing an item with this content is fresh."""
        return max(int.from_bytes(self.soa.rdatas[0][-8:-4]), EXPIRE_S_MIN)

    @property
    def lowest_ttl(self) -> int:
        return min([self.soa.ttl, *(rrset.ttl for rrset in self.rrsets.values())])

    @property
    def is_empty(self) -> bool:
        """Whether the zone has no record of its publisher."""
        return not self.rrsets

    def types_at(self, name: Name) -> Collection[int]:
        """Return the types that a name has by its publisher."""
        return tuple([rtype for rtype in self.nodes.get(name, {}) if (name, rtype) in self.rrsets])

    @property
    def negative_soa(self) -> RRset:
        return self._tree.negative_soa

    @property
    def nodes(self) -> Mapping[Name, Mapping[int, RRset]]:
        """Every name that exists with its RRsets, empty non-terminals too; the SOA at the apex may be a made one."""
        return self._tree.nodes

    def answer(self, question: Question, links_max: int = CHAIN_LINKS_MAX) -> ZoneAnswer:
        """Return the answer to a question at or below the apex, after at most so many aliases; its class is not read.

        A chain of aliases may lead through several zones, so the caller says how many links it has left.
        """
        assert question.name.is_at_or_below(self.apex), f"{question.name} is not in {self.apex}"
        return Search(self._tree, question, links_max).run()

    def at(self, apex: Name) -> Zone:
        """Return this zone as another apex of the same length shows it.

        Each owner, and each name in RDATA, that ends in this zone's apex ends in the other one there. Records that
        p2pdns alone makes are about this key, and stay behind.
        """
        assert len(apex.wire()) == len(self.apex.wire()), "a name could become too long"

        def moved(wire: bytes) -> bytes:
            name = Name.parse(wire)[0]
            return name.moved(self.apex, apex).wire() if name.is_at_or_below(self.apex) else wire

        records = [
            replace(
                record,
                owner=record.owner.moved(self.apex, apex),
                rdata=rewrite_wires(record.rtype, record.rdata, moved),
            )
            for record in records_of(self.rrsets.values())
        ]
        dropped = Counter(self.dropped)
        return Zone(apex, select(apex, records, dropped), dropped, self._seq)

    def _grow(self) -> Tree:
        nodes: dict[Name, dict[int, RRset]] = {self.apex: {}}
        for (owner, rtype), rrset in self.rrsets.items():
            nodes.setdefault(owner, {})[rtype] = rrset
        if Type.CNAME not in nodes[self.apex]:
            nodes[self.apex][Type.SOA] = self.soa
        with_enclosers(self.apex, nodes)
        ttl = negative_ttl(self.soa.ttl, self.soa.rdatas[0])
        return Tree(self.apex, nodes, replace(self.soa, ttl=ttl))


def is_made(record: RR, apex: Name) -> bool:
    """Return whether a record is about the zone, and no content of it: one that p2pdns alone makes."""
    return record.rtype in OURS_ALONE and record.rclass == Class.IN and record.owner.is_at_or_below(apex)


def with_enclosers(apex: Name, nodes: dict[Name, dict[int, RRset]]) -> None:
    """Add the empty non-terminals below an apex: a name exists when anything exists below it (RFC 4592 §2.2.2)."""
    depth = len(apex.labels) + 1
    for owner in list(nodes):
        # Most names are right below the apex.
        if len(owner.labels) == depth and apex in nodes:
            continue
        name = owner
        while name != apex and name.parent() not in nodes:
            name = name.parent()
            nodes[name] = {}


def _made_soa(apex: Name, seq: int) -> RRset:
    serial = seq // MICROSECONDS & 0xFFFFFFFF
    numbers = struct.pack("!5I", serial, MADE_SOA_TTL, MADE_SOA_RETRY, EXPIRE_S_MIN, MADE_SOA_TTL)
    mailbox = apex.child(b"hostmaster") if len(apex.wire()) <= 240 else apex
    return RRset(apex, Type.SOA, MADE_SOA_TTL, (apex.wire() + mailbox.wire() + numbers,))
