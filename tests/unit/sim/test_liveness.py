"""What must be true once all trouble has stopped, shown worlds in which it is not."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from p2pdns.dht.lookup.verdict import Verdict
from p2pdns.dht.node.values import GetOutcome
from p2pdns.sim import liveness
from p2pdns.sim.liveness import Near
from p2pdns.sim.loop import VirtualLoop, run
from p2pdns.sim.network import Weather
from p2pdns.sim.world import Look, World

OUTCOME = GetOutcome(None, Verdict.COMPLETE, 20, 0, 20, 20, 0.1, 0.5, 1_000, 1_000, 4)


@pytest.mark.parametrize(
    ("nearby", "count"),
    [(Near(20, 0, 0), 0), (Near(11, 0, 9), 0), (Near(10, 0, 10), 1), (Near(19, 1, 0), 1), (Near(0, 1, 19), 2)],
    ids=["all", "most", "half", "one is behind", "nearly none"],
)
def test_holders_that_are_behind_are_a_finding(nearby: Near, count: int) -> None:
    assert len(list(liveness.near_findings("key", nearby))) == count


def test_a_zone_that_is_not_found_or_old_is_a_finding() -> None:
    good = Look(0.1, OUTCOME, 5, 5)
    assert list(liveness.look_findings("host", "key", good)) == []
    assert list(liveness.look_findings("host", "key", replace(good, shown_seq=4))) == [
        "host finds an old edition of key"
    ]
    nothing = replace(good, first_s=None, shown_seq=None)
    assert "complete, 20 answered" in next(liveness.look_findings("host", "key", nothing))


def test_a_machine_that_keeps_a_dead_contact_is_a_finding() -> None:
    async def story(loop: VirtualLoop) -> None:
        world = World(loop, 1, Weather())
        await world.grow(12)
        for engine in world.engines[8:]:
            await engine.stop()
        assert sum(liveness.dead_counts(world)) > 0
        assert list(liveness.dead_findings(world.living, liveness.dead_counts(world)))
        await asyncio.sleep(liveness.forgetting_s(world))
        assert list(liveness.dead_findings(world.living, liveness.dead_counts(world))) == []
        assert list(liveness.stranded_findings(world)) == []
        await world.close()

    run(story)


def test_a_machine_that_knows_nobody_is_a_finding() -> None:
    async def story(loop: VirtualLoop) -> None:
        world = World(loop, 1, Weather())
        world.new_engine().begin()
        assert len(list(liveness.stranded_findings(world))) == 1
        await world.close()

    run(story)


def test_all_machines_look_all_zones_up_and_one_that_finds_nothing_is_told() -> None:
    async def story(loop: VirtualLoop) -> None:
        world = World(loop, 1, Weather())
        await world.grow(12)
        await asyncio.sleep(1_800.0)
        await world.publish(2)
        looks, findings = await liveness.looks_of_all(world)
        assert len(looks) == 24
        assert findings == []
        assert all(liveness.near(world, owner).share > 0.9 for owner in world.owners)
        holders = [engine for engine in world.living if world.seq_held(engine, world.owners[0].target)]
        for engine in holders[1:]:
            await engine.stop()
            engine.lose_state()
        await holders[0].stop()
        _, findings = await liveness.looks_of_all(world)
        assert len(findings) >= len(world.living)
        await world.close()

    run(story)
