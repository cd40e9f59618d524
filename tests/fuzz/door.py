"""The front as one object: gate, cache, memo, questions and composition, with an engine and a clock played by the test.

`Door.exchange` puts one message through it, lets the engine answer over real frames, and judges what came back; an
assertion fails with the message in hexadecimal. What a reply must be is worked out here from `reading`, not asked of
the code under test.
"""

from __future__ import annotations

import struct
import time
import zlib
from collections.abc import Callable
from functools import lru_cache

import dns.edns
import dns.exception
import dns.message

from p2pdns.addresses import Address
from p2pdns.front.funnel import Funnel
from p2pdns.front.gate import ECHOING_PORTS
from p2pdns.front.transport import TCP, UDP
from p2pdns.link import Answer, Forwarded, Frame, FrameReader, QuestionFrame, compose
from tests.front_messages import funnel
from tests.fuzz.costs import least_ms
from tests.fuzz.reading import Reading, reading_of

HERE: Address = ("127.0.0.1", 4000)
TIMER_STEPS_MAX = 12  # A question has three timers; more than a few steps would be a timer that never ends.
CPU_MS_MAX = 5.0
DATAGRAM_BYTES_JUDGED = 1232  # The limit above is promised for datagrams that the network carries whole.

QR, AA, TC, RD, RA, Z, AD, CD = 0x8000, 0x0400, 0x0200, 0x0100, 0x0080, 0x0040, 0x0020, 0x0010
OPCODE = 0x7800
FORMERR, NOTIMP = 1, 4

Engine = Callable[[QuestionFrame, float], Frame | None]


def _message(question: bytes, flags: int, *records: bytes, authority: int = 0) -> tuple[bytes, tuple[int, ...]]:
    """Return a message whose records, given from the type on, belong to the question's name, and its TTL offsets."""
    message = struct.pack("!6H", 0, flags, 1, len(records) - authority, authority, 0) + question
    offsets = []
    for record in records:
        offsets.append(len(message) + 6)
        message += b"\xc0\x0c" + record
    return message, tuple(offsets)


def _record(rtype: int, ttl: int, rdata: bytes) -> bytes:
    return struct.pack("!HHIH", rtype, 1, ttl, len(rdata)) + rdata


SOA = _record(6, 60, b"\0\0" + struct.pack("!5I", 1, 2, 3, 4, 60))
TEXT = b"\xc8" + b"t" * 200
KINDS = 12


def fixed_answer(query: QuestionFrame, now: float) -> Frame | None:
    """Answer like an engine whose zones are few: what is said depends on the question, and some get silence.

    Every fourth minute all is lost, so that what is held is given past its time.
    """
    kind = zlib.crc32(query.question) % KINDS
    if int(now) // 60 % 4 == 3:
        kind = 8 if kind % 2 else 0
    question = query.question
    if kind == 0:
        return None
    if kind == 1:
        return Forwarded(query.id)
    ttl, flags, records = 30 * kind, 0x8400, [_record(1, 30 * kind, bytes([192, 0, 2, kind]))]
    authority = 0
    if kind == 3:
        records, authority = [SOA], 1
    elif kind == 4:
        flags, records, authority = 0x8403, [SOA], 1
    elif kind == 5:
        records = [_record(16, ttl, TEXT)] * 3  # More than 512 bytes.
    elif kind == 6:
        records = [_record(16, ttl, TEXT)] * 8  # More than any datagram.
    elif kind == 7:
        ttl, records = 0, [_record(28, 0, bytes(16))]
    elif kind == 8:
        flags, records, ttl = 0x8402, [], 5
    message, offsets = _message(question, flags, *records, authority=authority)
    return Answer(
        id=query.id,
        message=message,
        ttl_offsets=offsets,
        made_at=now,
        expiry=now + ttl,
        stale_until=now + ttl + (0 if kind in (7, 8) else 3600),
        ede=((22, "no contact had it ∗" * 12),) * (kind % 3) if kind > 6 else (),
        ad_eligible=kind % 2 == 0,
        provisional=kind == 9,
        cacheable=kind != 10,
        failure=kind == 8,
        tags=(bytes([kind]) * 8,),
        generation=kind,
    )


class Door:
    """A front that has an engine."""

    def __init__(self, engine: Engine = fixed_answer, *, says_dns: Callable[[], bool] = lambda: True) -> None:
        self.now = 1000.0
        self.funnel: Funnel = funnel(self.now)
        self.reply_count = 0
        self.worst_ns = 0
        # An engine may say what is no DNS; then no reply with its answer can be read as such.
        self._says_dns = says_dns
        self._engine = engine
        self._asked: list[QuestionFrame] = []
        self._frames = FrameReader()
        self.funnel.send_query = self._asked.append
        # As a front arms its timer; what that costs belongs to the message that made it necessary.
        self.funnel.on_timer_changed = self._ask_for_timer
        self.funnel.engine_connected(1, self.now)

    def exchange(
        self, data: bytes, *, is_stream: bool = False, address: Address = HERE, after_s: float = 0.0
    ) -> bytes | None:
        """Return the reply to a message from a client, after judging it; None where silence is right."""
        self.now += after_s
        replies: list[bytes] = []
        spent_ns = self.receive(data, address, replies, is_stream=is_stream)
        self.worst_ns = max(self.worst_ns, spent_ns)
        self._let_engine_answer()
        steps = 0
        while not replies and len(self.funnel.questions):
            timer = self.funnel.get_timer()
            assert timer is not None, data.hex()
            assert (steps := steps + 1) < TIMER_STEPS_MAX, data.hex()
            self.now = max(self.now, timer)
            self.funnel.handle_timer(self.now)
            self._let_engine_answer()
        reading = reading_of(data)
        assert len(replies) <= 1, data.hex()
        if not reading.is_query:
            assert not replies, f"answered what is no query: {data.hex()}"
            return None
        if not replies:
            # RFC 8906: a client that may ask is never left without an answer, but for ports that would echo it.
            is_echoing = not is_stream and address[1] in ECHOING_PORTS
            assert is_echoing or not self.funnel.gate.access.standing(address[0])[1], f"no answer to {data.hex()}"
            return None
        self.reply_count += 1
        judge(data, replies[0], reading, is_stream=is_stream, is_dns=self._says_dns())
        return replies[0]

    def receive(self, data: bytes, address: Address, replies: list[bytes], *, is_stream: bool = False) -> int:
        """Hand over a message and return the CPU time it took, in nanoseconds."""
        started = time.thread_time_ns()
        direct = self.funnel.receive(data, address, replies.append, self.now, TCP if is_stream else UDP)
        spent = time.thread_time_ns() - started
        if direct:
            replies.append(direct)
        return spent

    def _ask_for_timer(self) -> None:
        self.funnel.get_timer()

    def _let_engine_answer(self) -> None:
        while self._asked:
            query = self._asked.pop()
            (read,) = self._frames.feed(compose(query))
            assert read == query
            frame = self._engine(query, self.now)
            if frame is not None:
                for each in self._frames.feed(compose(frame)):
                    self.funnel.frame_received(each, self.now)


def cpu_ms(data: bytes, *, is_stream: bool = False, enough_ms: float | None = None) -> float:
    """Return the CPU time that a front takes for a message, as `least_ms` tells it, each trial with an empty cache."""
    return least_ms(lambda: Door().receive(data, HERE, [], is_stream=is_stream), enough_ms=enough_ms)


def judge(data: bytes, reply: bytes, reading: Reading, *, is_stream: bool, is_dns: bool = True) -> None:
    """Assert that a reply is what its query may get."""
    told = f"{reply.hex()} to {data.hex()}"
    assert len(reply) >= 12, told
    assert len(reply) <= reading.size_max(is_stream=is_stream), f"{len(reply)} bytes: {told}"
    assert reply[:2] == data[:2], f"another ID: {told}"
    asked, flags = int.from_bytes(data[2:4], "big"), int.from_bytes(reply[2:4], "big")
    assert flags & QR, told
    repeated = OPCODE | RD | CD
    assert flags & repeated == asked & repeated, f"opcode, RD or CD: {told}"
    assert not flags & Z, told
    assert flags & RA or flags & 0xF in (FORMERR, NOTIMP), told
    question = reading.question
    assert int.from_bytes(reply[4:6], "big") == bool(question), f"question count: {told}"
    assert reply[12 : 12 + len(question)] == question, f"another question: {told}"
    if flags & AD:
        assert asked & AD or reading.wants_dnssec, f"AD for who did not ask for it: {told}"
    if flags & TC:
        assert reply[6:10] == bytes(4), f"a cut reply with records: {told}"
    if not is_dns:
        return
    # UPDATE gives the sections other meanings, so for the parser it is a query like any other.
    parsed = _parsed((flags & ~OPCODE).to_bytes(2, "big") + reply[4:])
    assert not parsed.had_tsig, told
    assert (parsed.edns >= 0) == (reading.opt is not None), f"OPT: {told}"
    if reading.opt is not None:
        assert bool(parsed.ednsflags & 0x8000) == reading.wants_dnssec, f"DO: {told}"
        assert parsed.edns == 0, told
        _judge_cookie(parsed, reading, told)


@lru_cache(maxsize=8192)
def _parsed(behind_id: bytes) -> dns.message.Message:
    """Return a reply as an independent library reads it; most differ from an earlier one in the ID alone."""
    return dns.message.from_wire(b"\x00\x00" + behind_id)


def _judge_cookie(reply: dns.message.Message, reading: Reading, told: str) -> None:
    cookies = [option for option in reply.options if isinstance(option, dns.edns.CookieOption)]
    assert len(cookies) <= 1, told
    for cookie in cookies:
        assert any(cookie.client == sent[:8] for sent in reading.cookies), f"a cookie of nobody: {told}"


def is_plain_dns(message: bytes) -> bool:
    """Return whether an independent library reads these bytes as a message, one without OPT and signature."""
    try:
        parsed = dns.message.from_wire(message)
    except (dns.exception.DNSException, ValueError):
        return False
    return parsed.edns < 0 and not parsed.had_tsig
