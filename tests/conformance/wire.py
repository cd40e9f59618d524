"""Queries and responses as bytes, made and taken apart by hand; no code of the product reads them here."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import dns.message

A, NS, CNAME, SOA, PTR, MX, TXT, AAAA, SRV, DNAME, OPT, DS, RRSIG, NSEC = (
    1,
    2,
    5,
    6,
    12,
    15,
    16,
    28,
    33,
    39,
    41,
    43,
    46,
    47,
)
SVCB, HTTPS, NXNAME, TKEY, TSIG, IXFR, AXFR, ANY = 64, 65, 128, 249, 250, 251, 252, 255
IN, CH, HS = 1, 3, 4
NOERROR, FORMERR, SERVFAIL, NXDOMAIN, NOTIMP, REFUSED, BADVERS, BADCOOKIE = 0, 1, 2, 3, 4, 5, 16, 23
QR, AA, TC, RD, RA, Z, AD, CD = 0x8000, 0x0400, 0x0200, 0x0100, 0x0080, 0x0040, 0x0020, 0x0010
OPCODE, DO = 0x7800, 0x8000
NSID, COOKIE, KEEPALIVE, PADDING, EDE = 3, 10, 11, 12, 15
HEADER_BYTES = 12
POINTERS_MAX = 64


def labels(*parts: bytes) -> bytes:
    """Return a name of these labels on the wire."""
    return b"".join(bytes([len(part)]) + part for part in parts) + b"\x00"


def name(text: str) -> bytes:
    """Return a name of plain letters on the wire."""
    return labels(*(label.encode() for label in text.strip(".").split(".") if label))


def question(qname: str | bytes, qtype: int = A, qclass: int = IN) -> bytes:
    """Return the wire form of a question; bytes are a name on the wire already."""
    return (name(qname) if isinstance(qname, str) else qname) + struct.pack("!HH", qtype, qclass)


def option(code: int, data: bytes = b"") -> bytes:
    """Return one EDNS option."""
    return struct.pack("!HH", code, len(data)) + data


def opt(size: int = 1232, *options: bytes, version: int = 0, flags: int = 0, owner: bytes = b"\x00") -> bytes:
    """Return an OPT record."""
    rdata = b"".join(options)
    return owner + struct.pack("!HHBBHH", OPT, size, 0, version, flags, len(rdata)) + rdata


def record(owner: bytes, rtype: int, rdata: bytes, ttl: int = 300, rclass: int = IN) -> bytes:
    """Return one RR."""
    return owner + struct.pack("!HHIH", rtype, rclass, ttl, len(rdata)) + rdata


def query(
    asked: str | bytes = "",
    qtype: int = A,
    *,
    qclass: int = IN,
    number: int = 0x2B1D,
    flags: int = RD,
    additional: Sequence[bytes] = (),
    questions: Sequence[bytes] | None = None,
    answer: Sequence[bytes] = (),
    authority: Sequence[bytes] = (),
) -> bytes:
    """Return a query for one name, or with the questions given instead."""
    stated = [question(asked, qtype, qclass)] if questions is None else list(questions)
    head = struct.pack("!HHHHHH", number, flags, len(stated), len(answer), len(authority), len(additional))
    return head + b"".join([*stated, *answer, *authority, *additional])


@dataclass(frozen=True)
class Record:
    """One RR of a response: the owner with its pointers followed, RDATA as it stands, and where that begins."""

    owner: bytes
    rtype: int
    rclass: int
    ttl: int
    rdata: bytes
    at: int


@dataclass(frozen=True)
class Response:
    """A message that a server sent. Reading one that dnspython cannot read is an error of its own.

    `has_odd_rdata`: RDATA that dnspython refuses is passed over, because it is the subject.
    """

    wire: bytes
    has_odd_rdata: bool = False

    def __post_init__(self) -> None:
        """Refuse what is no response."""
        assert self.flags & QR, "not a response"
        dns.message.from_wire(self.wire, continue_on_error=self.has_odd_rdata)

    @property
    def id(self) -> int:
        """The ID."""
        return int.from_bytes(self.wire[:2], "big")

    @property
    def flags(self) -> int:
        """The second word of the header."""
        return int.from_bytes(self.wire[2:4], "big")

    @property
    def counts(self) -> tuple[int, ...]:
        """QDCOUNT, ANCOUNT, NSCOUNT, ARCOUNT."""
        return struct.unpack("!HHHH", self.wire[4:12])

    @property
    def rcode(self) -> int:
        """The response code, with the part of it that stands in OPT."""
        return self.flags & 0xF | (self.opt.ttl >> 24 << 4 if self.opt else 0)

    @cached_property
    def question(self) -> bytes:
        """The first question as it stands, or nothing."""
        if not self.counts[0]:
            return b""
        return self.wire[HEADER_BYTES : name_end(self.wire, HEADER_BYTES) + 4]

    @cached_property
    def sections(self) -> tuple[tuple[Record, ...], ...]:
        """Answer, authority, additional; OPT among the last."""
        at = HEADER_BYTES
        for _ in range(self.counts[0]):
            at = name_end(self.wire, at) + 4
        found = []
        for count in self.counts[1:]:
            section = []
            for _ in range(count):
                one, at = read_record(self.wire, at)
                section.append(one)
            found.append(tuple(section))
        assert at == len(self.wire), "bytes behind the last record"
        return tuple(found)

    @property
    def answer(self) -> tuple[Record, ...]:
        """The answer section."""
        return self.sections[0]

    @property
    def authority(self) -> tuple[Record, ...]:
        """The authority section."""
        return self.sections[1]

    @property
    def additional(self) -> tuple[Record, ...]:
        """The additional section without OPT."""
        return tuple(one for one in self.sections[2] if one.rtype != OPT)

    @cached_property
    def opt(self) -> Record | None:
        """OPT, if there is one; two are an error."""
        opts = [one for one in self.sections[2] if one.rtype == OPT]
        assert len(opts) < 2, "two OPT"
        return opts[0] if opts else None

    @cached_property
    def options(self) -> tuple[tuple[int, bytes], ...]:
        """The EDNS options, in their order."""
        found, at = [], 0
        rdata = self.opt.rdata if self.opt else b""
        while at < len(rdata):
            code, size = struct.unpack("!HH", rdata[at : at + 4])
            found.append((code, rdata[at + 4 : at + 4 + size]))
            at += 4 + size
        assert at == len(rdata), "an option runs past the end"
        return tuple(found)

    @property
    def ede(self) -> tuple[int, ...]:
        """The codes of the extended errors."""
        return tuple(int.from_bytes(data[:2], "big") for code, data in self.options if code == EDE)

    def data(self, rtype: int) -> list[bytes]:
        """Return the RDATA of a type in the answer section, in its order."""
        return [one.rdata for one in self.answer if one.rtype == rtype]

    def option(self, code: int) -> bytes | None:
        """Return the data of an option that comes at most once."""
        found = [data for at, data in self.options if at == code]
        assert len(found) < 2, f"option {code} twice"
        return found[0] if found else None


def name_end(wire: bytes, at: int) -> int:
    """Return the offset behind the name at an offset."""
    while wire[at]:
        if wire[at] >= 0xC0:
            return at + 2
        at += 1 + wire[at]
    return at + 1


def read_name(wire: bytes, at: int) -> bytes:
    """Return the name at an offset with its pointers followed, in the case it has."""
    found, jumps = b"", 0
    while wire[at]:
        if wire[at] >= 0xC0:
            jumps += 1
            assert jumps < POINTERS_MAX, "pointers without end"
            at = int.from_bytes(wire[at : at + 2], "big") & 0x3FFF
            continue
        found += wire[at : at + 1 + wire[at]]
        at += 1 + wire[at]
    return found + b"\x00"


def read_record(wire: bytes, at: int) -> tuple[Record, int]:
    """Return the RR at an offset, and the offset behind it."""
    fixed = name_end(wire, at)
    rtype, rclass, ttl, size = struct.unpack("!HHIH", wire[fixed : fixed + 10])
    start = fixed + 10
    assert start + size <= len(wire), "RDATA runs past the end"
    return Record(read_name(wire, at), rtype, rclass, ttl, wire[start : start + size], start), start + size
