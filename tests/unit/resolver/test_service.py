"""The service: questions driven to their end, shares kept, outdated answers made again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from p2pdns.dns.registry import Rcode
from p2pdns.limits import FORWARDED_MAX
from p2pdns.link import Ask, ClientClass
from p2pdns.overlay.finder import Overlay
from p2pdns.overlay.parts import zone_id_of
from p2pdns.resolver.names import ResolverSettings, tag_of_petname, tag_of_zone
from p2pdns.resolver.service import NoPlace, Service
from p2pdns.resolver.steps import NoReply, Replied, Resolved
from tests.overlay_doubles import (
    NOW,
    A,
    B,
    Clock,
    FakeDht,
    FakeState,
    FakeUpstream,
    Told,
    item_of,
    question,
    reply_to,
)
from tests.waiting import at_rest

WWW = "www 300 A 192.0.2.1"


class World:
    """A service among stand-ins."""

    def __init__(self, *, at_once: bool = True, upstream: FakeUpstream | None = None) -> None:
        self.clock = Clock()
        self.dht = FakeDht({} if at_once else None)
        self.upstream = upstream or FakeUpstream()
        self.overlay = Overlay(
            self.dht,
            FakeState(),
            clock=self.clock.boot,
            unix_clock=self.clock.wall,
            tell=Told(),
            later=self.clock.later,
        )
        self.service = Service(self.overlay, self.upstream, ResolverSettings(), clock=self.clock.boot)
        self.overlay.on_invalidate = self.service.invalidate
        self.pushed: list[tuple[bytes, ...] | None] = []
        self.service.on_invalidate = self.pushed.append

    def publish(self, letter: str, *lines: str, age_s: float = 0.0) -> None:
        """Let the DHT have an item."""
        item = item_of(letter, *lines, age_s=age_s)
        assert self.dht.items is not None
        self.dht.items[zone_id_of(item)] = item

    async def answer(self, text: str, on_forward: Callable[[], None] | None = None, **more: Any) -> Resolved:
        """Return the answer to a question of a client nearby."""
        return await self.service.resolve(question(text), Ask(self.clock.now + 4, **more), on_forward)


def run(story: Coroutine[Any, Any, None]) -> None:
    """Run a test's story."""
    asyncio.run(asyncio.wait_for(story, 30))


def test_a_question_is_driven_through_overlay_and_upstream_to_its_answer() -> None:
    reply = Replied(reply_to(question("example.com. A"), "example.com. 60 A 192.0.2.9"))

    async def story() -> None:
        world = World(upstream=FakeUpstream(reply))
        world.publish("a", "www 300 CNAME www.{b}")
        world.publish("b", "www 300 CNAME example.com.")
        forwards: list[str] = []
        answer = await world.answer("www.{a} A", lambda: forwards.append("forwarded"), do=True, cd=True)
        assert [str(rr.owner).split(".")[0] for rr in answer.answer] == ["www", "www", "example"]
        assert world.upstream.asked == [question("example.com. A")]
        assert world.upstream.flags == [(True, True, True)]
        assert forwards == ["forwarded"]
        assert [get.zone_id for get in world.dht.gets] == [A, B]

    run(story())


def test_a_key_nobody_published_is_servfail_and_a_second_question_costs_nothing() -> None:
    async def story() -> None:
        world = World()
        for _ in range(3):
            answer = await world.answer("www.{a} A")
            assert (answer.rcode, answer.failure, answer.ede[0][0]) == (Rcode.SERVFAIL, True, 22)
            assert answer.expiry == NOW + 5
        assert len(world.dht.gets) == 1

    run(story())


def test_the_clients_share_goes_to_the_overlay() -> None:
    async def story() -> None:
        world = World(at_once=False)
        budgets = []
        real = world.overlay.zone

        async def zone(zone_id: Any, settled: bool, budget: Any) -> Any:
            budgets.append(budget)
            return await real(zone_id, settled, budget)

        world.overlay.zone = zone  # type: ignore[method-assign]
        client = Ask(world.clock.now + 4, client_class=ClientClass.OTHER, client_prefix="192.0.2.0/24")
        task = asyncio.create_task(world.service.resolve(question("no.{a} A"), client))
        await at_rest()
        world.dht.gets[0].on_item(item_of("a", WWW))
        await at_rest()
        world.dht.gets[0].end(item_of("a", WWW), rpc_count=77)
        await task
        assert [(b.client_prefix, b.is_privileged, b.cold_get_max) for b in budgets] == [
            ("192.0.2.0/24", False, 6),
            ("192.0.2.0/24", False, 5),
        ]
        assert budgets[0].rpc_max == 250
        assert budgets[1].rpc_max < 250

    run(story())


def test_forwarded_questions_hold_at_most_half_and_never_delay_an_overlay_name() -> None:
    async def story() -> None:
        upstream = FakeUpstream()
        upstream.gate = asyncio.Event()
        world = World(upstream=upstream)
        world.publish("a", WWW)
        waiting = [asyncio.create_task(world.answer(f"n{number}.example. A")) for number in range(FORWARDED_MAX + 5)]
        await at_rest()
        refused = [task.result() for task in waiting if task.done()]
        assert [answer.rcode for answer in refused] == [Rcode.SERVFAIL] * 5
        assert (await world.answer("www.{a} A")).rcode == Rcode.NOERROR
        upstream.gate.set()
        await asyncio.gather(*waiting)
        assert (await world.answer("later.example. A")).rcode == Rcode.REFUSED

    run(story())


def test_what_can_be_postponed_is_given_back_where_it_would_be_refused() -> None:
    async def story() -> None:
        upstream = FakeUpstream()
        upstream.gate = asyncio.Event()
        world = World(upstream=upstream)
        world.publish("a", WWW)
        waiting = [
            asyncio.create_task(world.answer(f"n{number}.example. A", client_prefix="loopback"))
            for number in range(FORWARDED_MAX // 2)
        ]
        await at_rest()
        forwards: list[str] = []
        with pytest.raises(NoPlace):
            await world.answer("late.example. A", lambda: forwards.append("forwarded"), client_prefix="loopback")
        assert forwards == []
        assert world.service.counters["forwards-postponed"] == 1
        known = await world.answer("www.{a} A", lambda: forwards.append("forwarded"), client_prefix="loopback")
        assert known.rcode == Rcode.NOERROR
        upstream.gate.set()
        await asyncio.gather(*waiting)
        assert (await world.answer("late.example. A", client_prefix="loopback")).rcode == Rcode.REFUSED

    run(story())


def test_a_prefix_has_half_of_what_may_wait_for_an_upstream_and_any_number_leaves_room() -> None:
    async def story() -> None:
        upstream = FakeUpstream()
        upstream.gate = asyncio.Event()
        world = World(upstream=upstream)

        async def held(prefix: str) -> int:
            asked = [
                asyncio.create_task(world.answer(f"n{n}.example. A", client_prefix=prefix))
                for n in range(FORWARDED_MAX)
            ]
            await at_rest()
            waiting.extend(asked)
            return sum(not task.done() for task in asked)

        waiting: list[asyncio.Task[Resolved]] = []
        assert [await held(f"192.0.{n}.0/24") for n in range(3)] == [FORWARDED_MAX // 2**n for n in (1, 2, 3)]
        assert await held("loopback") > 0
        upstream.gate.set()
        await asyncio.gather(*waiting)
        upstream.gate.clear()
        assert await held("192.0.9.0/24") == FORWARDED_MAX // 2, "nothing is left of what has ended"
        upstream.gate.set()
        await asyncio.gather(*waiting)

    run(story())


def test_an_answer_whose_ground_was_taken_away_while_it_was_made_is_made_again() -> None:
    async def story() -> None:
        upstream = FakeUpstream(*[Replied(reply_to(question("example.com. A"), "example.com. 60 A 192.0.2.9"))] * 2)
        upstream.gate = asyncio.Event()
        world = World(upstream=upstream)
        world.publish("a", "www 300 CNAME example.com.", age_s=10)
        task = asyncio.create_task(world.answer("www.{a} A"))
        await at_rest()
        world.overlay.published(item_of("a", WWW))
        upstream.gate.set()
        answer = await task
        assert [rr.rdata for rr in answer.answer] == [bytes([192, 0, 2, 1])]
        assert answer.cacheable
        assert world.pushed == [(tag_of_zone(A),)]

    run(story())


def test_an_answer_outdated_every_time_is_given_and_not_kept() -> None:
    async def story() -> None:
        world = World()
        world.publish("a", WWW)
        real = world.overlay.zone

        async def zone(zone_id: Any, settled: bool, budget: Any) -> Any:
            outcome = await real(zone_id, settled, budget)
            world.service.invalidate((tag_of_zone(A),))
            return outcome

        world.overlay.zone = zone  # type: ignore[method-assign]
        answer = await world.answer("www.{a} A")
        assert (answer.rcode, answer.cacheable) == (Rcode.NOERROR, False)

    run(story())


def test_an_invalidation_of_something_else_disturbs_nothing() -> None:
    async def story() -> None:
        world = World(at_once=False)
        task = asyncio.create_task(world.answer("www.{a} A"))
        await at_rest()
        world.service.invalidate((tag_of_zone(B),))
        world.dht.gets[0].end(item_of("a", WWW))
        assert (await task).cacheable
        assert world.service.counters["answers-outdated"] == 0

    run(story())


def test_a_changed_petname_invalidates_its_answers_and_other_changes_all() -> None:
    world = World()
    alice = ResolverSettings.of(petnames={"alice": str(A), "bob": str(B)})
    world.service.change_settings(alice)
    assert world.pushed == [(tag_of_petname(b"alice"), tag_of_petname(b"bob"))]
    world.service.change_settings(ResolverSettings.of(petnames={"alice": str(B), "bob": str(B)}))
    assert world.pushed[1:] == [(tag_of_petname(b"alice"),)]
    world.service.change_settings(ResolverSettings.of(petnames={"alice": str(B), "bob": str(B)}))
    assert len(world.pushed) == 2
    world.service.change_settings(ResolverSettings.of(suffixes=["zone.alt"]))
    assert world.pushed[2:] == [None]


def test_a_probe_that_comes_back_is_recognised_and_one_of_another_node_is_passed_on() -> None:
    """A loop may lead through several nodes, and each finds its own probe."""

    async def story() -> None:
        world = World()
        own, other = question("x.p2pdns-probe.example.com. TXT"), question("y.p2pdns-probe.example.com. TXT")
        world.upstream.probes.add(own.name)
        await world.service.resolve(own, Ask(world.clock.now + 4))
        assert world.service.counters["probes-came-back"] == 1
        await world.service.resolve(other, Ask(world.clock.now + 4))
        assert world.service.counters["probes-came-back"] == 1
        assert world.upstream.asked[-1] == other

    run(story())


def test_a_probe_that_comes_back_is_recognised_while_the_upstreams_have_no_place() -> None:
    """A loop fills the places with questions that come back, until the server that sends them is found."""

    async def story() -> None:
        upstream = FakeUpstream()
        upstream.gate = asyncio.Event()
        world = World(upstream=upstream)
        waiting = [asyncio.create_task(world.answer(f"n{number}.example. A")) for number in range(FORWARDED_MAX)]
        await at_rest()
        own = question("x.p2pdns-probe.example.com. TXT")
        world.upstream.probes.add(own.name)
        await world.answer(str(own))
        assert world.service.counters["probes-came-back"] == 1
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)

    run(story())


def test_the_trace_of_a_question_says_what_happened() -> None:
    async def story() -> None:
        world = World()
        world.publish("a", WWW)
        lines = (await world.service.trace(question("www.{a} A"))).trace
        assert lines[0].startswith("asked for www.")
        assert any("look-up 1" in line for line in lines)

    run(story())


def test_when_a_silent_upstream_is_heard_again_what_failed_of_its_silence_is_untrue() -> None:
    async def story() -> None:
        world = World(upstream=FakeUpstream(NoReply("no upstream answered in time", is_silence=True)))
        told: list[tuple[bytes, ...] | None] = []
        world.service.on_invalidate = told.append
        failed = await world.answer("example.com. A")
        world.upstream.on_return()
        assert failed.failure
        (tags,) = told
        assert tags is not None
        assert set(tags) <= set(failed.tags)

    asyncio.run(story())
