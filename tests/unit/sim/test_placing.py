"""Placed worlds: machines that know each other without having joined."""

from __future__ import annotations

import random

from p2pdns.dht.node.bucket_refresh import ENOUGH
from p2pdns.dht.routing.ids import ID_BITS, is_id_allowed
from p2pdns.dht.routing.table import K
from p2pdns.sim import loop as virtual
from p2pdns.sim.loop import VirtualLoop
from p2pdns.sim.network import Weather
from p2pdns.sim.placing import known_of, place
from p2pdns.sim.report import Report, Scale
from p2pdns.sim.scenarios.lookup import lookup
from p2pdns.sim.scenarios.scale import overlap_of
from p2pdns.sim.scenarios.story import PLACED_NOTE, peopled
from p2pdns.sim.world import World


def test_a_newcomer_knows_its_neighbours_and_some_of_each_farther_part() -> None:
    draws = random.Random(1)
    numbers = sorted(draws.getrandbits(ID_BITS) for _ in range(2_000))
    own = draws.getrandbits(ID_BITS)
    known = known_of(numbers, own, draws)
    assert known[:K] == sorted(numbers, key=lambda number: number ^ own)[:K]
    parts = [ID_BITS - (number ^ own).bit_length() for number in known[K:]]
    assert {part: parts.count(part) for part in parts} == dict.fromkeys(range(max(parts) + 1), ENOUGH)
    assert len(set(known)) == len(known)


def test_the_machines_of_a_placed_world_know_each_other_and_find_what_is_published() -> None:
    async def story(loop: VirtualLoop) -> None:
        world = World(loop, 1, Weather())
        await place(world, 60)
        assert world.network.counters["sent"] == 0
        tables = {engine.address: {peer.address for peer in engine.node.peers(loop.now)} for engine in world.engines}
        assert min(map(len, tables.values())) >= K
        for engine in world.engines:
            assert engine.node.has_joined
            assert not engine.node.is_read_only
            assert is_id_allowed(engine.node.node_id, engine.address[0])
            # Whom the machines know are machines of the world, by their true ids.
            ids = {other.address: other.node.node_id for other in world.engines}
            assert all(ids[peer.address] == peer.node_id for peer in engine.node.peers(loop.now))
        await world.publish(3)
        looks = [await world.look_up(owner) for owner in world.owners]
        assert all(look.shown_seq == look.wanted_seq for look in looks)
        assert list(world.findings()) == []
        await world.close()

    virtual.run(story)


def test_a_world_is_placed_where_it_is_large_or_is_to_be_and_the_report_says_so_once() -> None:
    notes = {}

    async def story(loop: VirtualLoop) -> None:
        for scale in (Scale(1, nodes=4), Scale(1, nodes=4, is_placed=True), Scale(1, nodes=3_000)):
            world, report = World(loop, 1, Weather()), Report("lookup", scale)
            await peopled(world, report, 2)
            await peopled(world, report, 4)
            notes[scale] = report.notes
            assert len(world.engines) == 4
            await world.close()

    virtual.run(story)
    assert list(notes.values()) == [[], [PLACED_NOTE], [PLACED_NOTE]]


def test_a_placed_world_of_one_seed_is_one_history() -> None:
    scale = Scale(3, nodes=30, gets=4, zones=2, is_placed=True)
    traces = {lookup(scale, lambda *_: None).trace_sha256 for _ in range(2)}
    assert len(traces) == 1


def test_a_put_reaches_the_nearest_that_live_where_a_third_has_died_a_moment_ago() -> None:
    async def story(loop: VirtualLoop) -> None:
        world = World(loop, 1, Weather())
        await place(world, 100)
        await world.silence(0.3)
        await world.publish(6)
        assert min(overlap_of(world, owner) for owner in world.owners) == 1
        await world.close()

    virtual.run(story)
