"""Composition under any answer: whatever an engine says, the reply fits its client and repeats its question."""

from __future__ import annotations

import random
import struct
from functools import partial

import dns.flags
import dns.message
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pdns.dns.message import RR, Message, Question
from p2pdns.dns.message.wire import compose
from p2pdns.dns.name import Name
from p2pdns.dns.registry import Explanations
from p2pdns.link import Answer, QuestionFrame
from p2pdns.values import replace
from tests.front_messages import CALM, opt
from tests.fuzz.door import Door, is_plain_dns
from tests.fuzz.front import answerings, be_answered
from tests.fuzz.queries import CLIENT_COOKIE
from tests.ttl_walk import ttl_offsets
from tests.unit.dns.strategies import names, records

RUNS = 2_000
SIZES = st.one_of(st.sampled_from([0, 512, 1231, 1232, 4096]), st.integers(0, 65535))
answer_records = st.lists(records(names, names), max_size=12).map(tuple)
reasons = st.lists(st.tuples(st.integers(0, 65535), st.text(alphabet="ab é€𝄞", max_size=300)), max_size=9).map(tuple)


def changed(data: bytes, chance: random.Random) -> bytes:
    """Return an answering with one to four bytes changed, and sometimes a piece of it twice."""
    raw = bytearray(data)
    for _ in range(chance.randint(1, 4)):
        raw[chance.randrange(len(raw))] = chance.choice((0, 1, 3, 12, 64, 0xC0, 0xFF, chance.randrange(256)))
    if chance.random() < 0.3:
        at = chance.randrange(len(raw))
        raw[at:at] = raw[at : at + chance.randint(1, 300)]
    return bytes(raw)


def answered(message: bytes, query: QuestionFrame, now: float) -> Answer:
    """Return the frame that gives a message as the answer, for 100 seconds."""
    return Answer(query.id, message, ttl_offsets(message), now, now + 100, now + 200)


def test_whatever_an_engine_answers_the_reply_fits() -> None:
    chance = random.Random(4035)
    seeds = answerings()
    for _ in range(RUNS):
        be_answered(changed(chance.choice(seeds), chance))


@CALM
@given(answer_records, answer_records, answer_records, reasons, SIZES, st.data())
def test_an_answer_of_real_records_arrives_whole_or_cut_and_its_ttls_count_down(
    answers: tuple[RR, ...],
    authorities: tuple[RR, ...],
    additionals: tuple[RR, ...],
    ede: Explanations,
    size: int,
    data: st.DataObject,
) -> None:
    said = Message(0, 0x8400, Question(Name.of(b"www", b"example"), 1), answers, authorities, additionals)
    message = compose(said)

    door = Door(
        lambda asking, now: replace(answered(message, asking, now), ede=ede), says_dns=lambda: is_plain_dns(message)
    )
    flags = data.draw(st.sampled_from([0x0100, 0x0110, 0x0130]))
    is_stream, has_opt = data.draw(st.booleans()), data.draw(st.booleans())
    query = struct.pack("!6H", 7, flags, 1, 0, 0, has_opt) + b"\x03wWw\x07eXample\x00\x00\x01\x00\x01"
    query += opt(size, do=data.draw(st.booleans())) if has_opt else b""
    first = door.exchange(query, is_stream=is_stream)
    second = door.exchange(query, is_stream=is_stream, after_s=3.0)
    assert first is not None
    assert second is not None
    assert len(first) == len(second)
    if not first[2] & 0x02:
        # What is left out for want of room is left out from the end.
        kept = sum(struct.unpack_from("!3H", first, 6)) - has_opt
        for at in ttl_offsets(message)[:kept]:
            before, after = (int.from_bytes(reply[at : at + 4], "big") for reply in (first, second))
            assert after == max(0, before - 3)
            assert before <= int.from_bytes(message[at : at + 4], "big")


@pytest.mark.parametrize(
    ("records", "bytes_beside"),
    [((), 0), ((opt(512),), 11), ((opt(512, options=CLIENT_COOKIE),), 11 + 28)],
    ids=["no OPT", "OPT", "OPT and cookie"],
)
def test_an_answer_at_the_edge_of_a_clients_size_is_whole_or_cut_and_never_too_long(
    records: tuple[bytes, ...], bytes_beside: int
) -> None:
    """One byte decides, and `Door` judges the length; a reply's cookie has 28 bytes."""
    asked = b"\x01A\x00\x00\x10\x00\x01"
    query = struct.pack("!6H", 7, 0x0100, 1, 0, 0, len(records)) + asked + b"".join(records)
    for room in range(-14, 15):
        size = 512 - room - bytes_beside
        text = b"".join(bytes([length]) + b"t" * length for length in (200, 150, size - 12 - len(asked) - 12 - 353))
        message = struct.pack("!6H", 0, 0x8400, 1, 1, 0, 0) + asked.lower()
        message += b"\xc0\x0c" + struct.pack("!HHIH", 16, 1, 60, len(text)) + text
        assert len(message) == size
        reply = Door(partial(answered, message)).exchange(query)
        assert reply is not None
        parsed = dns.message.from_wire(reply)
        assert bool(parsed.flags & dns.flags.TC) == (room < 0)
        assert len(parsed.answer) == (room >= 0)
