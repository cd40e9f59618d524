"""The frames between front and engine."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import msgpack

from p2pdns import link
from p2pdns.errors import FormatError
from p2pdns.link import (
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
from tests.front_messages import CALM, answer, question

LABELS = st.binary(min_size=1, max_size=63).map(lambda raw: bytes([len(raw)]) + raw)
QUESTIONS = (
    st.lists(LABELS, max_size=4)
    .map(b"".join)
    .filter(lambda name: len(name) < 255)
    .flatmap(lambda name: st.binary(min_size=4, max_size=4).map(lambda rest: name.lower() + b"\x00" + rest))
)
TIMES = st.floats(allow_nan=False, allow_infinity=False)
NUMBERS = st.integers(0, 2**32 - 1)
TAGS = st.lists(st.binary(min_size=8, max_size=8), max_size=16).map(tuple)
TEXTS = st.text(alphabet="ab é€𝄞", max_size=60)
ASKS = st.builds(
    Ask,
    deadline=TIMES,
    rd=st.booleans(),
    do=st.booleans(),
    cd=st.booleans(),
    client_class=st.sampled_from(ClientClass),
    client_prefix=st.sampled_from(["203.0.113.0/24", "2001:db8:1::/48", "[::1]:53", ""]),
    client_seat=st.sampled_from(["203.0.113.7", "udp ::1 53", ""]),
    is_prefetch=st.booleans(),
)
QUERIES = st.builds(QuestionFrame, id=NUMBERS, question=QUESTIONS, ask=ASKS)

COUNTERS = st.dictionaries(
    st.from_regex(r"[a-z0-9-]{1,40}", fullmatch=True), st.integers(0, 2**64 - 1), max_size=link.COUNTERS_MAX
).map(Counters.of)


@st.composite
def answers(draw: st.DrawFn) -> Answer:
    """Answers whose offsets lie inside their messages."""
    asked = draw(QUESTIONS)
    body = draw(st.binary(max_size=1500))
    message = b"\x00\x00\x84\x00\x00\x01" + bytes(6) + asked + body
    lowest = 12 + len(asked)
    gaps = draw(st.lists(st.integers(4, 700), max_size=20))
    offsets, at = [], lowest
    for gap in gaps:
        if at + 4 <= len(message):
            offsets.append(at)
        at += gap
    return Answer(
        id=draw(NUMBERS),
        message=message,
        ttl_offsets=tuple(offsets),
        made_at=draw(TIMES),
        expiry=draw(TIMES),
        stale_until=draw(TIMES),
        ede=tuple(
            draw(st.lists(st.tuples(st.integers(0, 65535), st.text(alphabet="ab é€𝄞", max_size=60)), max_size=8))
        ),
        ad_eligible=draw(st.booleans()),
        provisional=draw(st.booleans()),
        cacheable=draw(st.booleans()),
        failure=draw(st.booleans()),
        tags=draw(TAGS),
        generation=draw(st.integers(0, 2**64 - 1)),
    )


FRAMES: st.SearchStrategy[Frame] = st.one_of(
    st.builds(Hello, version=st.integers(0, 65535), epoch=st.integers(0, 2**64 - 1)),
    QUERIES,
    st.builds(Forwarded, id=NUMBERS),
    st.builds(Postponed, id=NUMBERS),
    answers(),
    st.builds(Invalidate, tags=st.one_of(st.none(), TAGS)),
    COUNTERS,
)


@CALM
@given(st.lists(FRAMES, max_size=4))
def test_parse_is_the_inverse_of_compose_whole_byte_by_byte_and_with_a_tail(frames: list[Frame]) -> None:
    stream = b"".join(compose(frame) for frame in frames)
    assert FrameReader().feed(stream) == frames
    reader, read = FrameReader(), []
    for i in range(len(stream)):
        read += reader.feed(stream[i : i + 1])
    assert read == frames
    with_tail = FrameReader()
    assert with_tail.feed(stream + b"\x00\x00") == frames
    assert with_tail.feed(b"") == []


@CALM
@given(st.binary(max_size=300))
def test_hostile_bytes_end_in_frames_or_a_format_error(data: bytes) -> None:
    reader = FrameReader()
    try:
        reader.feed(data)
    except FormatError:
        return


@CALM
@given(FRAMES, st.data())
def test_a_changed_frame_ends_in_a_valid_frame_or_a_format_error(frame: Frame, data: st.DataObject) -> None:
    raw = bytearray(compose(frame))
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    try:
        read = FrameReader().feed(bytes(raw))
    except FormatError:
        return
    for other in read:
        # What was read is valid, so it can be written and read again; a NaN would not be equal to itself.
        assert FrameReader().feed(compose(other)) == [other]


def test_a_length_beyond_the_limit_is_refused_before_the_bytes_arrive() -> None:
    with pytest.raises(FormatError, match="frame-length"):
        FrameReader().feed((link.FRAME_BYTES_MAX + 1).to_bytes(4, "big"))


@pytest.mark.parametrize("size", [0, 2**32 - 1])
def test_no_frame_is_empty_or_four_gigabytes(size: int) -> None:
    with pytest.raises(FormatError, match="frame-length"):
        FrameReader().feed(size.to_bytes(4, "big"))


@pytest.mark.parametrize(
    "body",
    [
        [],
        [99, 1],
        [3],
        [3, -1],
        [3, 2**32],
        [3, True],
        [3, "1"],
        [3, 1, 1],
        [1, 6, 7, 8],
        [2, 1, b"\x00\x00\x01\x00\x01", [1.0, True, False, False, 3, "", "", False]],
        [2, 1, b"\x00\x00\x01\x00\x01", [1.0, True, False, False, 0, "x" * 65, "", False]],
        [2, 1, b"\x00\x00\x01\x00\x01", [1.0, True, False, False, 0, "", "", False, 0]],
        [*msgpack.decode(compose(answer())[4:]), 0],
        [5, [b"short"]],
        [6, [["hits", -1]]],
        [6, [[f"n-{i:03d}", 1] for i in range(link.COUNTERS_MAX + 1)]],
    ],
    ids=lambda body: f"{body}"[:40],
)
def test_a_body_that_is_no_frame_of_this_version_is_refused(body: list[object]) -> None:
    raw = msgpack.encode(body)
    with pytest.raises(FormatError, match="frame-body"):
        FrameReader().feed(len(raw).to_bytes(4) + raw)


def test_a_body_with_something_behind_the_frame_is_refused() -> None:
    raw = compose(Forwarded(7))[4:] + b"\x00"
    with pytest.raises(FormatError, match="frame-body"):
        FrameReader().feed(len(raw).to_bytes(4) + raw)


def test_more_than_sixteen_tags_make_an_answer_uncacheable() -> None:
    many = answer(tags=tuple(bytes([i]) * 8 for i in range(17)))
    (read,) = FrameReader().feed(compose(many))
    assert isinstance(read, Answer)
    assert (read.tags, read.cacheable) == ((), False)


def test_a_long_text_is_clipped_between_characters() -> None:
    (read,) = FrameReader().feed(compose(answer(ede=((22, "é" * 200),))))
    assert isinstance(read, Answer)
    assert read.ede == ((22, "é" * 127),)


def test_counters_are_bounded_in_number_and_sorted() -> None:
    many = Counters.of({"No Name": 1, **{f"n-{i:03d}": i for i in reversed(range(link.COUNTERS_MAX + 9))}})
    assert many.counts == tuple((f"n-{i:03d}", i) for i in range(link.COUNTERS_MAX))
    assert FrameReader().feed(compose(many)) == [many]


@pytest.mark.parametrize(
    "counts",
    [
        (("b", 1), ("a", 1)),
        (("a", 1), ("a", 2)),
        (("", 1),),
        (("a\x1b[2J", 1),),
        (("é", 1),),
        (("a" * 41, 1),),
    ],
    ids=["no order", "twice", "no name", "control character", "not ascii", "long"],
)
def test_counters_that_no_front_has_are_refused(counts: tuple[tuple[str, int], ...]) -> None:
    with pytest.raises(FormatError, match="frame-counters"):
        FrameReader().feed(compose(Counters(counts)))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_time_that_is_no_number_is_refused(value: float) -> None:
    with pytest.raises(FormatError, match="frame-time"):
        FrameReader().feed(compose(answer(expiry=value)))


def test_a_message_of_64_kib_with_4000_records_fits_into_a_frame() -> None:
    full = answer(rdatas=[bytes(4)] * 4090)
    assert len(full.message) > 65_000
    assert FrameReader().feed(compose(full)) == [full]


def test_a_message_of_too_many_tiny_records_is_refused_when_it_is_composed() -> None:
    with pytest.raises(FormatError, match="frame-too-large"):
        compose(answer(rdatas=[b""] * 5450))


@pytest.mark.parametrize(
    ("offsets", "reason"),
    [
        ((12,), "frame-offsets"),
        ((35, 37), "frame-offsets"),
        ((1000,), "frame-offsets"),
        ((41,), "frame-offsets"),
    ],
    ids=["inside the question", "overlapping", "outside", "over the end"],
)
def test_an_offset_that_would_spoil_the_message_is_refused(offsets: tuple[int, ...], reason: str) -> None:
    base = answer()
    broken = Answer(0, base.message[:44], offsets, 0.0, 1.0, 1.0)
    with pytest.raises(FormatError, match=reason):
        FrameReader().feed(compose(broken))


def test_a_query_with_capitals_is_refused() -> None:
    asked = QuestionFrame(1, question("WWW.example"), Ask(1.0))
    with pytest.raises(FormatError, match="lower case"):
        FrameReader().feed(compose(asked))
