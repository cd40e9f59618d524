"""Simulated machines: where they are, what they know, what they keep over a restart."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import pytest

from p2pdns.clock import boot_now, unix_now
from p2pdns.dht.node.bootstrap import RETRY_S_MAX, dead_contacts_gone_s
from p2pdns.dht.routing.ids import is_id_allowed
from p2pdns.dht.routing.table import K
from p2pdns.items.item import SEQ_PER_SECOND
from p2pdns.items.keys import ZoneId
from p2pdns.sim.checkers import ANSWERED_SHARE_MIN
from p2pdns.sim.engine import Habits, VirtualEngine
from p2pdns.sim.loop import VirtualLoop, run
from p2pdns.sim.network import LOST, Weather
from p2pdns.sim.rules import Cut, Partition, Tap, is_parted
from p2pdns.sim.world import HabitsOf, World

T = TypeVar("T")
HOUR_S = 3_600.0


def in_world(story: Callable[[World], Awaitable[T]], habits_of: HabitsOf = lambda number, drawn: Habits()) -> T:
    """Return the result of a story in a world without loss; every rule for every world holds in it."""

    async def happening(loop: VirtualLoop) -> T:
        world = World(loop, 1, Weather(), habits_of=habits_of)
        result = await story(world)
        assert list(world.findings()) == []
        await world.close()
        return result

    return run(happening)


async def joined_by_the_first(world: World, count: int) -> None:
    """Have machines join at once, all of which know the first three only."""
    await world.grow(3)
    first = world.addresses_of_some()
    await asyncio.gather(*(world.new_engine().start(first) for _ in range(count)))


def test_machines_that_join_at_once_by_the_same_three_take_part_and_know_each_other_within_hours() -> None:
    async def story(world: World) -> tuple[int, int]:
        await joined_by_the_first(world, 30)
        await asyncio.sleep(2 * HOUR_S)
        living = world.living
        return sum(one.node.is_read_only for one in living), min(one.node.contact_count for one in living)

    read_only, contacts = in_world(story)
    assert read_only == 0
    assert contacts >= 20


def test_machines_take_ids_that_bep_42_allows_where_they_are() -> None:
    async def story(world: World) -> list[tuple[bytes, str]]:
        await world.grow(30)
        await asyncio.sleep(600.0)
        return [(engine.node.node_id, engine.address[0]) for engine in world.living]

    ids = in_world(story)
    assert all(is_id_allowed(node_id, host) for node_id, host in ids)
    # They are spread, or the nodes nearest to a target would be nearest to each target.
    assert len({node_id[0] >> 4 for node_id, _ in ids}) >= 8


def test_a_machine_behind_a_translator_stays_read_only_and_finds_what_others_publish() -> None:
    async def story(world: World) -> tuple[list[bool], list[bool], bool, int | None]:
        await world.grow(30)
        await asyncio.sleep(HOUR_S)
        await world.publish(1, at=world.engines[:1])
        behind = [one for one in world.engines if one.habits.is_behind_nat]
        look = await world.look_up(world.owners[0], behind)
        kept = any(world.seq_held(one, world.owners[0].target) for one in behind)
        return (
            [one.node.is_read_only for one in behind],
            [one.node.is_read_only for one in world.engines if not one.habits.is_behind_nat],
            kept,
            look.shown_seq,
        )

    behind, others, kept, shown = in_world(story, lambda number, drawn: Habits(is_behind_nat=number % 3 == 2))
    assert len(behind) == 9, "one of the first three is told that it is reachable"
    assert all(behind)
    assert not any(others)
    assert not kept
    assert shown is not None


def test_a_machine_comes_back_with_what_it_had_and_without_its_disk_as_a_new_node() -> None:
    async def story(world: World) -> None:
        await world.grow(30)
        await asyncio.sleep(1_800.0)
        await world.publish(1, at=world.engines[:1])
        (owner,) = world.owners
        holder = next(one for one in world.nearest(owner.target) if one is not owner.engine)
        await holder.ask(owner.question)
        node_id = holder.node.node_id
        await holder.stop()
        await asyncio.sleep(600.0)
        holder.begin()
        assert holder.node.node_id == node_id
        assert world.seq_held(holder, owner.target) == owner.seq
        await asyncio.sleep(60.0)
        assert holder.node.contact_count >= 20, "its old contacts are the way back"
        mark = holder.state.mark(ZoneId.of_key(owner.key))
        assert mark is not None
        assert mark.seq == owner.seq
        await holder.stop()
        holder.lose_state()
        holder.begin(world.addresses_of_some())
        assert holder.node.node_id != node_id
        assert world.seq_held(holder, owner.target) is None
        assert holder.state.mark(ZoneId.of_key(owner.key)) is None

    in_world(story)


def test_a_machine_with_a_wrong_clock_signs_and_judges_by_it_and_others_are_not_misled() -> None:
    async def story(world: World) -> None:
        await world.grow(30)
        await asyncio.sleep(1_800.0)
        right, wrong = world.engines[5], world.engines[4]
        assert wrong.unix_now() == unix_now() + HOUR_S
        await world.publish(1, at=[wrong])
        (owner,) = world.owners
        assert owner.seq is not None
        assert abs(owner.seq / SEQ_PER_SECOND - unix_now() - HOUR_S) < 60.0
        assert (await right.ask(owner.question)).answer

    in_world(story, lambda number, drawn: Habits(clock_off_s=HOUR_S if number == 4 else 0.0))


def test_a_node_all_of_whose_contacts_have_taken_other_ids_finds_them_under_these() -> None:
    async def story(world: World) -> None:
        await world.grow(3)
        await asyncio.sleep(600.0)
        first, *others = world.engines
        old = {peer.node_id for peer in first.node.peers(boot_now())}
        for engine in others:
            await engine.stop()
            engine.lose_state()
        for engine in others:
            engine.begin([one.address for one in others if one is not engine])
        await asyncio.sleep(dead_contacts_gone_s(len(others)) + RETRY_S_MAX)
        known = {peer.node_id for peer in first.node.peers(boot_now())}
        assert known == {engine.node.node_id for engine in others}
        assert not known & old

    in_world(story)


def test_lived_seconds_are_those_of_machines_that_are_up() -> None:
    async def story(world: World) -> tuple[float, float]:
        await world.grow(4)
        before = world.lived_s
        await world.engines[3].stop()
        await asyncio.sleep(100.0)
        return world.lived_s - before, boot_now()

    lived_s, _ = in_world(story)
    assert lived_s == pytest.approx(300.0)


def test_a_cut_and_a_partition_part_hosts_whichever_way_they_cut_and_a_tap_parts_nobody() -> None:
    assert is_parted([Cut(["a"], ["b"])], "a", "b")
    assert is_parted([Cut(["a"], ["b"])], "b", "a"), "a request without its reply"
    assert is_parted([Tap(), Partition(["a"])], "a", "b")
    assert not is_parted([Tap(), Cut(["a"], ["b"]), Partition(["a", "c"])], "a", "c")


Happening = Callable[[World, VirtualEngine, Sequence[VirtualEngine]], Awaitable[None]]


def get_in(happens: Happening) -> list[str]:
    """Return the findings of a complete get that hears from fewer of the nearest than it must, as something happens."""

    async def story(world: World) -> list[str]:
        await world.grow(60)
        await asyncio.sleep(HOUR_S / 2)
        await world.publish(1)
        (owner,) = world.owners
        reader = world.reader_of(owner)
        near = [one for one in world.nearest(owner.target) if one is not reader]
        under_way = asyncio.ensure_future(world.look_up_at(reader, owner))
        await asyncio.sleep(0)
        await happens(world, reader, near)
        outcome = (await under_way).outcome
        assert outcome.complete
        assert sum(one.address in outcome.answered for one in near) < ANSWERED_SHARE_MIN * len(near)
        return list(world.findings())

    return in_world(story)


def test_a_get_that_is_cut_off_while_it_is_under_way_need_not_hear_from_the_nearest() -> None:
    async def parted(world: World, reader: VirtualEngine, near: Sequence[VirtualEngine]) -> None:
        world.network.rules.append(Partition(one.address[0] for one in near))

    assert get_in(parted) == []


def test_a_get_need_not_hear_from_machines_that_stop_while_it_is_under_way() -> None:
    async def stopped(world: World, reader: VirtualEngine, near: Sequence[VirtualEngine]) -> None:
        for engine in near[: K // 2 + 1]:
            await engine.stop()

    assert get_in(stopped) == []


async def deafened(world: World, reader: VirtualEngine, near: Sequence[VirtualEngine]) -> None:
    """Have a reader hear nothing from most of the nearest; the world takes that for no trouble."""
    unheard = {one.address: None for one in near[: K // 2 + 1]}
    world.network.rules.append(
        lambda datagram: LOST if datagram.receiver == reader.address and datagram.sender in unheard else None
    )


def test_a_get_that_takes_most_of_the_nearest_for_dead_in_a_calm_world_is_found() -> None:
    (finding,) = get_in(deafened)
    assert "nearest have answered it" in finding


def test_a_get_is_held_against_the_calm_at_its_end_too() -> None:
    async def loaded(world: World, reader: VirtualEngine, near: Sequence[VirtualEngine]) -> None:
        await deafened(world, reader, near)
        world.is_calm = False

    assert get_in(loaded) == []


def test_machines_learn_their_public_address_from_their_contacts() -> None:
    async def story(world: World) -> list[tuple[str | None, str]]:
        await world.grow(12)
        await asyncio.sleep(900.0)
        return [(one.node.public_report.address, one.address[0]) for one in world.living]

    seen = in_world(story)
    assert len(seen) == 12
    assert all(reported == host for reported, host in seen), seen
