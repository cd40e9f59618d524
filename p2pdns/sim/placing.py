"""Placing: a large world whose machines know each other without having joined.

To grow ten thousand machines takes three million datagrams, nearly all of which only fill tables. Here each newcomer is
given the contacts that joining would bring: its nearest neighbours, and some of each farther part of the circle, by
lot. Its neighbours hear of it as well, as by the search with which a node tells them that it is full, and some of the
others. The production table decides who is taken in, by the method that notes a reply.

Guarantees: every draw comes from the world's seed; a contact is a machine of the world, with the round-trip time that
the network has between the two. What a placed world leaves out: nobody has voted on addresses (the machines are told
that they are full), no reply time was measured twice, and no token was given. docs/overlay.md compares both kinds.
"""

from __future__ import annotations

import asyncio
import random
from bisect import bisect_left, insort
from collections.abc import Sequence
from dataclasses import replace

from p2pdns.clock import boot_now
from p2pdns.dht.krpc import NodeInfo
from p2pdns.dht.node.bucket_refresh import ENOUGH
from p2pdns.dht.routing.ids import ID_BITS, ID_BYTES, id_for
from p2pdns.dht.routing.table import K
from p2pdns.sim.engine import VirtualEngine
from p2pdns.sim.world import World

# Above this a world is placed unless it is told otherwise: to grow more takes minutes, and 100 kB for each machine.
GROWN_MAX = 2_000
# Of so many far contacts of a newcomer one knows it, too: by this a table of 1,000 placed machines has about as many
# contacts as the 83 that one of 1,000 grown machines has.
ONE_WAY = 3
# All machines start within this time, so that their timers do not fire all at once.
SPREAD_S = 60.0


async def place(world: World, count: int) -> None:
    """Add so many machines, each of which knows its neighbours and some others, and is known to them."""
    draws = random.Random(f"{world.seed}/placing/{len(world.engines)}")
    by_number = {int.from_bytes(engine.node.node_id): engine for engine in world.engines}
    numbers = sorted(by_number)
    for placed_count in range(count):
        engine = world.new_engine()
        engine.habits = replace(engine.habits, read_only=False)
        node_id = id_for(engine.address[0], draws.randbytes(ID_BYTES))
        engine.begin_as(node_id)
        for rank, number in enumerate(known_of(numbers, int.from_bytes(node_id), draws)):
            is_mutual = rank < K or rank % ONE_WAY == 0
            _introduce(world, engine, by_number[number], is_mutual=is_mutual)
        by_number[int.from_bytes(node_id)] = engine
        insort(numbers, int.from_bytes(node_id))
        await asyncio.sleep(SPREAD_S / count)
        world.told_progress("placing", placed_count + 1, count)


def known_of(numbers: Sequence[int], own: int, draws: random.Random) -> list[int]:
    """Return the ids that a newcomer knows of all, which are sorted: the K nearest, and some of each farther part.

    >>> known_of([1, 2, 3], 5, random.Random(1))
    [1, 3, 2]
    """
    shared = ID_BITS
    while shared and len(_within(numbers, own, shared)) < K:
        shared -= 1
    known = sorted(_within(numbers, own, shared), key=lambda number: number ^ own)[:K]
    for part in range(shared):
        # The ids that share so many bits with ours, and not the next one.
        there = _within(numbers, own ^ 1 << ID_BITS - 1 - part, part + 1)
        known += draws.sample(there, min(ENOUGH, len(there)))
    return known


def _within(numbers: Sequence[int], number: int, bits: int) -> Sequence[int]:
    """Return the ids that share the first bits with a number."""
    free = ID_BITS - bits
    first = number >> free << free
    return numbers[bisect_left(numbers, first) : bisect_left(numbers, first + (1 << free))]


def _introduce(world: World, newcomer: VirtualEngine, other: VirtualEngine, *, is_mutual: bool) -> None:
    now, rtt_s = boot_now(), world.network.rtt_s(newcomer.address, other.address)
    newcomer.know(NodeInfo(other.node.node_id, other.address), rtt_s, now)
    if is_mutual:
        other.know(NodeInfo(newcomer.node.node_id, newcomer.address), rtt_s, now)
