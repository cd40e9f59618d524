"""The frames between the front and the engine: what crosses their one Unix stream, and how it is read.

A frame is a length of four bytes, a kind of one byte, and a body of fixed fields and counted bytes. The engine
listens on `link.sock` and opens each connection with `Hello`; then the front sends `Query` and now and then its
`Counters`, and the engine sends `Forwarded` (this query waits on an upstream now), `Answer`, and `Invalidate` whenever
it likes.

Guarantees: a frame that was read is valid (question in shape and lower case, offsets inside the message and in
order, finite times, known kinds); any other bytes end in `FormatError`; memory is bounded by one frame and what
was fed. Does not know what a question means, nor who writes to the stream.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum

from p2pdns.dns.labels import HEADER_BYTES, folded_question, question_end
from p2pdns.dns.registry import Explanations
from p2pdns.errors import FormatError
from p2pdns.values import quickly_made

VERSION = 5
SOCKET_NAME = "link.sock"  # In the state directory.
FRAME_BYTES_MAX = 70_000  # A message of 65,535 bytes, an offset for each of its 4,000 RRs, texts and tags.
TAG_BYTES = 8
TAGS_MAX = 16  # An answer that depends on more is not kept by the front.
EDE_MAX = 8  # RFC 8914 allows several; more than this only fills the client's datagram.
EDE_TEXT_BYTES_MAX = 255
COUNTERS_MAX = 128  # A front has some fifty; each is a name and a number that the engine keeps.
COUNTER_NAME = re.compile(r"[a-z0-9-]{1,40}")  # As `cache-hit`; what is shown to a person has no other characters.
COUNT_MAX = (1 << 64) - 1
PREFIX_BYTES_MAX = 64  # The longest text of an IPv6 address with port has 47.
SEAT_BYTES_MAX = 64  # The same with the transport before it.

RECORD_BYTES_MIN = 11  # A root name, type, class, TTL and the length of no RDATA (RFC 1035 §4.1.3).


class ClientClass(IntEnum):
    """How far a client is trusted: on this machine, listed in the configuration, or neither."""

    LOOPBACK = 0
    LISTED = 1
    OTHER = 2


@dataclass(frozen=True, slots=True)
class Hello:
    """The engine's greeting; an epoch is one life of an engine, and a new one makes what the old one said doubtful."""

    version: int
    epoch: int


@quickly_made
@dataclass(frozen=True, slots=True)
class Ask:
    """How a question is asked, and by whom. `deadline` is a time of `clock.boot_now`.

    The clients of a prefix share what it may take; `client_seat` tells them apart: a socket on loopback, an address
    elsewhere. `is_prefetch`: no client waits; the answer of the cache ends soon, and the engine shall confirm what it
    remembers before it answers from that.
    """

    deadline: float
    rd: bool = True
    do: bool = False
    cd: bool = False
    client_class: ClientClass = ClientClass.LOOPBACK
    client_prefix: str = ""
    client_seat: str = ""
    is_prefetch: bool = False


@quickly_made
@dataclass(frozen=True, slots=True)
class Query:
    """One question for the engine. `question` is the lower-case name, type and class as on the wire."""

    id: int
    question: bytes
    ask: Ask


@quickly_made
@dataclass(frozen=True, slots=True)
class Forwarded:
    """The engine's note that a query waits on an upstream; such queries may hold half of the link at most."""

    id: int


@dataclass(frozen=True, slots=True)
class Postponed:
    """The engine gives a query back: it needs an upstream, and the places there that its client may have are taken."""

    id: int


@quickly_made
@dataclass(frozen=True, slots=True)
class Answer:
    """The engine's answer: a message with ID 0 and without OPT, whose TTLs count from `made_at`.

    Its question is in lower case, and owners equal to it are pointers to offset 12, so that the case of a client
    is echoed by one copy. Times are those of `clock.boot_now`.
    """

    id: int
    message: bytes
    ttl_offsets: tuple[int, ...]
    made_at: float
    expiry: float
    stale_until: float
    ede: Explanations = ()
    ad_eligible: bool = False
    provisional: bool = False
    cacheable: bool = True
    failure: bool = False
    tags: tuple[bytes, ...] = ()
    generation: int = 0


@dataclass(frozen=True, slots=True)
class Invalidate:
    """What depends on one of these tags is no longer true; None stands for everything."""

    tags: tuple[bytes, ...] | None


@dataclass(frozen=True, slots=True)
class Counters:
    """What the front has counted since it started, in the order of the names."""

    counts: tuple[tuple[str, int], ...]

    @staticmethod
    def of(counts: Mapping[str, int]) -> Counters:
        """Return the frame of a table; what is more than a frame may hold, or no name, is left out.

        >>> Counters.of({"cache-miss": 1, "cache-hit": 2}).counts
        (('cache-hit', 2), ('cache-miss', 1))
        """
        # A name that the reader refuses would cost the connection.
        named = sorted((name, count) for name, count in counts.items() if COUNTER_NAME.fullmatch(name))
        return Counters(tuple(named[:COUNTERS_MAX]))


Frame = Hello | Query | Forwarded | Postponed | Answer | Invalidate | Counters

_LENGTH = struct.Struct("!I")
_HELLO = struct.Struct("!HQ")
_QUERY = struct.Struct("!IBBdHB")
_FORWARDED = struct.Struct("!I")
_ANSWER = struct.Struct("!IBdddQIHBB")
_EDE = struct.Struct("!HB")
_COUNTS = struct.Struct("!3H")
_COUNT = struct.Struct("!QB")

_KIND_HELLO, _KIND_QUERY, _KIND_FORWARDED, _KIND_ANSWER, _KIND_INVALIDATE, _KIND_COUNTERS = 1, 2, 3, 4, 5, 6
_KIND_POSTPONED = 7

_RD, _DO, _CD, _PREFETCH = 1, 2, 4, 8
_AD_ELIGIBLE, _PROVISIONAL, _CACHEABLE, _FAILURE = 1, 2, 4, 8

# Offsets travel as differences: RRs are rarely 255 bytes apart, and two bytes an RR would not fit a full message.
_WIDE = 255


def clipped_text(text: str, size_bytes_max: int) -> bytes:
    """Return the UTF-8 of a text, cut between characters to at most that many bytes."""
    encoded = text.encode("utf-8", "replace")
    if len(encoded) <= size_bytes_max:
        return encoded
    return encoded[:size_bytes_max].decode("utf-8", "ignore").encode()


def compose(frame: Frame) -> bytes:
    """Return a frame with its length in front.

    Texts of EDE are clipped to 255 bytes, more than eight are left out, and an answer with more than 16 tags
    becomes uncacheable. FormatError "frame-too-large" when a message of very many tiny RRs does not fit: answer
    with a failure then.
    """
    match frame:
        # Those first of which there is one for each question.
        case Query():
            body = bytes([_KIND_QUERY]) + _query_body(frame)
        case Answer():
            body = bytes([_KIND_ANSWER]) + _answer_body(frame)
        case Forwarded():
            body = bytes([_KIND_FORWARDED]) + _FORWARDED.pack(frame.id)
        case Postponed():
            body = bytes([_KIND_POSTPONED]) + _FORWARDED.pack(frame.id)
        case Hello():
            body = bytes([_KIND_HELLO]) + _HELLO.pack(frame.version, frame.epoch)
        case Invalidate():
            body = bytes([_KIND_INVALIDATE, frame.tags is None]) + b"".join(_checked_tags(frame.tags or ()))
        case Counters():
            body = bytes([_KIND_COUNTERS]) + b"".join(
                _COUNT.pack(min(count, COUNT_MAX), len(name.encode())) + name.encode() for name, count in frame.counts
            )
    if len(body) > FRAME_BYTES_MAX:
        raise FormatError("frame-too-large", f"{len(body)} bytes, {FRAME_BYTES_MAX} allowed")
    return _LENGTH.pack(len(body)) + body


def _query_body(query: Query) -> bytes:
    ask = query.ask
    flags = _RD * ask.rd | _DO * ask.do | _CD * ask.cd | _PREFETCH * ask.is_prefetch
    prefix = clipped_text(ask.client_prefix, PREFIX_BYTES_MAX)
    seat = clipped_text(ask.client_seat, SEAT_BYTES_MAX)
    head = _QUERY.pack(query.id, flags, ask.client_class, ask.deadline, len(query.question), len(prefix))
    return head + query.question + prefix + seat


def _answer_body(answer: Answer) -> bytes:
    kept = len(answer.tags) <= TAGS_MAX
    tags = _checked_tags(answer.tags) if kept else ()
    flags = (
        _AD_ELIGIBLE * answer.ad_eligible
        | _PROVISIONAL * answer.provisional
        | _CACHEABLE * (answer.cacheable and kept)
        | _FAILURE * answer.failure
    )
    ede = [(code, clipped_text(text, EDE_TEXT_BYTES_MAX)) for code, text in answer.ede[:EDE_MAX]]
    head = _ANSWER.pack(
        answer.id,
        flags,
        answer.made_at,
        answer.expiry,
        answer.stale_until,
        answer.generation,
        len(answer.message),
        len(answer.ttl_offsets),
        len(tags),
        len(ede),
    )
    texts = b"".join(_EDE.pack(code, len(text)) + text for code, text in ede)
    return b"".join((head, answer.message, *tags, texts, _packed_offsets(answer.ttl_offsets)))


def _checked_tags(tags: tuple[bytes, ...]) -> tuple[bytes, ...]:
    for tag in tags:
        assert len(tag) == TAG_BYTES, tag
    return tags


def _packed_offsets(offsets: Sequence[int]) -> bytes:
    packed = bytearray()
    last = 0
    for offset in offsets:
        step = offset - last
        if step < _WIDE:
            packed.append(step)
        else:
            packed.append(_WIDE)
            packed += step.to_bytes(2, "big")
        last = offset
    return bytes(packed)


class FrameReader:
    """Frames out of a stream that arrives in pieces of any size."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[Frame]:
        """Return the frames that `data` completes; after a FormatError the stream cannot be trusted any more."""
        buffer = self._buffer
        buffer += data
        frames: list[Frame] = []
        at = 0
        while len(buffer) - at >= _LENGTH.size:
            (size,) = _LENGTH.unpack_from(buffer, at)
            # The length comes first: a stream of garbage must not make us wait for four gigabytes.
            if not 0 < size <= FRAME_BYTES_MAX:
                raise FormatError("frame-length", f"{size} bytes, 1 to {FRAME_BYTES_MAX} allowed")
            end = at + _LENGTH.size + size
            if len(buffer) < end:
                break
            frames.append(_parsed(bytes(buffer[at + _LENGTH.size : end])))
            at = end
        del buffer[:at]
        return frames


def _parsed(body: bytes) -> Frame:
    kind = body[0]
    try:
        if kind == _KIND_ANSWER:
            return _parsed_answer(body)
        if kind == _KIND_QUERY:
            return _parsed_query(body)
        if kind == _KIND_INVALIDATE:
            return _parsed_invalidate(body)
        if kind == _KIND_FORWARDED:
            return Forwarded(*_FORWARDED.unpack(body[1:]))
        if kind == _KIND_POSTPONED:
            return Postponed(*_FORWARDED.unpack(body[1:]))
        if kind == _KIND_COUNTERS:
            return _parsed_counters(body)
        if kind == _KIND_HELLO:
            return Hello(*_HELLO.unpack(body[1:]))
    except (struct.error, UnicodeDecodeError, IndexError) as trouble:
        raise FormatError("frame-body", str(trouble)) from None
    raise FormatError("frame-kind", str(kind))


def _checked_time(value: float) -> float:
    if not math.isfinite(value):
        raise FormatError("frame-time", repr(value))
    return value


def _checked_flags(flags: int, known: int) -> int:
    if flags & ~known:
        raise FormatError("frame-flags", bin(flags))
    return flags


def _parsed_query(body: bytes) -> Query:
    number, flags, client_class, deadline, size, prefix_size = _QUERY.unpack_from(body, 1)
    _checked_flags(flags, _RD | _DO | _CD | _PREFETCH)
    start = 1 + _QUERY.size
    question = body[start : start + size]
    if len(question) != size or question_end(question, 0) != size:
        raise FormatError("frame-question", f"{size} bytes")
    if question != folded_question(question):
        raise FormatError("frame-question", "name not in lower case")
    prefix = body[start + size : start + size + prefix_size]
    seat = body[start + size + prefix_size :]
    if len(prefix) != prefix_size or prefix_size > PREFIX_BYTES_MAX or len(seat) > SEAT_BYTES_MAX:
        raise FormatError("frame-prefix", f"{len(prefix)} and {len(seat)} bytes, {PREFIX_BYTES_MAX} allowed")
    if client_class not in _CLIENT_CLASSES:
        raise FormatError("frame-class", str(client_class))
    ask = Ask(
        deadline=_checked_time(deadline),
        rd=bool(flags & _RD),
        do=bool(flags & _DO),
        cd=bool(flags & _CD),
        client_class=_CLIENT_CLASSES[client_class],
        client_prefix=prefix.decode(),
        client_seat=seat.decode(),
        is_prefetch=bool(flags & _PREFETCH),
    )
    return Query(number, question, ask)


_CLIENT_CLASSES = {int(member): member for member in ClientClass}


def _parsed_answer(body: bytes) -> Answer:
    number, flags, made_at, expiry, stale_until, generation, size, offset_count, tag_count, ede_count = (
        _ANSWER.unpack_from(body, 1)
    )
    _checked_flags(flags, _AD_ELIGIBLE | _PROVISIONAL | _CACHEABLE | _FAILURE)
    at = 1 + _ANSWER.size
    message = body[at : at + size]
    at += size
    if len(message) != size or message[4:6] != b"\x00\x01":
        raise FormatError("frame-message", f"{size} bytes or not one question")
    question_stop = question_end(message, HEADER_BYTES)
    # The front counts an OPT of its own on top, and a count without records behind it would go to the client.
    record_count = sum(_COUNTS.unpack_from(message, 6))
    if record_count * RECORD_BYTES_MIN > size - question_stop:
        raise FormatError("frame-message", f"{record_count} records in {size} bytes")
    if tag_count > TAGS_MAX or ede_count > EDE_MAX or len(body) < at + tag_count * TAG_BYTES:
        raise FormatError("frame-counts", f"{tag_count} tags, {ede_count} errors")
    tags = tuple(body[i : i + TAG_BYTES] for i in range(at, at + tag_count * TAG_BYTES, TAG_BYTES))
    at += tag_count * TAG_BYTES
    ede = []
    for _ in range(ede_count):
        code, text_size = _EDE.unpack_from(body, at)
        at += _EDE.size
        if at + text_size > len(body):
            raise FormatError("frame-body", "a text runs past the end")
        ede.append((code, body[at : at + text_size].decode()))
        at += text_size
    return Answer(
        id=number,
        message=message,
        ttl_offsets=_unpacked_offsets(body, at, offset_count, question_stop, size),
        made_at=_checked_time(made_at),
        expiry=_checked_time(expiry),
        stale_until=_checked_time(stale_until),
        ede=tuple(ede),
        ad_eligible=bool(flags & _AD_ELIGIBLE),
        provisional=bool(flags & _PROVISIONAL),
        cacheable=bool(flags & _CACHEABLE),
        failure=bool(flags & _FAILURE),
        tags=tags,
        generation=generation,
    )


def _unpacked_offsets(body: bytes, at: int, count: int, lowest: int, message_size: int) -> tuple[int, ...]:
    offsets: list[int] = []
    last = 0
    for _ in range(count):
        step = body[at]
        at += 1
        if step == _WIDE:
            step = int.from_bytes(body[at : at + 2], "big")
            at += 2
        last += step
        # Four bytes are rewritten at each offset: one inside the question or overlapping the last would spoil both.
        if (offsets and step < 4) or last < lowest or last + 4 > message_size:
            raise FormatError("frame-offsets", f"{last} in a message of {message_size} bytes")
        offsets.append(last)
    if at != len(body):
        raise FormatError("frame-body", f"{len(body) - at} bytes too many or too few")
    return tuple(offsets)


def _parsed_invalidate(body: bytes) -> Invalidate:
    tags = body[2:]
    if len(tags) % TAG_BYTES or body[1] > 1 or (body[1] and tags):
        raise FormatError("frame-tags", f"{len(tags)} bytes")
    if body[1]:
        return Invalidate(None)
    return Invalidate(tuple(tags[i : i + TAG_BYTES] for i in range(0, len(tags), TAG_BYTES)))


def _parsed_counters(body: bytes) -> Counters:
    counts: list[tuple[str, int]] = []
    at = 1
    while at < len(body):
        count, size = _COUNT.unpack_from(body, at)
        at += _COUNT.size
        name = body[at : at + size].decode("latin-1")
        at += size
        is_next = not counts or counts[-1][0] < name
        if len(name) != size or not is_next or not COUNTER_NAME.fullmatch(name) or len(counts) >= COUNTERS_MAX:
            raise FormatError("frame-counters", f"{len(counts) + 1}: {name!r}")
        counts.append((name, count))
    return Counters(tuple(counts))
