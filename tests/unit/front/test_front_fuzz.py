"""The whole front under bad input: hundreds of thousands of mutated queries, and queries built wrong on purpose."""

from __future__ import annotations

import random
import struct
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pdns.addresses import Address
from tests.front_messages import CALM
from tests.fuzz.door import CPU_MS_MAX, DATAGRAM_BYTES_JUDGED, HERE, Door, cpu_ms
from tests.fuzz.queries import good_queries, mutated
from tests.fuzz.reading import reading_of
from tests.fuzz.strategies import Sent, conversations, opts, questions

QUERIES_PER_HALF = 100_000  # Two halves, so that two workers share them.
DOOR_QUERIES_MAX = 20_000  # A front that lives for ever would answer most from what it holds.
REPEAT_EVERY = 32
REPEATS = 5  # The engine answers the first, the cache the second, and from the third on the memo does.
STRANGER: Address = ("192.0.2.7", 4000)


@pytest.mark.parametrize("half", [1, 2])
def test_a_hundred_thousand_mutated_queries_get_each_a_fitting_reply_at_once(half: int) -> None:
    chance = random.Random(f"front {half}")
    bases = good_queries()
    reasons: set[str] = set()
    different: set[int] = set()
    passed = judged = remembered = replies = silences = repeats = 0
    answered_from: Counter[str] = Counter()
    for _ in range(QUERIES_PER_HALF // DOOR_QUERIES_MAX):
        door = Door()
        for number in range(DOOR_QUERIES_MAX):
            data = mutated(bases, chance)
            address = STRANGER if number % 64 == 0 else HERE
            is_stream = number % 4 == 0
            different.add(hash((data[2:], is_stream)))
            door.worst_ns = 0
            reply = door.exchange(data, is_stream=is_stream, address=address, after_s=chance.choice((0.0, 0.001, 0.4)))
            silences += reply is None
            if number % REPEAT_EVERY == 1:
                # Nothing but the ID tells one from the next, and each gets what it would get alone.
                for _ in range(REPEATS):
                    silences += door.exchange(chance.randbytes(2) + data[2:]) is None
                    repeats += 1
            if door.worst_ns > CPU_MS_MAX * 1e6 and len(data) <= DATAGRAM_BYTES_JUDGED:
                assert cpu_ms(data, is_stream=is_stream, enough_ms=CPU_MS_MAX) < CPU_MS_MAX, data.hex()
        counted, held = door.funnel.gate.counters, door.funnel.cache.counters
        reasons |= set(counted)
        passed += counted["passed"]
        judged += sum(counted.values())
        # Whatever passes the gate is a hit or a miss of the cache; the hits beyond those are the memo's.
        remembered += held["hit"] + held["miss"] - counted["passed"]
        replies += door.reply_count
        answered_from += held
    assert judged + remembered == replies + silences == QUERIES_PER_HALF + repeats
    assert remembered > 1000
    assert len(different) > QUERIES_PER_HALF * 0.8, "most are one another's doubles"
    # Fresh, stale, fetched ahead and asked for: each way to an answer was taken often.
    assert all(answered_from[way] > 100 for way in ("hit", "stale", "prefetch", "miss")), answered_from
    # The mutations reach every rule, and neither all nor none survive them.
    assert len(reasons) > 20, sorted(reasons)
    assert QUERIES_PER_HALF * 0.1 < passed < QUERIES_PER_HALF * 0.9
    assert replies > QUERIES_PER_HALF * 0.7


def test_the_same_question_again_and_again_gets_each_time_its_own_id_and_case() -> None:
    for data in good_queries():
        door = Door()
        question = reading_of(data).question
        for cased in (question, question.lower(), question.upper(), question):
            again = data.replace(question, cased[:-4] + question[-4:]) if question else data
            for number in range(REPEATS):
                door.exchange(number.to_bytes(2, "big") + again[2:])
        assert door.reply_count == 4 * REPEATS


@CALM
@given(conversations)
def test_any_conversation_gets_one_fitting_reply_for_each_query(conversation: list[Sent]) -> None:
    door = Door()
    for sent in conversation:
        door.exchange(sent.data, is_stream=sent.is_stream, address=sent.address, after_s=sent.after_s)


@CALM
@given(
    st.lists(st.tuples(questions, st.sampled_from([0.0, 0.2, 2.0, 40.0, 1000.0])), min_size=1, max_size=4), st.data()
)
def test_equal_questions_in_any_case_and_with_any_options_get_each_its_own_reply(
    asked: list[tuple[bytes, float]], data: st.DataObject
) -> None:
    door = Door()
    for question, after_s in [*asked, *asked, *asked]:
        cased = bytes(byte ^ 0x20 if chr(byte).isalpha() and byte < 128 else byte for byte in question[:-4])
        given_opts = data.draw(st.lists(opts, max_size=1))
        head = data.draw(st.binary(min_size=2, max_size=2)) + struct.pack("!5H", 0x0100, 1, 0, 0, len(given_opts))
        query = head + data.draw(st.sampled_from([question, cased + question[-4:]])) + b"".join(given_opts)
        door.exchange(query, is_stream=data.draw(st.booleans()), after_s=after_s)


@CALM
@given(st.binary(max_size=300), st.booleans())
def test_any_bytes_get_one_fitting_reply_or_silence(data: bytes, is_stream: bool) -> None:
    Door().exchange(data, is_stream=is_stream)
