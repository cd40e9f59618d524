"""The funnel: from bytes to bytes, with the engine played by the test."""

from __future__ import annotations

import random

import dns.message
import pytest

from p2pdns.dns.life import CLIENT_TIMER_S
from p2pdns.errors import FormatError
from p2pdns.front.funnel import Funnel
from p2pdns.front.pending import DATAGRAMS_PER_CLIENT_MAX, GRACE_S, QUEUED_S_MAX
from p2pdns.front.transport import TCP, UDP
from p2pdns.limits import QUESTION_S_MAX, QUESTIONS_MAX
from p2pdns.link import Answer, Forwarded, Hello, Invalidate, Postponed, QuestionFrame
from p2pdns.values import replace
from tests.front_messages import answer, crowd, ede_codes, failure, funnel, opt, query, question


class World:
    """A funnel, what it sent to the engine, and what it sent to clients."""

    def __init__(self, *, engine: bool = True) -> None:
        self.funnel: Funnel = funnel()
        self.asked: list[QuestionFrame] = []
        self.replies: list[bytes] = []
        self.funnel.send_query = self.asked.append
        if engine:
            self.funnel.engine_connected(1, 0.0)

    def ask(
        self, data: bytes, now: float, *, host: str = "127.0.0.1", port: int = 4000, stream: bool = False
    ) -> bytes | None:
        """Send a message as a client."""
        return self.funnel.receive(data, (host, port), self.replies.append, now, TCP if stream else UDP)

    def tell(self, given: Answer, now: float) -> None:
        """Answer the last question as the engine."""
        self.funnel.frame_received(replace(given, id=self.asked[-1].id), now)

    def last(self) -> dns.message.Message:
        """Return the last reply that came later."""
        return dns.message.from_wire(self.replies[-1])


def test_a_question_goes_to_the_engine_and_its_answer_to_the_client_and_the_cache() -> None:
    world = World()
    assert world.ask(query("WwW.example", number=7), 1.0) is None
    assert world.asked[0].question == question("www.example")
    world.tell(answer(made_at=1.0), 1.0)
    assert world.last().id == 7
    assert world.last().question[0].name.to_text() == "WwW.example."
    again = world.ask(query(number=8), 11.0)
    assert again is not None
    assert dns.message.from_wire(again).answer[0].ttl == 290
    assert len(world.asked) == 1


def test_an_answer_without_time_reaches_its_waiters_and_is_asked_again() -> None:
    world = World()
    world.ask(query(), 1.0)
    world.tell(answer(ttl=0, made_at=1.0, stale_until=1.0), 1.0)
    assert world.last().answer[0].ttl == 0
    assert world.ask(query(), 1.0) is None
    assert len(world.asked) == 2


def test_the_access_list_comes_before_the_cache() -> None:
    world = World()
    world.ask(query(), 0.0)
    world.tell(answer(), 0.0)
    refused = world.ask(query(records=[opt()]), 1.0, host="192.0.2.7")
    assert refused is not None
    assert dns.message.from_wire(refused).rcode() == 5
    assert ede_codes(refused) == [18]


def test_what_is_dropped_has_an_empty_response() -> None:
    assert World().ask(query(flags=0x8000), 0.0) == b""


def test_a_slow_engine_lets_clients_have_the_stale_answer_after_1_8_seconds() -> None:
    world = World()
    world.ask(query(), 0.0)
    world.tell(answer(ttl=60), 0.0)
    assert world.ask(query(records=[opt()]), 100.0) is None
    world.funnel.handle_timer(100.0 + CLIENT_TIMER_S)
    assert world.last().answer[0].ttl == 30
    assert ede_codes(world.replies[-1]) == [3]
    # Who comes now need not wait to learn the same.
    assert world.ask(query(), 102.0) is not None
    # And the answer that comes late after all is kept.
    world.tell(answer(made_at=103.0), 103.0)
    later = world.ask(query(), 104.0)
    assert later is not None
    assert dns.message.from_wire(later).answer[0].ttl == 299


def test_without_anything_stale_clients_wait_until_the_deadline_and_get_servfail() -> None:
    world = World()
    world.ask(query(records=[opt()]), 0.0)
    world.funnel.handle_timer(CLIENT_TIMER_S)
    assert world.replies == []
    world.funnel.handle_timer(QUESTION_S_MAX + GRACE_S)
    assert world.last().rcode() == 2
    assert ede_codes(world.replies[-1]) == [22]


def test_a_failure_of_the_engine_is_answered_by_what_is_stale_and_not_asked_again_while_it_lasts() -> None:
    world = World()
    world.ask(query(), 0.0)
    world.tell(answer(ttl=60), 0.0)
    world.ask(query(records=[opt()]), 100.0)
    world.tell(failure(now=100.1, lasts_s=5.0), 100.1)
    assert world.last().rcode() == 0
    assert ede_codes(world.replies[-1]) == [3, 22]
    at_once = world.ask(query(records=[opt()]), 102.0)
    assert at_once is not None
    assert ede_codes(at_once) == [3, 22]
    assert world.ask(query(), 106.0) is None


def test_a_failure_with_nothing_stale_is_servfail_and_kept() -> None:
    world = World()
    world.ask(query(records=[opt()]), 0.0)
    world.tell(failure(), 0.0)
    assert world.last().rcode() == 2
    assert ede_codes(world.replies[-1]) == [22]
    assert world.ask(query(), 4.0) is not None
    assert world.ask(query(), 6.0) is None


def test_without_an_engine_a_question_is_held_and_asked_when_one_comes() -> None:
    world = World(engine=False)
    assert world.ask(query(), 0.0) is None
    assert world.asked == []
    world.funnel.engine_connected(1, 1.0)
    assert len(world.asked) == 1
    world.tell(answer(made_at=1.0), 1.0)
    assert world.last().rcode() == 0


def test_without_an_engine_a_question_ends_in_stale_or_servfail() -> None:
    world = World(engine=False)
    world.ask(query(records=[opt()]), 0.0)
    world.funnel.handle_timer(CLIENT_TIMER_S)
    assert world.last().rcode() == 2
    assert ede_codes(world.replies[-1]) == [14]


def test_a_new_epoch_drops_what_is_doubtful_and_asks_what_waits_again() -> None:
    world = World()
    world.ask(query("gone.example"), 0.0)
    world.tell(answer("gone.example", rdatas=(), rcode=3), 0.0)
    world.ask(query("there.example"), 0.0)
    world.tell(answer("there.example"), 0.0)
    world.ask(query("pending.example"), 0.0)
    world.funnel.engine_lost(1.0)
    world.funnel.engine_connected(2, 1.5)
    assert world.asked[-1].question == question("pending.example")
    assert world.asked[-1].id == world.asked[-2].id
    assert world.ask(query("there.example"), 2.0) is not None
    assert world.ask(query("gone.example"), 2.0) is None


def test_an_invalidated_answer_is_asked_again() -> None:
    world = World()
    world.ask(query(), 0.0)
    world.tell(answer(tags=(b"12345678",)), 0.0)
    assert world.ask(query(), 1.0) is not None
    world.funnel.frame_received(Invalidate((b"12345678",)), 1.0)
    assert world.ask(query(), 1.0) is None


def test_what_the_engine_gives_back_is_put_again_when_another_was_answered() -> None:
    world = World()
    for i in range(2):
        world.ask(query(f"n{i}.example"), 0.0)
    first, second = world.asked
    world.funnel.frame_received(Forwarded(first.id), 0.0)
    world.funnel.frame_received(Postponed(second.id), 0.0)
    assert world.asked == [first, second]
    world.asked.append(first)
    world.tell(answer("n0.example"), 0.0)
    assert world.asked[-1] == second
    world.tell(answer("n1.example"), 0.0)
    assert [dns.message.from_wire(reply).rcode() for reply in world.replies] == [0, 0]


def test_a_burst_is_put_as_answers_come_and_each_of_it_is_answered() -> None:
    world = World()
    names = [f"n{i}.example" for i in range(1_000)]
    for number, name in enumerate(names):
        assert world.ask(query(name, number=number), 0.0) is None
    assert len(world.asked) == DATAGRAMS_PER_CLIENT_MAX
    for name, asked in zip(names, world.asked, strict=False):
        given = answer(name)
        world.funnel.frame_received(replace(given, id=asked.id), 0.0)
    assert [dns.message.from_wire(reply).id for reply in world.replies] == list(range(1_000))
    assert {dns.message.from_wire(reply).rcode() for reply in world.replies} == {0}


@pytest.mark.parametrize("stream", [False, True])
def test_what_finds_no_place_in_time_is_dropped_and_on_a_stream_servfail(stream: bool) -> None:
    """A stub that hears nothing asks again; on a stream nothing is ever asked again."""
    world = World()
    for i in range(QUESTIONS_MAX):
        assert world.ask(query(f"n{i}.example"), 0.0, host=crowd(i)) is None
    assert world.ask(query("other.example", records=[opt()]), 0.0, stream=stream) is None
    assert len(world.asked) == QUESTIONS_MAX
    world.funnel.handle_timer(QUEUED_S_MAX)
    assert len(world.replies) == stream
    if stream:
        assert world.last().rcode() == 2
        assert ede_codes(world.replies[-1]) == [0]
    assert world.funnel.counters == {("failed" if stream else "dropped") + "-no-place": 1}


@pytest.mark.parametrize("stream", [False, True])
def test_what_may_not_even_wait_is_dropped_and_on_a_stream_servfail_and_others_are_asked(stream: bool) -> None:
    world = World()
    waiting = 0
    while world.funnel.counters.total() == 0:
        told = world.ask(query("slow.example", number=waiting, records=[opt()]), 0.0, stream=stream)
        waiting += 1
    if stream:
        assert told is not None
        assert dns.message.from_wire(told).rcode() == 2
        assert "this client" in str(dns.message.from_wire(told).extended_errors()[0].text)
    else:
        assert told == b""
    assert world.funnel.counters == {("failed" if stream else "dropped") + "-client-limit": 1}
    assert waiting > 1_000
    assert world.ask(query("other.example"), 0.0, port=4001) is None
    world.tell(answer("other.example"), 0.0)
    # What the cache has is nobody's to hold up.
    assert world.ask(query("other.example", number=3), 0.0) is not None


def test_the_timer_is_told_of_what_is_due_before_the_oldest_question() -> None:
    world = World()
    told: list[float | None] = []
    world.funnel.on_timer_changed = lambda: told.append(world.funnel.get_timer())
    world.ask(query("old.example"), 0.0)
    world.funnel.handle_timer(QUEUED_S_MAX)
    assert told == [CLIENT_TIMER_S]
    assert world.funnel.get_timer() == QUESTION_S_MAX + GRACE_S
    world.ask(query("young.example"), 2.0)
    assert told[1:] == [2.0 + CLIENT_TIMER_S]
    # And of what is due later than that, not again.
    world.ask(query("younger.example"), 2.1)
    assert len(told) == 2


def test_an_answer_to_another_question_is_an_error_and_not_kept() -> None:
    world = World()
    world.ask(query(), 0.0)
    with pytest.raises(FormatError, match="answer-question"):
        world.tell(answer("evil.example"), 0.0)
    assert world.last().rcode() == 2
    assert len(world.funnel.cache) == 0


@pytest.mark.parametrize("frame", [Hello(1, 2), "query"])
def test_frames_that_no_engine_sends_are_errors(frame: Hello | str) -> None:
    world = World()
    world.ask(query(), 0.0)
    with pytest.raises(FormatError, match="frame-order"):
        world.funnel.frame_received(frame if isinstance(frame, Hello) else world.asked[0], 0.0)


def test_an_answer_that_nobody_waits_for_is_counted() -> None:
    world = World()
    world.funnel.frame_received(answer(number=99), 0.0)
    assert world.funnel.counters["late-answer"] == 1


def test_the_timer_is_announced_when_it_appears() -> None:
    world = World()
    calls: list[float | None] = []
    world.funnel.on_timer_changed = lambda: calls.append(world.funnel.get_timer())
    world.ask(query("a.example"), 3.0)
    world.ask(query("b.example"), 4.0)
    assert calls == [3.0 + CLIENT_TIMER_S]


def test_mutated_queries_and_any_engine_end_in_replies_that_parse() -> None:
    chance = random.Random(7766)
    world = World()
    seeds = [query(), query("a.example", 28, records=[opt(600, do=True)]), query("b.example", 16, records=[opt()])]
    for i in range(3000):
        data = bytearray(chance.choice(seeds))
        for _ in range(chance.randint(0, 2)):
            data[chance.randrange(2, len(data))] = chance.randrange(256)
        response = world.ask(bytes(data), i / 100, port=1024 + i)
        if response is None:
            name = world.asked[-1].question
            message = answer(rdatas=()).message[:12] + name
            kept = Answer(world.asked[-1].id, message, (), i / 100, i / 100 + 60, i / 100 + 60)
            world.funnel.frame_received(kept, i / 100)
            response = world.replies.pop()
        if response:
            reply = dns.message.from_wire(response)
            assert reply.id == int.from_bytes(data[:2], "big")
            # The root's question is the shortest one, with five bytes.
            assert not reply.question or response[12:17] == data[12:17]
