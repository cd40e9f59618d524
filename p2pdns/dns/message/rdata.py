"""RDATA: the types whose RDATA has a layout here, and the names in it.

Guarantees: RDATA of every other type passes through untouched (RFC 3597). Functions take uncompressed RDATA and refuse
RDATA that does not fit its layout.
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

# The fields of RDATA: a domain name, a <character-string>, so many bytes, or all bytes that are left.
Field = Literal["name", "string", "rest"] | int
_OBSOLETE = (Type.MD, Type.MF, Type.MB, Type.MG, Type.MR)
LAYOUTS: dict[int, tuple[Field, ...]] = {
    **dict.fromkeys((Type.NS, Type.CNAME, Type.PTR, Type.DNAME, *_OBSOLETE), ("name",)),
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
_WITH_NAMES = frozenset(rtype for rtype, layout in LAYOUTS.items() if "name" in layout)

# RFC 3597 §4: names in RDATA are compressed in the types of RFC 1035, which end with TXT, and in no younger one.
COMPRESSIBLE = frozenset(rtype for rtype in _WITH_NAMES if rtype <= Type.TXT)
# The types whose names change when a zone gets another suffix or apex.
NAME_TYPES = _WITH_NAMES - {*_OBSOLETE, Type.MINFO}
HINT_BYTES = {4: 4, 6: 16}  # SvcParamKeys ipv4hint and ipv6hint (RFC 9460 §14.3.2), and the bytes of an address.


def pieces_of(rtype: int, rdata: bytes) -> list[tuple[bool, bytes]]:
    """Return the fields of uncompressed RDATA, each with whether it is a name; FormatError `rdata-length`."""
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
    """Return the domain names inside RDATA, in order; none for a type that is not in `NAME_TYPES`."""
    if rtype not in NAME_TYPES:
        return ()
    return tuple([Name.parse(raw)[0] for is_name, raw in pieces_of(rtype, rdata) if is_name])


def rewrite_wires(rtype: int, rdata: bytes, rewrite: Callable[[bytes], bytes]) -> bytes:
    """Return RDATA with `rewrite` applied to the uncompressed bytes of every name that `names_in` finds."""
    if rtype not in NAME_TYPES:
        return rdata
    return b"".join([rewrite(raw) if is_name else raw for is_name, raw in pieces_of(rtype, rdata)])


def svcb_params(rdata: bytes) -> tuple[tuple[int, bytes], ...]:
    """Return (key, value) of the parameters of SVCB or HTTPS RDATA; FormatError where they break RFC 9460."""
    found: list[tuple[int, bytes]] = []
    offset = name_end(rdata, 2)
    while offset < len(rdata):
        if offset + 4 > len(rdata):
            raise FormatError("svcb-params", "truncated")
        key, length = struct.unpack_from("!HH", rdata, offset)
        value = rdata[offset + 4 : offset + 4 + length]
        if len(value) < length or (found and key <= found[-1][0]):
            raise FormatError("svcb-params", f"key {key} is cut short or out of order")
        # resolver/rebinding must find every address in RDATA, so a hint that is no list of addresses is refused.
        if length % HINT_BYTES.get(key, 1) or (key in HINT_BYTES and not length):
            raise FormatError("svcb-params", f"hint {key} of {length} bytes")
        found.append((key, value))
        offset += 4 + length
    return tuple(found)


def with_svcb_params(rdata: bytes, params: Iterable[tuple[int, bytes]]) -> bytes:
    """Return SVCB or HTTPS RDATA with these parameters, which the caller has sorted by key."""
    offset = name_end(rdata, 2)
    return rdata[:offset] + b"".join([struct.pack("!HH", key, len(value)) + value for key, value in params])
