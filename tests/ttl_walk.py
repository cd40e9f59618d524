"""Where the TTLs of a message stand, found by walking over its bytes: what the front is told must be the same."""

from __future__ import annotations

import struct

OPT = 41
_FIXED = struct.Struct("!HHIH")  # What stands between owner and RDATA: type, class, TTL, length.


def ttl_offsets(wire: bytes) -> tuple[int, ...]:
    """Return where in a message that holds the TTL of each RR stands, in order; OPT has none."""
    questions, *records = struct.unpack_from("!4H", wire, 4)
    offsets = []
    at = 12
    for _ in range(questions):
        at = _behind_name(wire, at) + 4
    for _ in range(sum(records)):
        at = _behind_name(wire, at)
        rtype, _, _, length = _FIXED.unpack_from(wire, at)
        if rtype != OPT:
            offsets.append(at + 4)
        at += _FIXED.size + length
    return tuple(offsets)


def _behind_name(wire: bytes, at: int) -> int:
    while length := wire[at]:
        if length >= 0xC0:
            return at + 2
        at += 1 + length
    return at + 1
