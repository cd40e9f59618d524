"""Names, records and messages as hypothesis draws them, for the tests of dns/."""

from __future__ import annotations

import struct

from hypothesis import strategies as st

from p2pdns.dns.message import RR, Message, Question, RRset
from p2pdns.dns.name import Name
from p2pdns.dns.registry import Type
from p2pdns.errors import FormatError

KEY = Name.of(b"y" * 52)
OTHER_KEYS = (Name.of(b"b" * 52), Name.of(b"d" * 52))
TTLS = st.integers(0, 0xFFFFFFFF)

labels = st.binary(min_size=1, max_size=63)
plain_labels = st.sampled_from([b"a", b"b", b"c", b"*", b"www", b"WWW", b"_tcp", b"a.b", b"\x00", b"x" * 63])


def uncompressed(message: Message) -> bytes:
    """Return the wire form of a message without compression."""
    sections = (message.answer, message.authority, message.additional)
    asked = message.question
    wire = struct.pack("!6H", message.id, message.flags, asked is not None, *map(len, sections))
    wire += asked.wire() if asked is not None else b""
    for rr in (rr for section in sections for rr in section):
        wire += rr.owner.wire() + struct.pack("!HHIH", rr.rtype, rr.rclass, rr.ttl, len(rr.rdata)) + rr.rdata
    return wire


def _name_or_root(parts: list[bytes]) -> Name:
    try:
        return Name.of(*parts)
    except FormatError:
        return Name.root()


any_names = st.lists(labels, max_size=6).map(_name_or_root)
# Few labels, so that suffixes are shared and compression has something to do.
close_names = st.lists(plain_labels, max_size=5).map(_name_or_root)
zone_names = st.lists(plain_labels, max_size=3).map(lambda parts: Name.of(*parts, *KEY.labels))
names = st.one_of(any_names, close_names, zone_names)

NUMBERS = st.binary(min_size=20, max_size=20)
STRINGS = st.binary(max_size=20).map(lambda raw: bytes((len(raw),)) + raw)


def rdata_of(rtype: int, targets: st.SearchStrategy[Name]) -> st.SearchStrategy[bytes]:
    """Return well-formed RDATA of a type, its names drawn from `targets`."""
    wires = targets.map(Name.wire)
    two, four, six = (st.binary(min_size=size, max_size=size) for size in (2, 4, 6))
    if rtype == Type.A:
        return four
    if rtype == Type.AAAA:
        return st.binary(min_size=16, max_size=16)
    if rtype in (Type.NS, Type.CNAME, Type.PTR, Type.DNAME):
        return wires
    if rtype == Type.SOA:
        return st.tuples(wires, wires, NUMBERS).map(b"".join)
    if rtype == Type.MX:
        return st.tuples(two, wires).map(b"".join)
    if rtype == Type.SRV:
        return st.tuples(six, wires).map(b"".join)
    if rtype == Type.NAPTR:
        return st.tuples(four, STRINGS, STRINGS, STRINGS, wires).map(b"".join)
    if rtype in (Type.SVCB, Type.HTTPS):
        values = st.dictionaries(st.integers(7, 50), st.binary(max_size=5), max_size=3)
        params = values.map(lambda found: b"".join(struct.pack("!HH", k, len(v)) + v for k, v in sorted(found.items())))
        return st.tuples(two, wires, params).map(b"".join)
    return st.binary(max_size=40)


TYPES = (1, 28, 2, 5, 6, 12, 15, 16, 33, 35, 39, 64, 65, 257, 65280)
types = st.sampled_from(TYPES)


def records(owners: st.SearchStrategy[Name], targets: st.SearchStrategy[Name]) -> st.SearchStrategy[RR]:
    """Return well-formed records of class IN."""
    return types.flatmap(
        lambda rtype: st.builds(RR, owners, st.just(rtype), st.just(1), TTLS, rdata_of(rtype, targets))
    )


sections = st.lists(records(names, names), max_size=5).map(tuple)
messages = st.builds(
    Message,
    st.integers(0, 0xFFFF),
    st.integers(0, 0xFFFF),
    st.one_of(st.none(), st.builds(Question, names, types)),
    sections,
    sections,
    sections,
)

zone_targets = st.one_of(zone_names, st.sampled_from(OTHER_KEYS), close_names)
zone_records = st.lists(records(zone_names, zone_targets), max_size=12)


def rrsets_of(found: list[RR]) -> list[RRset]:
    """Return each record as a set of its own."""
    return [RRset(record.owner, record.rtype, record.ttl, (record.rdata,)) for record in found]
