"""What a trace says: sources, peers, verification and what was left out, each once and in plain words."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from p2pdns.admin import narration
from p2pdns.admin.narration import Narration
from p2pdns.dns.message import Message, records_of
from p2pdns.dns.message.wire import compose
from p2pdns.dns.zone import Zone
from p2pdns.items.item import MutableItem
from p2pdns.overlay.finder import Overlay
from p2pdns.resolver.names import ResolverSettings
from p2pdns.resolver.service import Service
from tests.overlay_doubles import (
    SECRETS,
    UNIX,
    A,
    B,
    Clock,
    FakeDht,
    FakeState,
    FakeUpstream,
    Told,
    item_of,
    question,
    rrsets,
)
from tests.unit.dht.swarm import Swarm
from tests.unit.dht.swarm import item_of as swarm_item
from tests.unit.items.divisions import Items, Made, divided
from tests.waiting import at_rest

WWW = "www 300 A 192.0.2.1"
A_APEX = SECRETS["a"].zone_key.apex


class World:
    """A service over look-ups that the test ends, and the narration of one question."""

    def __init__(self, *, at_once: bool = True) -> None:
        self.clock = Clock()
        self.dht = FakeDht({} if at_once else None)
        clock = self.clock
        self.overlay = Overlay(
            self.dht,
            FakeState(),
            clock=clock.boot,
            unix_clock=clock.wall,
            tell=Told(),
            later=clock.later,
            held_wait_s=0.0,
        )
        self.service = Service(self.overlay, FakeUpstream(), ResolverSettings(), clock=clock.boot)

    async def told(self, text: str, trouble: str | None = None) -> list[str]:
        """Return the whole trace of a question; `trouble` is what the publisher says of every zone."""
        telling = Narration(self.overlay, lambda key: trouble, clock=self.clock.boot)
        resolved = await self.service.trace(question(text), telling.fetched)
        return [*resolved.trace, *await telling.afterwards(5.0)]


def run(story: Coroutine[Any, Any, None]) -> None:
    """Run a test's story."""
    asyncio.run(asyncio.wait_for(story, 30))


def index_of(lines: list[str], words: str) -> int:
    """Return where the one line with these words stands."""
    found = [number for number, line in enumerate(lines) if words in line]
    assert len(found) == 1, (words, lines)
    return found[0]


def test_each_fetch_is_told_before_what_follows_from_it() -> None:
    async def story() -> None:
        world = World()
        assert world.dht.items is not None
        world.dht.items = {A: item_of("a", "www 300 CNAME www.{b}"), B: item_of("b", WWW)}
        lines = await world.told("www.{a} A")
        order = [
            index_of(lines, "asked for www."),
            index_of(lines, f"the zone of {A} is needed: any valid item"),
            index_of(lines, "look-up 1 was complete after 50.0 ms: 30 requests (1 sent again) to 20 nodes"),
            index_of(lines, f"item of {A}"),
            index_of(lines, "an alias leads to"),
            index_of(lines, f"the zone of {B} is needed"),
            index_of(lines, "look-up 2 was complete"),
            index_of(lines, f"item of {B}"),
            index_of(lines, "the zone says answer"),
        ]
        assert order == sorted(order)
        assert lines.count("who answered, nearest first: 127.0.0.1:4001, 127.0.0.1:4002") == 2

    run(story())


def test_what_the_engine_holds_is_told_as_that() -> None:
    async def story() -> None:
        world = World()
        world.dht.items = {A: item_of("a", WWW)}
        await world.told("www.{a} A")
        lines = await world.told("www.{a} A")
        index_of(lines, "the engine holds it: nobody is asked")
        index_of(lines, "verified: the key has signed these")
        assert not any("look-up 1" in line for line in lines)

    run(story())


def test_that_only_this_machine_has_an_item_is_told_behind_it() -> None:
    async def story() -> None:
        world = World()
        world.dht.items = {A: item_of("a", WWW)}
        lines = await world.told("www.{a} A", "only this machine has it: no other node is known")
        verified = index_of(lines, "verified: the key has signed these")
        assert lines[verified + 1] == "only this machine has it: no other node is known"
        assert not any("only this machine" in line for line in await world.told("www.{a} A"))

    run(story())


def test_a_look_up_that_goes_on_behind_the_answer_is_told_when_it_has_ended() -> None:
    async def story() -> None:
        world = World(at_once=False)
        asking = asyncio.create_task(world.told("www.{a} A"))
        await at_rest()
        world.clock.turn(0.004)
        world.dht.gets[0].on_item(item_of("a", WWW, age_s=60))
        await at_rest()
        assert not asking.done(), "the end of the look-up is waited for"
        world.dht.gets[0].end(item_of("a", WWW, "new 300 A 192.0.2.2"), dropped={"signature-wrong": 2})
        lines = await asking
        index_of(lines, "look-up 1 had a first valid item after 4.0 ms and goes on")
        index_of(lines, "provisional")
        assert index_of(lines, "after the answer, look-up 1 was complete") > index_of(lines, "the zone says answer")
        index_of(lines, "dropped: 2 items that did not verify (signature-wrong)")
        index_of(lines, f"it found a newer item, seq {int(UNIX * 1_000_000)}: ask again")

    run(story())


@pytest.mark.parametrize("is_confirmed", [True, False])
def test_an_end_that_nobody_confirmed_settles_nothing(is_confirmed: bool) -> None:
    async def story() -> None:
        world = World(at_once=False)
        asking = asyncio.create_task(world.told("www.{a} A"))
        await at_rest()
        item = item_of("a", WWW)
        world.dht.gets[0].on_item(item)
        await at_rest()
        # Without a request: our own storage had it.
        world.dht.gets[0].end(item, rpcs_to_first=3 if is_confirmed else 0)
        lines = await asking
        settled = "it found nothing newer: from now on the answer is settled"
        assert (settled in lines, "it found nothing newer" in lines) == (is_confirmed, not is_confirmed)
        assert any("no contact confirmed the item" in line for line in lines) is not is_confirmed

    run(story())


def test_a_delegation_waits_for_the_same_look_up_and_tells_it_once() -> None:
    async def story() -> None:
        world = World(at_once=False)
        asking = asyncio.create_task(world.told("www.bob.{a} A"))
        await at_rest()
        item = item_of("a", "bob 300 NS {b}")
        world.dht.gets[0].on_item(item)
        await at_rest()
        world.dht.gets[0].end(item)
        await at_rest()
        world.dht.gets[1].end(item_of("b", WWW))
        lines = await asking
        index_of(lines, "look-up 1 had a first valid item")
        index_of(lines, "look-up 1 was complete")
        index_of(lines, "any valid item of it")
        assert sum("its newest item" in line for line in lines) == 2
        assert sum("verified:" in line for line in lines) == 2

    run(story())


def test_what_was_left_out_of_a_zone_is_told_with_its_reason() -> None:
    async def story() -> None:
        world = World()
        records = records_of(rrsets(A.apex, WWW, "www.example.com. 300 A 192.0.2.9", "x.example. 300 A 192.0.2.9"))
        item = MutableItem.signed(SECRETS["a"], int(UNIX * 1_000_000), compose(Message(0, 0x8000, None, records)))
        world.dht.items = {A: item}
        lines = await world.told("www.{a} A")
        index_of(lines, "left out of the zone: 2 records whose owner is not in the zone (foreign-owner)")

    run(story())


def test_a_search_in_vain_says_who_was_asked_and_for_how_long_it_is_remembered() -> None:
    async def story() -> None:
        world = World()
        lines = await world.told("www.{a} A")
        index_of(
            lines, "look-up 1 was complete after 50.0 ms: 30 requests (1 sent again) to 20 nodes, of which 2 answered"
        )
        index_of(lines, "nobody is asked for it again in the next 5 s")
        lines = await world.told("www.{a} A")
        index_of(lines, "nobody is asked now")
        assert len(world.dht.gets) == 1

    run(story())


def test_every_reason_of_the_specification_has_words() -> None:
    from tests.unit.test_spec import rows, section

    reasons = {row[2].strip("`") for row in rows(section("What a zone may say"))} - {""}
    reasons |= {row[2].strip("`") for row in rows(section("What a head says"))} - {""}
    reasons |= {row[1].strip("`") for row in rows(section("What a shard says"))}
    assert set(narration._LEFT_OUT) == reasons


def test_a_get_names_everybody_who_answered_it() -> None:
    swarm = Swarm(1)
    swarm.grow(5)
    first, *_, last = swarm.nodes.values()
    item = swarm_item(1)
    swarm.put(first, item)
    outcome = swarm.get(last, item.target, item.key)
    assert len(outcome.answered) == outcome.answered_count > 0
    assert set(outcome.answered) <= set(swarm.nodes)
    assert outcome.dropped == {}


def divided_world() -> tuple[World, Items]:
    """Return a world with a divided zone of which the far name is in a shard."""
    world = World()
    zone = Zone.of(A_APEX, rrsets(A_APEX, *[f"n{n} 300 A 192.0.2.{n}" for n in range(20)]), 1)
    items = divided(zone, [Made(A_APEX, 2)])
    assert world.dht.items is not None
    world.dht.items[A] = MutableItem.signed(SECRETS["a"], int(UNIX * 1e6), items.head)
    for salt, value in items.values.items():
        item = MutableItem.signed(SECRETS["a"], 1, value, salt)
        world.dht.salted[item.target] = item
    return world, items


def test_the_shards_behind_an_answer_are_told_with_their_look_ups() -> None:
    async def story() -> None:
        world, _ = divided_world()
        lines = await world.told("n5.{a} A")
        order = [
            index_of(lines, f"the zone of {A} is needed: any valid item"),
            index_of(lines, "look-up 1 was complete"),
            index_of(lines, "the zone is divided: shard"),
            index_of(lines, "was over with the pinned item after"),
            index_of(lines, "the zone says answer"),
        ]
        assert order == sorted(order)
        assert "look-up 2 for shard" in lines[order[3]]
        again = await world.told("n5.{a} AAAA")
        assert not [line for line in again if "is needed" in line and "shard" in line]

    run(story())


def test_a_missing_shard_and_the_look_for_a_newer_head_are_told() -> None:
    async def story() -> None:
        world, _ = divided_world()
        world.dht.salted.clear()
        lines = await world.told("n5.{a} A")
        order = [
            index_of(lines, "cannot be found: looking for a newer head"),
            index_of(lines, f"the head of {A} is looked up again"),
            index_of(lines, "contacts answered, and none has this item"),
        ]
        assert order == sorted(order)
        later = await world.told("n5.{a} TXT")
        index_of(later, "nobody is asked for it again in the next 5 s, unless it is put here")

    run(story())
