"""A query as the tests read it: by code of their own, so that a mistake of the gate is not repeated here.

Guarantees: any bytes end in a `Reading`. Only what decides the shape of a reply is in it: the question where there is
exactly one that can be read, and the first OPT where one can be reached.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

QUESTIONS_MAX = 8  # More are refused unread, with whatever stands behind them.
RECORDS_MAX = 64  # An OPT behind so many others is not looked for.
UDP_MIN, UDP_MAX, STREAM_MAX = 512, 1232, 65_535
OPT, COOKIE = 41, 10


class _Unreadable(Exception):
    """The rest of the query makes no sense."""


@dataclass(slots=True)
class Reading:
    """What could be read; `opt` is (size, TTL field, RDATA); `is_cut` says that something is missing or unreadable."""

    is_query: bool = False
    is_cut: bool = False
    question: bytes = b""
    opt: tuple[int, int, bytes] | None = None

    def size_max(self, *, is_stream: bool) -> int:
        """Return how long a reply may be."""
        if is_stream:
            return STREAM_MAX
        return UDP_MIN if self.opt is None else min(max(self.opt[0], UDP_MIN), UDP_MAX)

    @property
    def wants_dnssec(self) -> bool:
        """Return the DO bit."""
        return self.opt is not None and bool(self.opt[1] & 0x8000)

    @property
    def cookies(self) -> list[bytes]:
        """Return every cookie up to where the options stop making sense."""
        return [value for code, value in options_of(self.opt[2] if self.opt else b"") if code == COOKIE]


def options_of(rdata: bytes) -> list[tuple[int, bytes]]:
    """Return the options of an OPT up to the first that is cut short."""
    options = []
    while len(rdata) >= 4:
        code, size = struct.unpack_from("!HH", rdata)
        if len(rdata) < 4 + size:
            break
        options.append((code, rdata[4 : 4 + size]))
        rdata = rdata[4 + size :]
    return options


def reading_of(data: bytes) -> Reading:
    """Return what can be read of a message from a client."""
    reading = Reading()
    if len(data) < 12 or data[2] & 0x80:
        return reading
    reading.is_query = True
    questions, answers, authorities, additionals = struct.unpack_from("!4H", data, 4)
    if questions > QUESTIONS_MAX:
        return reading
    try:
        at = 12
        for _ in range(questions):
            at = _behind_question(data, at)
        # With another opcode it is no question, whatever it looks like.
        if questions == 1 and not data[2] & 0x78:
            reading.question = data[12:at]
        for number in range(min(answers + authorities + additionals, RECORDS_MAX)):
            start, at = at, _behind_owner(data, at)
            if at + 10 > len(data):
                raise _Unreadable
            rtype, rclass, ttl, size = struct.unpack_from("!HHIH", data, at)
            at += 10 + size
            if at > len(data):
                raise _Unreadable
            if rtype == OPT:
                # One at another place or under another name is none, and nothing behind it is believed.
                if data[start] == 0 and number >= answers + authorities:
                    reading.opt = (rclass, ttl, data[at - size : at])
                break
    except _Unreadable:
        reading.is_cut = True
    return reading


def _behind_question(data: bytes, start: int) -> int:
    at = start
    while at < len(data) and data[at]:
        if data[at] > 63:
            raise _Unreadable
        at += 1 + data[at]
    if at + 5 > len(data) or at + 1 - start > 255:
        raise _Unreadable
    return at + 5


def _behind_owner(data: bytes, at: int) -> int:
    while at < len(data):
        if data[at] >= 0xC0:
            return at + 2
        if data[at] > 63:
            break
        if data[at] == 0:
            return at + 1
        at += 1 + data[at]
    raise _Unreadable
