"""RDATA: which types we look inside, what they are made of, the names in them.

Guarantees: every type without a layout here passes through untouched (RFC 3597); a function that takes RDATA takes it
uncompressed, and refuses what does not fit its layout.
Does not know: messages, owners, text.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from typing import Literal

from p2pdns.dns.labels import name_end
from p2pdns.dns.message import type_text
from p2pdns.dns.name import Name
from p2pdns.dns.registry import Type
from p2pdns.errors import FormatError

# What RDATA is made of where we look inside it: a domain name, a <character-string>, so many bytes, or the rest.
Field = Literal["name", "string", "rest"] | int
LAYOUTS: dict[int, tuple[Field, ...]] = {
    Type.A: (4,),
    Type.AAAA: (16,),
    Type.SOA: ("name", "name", 20),
    Type.MINFO: ("name", "name"),
    Type.MX: (2, "name"),
    Type.SRV: (6, "name"),
    Type.NAPTR: (4, "string", "string", "string", "name"),
    Type.SVCB: (2, "name", "rest"),
    Type.HTTPS: (2, "name", "rest"),
}
for _rtype in (Type.NS, Type.MD, Type.MF, Type.CNAME, Type.MB, Type.MG, Type.MR, Type.PTR, Type.DNAME):
    LAYOUTS[_rtype] = ("name",)

HINT_BYTES = {4: 4, 6: 16}  # ipv4hint and ipv6hint (RFC 9460 §7.3): bytes of one address.

# RFC 3597 §4: names in RDATA are compressed in the types of RFC 1035 and in no younger one.
COMPRESSIBLE = frozenset(
    [
        Type.NS,
        Type.MD,
        Type.MF,
        Type.CNAME,
        Type.SOA,
        Type.MB,
        Type.MG,
        Type.MR,
        Type.PTR,
        Type.MINFO,
        Type.MX,
    ]
)
# The types whose names are the zone's own words, so that a suffix or another apex changes them.
NAME_TYPES = frozenset(
    [
        Type.NS,
        Type.CNAME,
        Type.SOA,
        Type.PTR,
        Type.MX,
        Type.SRV,
        Type.NAPTR,
        Type.DNAME,
        Type.SVCB,
        Type.HTTPS,
    ]
)


def fields_of(rtype: int, rdata: bytes) -> list[Name | bytes]:
    """Return uncompressed RDATA cut along its layout, names as names; FormatError `rdata-length`."""
    return [Name.parse(raw)[0] if is_name else raw for is_name, raw in pieces_of(rtype, rdata)]


def pieces_of(rtype: int, rdata: bytes) -> list[tuple[bool, bytes]]:
    """Return uncompressed RDATA cut along its layout, and of each piece whether it is a name; errors as `fields_of`."""
    pieces: list[tuple[bool, bytes]] = []
    offset = 0
    for field in LAYOUTS.get(rtype, ("rest",)):
        if field == "name":
            end = name_end(rdata, offset)
            pieces.append((True, rdata[offset:end]))
            offset = end
            continue
        if field == "rest":
            size_bytes = len(rdata) - offset
        elif field == "string":
            size_bytes = 1 + rdata[offset] if offset < len(rdata) else 1
        else:
            size_bytes = field
        pieces.append((False, rdata[offset : offset + size_bytes]))
        offset += size_bytes
    if offset != len(rdata):
        raise FormatError("rdata-length", f"{type_text(rtype)} of {len(rdata)} bytes")
    return pieces


def names_in(rtype: int, rdata: bytes) -> tuple[Name, ...]:
    """Return the domain names inside RDATA, in order; none in types that pass through untouched."""
    if rtype not in NAME_TYPES:
        return ()
    return tuple([field for field in fields_of(rtype, rdata) if isinstance(field, Name)])


def rewrite_names(rtype: int, rdata: bytes, rewrite: Callable[[Name], Name]) -> bytes:
    """Return RDATA with `rewrite` applied to every name that `names_in` tells."""
    return rewrite_wires(rtype, rdata, lambda wire: rewrite(Name.parse(wire)[0]).wire())


def rewrite_wires(rtype: int, rdata: bytes, rewrite: Callable[[bytes], bytes]) -> bytes:
    """Return RDATA with `rewrite` applied to every name that `names_in` tells, as uncompressed bytes."""
    if rtype not in NAME_TYPES:
        return rdata
    return b"".join([rewrite(raw) if is_name else raw for is_name, raw in pieces_of(rtype, rdata)])


def svcb_params(rdata: bytes) -> tuple[tuple[int, bytes], ...]:
    """Return (key, value) of the parameters of SVCB or HTTPS RDATA; FormatError when they do not hold (RFC 9460)."""
    found: list[tuple[int, bytes]] = []
    offset = name_end(rdata, 2)
    while offset < len(rdata):
        if offset + 4 > len(rdata):
            raise FormatError("svcb-params", "truncated")
        key, length = struct.unpack_from("!HH", rdata, offset)
        value = rdata[offset + 4 : offset + 4 + length]
        if len(value) < length or (found and key <= found[-1][0]):
            raise FormatError("svcb-params", f"key {key} is cut short or out of order")
        # Whoever withholds addresses must find every one of them, so a hint that is no list of addresses is refused.
        if length % HINT_BYTES.get(key, 1) or (key in HINT_BYTES and not length):
            raise FormatError("svcb-params", f"hint {key} of {length} bytes")
        found.append((key, value))
        offset += 4 + length
    return tuple(found)


def with_svcb_params(rdata: bytes, params: Iterable[tuple[int, bytes]]) -> bytes:
    """Return SVCB or HTTPS RDATA with other parameters, which come in rising order of key."""
    offset = name_end(rdata, 2)
    return rdata[:offset] + b"".join([struct.pack("!HH", key, len(value)) + value for key, value in params])
