"""The engine's end of the link: frames of fronts, honest and hostile, over a real Unix socket."""

from __future__ import annotations

import asyncio
import os
import stat
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pdns.dns.message import RR, Question
from p2pdns.dns.message.wire import parse
from p2pdns.dns.name import Name
from p2pdns.dns.registry import Type
from p2pdns.engine.link_server import BEGUN_PER_TURN_MAX, LET_GO_S, LinkServer, compose_answer
from p2pdns.errors import Unavailable
from p2pdns.limits import FORWARDED_MAX, QUESTIONS_MAX
from p2pdns.link import (
    VERSION,
    Answer,
    Ask,
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
from p2pdns.overlay.finder import Overlay
from p2pdns.resolver.names import ResolverSettings, tag_of_zone
from p2pdns.resolver.service import Service
from p2pdns.resolver.steps import Resolved
from tests.overlay_doubles import A, Clock, FakeDht, FakeState, FakeUpstream, Told, item_of, question
from tests.waiting import at_rest, until

WWW = "WWW 300 A 192.0.2.1"


class Front:
    """A front that the test speaks for."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self._frames = FrameReader()
        self._read: list[Frame] = []

    async def frame(self) -> Frame | None:
        """Return the next frame; None at the end of the connection."""
        while not self._read:
            try:
                data = await self.reader.read(65_536)
            except ConnectionResetError:
                return None
            if not data:
                return None
            self._read += self._frames.feed(data)
        return self._read.pop(0)

    def ask(self, number: int, text: str, **more: Any) -> None:
        """Send a question."""
        asked = question(text)
        folded = Question(asked.name.folded(), asked.rtype)
        ask = Ask(**{"deadline": 1004.0, "client_prefix": "x", **more})
        self.writer.write(compose(QuestionFrame(number, folded.wire(), ask)))

    async def answer(self) -> Answer:
        """Return the next frame, which is an answer."""
        frame = await self.frame()
        assert isinstance(frame, Answer), frame
        return frame


class World:
    """A link server over a service among stand-ins."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.fronts: list[Front] = []
        self.clock = Clock()
        self.dht = FakeDht({A: item_of("a", WWW)})
        self.upstream = FakeUpstream()
        overlay = Overlay(
            self.dht,
            FakeState(),
            clock=self.clock.boot,
            unix_clock=self.clock.wall,
            tell=Told(),
            later=self.clock.later,
        )
        self.service = Service(overlay, self.upstream, ResolverSettings(), clock=self.clock.boot)
        self.server = LinkServer(directory, self.service, epoch=77, clock=self.clock.boot)

    async def front(self, *, greeted: bool = True, path: str | None = None) -> Front:
        """Connect."""
        front = Front(*await asyncio.open_unix_connection(path or str(self.directory / "link.sock")))
        self.fronts.append(front)
        if greeted:
            assert await front.frame() == Hello(VERSION, 77)
        return front


@asynccontextmanager
async def opened(directory: Path) -> AsyncIterator[World]:
    """Open a world, and close it."""
    world = World(directory)
    await world.server.open()
    try:
        yield world
    finally:
        await world.server.close()
        for front in world.fronts:
            front.writer.close()
            with suppress(OSError):
                await front.writer.wait_closed()


def run(story: Coroutine[Any, Any, None]) -> None:
    """Run a test's story."""
    asyncio.run(asyncio.wait_for(story, 30))


def test_a_question_over_the_link_is_answered_with_ttl_offsets_and_tags(tmp_path: Path) -> None:
    async def story() -> None:
        async with opened(tmp_path) as world:
            front = await world.front()
            front.ask(5, "www.{a} A")
            answer = await front.answer()
            message = parse(answer.message)
            assert (answer.id, message.id, message.rcode, len(message.answer)) == (5, 0, 0, 1)
            assert message.answer[0].rdata == bytes([192, 0, 2, 1])
            # The owner is a pointer to the question, whatever its case in the item.
            end = 12 + len(question("www.{a} A").wire())
            assert answer.message[end : end + 2] == b"\xc0\x0c"
            (offset,) = answer.ttl_offsets
            assert int.from_bytes(answer.message[offset : offset + 4]) == 300
            assert tag_of_zone(A) in answer.tags
            assert (answer.expiry, answer.cacheable, answer.failure, answer.ad_eligible) == (1300.0, True, False, True)

    run(story())


def test_a_forwarded_question_says_so_first(tmp_path: Path) -> None:
    async def story() -> None:
        async with opened(tmp_path) as world:
            front = await world.front()
            front.ask(6, "example.com. A")
            assert await front.frame() == Forwarded(6)
            answer = await front.answer()
            assert (parse(answer.message).rcode, answer.ede[0][0]) == (5, 20)

    run(story())


def test_a_question_that_finds_no_place_at_the_upstreams_is_given_back(tmp_path: Path) -> None:
    async def story() -> None:
        async with opened(tmp_path) as world:
            world.upstream.gate = asyncio.Event()
            front = await world.front()
            count = FORWARDED_MAX // 2
            for number in range(count):
                front.ask(number, f"n{number}.example. A")
                assert await front.frame() == Forwarded(number)
            front.ask(count, "late.example. A")
            assert await front.frame() == Postponed(count)
            world.upstream.gate.set()
            assert {(await front.answer()).id for _ in range(count)} == set(range(count))
            front.ask(count, "late.example. A")
            assert await front.frame() == Forwarded(count)
            assert (await front.answer()).id == count

    run(story())


def test_invalidations_reach_every_front(tmp_path: Path) -> None:
    async def story() -> None:
        async with opened(tmp_path) as world:
            fronts = [await world.front(), await world.front()]
            world.service.invalidate((b"12345678",))
            world.service.invalidate(None)
            for front in fronts:
                assert await front.frame() == Invalidate((b"12345678",))
                assert await front.frame() == Invalidate(None)

    run(story())


def test_the_latest_counters_of_the_front_are_kept_and_outlive_it(tmp_path: Path) -> None:
    async def story() -> None:
        async with opened(tmp_path) as world:
            assert world.server.front_counters == {}
            front = await world.front()
            for count in (1, 2):
                front.writer.write(compose(Counters.of({"cache-hit": count, "gate-passed": 7})))
            # An answer comes after everything that was sent before its question was read.
            front.ask(1, "www.{a} A")
            await front.answer()
            assert world.server.front_counters == {"cache-hit": 2, "gate-passed": 7}
            front.writer.close()
            successor = await world.front()
            assert world.server.front_counters == {"cache-hit": 2, "gate-passed": 7}
            successor.writer.write(compose(Counters.of({"gate-passed": 1})))
            successor.ask(2, "www.{a} A")
            await successor.answer()
            assert world.server.front_counters == {"gate-passed": 1}

    run(story())


@pytest.mark.parametrize(
    "hostile",
    [
        b"\xff" * 64,
        b"GET / HTTP/1.1\r\n\r\n",
        compose(Hello(VERSION, 1)),
        compose(Invalidate(None)),
        b"\x00\x00\x00\x01\x63",
    ],
    ids=["garbage", "http", "hello", "invalidate", "unknown kind"],
)
def test_a_hostile_frame_closes_its_connection_and_no_other(tmp_path: Path, hostile: bytes) -> None:
    async def story() -> None:
        async with opened(tmp_path) as world:
            honest, other = await world.front(), await world.front()
            other.writer.write(hostile)
            assert await other.frame() is None
            honest.ask(1, "www.{a} A")
            assert (await honest.answer()).id == 1

    run(story())


@given(st.lists(st.binary(max_size=80), max_size=5))
@settings(max_examples=30, deadline=None)
def test_no_bytes_of_a_front_end_the_server(tmp_path_factory: pytest.TempPathFactory, pieces: list[bytes]) -> None:
    async def story() -> None:
        async with opened(tmp_path_factory.mktemp("link")) as world:
            hostile = await world.front()
            for piece in pieces:
                hostile.writer.write(len(piece).to_bytes(4) + piece)
            hostile.writer.close()
            honest = await world.front()
            honest.ask(9, "www.{a} A")
            assert (await honest.answer()).id == 9

    run(story())


def test_a_question_that_is_answered_is_no_longer_worked_on(tmp_path: Path) -> None:
    async def story() -> None:
        async with opened(tmp_path) as world:
            front = await world.front()
            for number in range(5):
                front.ask(number, "www.{a} A")
            assert {(await front.answer()).id for _ in range(5)} == set(range(5))
            assert sum(front.in_flight_count for front in world.server.connections) == 0

    run(story())


def test_more_questions_than_there_is_room_for_are_failed_and_not_queued(tmp_path: Path) -> None:
    async def story() -> None:
        async with opened(tmp_path) as world:
            world.dht.items = None
            front = await world.front()
            for number in range(QUESTIONS_MAX + 3):
                front.ask(number, "www.{b} A")
            failed = [await front.answer() for _ in range(3)]
            assert [answer.id for answer in failed] == list(range(QUESTIONS_MAX, QUESTIONS_MAX + 3))
            assert all(answer.failure and not answer.cacheable for answer in failed)
            assert sum(front.in_flight_count for front in world.server.connections) == QUESTIONS_MAX
            # All wait on one look-up, and all are answered when it ends.
            world.dht.gets[0].end()
            answered = {(await front.answer()).id for _ in range(QUESTIONS_MAX)}
            assert answered == set(range(QUESTIONS_MAX))

    run(story())


def test_who_asks_little_does_not_wait_for_all_that_another_has_asked(tmp_path: Path) -> None:
    async def story() -> None:
        async with opened(tmp_path) as world:
            front = await world.front()
            order: list[str] = []
            turns = 0
            resolve = world.service.resolve

            async def noted(question: Question, ask: Ask, on_forward: Callable[[], None] | None = None) -> Resolved:
                order.append(f"{ask.client_prefix} {turns}")
                return await resolve(question, ask, on_forward)

            world.service.resolve = noted  # type: ignore[assignment]
            for number in range(200):
                front.ask(number, f"n{number}.{{a}} A", client_prefix="greedy")
            front.ask(200, "www.{a} A", client_prefix="modest")

            def have_all_begun() -> bool:
                nonlocal turns
                turns += 1
                return len(order) == 201

            await until(have_all_begun)
            begun = [text.split() for text in order]
            # It was sent last, and read with the others.
            at = [prefix for prefix, _ in begun].index("modest")
            assert at <= 2 * BEGUN_PER_TURN_MAX
            # And between any two turns the loop has looked at its sockets.
            assert max(Counter(turn for _, turn in begun).values()) <= BEGUN_PER_TURN_MAX
            assert {(await front.answer()).id for _ in range(201)} == set(range(201))

    run(story())


def test_sockets_of_a_machine_take_turns_within_the_turn_of_the_machine(tmp_path: Path) -> None:
    async def story() -> None:
        async with opened(tmp_path) as world:
            front = await world.front()
            order: list[str] = []
            resolve = world.service.resolve

            async def noted(question: Question, ask: Ask, on_forward: Callable[[], None] | None = None) -> Resolved:
                order.append(f"{ask.client_prefix} {ask.client_seat}")
                return await resolve(question, ask, on_forward)

            world.service.resolve = noted  # type: ignore[assignment]
            for number in range(100):
                front.ask(number, f"n{number}.{{a}} A", client_prefix="loopback", client_seat=f"udp {number // 10}")
            for number in range(100, 120):
                front.ask(number, f"n{number}.{{a}} A", client_prefix="192.168.1.1", client_seat="192.168.1.1")
            assert {(await front.answer()).id for _ in range(120)} == set(range(120))
            # Ten sockets have half of the turns together, and a tenth of them each.
            assert [text.split()[0] for text in order[:40]].count("192.168.1.1") == 20
            assert [order[:20].count(f"loopback udp {number}") for number in range(10)] == [1] * 10

    run(story())


def connection_of(world: World) -> Any:
    """Return the server's end of the only connection."""
    (connection,) = world.server.connections
    return connection


def test_a_question_is_begun_in_the_round_after_it_was_read(tmp_path: Path) -> None:
    async def story() -> None:
        async with opened(tmp_path) as world:
            front = await world.front()
            begun: list[str] = []
            loop, resolve = asyncio.get_running_loop(), world.service.resolve
            connection = connection_of(world)
            received = connection.buffer_updated

            async def noted(question: Question, ask: Ask, on_forward: Callable[[], None] | None = None) -> Resolved:
                begun.append("question")
                return await resolve(question, ask, on_forward)

            def buffer_updated(nbytes: int) -> None:
                received(nbytes)
                # What the loop finds in its sockets from now on comes behind this.
                loop.call_soon(begun.append, "what was found in other sockets")

            world.service.resolve = noted  # type: ignore[assignment]
            connection.buffer_updated = buffer_updated
            front.ask(1, "www.{a} A")
            await front.answer()
            assert begun == ["question", "what was found in other sockets"]

    run(story())


def test_the_front_may_run_as_soon_as_it_has_an_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def story() -> None:
        async with opened(tmp_path) as world:
            front = await world.front()
            connection = connection_of(world)
            transport = connection._transport
            assert transport is not None
            events: list[str] = []
            monkeypatch.setattr(os, "sched_yield", lambda: events.append("let go"))
            monkeypatch.setattr(transport, "write", lambda data: events.append("sent"))
            answer = Answer(1, bytes(12), (), 0.0, 1.0, 1.0)
            connection.send(Invalidate(None))
            connection.send(answer)
            assert events == ["sent", "sent", "let go"]
            events.clear()
            # Not each time: beside a program that computes, that would leave us little.
            connection.send(answer)
            assert events == ["sent"]
            world.clock.now += LET_GO_S
            connection.send(answer)
            assert events == ["sent", "sent", "let go"]
            front.writer.close()

    run(story())


def test_a_question_that_breaks_off_is_answered_with_servfail(tmp_path: Path) -> None:
    async def story() -> None:
        async with opened(tmp_path) as world:

            async def broken(*args: Any, **more: Any) -> Resolved:
                raise RuntimeError("a mistake of ours")

            world.service.resolve = broken  # type: ignore[method-assign]
            front = await world.front()
            front.ask(3, "www.{a} A")
            answer = await front.answer()
            assert (parse(answer.message).rcode, answer.failure, answer.cacheable) == (2, True, False)
            assert world.server.counters["questions-broken-off"] == 1

    run(story())


def test_a_front_that_goes_away_takes_its_questions_along(tmp_path: Path) -> None:
    async def story() -> None:
        async with opened(tmp_path) as world:
            world.dht.items = None
            front = await world.front()
            front.ask(1, "www.{b} A")
            front.ask(2, "alt. A")
            assert (await front.answer()).id == 2
            await at_rest()
            connection = connection_of(world)
            front.writer.close()
            done, _ = await asyncio.wait(connection.tasks.values())
            assert all(task.cancelled() for task in done)
            # The look-up goes on: the front's successor will ask again.
            assert not world.dht.gets[0].future.done()

    run(story())


def test_a_fifth_connection_is_not_served(tmp_path: Path) -> None:
    async def story() -> None:
        async with opened(tmp_path) as world:
            fronts = [await world.front() for _ in range(4)]
            fifth = await world.front(greeted=False)
            assert await fifth.frame() is None
            fronts[0].ask(1, "www.{a} A")
            assert (await fronts[0].answer()).id == 1

    run(story())


def test_the_socket_is_its_owners_alone_and_a_leftover_is_replaced(tmp_path: Path) -> None:
    async def story() -> None:
        path = tmp_path / "link.sock"
        path.write_text("left over")
        async with opened(tmp_path):
            mode = path.stat().st_mode
            assert stat.S_ISSOCK(mode)
            assert stat.S_IMODE(mode) == 0o600
        assert not path.exists()

    run(story())


def test_a_state_directory_with_a_long_path_works(tmp_path: Path) -> None:
    async def story() -> None:
        deep = tmp_path / ("x" * 100)
        deep.mkdir()
        async with opened(deep) as world:
            here = os.open(deep, os.O_RDONLY)
            await world.front(path=f"/proc/self/fd/{here}/link.sock")
            os.close(here)
            assert world.server.counters["connections"] == 1

    run(story())


def test_a_directory_that_is_not_there_is_said_with_a_hint(tmp_path: Path) -> None:
    async def story() -> None:
        with pytest.raises(Unavailable) as caught:
            await World(tmp_path / "nowhere").server.open()
        assert caught.value.hint

    run(story())


def resolved_with(count: int, size_bytes: int, *, in_additional: bool = False) -> Resolved:
    """Return an answer of that many TXT records of that size."""
    asked = question("example.com. TXT")
    rrs = tuple(
        RR(Name.read(f"n{number}.example."), Type.TXT, 1, 60, bytes([255]) + bytes([number % 256]) * (size_bytes - 1))
        for number in range(count)
    )
    sections = ((), rrs) if in_additional else (rrs, ())
    return Resolved(
        question=asked,
        rcode=0,
        is_authoritative=False,
        answer=sections[0],
        authority=(),
        additional=sections[1],
        ede=(),
        ad_eligible=False,
        provisional=False,
        failure=False,
        cacheable=True,
        made_at=1.0,
        expiry=61.0,
        stale_until=61.0,
        tags=(),
        trace=(),
    )


def test_an_answer_that_fits_no_message_is_a_failure_and_an_additional_section_is_left_out() -> None:
    too_large = compose_answer(1, resolved_with(300, 256), 0)
    assert (parse(too_large.message).rcode, too_large.failure) == (2, True)
    lightened = compose_answer(1, resolved_with(300, 256, in_additional=True), 0)
    assert (parse(lightened.message).rcode, parse(lightened.message).additional) == (0, ())
    many = compose_answer(1, resolved_with(200, 256), 0)
    assert len(many.ttl_offsets) == 200
    compose(many)
