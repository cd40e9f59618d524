"""Replies of an upstream made to be expensive, and the whole way of one through the engine to the front.

`heavy_replies` says the same few things in as many ways as fit: many owners, deep ones, many records of one owner,
names and addresses in RDATA, chains. `Way` reads a reply, resolves the question with it, withholds addresses, writes
the answer, frames it, and reads the frame as the front does.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from types import FrameType

from p2pdns.config import CacheTable
from p2pdns.dns.message import Question
from p2pdns.dns.registry import Class
from p2pdns.engine.link_server import compose_answer
from p2pdns.errors import StrangerError
from p2pdns.front.cache import AnswerCache
from p2pdns.link import Answer, FrameReader
from p2pdns.link import compose as compose_frame
from p2pdns.net.upstream.exchange import REPLY_RECORDS_MAX, Trouble, read_reply
from p2pdns.resolver.blocking import BlockedNames
from p2pdns.resolver.names import ResolverSettings
from p2pdns.resolver.resolution import Resolution
from p2pdns.resolver.steps import Answered, Forward, NoReply, Replied, Resolved
from tests.fuzz.costs import DATAGRAM_BYTES
from tests.fuzz.queries import record

MESSAGE_BYTES = 65_535
RECORDS = REPLY_RECORDS_MAX
DEPTHS = (1, 3, 8, 16, 24, 32, 48, 64, 100, 126)
KEY_OF_NOBODY = b"y" * 50
# All that is looked at is set: a list of names, suffixes, and addresses withheld from upstreams too.
SETTINGS = ResolverSettings(withholds_upstreams=True, blocked=BlockedNames(["ads.example", "a.b.c.d.example"]))


class Way:
    """What an engine and a front do with a reply, one call after another."""

    def __init__(self, settings: ResolverSettings = SETTINGS) -> None:
        self._settings = settings
        self._cache = AnswerCache(CacheTable(answers_bytes_max=1 << 24))

    def go(self, reply: bytes) -> Resolved | None:
        """Return the answer that a reply leads to; None where none is made of it."""
        with suppress(StrangerError):
            message = read_reply(reply)
            if isinstance(message, Trouble) or message.question is None:
                return None
            question = Question(message.question.name.folded(), message.question.rtype, Class.IN)
            resolution = Resolution(question, settings=self._settings, now=0.0, deadline=4.0)
            step = resolution.next_step(0.0)
            if isinstance(step, Forward):
                step = resolution.step_done(Replied(message), 0.0)
            if isinstance(step, Forward):
                # What an alias leads to is another question, with a reply of its own.
                step = resolution.step_done(NoReply("nobody knows the rest"), 0.0)
            if isinstance(step, Answered):
                self._front(compose_frame(compose_answer(1, step.answer, 0)))
                return step.answer
        return None

    def _front(self, data: bytes) -> None:
        (frame,) = FrameReader().feed(data)
        assert isinstance(frame, Answer), "an answer was framed"
        self._cache.put(b"", self._cache.accepted(frame, 0.0), 0.0)


def calls_of(work: Callable[[bytes], object], data: bytes) -> int:
    """Return how many calls, of Python and of C, some work makes: the same number on every machine, however busy."""
    count = 0

    def counted(_frame: FrameType, event: str, _argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(counted)
    try:
        work(data)
    finally:
        sys.setprofile(before)
    return count


def _pointer(offset: int) -> bytes:
    return struct.pack("!H", 0xC000 | offset)


def _reply(depth: int, make: Callable[[int], bytes], size_bytes: int, parts: int) -> bytes:
    """Return a reply of that size to a question of that many labels, its records in one section or in three."""
    asked = b"\x01a" * depth + b"\x00" + struct.pack("!HH", 1, 1)
    records: list[bytes] = []
    left = size_bytes - 12 - len(asked)
    while len(records) < RECORDS and len(made := make(len(records))) <= left:
        records.append(made)
        left -= len(made)
    share = len(records) // parts
    counts = (share, share, len(records) - 2 * share) if parts == 3 else (len(records), 0, 0)
    return struct.pack("!6H", 0, 0x8180, 1, *counts) + asked + b"".join(records)


def _makes(depth: int) -> dict[str, Callable[[int], bytes]]:
    asked = _pointer(12)

    def number(n: int) -> bytes:
        return struct.pack("!H", n)

    def child(n: int) -> bytes:
        return b"\x02" + number(n) + asked

    def inside(n: int) -> bytes:
        return _pointer(12 + 2 * (n % depth))

    def key(n: int) -> bytes:
        return b"\x34" + KEY_OF_NOBODY + bytes([97 + n % 26, 97 + n // 26 % 26])

    a, ns, cname, soa, minfo, mx, txt, aaaa, srv, naptr = 1, 2, 5, 6, 14, 15, 16, 28, 33, 35
    dname, apl, ipseckey, rrsig, nsec, https = 39, 42, 45, 46, 47, 65
    return {
        "addresses": lambda n: record(asked, a, b"\x01\x01" + number(n)),
        "addresses of children": lambda n: record(child(n), a, b"\x01\x01" + number(n)),
        "addresses of parents": lambda n: record(inside(n), a, b"\x01\x01" + number(n)),
        "long addresses": lambda n: record(child(n % 60), aaaa, b"\x20\x01\x0d\xb8" + bytes(10) + number(n)),
        "nothing": lambda n: record(asked, 65_280),
        "types": lambda n: record(child(n % 60), 1000 + n),
        "types of children": lambda n: record(child(n), 1000 + n),
        "servers": lambda n: record(asked, ns, child(n)),
        "exchangers": lambda n: record(asked, mx, number(n) + asked),
        "exchangers of their own": lambda n: record(asked, mx, number(n) + child(n)),
        "services": lambda n: record(child(n), srv, number(n) + bytes(4) + asked),
        "SOAs": lambda n: record(inside(n), soa, asked + asked + number(n) + bytes(18)),
        "MINFOs": lambda n: record(asked, minfo, child(n) + inside(n)),
        "NAPTRs": lambda n: record(asked, naptr, number(n) + bytes(5) + asked),
        "a chain": lambda n: record(child(n - 1) if n else asked, cname, child(n)),
        "DNAMEs": lambda n: record(b"\x02" + number(n) + inside(n), dname, asked),
        "CNAMEs and DNAMEs": lambda n: record(child(n - 1) if n else asked, dname if n % 2 else cname, child(n)),
        "hints": lambda n: record(asked, https, number(n) + b"\x00\x00\x04\x00\x18" + b"\x0a\x01" * 10 + number(n) * 2),
        "a hint": lambda n: record(asked, https, number(n) + b"\x00\x00\x04\x00\x04\x01\x01" + number(n)),
        "blocks": lambda n: record(asked, apl, b"\x00\x01\x20\x04\x08\x08" + number(n) + b"\x00\x01\x08\x00" * 4),
        "gateways": lambda n: record(asked, ipseckey, b"\x0a\x01\x02\x0a\x00" + number(n)),
        "texts": lambda n: record(asked, txt, number(n % 2) + bytes(200)),
        "short texts": lambda n: record(asked, txt, b"\x02" + number(n)),
        "signatures": lambda n: record(asked, rrsig, number(n) + bytes(16) + b"\x00x"),
        "denials": lambda n: record(child(n % 60), nsec, b"\x01" + bytes([n % 256]) + b"\x00" + b"\x00\x01\x40"),
        "owners like keys": lambda n: record(key(n) + asked, a, bytes(4)),
        "targets like keys": lambda n: record(asked, ns, key(n) + b"\x00"),
    }


def heavy_replies(
    size_bytes: int = DATAGRAM_BYTES, *, depths: Sequence[int] = DEPTHS, section_counts: Sequence[int] = (1, 3)
) -> Iterator[tuple[str, bytes]]:
    """Yield replies of at most that size that are some work at each of their bytes."""
    for depth in depths:
        for name, make in _makes(depth).items():
            for parts in section_counts:
                yield f"{name} at {depth}, {parts} parts", _reply(depth, make, size_bytes, parts)
