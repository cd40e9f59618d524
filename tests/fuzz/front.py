"""Two targets of the front: what clients send, and what an engine answers.

The bytes of `converse` are messages, each behind one byte of circumstances and two of length. Those of `be_answered`
are the parts of an answer and of the query it is for; a reply is judged as DNS where the answer was DNS.
"""

from __future__ import annotations

import struct

from p2pdns.addresses import Address
from p2pdns.dns.message.wire import compose_for_cache, parse
from p2pdns.errors import FormatError
from p2pdns.front.transport import UDP
from p2pdns.link import Answer, Frame, QuestionFrame
from tests.front_messages import opt
from tests.fuzz.door import CPU_MS_MAX, DATAGRAM_BYTES_JUDGED, HERE, Door, cpu_ms, is_plain_dns
from tests.fuzz.queries import good_queries

ADDRESSES: tuple[Address, ...] = (HERE, ("::1", 5), ("192.0.2.7", 9), ("127.0.0.1", 7))
PAUSES_S = (0.0, 0.0, 0.3, 1.0, 5.0, 40.0, 900.0, 90_000.0)
MESSAGES_MAX = 8
STREAM, ADDRESS_SHIFT, PAUSE_SHIFT = 1, 1, 3


class Bytes:
    """Bytes handed out piece by piece; behind their end there are zeros."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def take(self, size: int) -> bytes:
        """Return the next bytes, fewer at the end."""
        taken = self._data[self._at : self._at + size]
        self._at += len(taken)
        return taken

    def number(self, size: int = 1) -> int:
        """Return the next bytes as a number."""
        return int.from_bytes(self.take(size).ljust(size, b"\x00"), "big")

    def rest(self) -> bytes:
        """Return what is left."""
        return self.take(len(self._data))


def converse(data: bytes) -> None:
    """Put messages of clients through one front."""
    raw = Bytes(data)
    door = Door()
    for _ in range(MESSAGES_MAX):
        how, size = raw.number(), raw.number(2)
        message = raw.take(size)
        is_stream = bool(how & STREAM)
        address = ADDRESSES[how >> ADDRESS_SHIFT & 3]
        door.worst_ns = 0
        if address[1] == 7 and not is_stream:
            # A service that answers anything is never answered, however good its query looks.
            assert door.funnel.receive(message, address, _never, door.now, UDP) == b"", data.hex()
            continue
        door.exchange(message, is_stream=is_stream, address=address, after_s=PAUSES_S[how >> PAUSE_SHIFT & 7])
        if door.worst_ns > CPU_MS_MAX * 1e6 and len(message) <= DATAGRAM_BYTES_JUDGED:
            assert cpu_ms(message, is_stream=is_stream, enough_ms=CPU_MS_MAX) < CPU_MS_MAX, message.hex()


def _never(reply: bytes) -> None:
    raise AssertionError(f"a late reply to a port that echoes: {reply.hex()}")


def conversations() -> list[bytes]:
    """Return each good query alone over UDP, and some together."""
    queries = good_queries()
    alone = [struct.pack("!BH", 0, len(query)) + query for query in queries]
    pairs = [struct.pack("!BH", number & 255, len(query)) + query for number, query in enumerate(queries)]
    return [*alone, *[b"".join(pairs[at : at + 4] * 2) for at in range(0, len(pairs), 4)]]


def be_answered(data: bytes) -> None:
    """Ask a question three times, now, again and late, and have it answered by an engine that says anything."""
    raw = Bytes(data)
    how, size, flags = raw.number(), raw.number(2), raw.number(2)
    name = raw.take(raw.number() % 64)
    asked = (bytes([len(name)]) + name if name else b"") + b"\x00\x00" + bytes([raw.number()]) + b"\x00\x01"
    engine = _Engine(raw, flags)
    door = Door(engine, says_dns=lambda: engine.is_dns)
    sent = struct.pack("!6H", how, (how & 0x19) << 4, 1, 0, 0, how >> 1 & 1) + asked
    sent += opt(size, do=bool(how & 4)) if how & 2 else b""
    for pause_s in (0.0, 1.5, engine.life_s + 1.0):
        try:
            door.exchange(sent, is_stream=bool(how & 1), after_s=pause_s)
        except FormatError:
            # An engine that says what no frame may say loses its connection; its waiters have their timers.
            return


class _Engine:
    """An engine whose every answer is the one that the bytes describe."""

    def __init__(self, raw: Bytes, flags: int) -> None:
        kind = raw.number()
        self._flags = flags
        self._bits = kind
        self._counts = raw.take(6).ljust(6, b"\x00")
        self._ede = tuple((raw.number(2), "∗x" * raw.number()) for _ in range(raw.number() % 4))
        self._steps = [raw.number() for _ in range(raw.number() % 16)]
        self.life_s = float(raw.number(2))
        self._body = raw.rest()
        self.is_dns = False

    def __call__(self, query: QuestionFrame, now: float) -> Frame:
        head = b"\x00\x00" + self._flags.to_bytes(2, "big") + b"\x00\x01" + self._counts
        message = head + query.question + self._body
        offsets: list[int] = []
        try:
            # As an engine makes it: no pointer into what the front rewrites, every TTL where it says.
            message, places = compose_for_cache(parse(message))
            offsets += places
            self.is_dns = is_plain_dns(message)
        except FormatError:
            at = 12 + len(query.question)
            for step in self._steps:
                at += step
                if at + 4 <= len(message):
                    offsets.append(at)
            self.is_dns = False
        bits = self._bits
        return Answer(
            id=query.id,
            message=message,
            ttl_offsets=tuple(offsets),
            made_at=now,
            expiry=now + self.life_s,
            stale_until=now + self.life_s + 3600.0 * (bits >> 4 & 3),
            ede=self._ede,
            ad_eligible=bool(bits & 1),
            provisional=bool(bits & 2),
            cacheable=bool(bits & 4),
            failure=bool(bits & 8),
            tags=(b"12345678",) * (bits >> 6),
        )


def answerings() -> list[bytes]:
    """Return answers of a few shapes: an address, an absence, many texts, a failure with a reason."""
    record = b"\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x3c\x00\x04\xc0\x00\x02\x01"
    soa = b"\xc0\x0c\x00\x06\x00\x01\x00\x00\x00\x3c\x00\x16" + bytes(22)
    text = b"\xc0\x0c\x00\x10\x00\x01\x00\x00\x00\x3c\x00\xc9\xc8" + b"t" * 200
    found = []
    for how in (0, 1, 2, 3, 6, 7):
        for size in (0, 512, 1232):
            for flags, counts, body in (
                (0x8400, b"\0\1\0\0\0\0", record),
                (0x8403, b"\0\0\0\1\0\0", soa),
                (0x8400, b"\0\x06\0\0\0\0", text * 6),
                (0x8402, b"\0\0\0\0\0\0", b""),
            ):
                head = struct.pack("!BHHB", how, size, flags, 3) + b"wWw\x01" + bytes([5 if body else 13]) + counts
                ede = b"\x01\x00\x16\x40" if not body else b"\x00"
                steps = b"\x01\x06" if body else b"\x00"
                found.append(head + ede + steps + b"\x00\x3c" + body)
    return found
