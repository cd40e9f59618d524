"""A partition and its end, in virtual time: each half answers what it holds, then the newest wins everywhere."""

from __future__ import annotations

import pytest

from p2pdns.addresses import Address
from p2pdns.dht.node.machine import Node
from tests.unit.dht.swarm import Swarm, item_of

REFRESH_S = 300.0  # A zone that is asked for is fetched again after this time at the latest.
OLD = item_of(1)
NEW = item_of(1, OLD.seq + 1, b"newer")
WESTERN, EASTERN = item_of(2, OLD.seq, b"west"), item_of(3, OLD.seq, b"east")


def ask(swarm: Swarm, nodes: list[Node], number: int) -> list[bytes | None]:
    """Return the value that each of these nodes finds under a key."""
    item = item_of(number)
    found = [swarm.get(node, item.target, item.key).item for node in nodes]
    return [None if item is None else item.value for item in found]


@pytest.mark.parametrize("hours", [0.1, 3.0])
def test_both_halves_answer_what_they_hold_and_all_serve_the_newest_one_refresh_after_healing(hours: float) -> None:
    swarm = Swarm(7)
    swarm.grow(24)
    nodes = list(swarm.nodes.values())
    west, east = nodes[:12], nodes[12:]
    western: set[Address] = {swarm.address_of(node) for node in west}
    swarm.put(nodes[0], OLD)
    swarm.is_lost = lambda data, source, target: (source in western) != (target in western)
    swarm.run_for(hours * 3_600.0)
    # What was there before is answered on both sides; what is published on one side is answered on that one.
    assert ask(swarm, nodes, 1) == [OLD.value] * 24
    swarm.put(west[3], NEW)
    swarm.put(west[4], WESTERN)
    swarm.put(east[3], EASTERN)
    assert ask(swarm, west, 1) == [NEW.value] * 12
    assert ask(swarm, east, 1) == [OLD.value] * 12
    assert ask(swarm, west, 2) == [b"west"] * 12
    assert ask(swarm, east, 3) == [b"east"] * 12
    assert ask(swarm, east, 2) == ask(swarm, west, 3) == [None] * 12
    swarm.is_lost = lambda data, source, target: False
    swarm.run_for(REFRESH_S)
    assert ask(swarm, nodes, 1) == [NEW.value] * 24
    assert ask(swarm, nodes, 2) == [b"west"] * 24
    assert ask(swarm, nodes, 3) == [b"east"] * 24


def test_two_pairs_that_were_apart_for_hours_find_each_other_one_refresh_after_healing() -> None:
    swarm = Swarm(7)
    swarm.grow(4)
    nodes = list(swarm.nodes.values())
    west, east = nodes[:2], nodes[2:]
    western = [swarm.address_of(node) for node in west]
    swarm.is_lost = lambda data, source, target: (source in western) != (target in western)
    swarm.run_for(3 * 3_600.0)
    swarm.put(west[0], WESTERN)
    assert ask(swarm, east, 2) == [None] * 2
    swarm.is_lost = lambda data, source, target: False
    swarm.run_for(REFRESH_S)
    assert ask(swarm, nodes, 2) == [b"west"] * 4
