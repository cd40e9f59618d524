"""The target of the link: a stream of frames, as the front and the engine read it."""

from __future__ import annotations

from p2pdns.dns.labels import folded_question, question_end
from p2pdns.errors import FormatError
from p2pdns.link import (
    EDE_MAX,
    EDE_TEXT_BYTES_MAX,
    FRAME_BYTES_MAX,
    TAGS_MAX,
    Answer,
    Ask,
    ClientClass,
    Counters,
    Forwarded,
    Frame,
    FrameReader,
    Hello,
    Invalidate,
    Postponed,
    QuestionFrame,
    compose,
)
from tests.front_messages import answer, failure, question

PIECE_BYTES = 7


def read(data: bytes) -> None:
    """Read a stream whole and in pieces: both end alike, and every frame says the same when it is written again."""
    whole, reason = _frames_of([data])
    pieces = [data[at : at + PIECE_BYTES] for at in range(0, len(data), PIECE_BYTES)]
    in_pieces, same_reason = _frames_of(pieces)
    # What stands before the fault may have been handed out already when the stream came in pieces.
    assert reason == same_reason, data.hex()
    assert in_pieces[: len(whole)] == whole, data.hex()
    # Whoever waits for the rest of such a frame keeps whatever comes.
    assert reason or not _promises_too_much(data), data.hex()
    for frame in in_pieces:
        _judge(frame)
        assert FrameReader().feed(compose(frame)) == [frame], frame


def _frames_of(pieces: list[bytes]) -> tuple[list[Frame], str]:
    reader = FrameReader()
    frames: list[Frame] = []
    try:
        for piece in pieces:
            frames += reader.feed(piece)
    except FormatError as error:
        return frames, error.reason
    return frames, ""


def _promises_too_much(data: bytes) -> bool:
    """Return whether the length of a frame, where the frames before it are whole, is none that a frame has."""
    at = 0
    while at + 4 <= len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        if not 0 < size <= FRAME_BYTES_MAX:
            return True
        at += 4 + size
    return False


def _judge(frame: Frame) -> None:
    """Assert what whoever reads a frame relies upon."""
    if isinstance(frame, QuestionFrame):
        assert question_end(frame.question, 0) == len(frame.question)
        assert folded_question(frame.question) == frame.question
    elif isinstance(frame, Answer):
        end = question_end(frame.message, 12)
        assert all(end <= offset <= len(frame.message) - 4 for offset in frame.ttl_offsets)
        assert all(b - a >= 4 for a, b in zip(frame.ttl_offsets, frame.ttl_offsets[1:], strict=False))
        assert len(frame.tags) <= TAGS_MAX
        assert len(frame.ede) <= EDE_MAX
        assert all(len(text.encode()) <= EDE_TEXT_BYTES_MAX for _, text in frame.ede)


def streams() -> list[bytes]:
    """Return each kind of frame, alone and together."""
    asked = question("www.example")
    frames: list[Frame] = [
        Hello(2, 7),
        QuestionFrame(1, asked, Ask(12.5, True, False, True, ClientClass.LISTED, "203.0.113.0/24", is_prefetch=True)),
        QuestionFrame(2, question("n.example", 65), Ask(0.0, False, True, False, ClientClass.OTHER)),
        Forwarded(9),
        Postponed(9),
        answer(tags=(b"12345678", b"abcdefgh"), ad_eligible=True),
        answer(rdatas=(bytes(300), bytes(4)), rtype=16, ede=((3, ""), (22, "no contact had it"))),
        failure(),
        Invalidate(None),
        Invalidate((b"12345678",)),
        Counters((("cache-hit", 5), ("cache-miss", 6))),
    ]
    alone = [compose(frame) for frame in frames]
    return [*alone, b"".join(alone), b"\x00\x00\x00\x00", b"\xff\xff\xff\xff"]
