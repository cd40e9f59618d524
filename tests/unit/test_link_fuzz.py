"""The link under bad input: frames changed where it hurts, whole streams of them, and answers that cannot be true."""

from __future__ import annotations

import random
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pdns.errors import FormatError
from p2pdns.link import FRAME_BYTES_MAX, Answer, FrameReader, compose
from p2pdns.values import replace
from tests.front_messages import CALM, answer
from tests.fuzz.frames import read, streams

STREAM_COUNT = 20_000
HEAD_BYTES = 46  # Length, kind, and the fixed fields of the longest kind.
WORDS = (0, 1, 2, 11, 12, 0x7F, 0x80, 0xFF, 0x100, 0x7FFF, 0xFFFF)

lengths = st.one_of(st.integers(0, 80), st.sampled_from([FRAME_BYTES_MAX, FRAME_BYTES_MAX + 1, 2**32 - 1]))
kinds = st.integers(0, 8)


@st.composite
def frames(draw: st.DrawFn) -> bytes:
    """A frame of a known kind whose fixed fields and whose tail were drawn apart, its length mostly true."""
    head = draw(st.binary(min_size=HEAD_BYTES, max_size=HEAD_BYTES))
    message = draw(st.sampled_from([b"", answer().message, answer(rdatas=()).message]))
    body = bytes([draw(kinds)]) + head[: draw(st.integers(0, HEAD_BYTES))] + message + draw(st.binary(max_size=60))
    size = draw(st.one_of(st.just(len(body)), lengths))
    return struct.pack("!I", size) + body


def changed(stream: bytes, chance: random.Random) -> bytes:
    """Return a stream with one to three of its bytes or words changed, mostly among the fixed fields."""
    raw = bytearray(stream)
    for _ in range(chance.randint(1, 3)):
        at = chance.randrange(min(len(raw), HEAD_BYTES) if chance.random() < 0.7 else len(raw))
        kind = chance.randrange(4)
        if kind == 0:
            raw[at] ^= 1 << chance.randrange(8)
        elif kind == 1:
            raw[at : at + 2] = chance.choice(WORDS).to_bytes(2, "big")
        elif kind == 2:
            raw[at:at] = chance.randbytes(chance.randint(1, 4))
        else:
            del raw[at : at + chance.randint(1, 4)]
        if not raw:
            break
    if chance.random() < 0.5 and len(raw) > 4:
        # With a true length the change reaches what stands behind it.
        raw[:4] = (len(raw) - 4).to_bytes(4, "big")
    return bytes(raw)


def test_changed_streams_end_in_frames_that_say_the_same_again_or_in_a_reason() -> None:
    chance = random.Random(5)
    seeds = streams()
    for _ in range(STREAM_COUNT):
        read(changed(chance.choice(seeds), chance))


@CALM
@given(st.lists(frames(), max_size=3).map(b"".join))
def test_frames_of_made_up_fields_end_in_frames_or_in_a_reason(stream: bytes) -> None:
    read(stream)


@pytest.mark.parametrize("section", [6, 8, 10])
@pytest.mark.parametrize(("count", "is_refused"), [(1, False), (2, True), (0xFFFF, True)])
def test_an_answer_with_more_records_than_it_has_room_for_is_refused(
    section: int, count: int, is_refused: bool
) -> None:
    """The front counts its own OPT on top, and must neither overflow nor promise records that are not there."""
    given_answer = answer()
    message = bytearray(given_answer.message)
    message[6:12] = bytes(6)
    message[section : section + 2] = count.to_bytes(2, "big")
    stream = compose(replace(given_answer, message=bytes(message)))
    if is_refused:
        with pytest.raises(FormatError, match="frame-message"):
            FrameReader().feed(stream)
    else:
        (frame,) = FrameReader().feed(stream)
        assert isinstance(frame, Answer)
