"""Paths that become slower from one moment to the next: every contact has been measured, and every measure is wrong."""

from __future__ import annotations

import random

import pytest

from p2pdns.dht.krpc import NodeInfo
from p2pdns.dht.lookup.verdict import Verdict
from p2pdns.dht.node.core import QUICK_FACTOR_MAX
from p2pdns.dht.node.machine import Node
from p2pdns.dht.node.values import TIMEOUT_S_FIRST, Wanted
from p2pdns.dht.storage import Storage
from p2pdns.items.item import mutable_target
from tests.unit.dht.swarm import Swarm, acquaint, item_of

NODES = 24
NEAR_MIN = 18  # Of the twenty nearest; a node does not count itself.
SLOW_DELAY_S = 0.1  # Each way: a phone that leaves the house, a tunnel that is switched on.
WAITED = "lookup-waited-for-the-late"


def grown(seed: int = 1) -> tuple[Swarm, list[Node]]:
    """Return nodes that have measured each other at ten milliseconds."""
    swarm = Swarm(seed)
    swarm.grow(NODES)
    nodes = list(swarm.nodes.values())
    for number in range(12):
        swarm.put(nodes[number], item_of(1000 + number))
    return swarm, nodes


def test_a_look_up_waits_for_contacts_that_have_all_become_slower() -> None:
    swarm, nodes = grown()
    item = item_of(7)
    swarm.put(nodes[0], item)
    asker = next(node for node in nodes if node.storage.held(item.target, swarm.now) is None)
    swarm.set_delay(SLOW_DELAY_S)
    outcome = swarm.get(asker, mutable_target(item.key.raw), item.key)
    assert outcome.item == item
    assert outcome.answered_count >= NEAR_MIN
    assert outcome.complete
    # Once all are there, nobody waits for the rest of the second.
    assert outcome.done_s < 1.0
    # Whom it waited for has been measured anew, so that the next one need not wait.
    waited = asker.counters[WAITED]
    assert swarm.get(asker, mutable_target(item_of(1003).key.raw), item_of(1003).key).item is not None
    assert (waited, asker.counters[WAITED]) == (1, 1)


def test_another_contact_is_asked_while_replies_are_late_and_before_anybody_is_silent() -> None:
    entropy, now = random.Random(1).randbytes, 1_000.0
    node = Node(node_id=bytes(20), network="late", entropy=entropy, storage=Storage(), now=now)
    for number in range(1, 31):
        acquaint(node, NodeInfo(entropy(20), (f"10.0.{number}.1", 6881)), None, now)
    key = item_of(7).key
    node.start_get(Wanted(mutable_target(key.raw), key), now)
    asked = {address for _, address in node.datagrams_to_send(now)}
    late_at = node.get_timer()
    assert late_at is not None
    assert now < late_at < now + TIMEOUT_S_FIRST
    node.handle_timer(late_at)
    further = [address for _, address in node.datagrams_to_send(late_at)]
    assert 0 < len(further) <= len(asked) + 1
    assert not asked & set(further), "they are late, and asked once"
    assert node.counters["retransmit"] == 0


def test_a_contact_known_as_quick_is_late_sooner_but_not_at_once() -> None:
    entropy, now = random.Random(1).randbytes, 1_000.0
    late_s = []
    for rtt_s in (None, 0.08, 0.04, 0.001):
        node = Node(node_id=bytes(20), network="late", entropy=entropy, storage=Storage(), now=now)
        acquaint(node, NodeInfo(entropy(20), ("10.0.1.1", 6881)), rtt_s, now)
        node.start_get(Wanted(mutable_target(item_of(7).key.raw), item_of(7).key), now)
        assert node.datagrams_to_send(now)
        late_s.append((node.get_timer() or now) - now)
    usual = late_s[0]
    assert usual > late_s[1] > late_s[2] > late_s[3]
    assert late_s[3] == pytest.approx(usual / QUICK_FACTOR_MAX)


def test_a_put_reaches_contacts_that_have_all_become_slower() -> None:
    swarm, nodes = grown()
    swarm.set_delay(SLOW_DELAY_S)
    assert swarm.put(nodes[0], item_of(7)).stored_count >= NEAR_MIN


@pytest.mark.parametrize("seed", range(3))
def test_where_half_of_them_are_dead_nobody_waits_for_the_dead(seed: int) -> None:
    swarm, nodes = grown(seed)
    swarm.rng.shuffle(nodes)
    for node in nodes[: NODES // 2]:
        swarm.kill(node)
    for number in range(12):
        key = item_of(1000 + number).key
        swarm.get(nodes[-1 - number], mutable_target(key.raw), key)
    assert sum(node.counters[WAITED] for node in nodes) == 0


def test_a_look_up_among_the_dead_ends_once_no_reply_can_come_any_more() -> None:
    swarm, nodes = grown()
    for node in nodes[1:]:
        swarm.kill(node)
    key = item_of(7).key
    outcome = swarm.get(nodes[0], mutable_target(key.raw), key)
    assert outcome.verdict is Verdict.NO_ANSWER
    assert outcome.answered_count == 0
    assert 1.0 <= outcome.done_s < 2.0
