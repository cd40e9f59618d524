"""The way of a look-up: the machines that the first asker asked, in their order, and no others."""

from __future__ import annotations

import asyncio

import pytest

from p2pdns.items.item import mutable_target
from p2pdns.limits import QUESTION_RPCS_MAX
from p2pdns.sim import loop as virtual
from p2pdns.sim.hops import HOPS_MAX, Watch, place_of
from p2pdns.sim.loop import VirtualLoop
from p2pdns.sim.network import Datagram, Weather
from p2pdns.sim.report import Ring
from p2pdns.sim.world import Look, World

TARGET = bytes(range(20))


def sent(watch: Watch, data: bytes, sender: str, receiver: str, at: float) -> None:
    assert watch(Datagram(data, (sender, 1), (receiver, 1), at)) is None


def test_only_the_first_asker_of_the_target_is_followed() -> None:
    watch = Watch(TARGET)
    sent(watch, b"ping", "11.0.0.1", "11.0.0.2", 0.0)
    sent(watch, b"get" + TARGET, "11.0.0.3", "11.0.0.4", 1.0)
    sent(watch, b"get" + TARGET, "11.0.0.5", "11.0.0.6", 2.0)
    sent(watch, b"again" + TARGET, "11.0.0.3", "11.0.0.4", 3.0)
    assert watch.asker == ("11.0.0.3", 1)
    assert watch.asked_at == {("11.0.0.4", 1): 1.0}


def test_a_way_has_a_bound() -> None:
    watch = Watch(TARGET)
    for number in range(HOPS_MAX + 5):
        sent(watch, TARGET, "11.0.0.1", f"12.0.{number // 256}.{number % 256}", 0.0)
    assert len(watch.asked_at) == HOPS_MAX == QUESTION_RPCS_MAX


def test_the_way_of_a_look_up_leads_from_the_reader_to_the_machines_that_it_asked() -> None:
    async def story(loop: VirtualLoop) -> tuple[World, Look, Ring | None]:
        world = World(loop, 1, Weather())
        await world.grow(30)
        await world.publish(1)
        await asyncio.sleep(60.0)
        await world.silence(0.2)
        watch = Watch(mutable_target(world.owners[0].key.raw))
        world.network.rules.append(watch)
        look = await world.look_up(world.owners[0])
        ring = watch.ring(world.engines, look.first_s)
        await world.close()
        return world, look, ring

    world, look, ring = virtual.run(story)
    assert ring is not None
    assert ring.target == place_of(mutable_target(world.owners[0].key.raw))
    assert (len(ring.alive), len(ring.dead)) == (24, 6)
    assert len(ring.asked) == look.outcome.peer_count
    assert {place for place, _ in ring.asked} <= {*ring.alive, *ring.dead}
    assert 1 <= ring.first < len(ring.asked)
    assert [after for _, after in ring.asked] == sorted(after for _, after in ring.asked)


def test_a_target_that_nobody_asked_for_has_no_way() -> None:
    assert Watch(TARGET).ring([], None) is None


@pytest.mark.parametrize(("first", "place"), [(0, 0.0), (64, 0.25), (192, 0.75)])
def test_an_id_has_its_place_on_the_circle(first: int, place: float) -> None:
    assert place_of(bytes([first]) + bytes(19)) == place
