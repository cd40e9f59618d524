"""The frames that cross the Unix stream between front and engine, and their reader.

A frame is a length of four bytes and a value in MessagePack: the kind of the frame and its fields, in order. The engine
listens on `link.sock` and opens each connection with `Hello`. Then the front sends a `QuestionFrame` for each question
and `Counters` now and then. The engine sends `Forwarded`, `Postponed`, `Answer` and, at any time, `Invalidate`.

Guarantees: a frame that was read is valid (question well formed and in lower case, offsets inside the message and in
order, finite times, known kinds); any other bytes end in `FormatError`; memory is bounded by one frame and the bytes
that were fed. Does not know what a question means, nor which process writes to the stream.
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
FRAME_BYTES_MAX = 80_000  # A message of 65,535 bytes, texts, tags, and three bytes for the offset of each of 4,000 RRs.
TAG_BYTES = 8
TAGS_MAX = 16  # The front does not keep an answer that depends on more.
EDE_MAX = 8  # RFC 8914 allows several; more would only fill the client's datagram.
EDE_TEXT_BYTES_MAX = 255
COUNTERS_MAX = 128  # A front has some fifty; the engine keeps a name and a number of each.
COUNTER_NAME = re.compile(r"[a-z0-9-]{1,40}")  # For example `cache-hit`; it is shown to people as it is.
CLIENT_CHARACTERS_MAX = 64  # An IPv6 address with its port has 47 at most, and a transport may stand before it.
RECORD_BYTES_MIN = 11  # A root name, type, class, TTL and an RDATA length of 0 (RFC 1035 §4.1.3).


class ClientClass(IntEnum):
    """How far a client is trusted: on this machine, listed in the configuration, or neither."""

    LOOPBACK = 0
    LISTED = 1
    OTHER = 2


Number = Annotated[int, Meta(ge=0, le=0xFFFFFFFF)]
Tag = Annotated[bytes, Meta(min_length=TAG_BYTES, max_length=TAG_BYTES)]
ClientText = Annotated[str, Meta(max_length=CLIENT_CHARACTERS_MAX)]


class _Fields(Value, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Fields in the order of the frame: one without a default must be there, and there are no others."""


class Hello(_Fields, frozen=True, tag=1):
    """The engine's greeting. An epoch is one life of an engine; a new one makes some earlier answers doubtful."""

    version: int
    epoch: int


class Ask(_Fields, frozen=True):
    """The flags, the client and the deadline of a question; the deadline is a time of `clock.boot_now`.

    The clients of a prefix share its places; `client_seat` tells them apart: a socket on loopback, an address
    elsewhere. `is_prefetch`: no client waits, because the front has an answer that expires soon; the engine confirms
    what it remembers before it answers.
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
    """The engine's note that a question waits for an upstream; such questions may have half of the link at most."""

    id: Number


class Postponed(_Fields, frozen=True, tag=7):
    """The engine gives a question back: it needs an upstream, and its client has no further place there now."""

    id: Number


class Answer(_Fields, frozen=True, tag=4):
    """The engine's answer: a message with ID 0 and without OPT, whose TTLs count from `made_at`.

    The question is in lower case, and owners equal to it are pointers to offset 12: a copy of the client's question
    over it gives all of them the client's letter case. Times are those of `clock.boot_now`.
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
    """Answers that depend on one of these tags are outdated; None stands for all answers."""

    tags: tuple[Tag, ...] | None


class Counters(_Fields, frozen=True, tag=6):
    """The counters of the front since it started, in the order of their names."""

    counts: Annotated[tuple[tuple[str, Annotated[int, Meta(ge=0)]], ...], Meta(max_length=COUNTERS_MAX)]

    @staticmethod
    def of(counts: Mapping[str, int]) -> Counters:
        """Return the frame of these counters, without bad names and without those that are too many.

        >>> Counters.of({"cache-miss": 1, "cache-hit": 2}).counts
        (('cache-hit', 2), ('cache-miss', 1))
        """
        # The reader would close the connection because of a bad name.
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

    EDE texts are clipped to 255 bytes, EDEs beyond eight are left out, and an answer with more than 16 tags becomes
    uncacheable. A message of very many tiny RRs may not fit: FormatError "frame-too-large". Answer with a failure then.
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
        """Return the frames that `data` completes; after a FormatError nothing in the stream can be trusted."""
        buffer = self._buffer
        buffer += data
        frames: list[Frame] = []
        at = 0
        while len(buffer) - at >= _LENGTH_BYTES:
            start = at + _LENGTH_BYTES
            size = int.from_bytes(buffer[at:start])
            # The length is checked first: garbage must not make us wait for four gigabytes.
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
        # The checks that types cannot express. The two kinds that come with every question stand first.
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
    # The front adds its own OPT to the counts, so it would pass on a count of records that are not there.
    record_count = sum([int.from_bytes(message[at : at + 2]) for at in (6, 8, 10)])
    if record_count * RECORD_BYTES_MIN > len(message) - question_stop:
        raise FormatError("frame-message", f"{record_count} records in {len(message)} bytes")
    if not (isfinite(answer.made_at) and isfinite(answer.expiry) and isfinite(answer.stale_until)):
        raise FormatError("frame-time", f"{answer.made_at}, {answer.expiry}, {answer.stale_until}")
    lowest, highest = question_stop, len(message) - 4
    for offset in answer.ttl_offsets:
        # The front rewrites four bytes at each offset, so none may lie in the question or overlap the one before.
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
