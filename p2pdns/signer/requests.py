"""A request from bytes: header, question, records with their class and TTL, OPT and TSIG.

dnspython reads the records. Its message object drops the TTL of records without RDATA, which RFC 2136 wants checked,
and does not say where the TSIG begins, so the walk over the sections is here. Guarantees: both readers end for any
bytes in a `DnsRequest` or a FormatError; `skim_request` is cheap for any bytes, and finds what tells whose request it
is; names and RDATA of `parse_request` come out uncompressed. Does not know which zone is asked, or whether a TSIG is
right.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import cast

import dns.exception
import dns.name
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.rdtypes.ANY.TSIG
import dns.wire

from p2pdns.dns.labels import HEADER_BYTES
from p2pdns.dns.message import RR, Question
from p2pdns.dns.name import Name
from p2pdns.dns.registry import OPCODE_MASK, UDP_SIZE_BYTES_MIN, Class, Flag, Type
from p2pdns.errors import FormatError

QUERY, NOTIFY, UPDATE = 0, 4, 5  # Opcodes (RFC 6895 §2.2).
OPCODE_SHIFT = 11
# Labels of owners, and bytes that pointers stand for in RDATA. They are read before a TSIG is checked, and 64 kB of
# pointers to a long name take seconds; 1,000 records with names of ten labels stay below.
EXPANSION_MAX = 32_768
# All but an UPDATE has a question, an SOA at most, OPT and TSIG; a stranger's message is not read any further.
QUERY_BYTES_MAX = 4_096
QUERY_RECORDS_MAX = 8
_COUNTS = struct.Struct("!6H")
_RECORD = struct.Struct("!HHIH")
_POINTER_MIN, _LABEL_BYTES_MAX = 192, 63
# dnspython's readers of RDATA fail with other exceptions than its own for some bytes.
READER_ERRORS = (
    *(dns.exception.DNSException, struct.error, ValueError),
    *(LookupError, ArithmeticError, AttributeError, TypeError),
)


@dataclass(frozen=True)
class SignatureRecord:
    """The TSIG of a request as it stands there: the name of its key, its RDATA, and the offset of the record."""

    owner: dns.name.Name
    rdata: dns.rdtypes.ANY.TSIG.TSIG
    start: int


@dataclass(frozen=True)
class DnsRequest:
    """A request with one question; in an UPDATE that is the zone, and the sections are prerequisites and updates."""

    wire: bytes
    number: int
    flags: int
    question: Question
    answer: tuple[RR, ...]
    authority: tuple[RR, ...]
    opt: RR | None
    tsig: SignatureRecord | None

    @property
    def opcode(self) -> int:
        return (self.flags & OPCODE_MASK) >> OPCODE_SHIFT

    @property
    def payload_bytes(self) -> int:
        return UDP_SIZE_BYTES_MIN if self.opt is None else max(UDP_SIZE_BYTES_MIN, self.opt.rclass)


def name_of(name: dns.name.Name) -> Name:
    """Return a name of dnspython as ours."""
    return Name(name.labels[:-1])


def header_of(wire: bytes) -> tuple[int, int] | None:
    """Return id and flags of a request; None where there is no whole header, or it is a response."""
    if len(wire) < HEADER_BYTES:
        return None
    number, flags = struct.unpack_from("!HH", wire)
    return None if flags & Flag.QR else (number, flags)


def skim_request(wire: bytes) -> DnsRequest:
    """Return a request without its records but OPT and TSIG; FormatError where it is none, or larger than any.

    No name of a record is read, so it costs little whatever the bytes are.
    """
    try:
        return _skimmed(wire)
    except READER_ERRORS as trouble:
        raise FormatError("bad-request", str(trouble)[:80]) from None


def _skimmed(wire: bytes) -> DnsRequest:
    parser = dns.wire.Parser(wire)
    number, flags, questions, *counts = _COUNTS.unpack(parser.get_bytes(HEADER_BYTES))
    if questions != 1:
        raise FormatError("question-count", f"{questions}, 1 is needed")
    is_update = (flags & OPCODE_MASK) >> OPCODE_SHIFT == UPDATE
    count = sum(counts)
    # An UPDATE may have as many as 64 kB hold: to walk over one costs microseconds.
    if not is_update and (count > QUERY_RECORDS_MAX or len(wire) > QUERY_BYTES_MAX):
        raise FormatError("too-long", f"{count} records in {len(wire)} bytes")
    question = Question(name_of(parser.get_name(decompress=True)), *parser.get_struct("!HH"))
    at, tsig, opt = parser.current, None, None
    for index in range(count):
        start, at = at, _behind_name(wire, at)
        rtype, rclass, ttl, length = _RECORD.unpack_from(wire, at)
        at += _RECORD.size + length
        if rtype == Type.TSIG:
            if index < count - 1:
                raise FormatError("tsig-not-last")
            if not counts[2] or rclass != Class.ANY or ttl:
                raise FormatError("tsig-form")
            tsig = _signature_at(wire, start)
        elif rtype == Type.OPT:
            opt = RR(Name.root(), rtype, rclass, ttl, wire[at - length : at])
    if at != len(wire):
        raise FormatError("trailing-bytes", f"{len(wire) - at} after the message")
    return DnsRequest(wire, number, flags, question, (), (), opt, tsig)


def _behind_name(wire: bytes, at: int) -> int:
    """Return the offset behind a name, whose pointer is not followed."""
    while (length := wire[at]) and length < _POINTER_MIN:
        if length > _LABEL_BYTES_MAX:
            raise FormatError("label-type", str(length))
        at += 1 + length
    return at + (2 if length else 1)


def _signature_at(wire: bytes, start: int) -> SignatureRecord:
    parser = dns.wire.Parser(wire, start)
    owner = parser.get_name(decompress=True)
    *_, length = parser.get_struct("!HHIH")
    with parser.restrict_to(length):
        return SignatureRecord(owner, _tsig_rdata(parser), start)


def parse_request(wire: bytes) -> DnsRequest:
    """Return the request that is exactly these bytes; FormatError where they are none."""
    try:
        return _parse(wire)
    except READER_ERRORS as trouble:
        raise FormatError("bad-request", str(trouble)[:80]) from None


def _parse(wire: bytes) -> DnsRequest:
    parser = dns.wire.Parser(wire)
    number, flags, questions, *counts = _COUNTS.unpack(parser.get_bytes(HEADER_BYTES))
    if questions != 1:
        raise FormatError("question-count", f"{questions}, 1 is needed")
    name = name_of(parser.get_name(decompress=True))
    question = Question(name, *parser.get_struct("!HH"))
    sections: list[list[RR]] = [[], [], []]
    tsig: SignatureRecord | None = None
    expansion = 0
    for section, count in zip(sections, counts, strict=True):
        for _ in range(count):
            if tsig is not None:
                raise FormatError("tsig-not-last")
            start = parser.current
            owner = parser.get_name(decompress=True)
            rtype, rclass, ttl, length = parser.get_struct("!HHIH")
            with parser.restrict_to(length):
                if rtype == Type.TSIG:
                    if section is not sections[2] or rclass != Class.ANY or ttl:
                        raise FormatError("tsig-form")
                    tsig = SignatureRecord(owner, _tsig_rdata(parser), start)
                else:
                    rdata = _rdata(parser, rtype, length)
                    section.append(RR(name_of(owner), rtype, rclass, ttl, rdata))
                    expansion += len(owner.labels) + max(0, len(rdata) - length)
            if expansion > EXPANSION_MAX:
                raise FormatError("too-many-pointers")
    if parser.remaining():
        raise FormatError("trailing-bytes", f"{parser.remaining()} after the message")
    opts = [record for record in sections[2] if record.rtype == Type.OPT]
    if len(opts) > 1:
        raise FormatError("two-opts")
    answer, authority = tuple(sections[0]), tuple(sections[1])
    return DnsRequest(wire, number, flags, question, answer, authority, opts[0] if opts else None, tsig)


def _tsig_rdata(parser: dns.wire.Parser) -> dns.rdtypes.ANY.TSIG.TSIG:
    found = dns.rdata.from_wire_parser(dns.rdataclass.ANY, dns.rdatatype.TSIG, parser)
    return cast(dns.rdtypes.ANY.TSIG.TSIG, found)


def _rdata(parser: dns.wire.Parser, rtype: int, length: int) -> bytes:
    # A removal and a prerequisite have none, whatever the layout of their type is.
    # Those of SVCB are checked by the rules of a zone: RFC 9460 allows more than dnspython reads.
    if not length or rtype in (Type.OPT, Type.SVCB, Type.HTTPS):
        return bytes(parser.get_bytes(length))
    # The class of a removal is not that of its data: RFC 2136 §2.5.4.
    rdata = dns.rdata.from_wire_parser(dns.rdataclass.IN, dns.rdatatype.RdataType.make(rtype), parser)
    wire = rdata.to_wire()
    assert wire is not None, "without a file the bytes are returned"
    return wire
