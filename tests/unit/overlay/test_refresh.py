"""A zone that is asked is looked up again in time, though the front's cache answers nearly every question."""

from __future__ import annotations

import asyncio
from itertools import accumulate

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from p2pdns.config import CacheTable
from p2pdns.dns.message import Question
from p2pdns.engine.link_server import compose_answer
from p2pdns.front.cache import AnswerCache
from p2pdns.limits import QUESTION_S_MAX
from p2pdns.link import Answer, Ask
from p2pdns.net.upstream.asking import Upstream
from p2pdns.overlay.finder import Overlay
from p2pdns.resolver.names import ResolverSettings
from p2pdns.resolver.service import Service
from tests.front_messages import CALM
from tests.overlay_doubles import NOW, A, Clock, FakeDht, FakeState, Told, item_of, question
from tests.waiting import at_rest

LATE_S = 3.0  # A look-up that waits for slow nodes nearly as long as it may.
KEY = b"www A"


class Door:
    """A front's cache before a service before an overlay; who asks gets what a client would."""

    def __init__(self, *lines: str) -> None:
        self.clock = Clock()
        self.dht = FakeDht({A: item_of("a", *lines, age_s=100)})
        self.state = FakeState()
        self.cache = AnswerCache(CacheTable(answers_bytes_max=1 << 24))
        self._start()
        self.missed_at: list[float] = []
        self.looked_up_at: list[float] = []
        self.question = question("www.{a} A")

    def _start(self) -> None:
        self.overlay = Overlay(
            self.dht,
            self.state,
            clock=self.clock.boot,
            unix_clock=self.clock.wall,
            tell=Told(),
            later=self.clock.later,
        )
        upstream = Upstream((), clock=self.clock.boot)
        self.service = Service(self.overlay, upstream, ResolverSettings(stale_s=86_400), clock=self.clock.boot)
        self.overlay.on_invalidate = self.service.invalidate
        self.service.on_invalidate = self.cache.invalidate
        self.cache.new_epoch(self.cache.epoch + 1)

    async def restart(self) -> None:
        """Put another engine in the place of this one, which knows what its state kept."""
        await self.overlay.close()
        self._start()

    async def ask(self, text: str = "www.{a} A", *, prefetches: bool = False) -> Answer:
        """Return the front's answer, and note whether it had to ask the engine."""
        answer = self.cache.fresh(KEY, self.clock.now)
        if answer is None:
            self.missed_at.append(self.clock.now - NOW)
            answer = await self._fetch(question(text), Ask(self.clock.now + 4))
        elif prefetches and self.cache.is_due(KEY, self.clock.now):
            await self._fetch(question(text), Ask(self.clock.now + 4, is_prefetch=True))
        await self.note()
        return answer

    async def _fetch(self, asked: Question, ask: Ask) -> Answer:
        resolved = await self.service.resolve(asked, ask)
        answer = self.cache.accepted(compose_answer(1, resolved, self.service.generation), self.clock.now)
        self.cache.put(KEY, answer, self.clock.now)
        return answer

    async def note(self) -> None:
        """Note the look-ups begun since the last time."""
        await at_rest()
        while len(self.looked_up_at) < len(self.dht.gets):
            self.looked_up_at.append(self.clock.now - NOW)

    async def pass_time(self, seconds: float) -> None:
        """Let time pass, with everything that is due."""
        self.clock.turn(seconds)
        await self.note()


@pytest.mark.parametrize(("ttl", "interval"), [(3600, 300), (300, 300), (60, 60)])
def test_a_zone_that_is_asked_through_the_front_is_looked_up_at_every_interval(ttl: int, interval: int) -> None:
    async def story() -> None:
        door = Door(f"www {ttl} A 192.0.2.1")
        for _ in range(121):
            await door.ask()
            await door.pass_time(10)
        assert door.looked_up_at == [float(at) for at in range(0, 1211, interval)]
        # Nearly every question is still answered by the front alone.
        assert len(door.missed_at) <= 2 * len(door.looked_up_at)
        await door.overlay.close()

    asyncio.run(story())


def test_a_change_is_visible_through_the_front_after_five_minutes() -> None:
    async def story() -> None:
        door = Door("www 86400 A 192.0.2.1")
        for _ in range(100):
            await door.ask()
            await door.pass_time(10)
        before = await door.ask()
        assert door.dht.items is not None
        door.dht.items[A] = item_of("a", "www 86400 A 192.0.2.2")
        changed_at = door.clock.now
        while (await door.ask()).message == before.message:
            assert door.clock.now - changed_at <= 300
            await door.pass_time(10)
        assert (await door.ask()).message[-4:] == bytes([192, 0, 2, 2])
        await door.overlay.close()

    asyncio.run(story())


def test_an_absence_that_took_long_to_settle_is_looked_up_again_in_time() -> None:
    async def story() -> None:
        door = Door("www 3600 A 192.0.2.1")
        items, door.dht.items = door.dht.items, None
        asking = asyncio.create_task(door.ask("nobody.{a} A"))
        await at_rest()
        await door.pass_time(LATE_S)
        assert items is not None
        door.dht.gets[0].end(items[A])
        await asking
        door.dht.items = items
        for _ in range(60):
            await door.pass_time(10)
            await door.ask("nobody.{a} A")
        # The interval counts from the end of a look-up; the test's clock moves in steps.
        assert len(door.looked_up_at) == 3
        assert door.looked_up_at[1:] == [303.0, 603.0]
        await door.overlay.close()

    asyncio.run(story())


def test_an_answer_keeps_its_ttl_and_may_be_stale_as_long_as_any_other() -> None:
    async def story() -> None:
        door = Door("www 3600 A 192.0.2.1")
        await door.ask()
        await door.pass_time(100)
        resolved = await door.service.resolve(question("www.{a} A"), Ask(door.clock.now + 4))
        assert resolved.answer[0].ttl == 3500
        assert NOW + 300 <= resolved.expiry <= NOW + 305
        assert resolved.stale_until == resolved.expiry + 86_400
        await door.overlay.close()

    asyncio.run(story())


@settings(CALM, max_examples=60)
@given(
    ttl=st.sampled_from([1, 20, 30, 45, 60, 300, 301, 3600, 86_400]),
    gaps=st.lists(st.integers(1, 400), min_size=1, max_size=40),
    changed_after=st.integers(0, 700),
    restarts_after=st.none() | st.integers(0, 900),
    prefetches=st.booleans(),
)
@example(ttl=3600, gaps=[1, 499], changed_after=310, restarts_after=None, prefetches=False)
def test_a_change_made_elsewhere_is_visible_after_one_ttl_or_five_minutes_however_it_is_asked(
    ttl: int, gaps: list[int], changed_after: int, restarts_after: int | None, prefetches: bool
) -> None:
    """Neither the engine's interval and the front's nor the front's and a stub's add up."""
    engine_s = max(30, min(300, ttl)) + QUESTION_S_MAX

    async def story() -> None:
        door = Door(f"www {ttl} A 192.0.2.1")
        assert door.dht.items is not None
        asked_at = {*accumulate(gaps), changed_after + engine_s}
        ends = sorted({*asked_at, changed_after})
        stub_until, at = 0.0, 0.0
        for end in ends:
            while at < end:
                step = min(10.0, end - at)
                before, at = at, at + step
                if restarts_after is not None and before <= restarts_after < at:
                    await door.restart()
                await door.pass_time(step)
            if at >= changed_after:
                door.dht.items[A] = item_of("a", f"www {ttl} A 192.0.2.2")
            if at not in asked_at:
                continue
            answer = await door.ask(prefetches=prefetches)
            is_old = answer.message[-4:] == bytes([192, 0, 2, 1])
            assert not (is_old and at >= changed_after + engine_s), f"{at - changed_after} s after the change"
            if is_old:
                age = int(door.clock.now - answer.made_at)
                offset = answer.ttl_offsets[0]
                stub_until = door.clock.now + int.from_bytes(answer.message[offset : offset + 4]) - age
        assert stub_until <= NOW + changed_after + max(ttl, engine_s)
        await door.overlay.close()

    asyncio.run(story())
