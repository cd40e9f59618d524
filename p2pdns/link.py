"""The frames between the front and the engine: what crosses their one Unix stream, and how it is read.

A frame is a length of four bytes and a value in MessagePack: the kind of the frame and its fields, in order. The engine
listens on `link.sock` and opens each connection with `Hello`; then the front sends `QuestionFrame` and now and then its
`Counters`, and the engine sends `Forwarded` (this query waits on an upstream now), `Answer`, and `Invalidate` whenever
it likes.

Guarantees: a frame that was read is valid (question in shape and lower case, offsets inside the message and in
order, finite times, known kinds); any other bytes end in `FormatError`; memory is bounded by one frame and what
was fed. Does not know what a question means, nor who writes to the stream.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import IntEnum
from math import isfinite
from typing import Annotated

from p2pdns.dns.labels import HEADER_BYTES, folded_question, question_end
from p2pdns.errors import FormatError
from p2pdns.values import DecodeError, Meta, Value, msgpack, replace

VERSION = 6
SOCKET_NAME = "link.sock"  # In the state directory.
FRAME_BYTES_MAX = (
    80_000  # A message of 65,535 bytes, three bytes for the offset of each of its 4,000 RRs, texts and tags.
)
TAG_BYTES = 8
TAGS_MAX = 16  # An answer that depends on more is not kept by the front.
EDE_MAX = 8  # RFC 8914 allows several; more than this only fills the client's datagram.
EDE_TEXT_BYTES_MAX = 255
COUNTERS_MAX = 128  # A front has some fifty; each is a name and a number that the engine keeps.
COUNTER_NAME = re.compile(r"[a-z0-9-]{1,40}")  # As `cache-hit`; what is shown to a person has no other characters.
CLIENT_CHARACTERS_MAX = 64  # The longest text of an IPv6 address has 47 with its port; a transport may stand before it.

RECORD_BYTES_MIN = 11  # A root name, type, class, TTL and the length of no RDATA (RFC 1035 §4.1.3).


class ClientClass(IntEnum):
    """How far a client is trusted: on this machine, listed in the configuration, or neither."""

    LOOPBACK = 0
    LISTED = 1
    OTHER = 2


Number = Annotated[int, Meta(ge=0, le=0xFFFFFFFF)]
Tag = Annotated[bytes, Meta(min_length=TAG_BYTES, max_length=TAG_BYTES)]
ClientText = Annotated[str, Meta(max_length=CLIENT_CHARACTERS_MAX)]


class _Fields(Value, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Fields that stand in order in a frame, none of them missing that has no default, and none too many."""


class Hello(_Fields, frozen=True, tag=1):
    """The engine's greeting; an epoch is one life of an engine, and a new one makes what the old one said doubtful."""

    version: int
    epoch: int


class Ask(_Fields, frozen=True):
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
    client_prefix: ClientText = ""
    client_seat: ClientText = ""
    is_prefetch: bool = False


class QuestionFrame(_Fields, frozen=True, tag=2):
    """One question for the engine. `question` is the lower-case name, type and class as on the wire."""

    id: Number
    question: bytes
    ask: Ask


class Forwarded(_Fields, frozen=True, tag=3):
    """The engine's note that a query waits on an upstream; such queries may hold half of the link at most."""

    id: Number


class Postponed(_Fields, frozen=True, tag=7):
    """The engine gives a query back: it needs an upstream, and the places there that its client may have are taken."""

    id: Number


class Answer(_Fields, frozen=True, tag=4):
    """The engine's answer: a message with ID 0 and without OPT, whose TTLs count from `made_at`.

    Its question is in lower case, and owners equal to it are pointers to offset 12, so that the case of a client
    is echoed by one copy. Times are those of `clock.boot_now`.
    """

    id: Number
    message: bytes
    ttl_offsets: tuple[int, ...]
    made_at: float
    expiry: float
    stale_until: float
    ede: Annotated[tuple[tuple[Annotated[int, Meta(ge=0, le=0xFFFF)], str], ...], Meta(max_length=EDE_MAX)] = ()
    ad_eligible: bool = False
    provisional: bool = False
    cacheable: bool = True
    failure: bool = False
    tags: Annotated[tuple[Tag, ...], Meta(max_length=TAGS_MAX)] = ()
    generation: Annotated[int, Meta(ge=0)] = 0


class Invalidate(_Fields, frozen=True, tag=5):
    """What depends on one of these tags is no longer true; None stands for everything."""

    tags: tuple[Tag, ...] | None


class Counters(_Fields, frozen=True, tag=6):
    """What the front has counted since it started, in the order of the names."""

    counts: Annotated[tuple[tuple[str, Annotated[int, Meta(ge=0)]], ...], Meta(max_length=COUNTERS_MAX)]

    @staticmethod
    def of(counts: Mapping[str, int]) -> Counters:
        """Return the frame of a table; what is more than a frame may hold, or no name, is left out.

        >>> Counters.of({"cache-miss": 1, "cache-hit": 2}).counts
        (('cache-hit', 2), ('cache-miss', 1))
        """
        # A name that the reader refuses would cost the connection.
        named = sorted((name, count) for name, count in counts.items() if COUNTER_NAME.fullmatch(name))
        return Counters(tuple(named[:COUNTERS_MAX]))


Frame = Hello | QuestionFrame | Forwarded | Postponed | Answer | Invalidate | Counters

_LENGTH_BYTES = 4
_encoder = msgpack.Encoder()
_decoder = msgpack.Decoder(Frame)


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
    if isinstance(frame, Answer) and (frame.ede or frame.tags):
        frame = _within_bounds(frame)
    body = _encoder.encode(frame)
    if len(body) > FRAME_BYTES_MAX:
        raise FormatError("frame-too-large", f"{len(body)} bytes, {FRAME_BYTES_MAX} allowed")
    return len(body).to_bytes(_LENGTH_BYTES) + body


def _within_bounds(answer: Answer) -> Answer:
    ede = tuple([(code, clipped_text(text, EDE_TEXT_BYTES_MAX).decode()) for code, text in answer.ede[:EDE_MAX]])
    if len(answer.tags) > TAGS_MAX:
        return replace(answer, ede=ede, tags=(), cacheable=False)
    return replace(answer, ede=ede)


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
        while len(buffer) - at >= _LENGTH_BYTES:
            start = at + _LENGTH_BYTES
            size = int.from_bytes(buffer[at:start])
            # The length comes first: a stream of garbage must not make us wait for four gigabytes.
            if not 0 < size <= FRAME_BYTES_MAX:
                raise FormatError("frame-length", f"{size} bytes, 1 to {FRAME_BYTES_MAX} allowed")
            if len(buffer) < start + size:
                break
            at = start + size
            frames.append(_parsed(buffer[start:at]))
        del buffer[:at]
        return frames


def _parsed(body: bytearray) -> Frame:
    try:
        frame = _decoder.decode(body)
    except (DecodeError, ValueError, OverflowError) as trouble:
        raise FormatError("frame-body", str(trouble)) from None
    match frame:
        # What the types do not say. First the two kinds of which there is one for each question.
        case Answer():
            _check_answer(frame)
        case QuestionFrame():
            _check_query(frame)
        case Counters():
            _check_counters(frame)
    return frame


def _check_query(query: QuestionFrame) -> None:
    question = query.question
    if question_end(question, 0) != len(question):
        raise FormatError("frame-question", f"{len(question)} bytes")
    if question != folded_question(question):
        raise FormatError("frame-question", "name not in lower case")
    if not isfinite(query.ask.deadline):
        raise FormatError("frame-time", repr(query.ask.deadline))


def _check_answer(answer: Answer) -> None:
    message = answer.message
    if message[4:6] != b"\x00\x01":
        raise FormatError("frame-message", "not one question")
    question_stop = question_end(message, HEADER_BYTES)
    # The front counts an OPT of its own on top, and a count without records behind it would go to the client.
    record_count = sum([int.from_bytes(message[at : at + 2]) for at in (6, 8, 10)])
    if record_count * RECORD_BYTES_MIN > len(message) - question_stop:
        raise FormatError("frame-message", f"{record_count} records in {len(message)} bytes")
    if not (isfinite(answer.made_at) and isfinite(answer.expiry) and isfinite(answer.stale_until)):
        raise FormatError("frame-time", f"{answer.made_at}, {answer.expiry}, {answer.stale_until}")
    lowest, highest = question_stop, len(message) - 4
    for offset in answer.ttl_offsets:
        # Four bytes are rewritten at each offset: one inside the question or overlapping the last would spoil both.
        if not lowest <= offset <= highest:
            raise FormatError("frame-offsets", f"{offset} in a message of {len(message)} bytes")
        lowest = offset + 4
    for _, text in answer.ede:
        if len(text.encode()) > EDE_TEXT_BYTES_MAX:
            raise FormatError("frame-text", f"more than {EDE_TEXT_BYTES_MAX} bytes")


def _check_counters(counters: Counters) -> None:
    last = ""
    for name, _ in counters.counts:
        if name <= last or not COUNTER_NAME.fullmatch(name):
            raise FormatError("frame-counters", repr(name))
        last = name
