"""DNS messages as values: Question, RR, RRset, Message; and the text form of RR types.

Guarantees: the values are immutable. `wire` turns bytes into a Message and back; `rdata` looks inside RDATA.
Does not know: compression, layouts of RDATA, limits of a message, text forms of RDATA (dns/zonefile).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable

from p2pdns.dns.name import Name
from p2pdns.dns.registry import RCODE_MASK, Class, Flag, Type
from p2pdns.errors import FormatError
from p2pdns.values import Value

_OPT = int(Type.OPT)
_TYPE_TEXTS = {int(member): member.name for member in Type}


def type_of(text: str) -> int:
    """Return the code of an RR type in text, in any case; FormatError when there is none.

    >>> type_of("aaaa"), type_of("TYPE65280")
    (28, 65280)
    """
    upper = text.upper()
    if upper in Type.__members__:
        return int(Type[upper])
    digits = upper.removeprefix("TYPE")
    if digits != upper and digits.isascii() and digits.isdigit() and len(digits) <= 5 and int(digits) <= 0xFFFF:
        return int(digits)
    raise FormatError("unknown-type", repr(text[:20]))


def type_text(code: int) -> str:
    """Return the mnemonic of an RR type, or `TYPE` and the code where it has none."""
    return _TYPE_TEXTS.get(code) or f"TYPE{code}"


class Question(Value, frozen=True):
    """A name, a type and a class."""

    name: Name
    rtype: int
    rclass: int = Class.IN

    def wire(self) -> bytes:
        """Return name, type and class, uncompressed."""
        return self.name.wire() + struct.pack("!HH", self.rtype, self.rclass)

    @staticmethod
    def parse(wire: bytes) -> Question:
        """Return the question that is exactly these bytes."""
        name, offset = Name.parse(wire)
        if len(wire) != offset + 4:
            raise FormatError("question-length", f"{len(wire)} bytes, expected {offset + 4}")
        return Question(name, *struct.unpack_from("!HH", wire, offset))

    def __str__(self) -> str:
        return f"{self.name} {type_text(self.rtype)}"


class RR(Value, frozen=True):
    """One resource record; `rdata` is uncompressed wire form."""

    owner: Name
    rtype: int
    rclass: int
    ttl: int
    rdata: bytes


class RRset(Value, frozen=True):
    """The RRs of one owner and type, class IN, under one TTL; `rdatas` are uncompressed wire form."""

    owner: Name
    rtype: int
    ttl: int
    rdatas: tuple[bytes, ...]

    def records(self) -> tuple[RR, ...]:
        """Return the RRs of the set, in its order."""
        return tuple([RR(self.owner, self.rtype, Class.IN, self.ttl, rdata) for rdata in self.rdatas])


def records_of(rrsets: Iterable[RRset]) -> tuple[RR, ...]:
    """Return the RRs of several sets, in order."""
    return tuple([record for rrset in rrsets for record in rrset.records()])


class Message(Value, frozen=True):
    """A DNS message. OPT stays an RR of the additional section; `flags` is the header's whole second word."""

    id: int = 0
    flags: int = 0
    question: Question | None = None
    answer: tuple[RR, ...] = ()
    authority: tuple[RR, ...] = ()
    additional: tuple[RR, ...] = ()

    @property
    def opt(self) -> RR | None:
        """The OPT pseudo-RR (RFC 6891), if any."""
        for record in self.additional:
            if record.rtype == _OPT:
                return record
        return None

    @property
    def rcode(self) -> int:
        """The response code, with the upper bits that OPT carries."""
        opt = self.opt
        return (self.flags & RCODE_MASK) | ((opt.ttl >> 24 << 4) if opt is not None else 0)

    @property
    def is_response(self) -> bool:
        return bool(self.flags & Flag.QR)

    @property
    def ad(self) -> bool:
        return bool(self.flags & Flag.AD)
