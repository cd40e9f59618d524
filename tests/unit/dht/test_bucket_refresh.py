"""A node that has joined knows whom it may ask: its table holds all that it has room for, as far as they exist."""

from __future__ import annotations

from collections import Counter
from functools import partial

import pytest

from p2pdns.addresses import Address
from p2pdns.dht import krpc
from p2pdns.dht.guard import AMPLIFICATION_MAX
from p2pdns.dht.krpc.reading import parse
from p2pdns.dht.krpc.writing import compose
from p2pdns.dht.node.bootstrap import BUCKET_AGE_S, REFRESH_EVERY_TICKS, TICK_S
from p2pdns.dht.node.bucket_refresh import ENOUGH, LARGE_PARTS_MIN, SEARCHES_MAX
from p2pdns.dht.node.core import VERSION
from p2pdns.dht.node.machine import Node
from p2pdns.dht.node.values import Event, GetDone, ItemFound, Joined, Wanted
from p2pdns.dht.routing.ids import distance
from p2pdns.dht.routing.table import RoutingTable
from p2pdns.items.item import MutableItem
from p2pdns.items.keys import SecretKey
from p2pdns.sim.network import JITTER
from tests.unit.dht.swarm import DELAY_S, Swarm, acquaint

OVERLAY = 54


def room_of(node: Node, swarm: Swarm) -> int:
    """Return how many of all the others a table round the node's id has room for."""
    table = RoutingTable(node.node_id, 0.0, size=node.settings.k, far_sizes=node.settings.far_sizes)
    for address, other in swarm.nodes.items():
        # Who is read-only is in nobody's table.
        if not other.is_read_only:
            table.answered(krpc.NodeInfo(other.node_id, address), 0.01, 0.0)
    return len(table)


def joined(swarm: Swarm, **settings: object) -> Node:
    """Return a node that has just joined by the first one, with all that follows from that."""
    node = swarm.new_node(**settings)  # type: ignore[arg-type]
    node.add_bootstrap([next(iter(swarm.nodes))], swarm.now)
    swarm.run_until(lambda: swarm.took(node, Joined) is not None)
    swarm.run_until(lambda: not node.operation_count)
    return node


def all_took(swarm: Swarm, nodes: list[Node], kind: type[Event]) -> bool:
    """Return whether each of these nodes has told of such an event."""
    return all(swarm.took(node, kind) for node in nodes)


@pytest.mark.parametrize("network", ["swarm", "unnamed"])
def test_who_joins_an_overlay_of_fifty_knows_all_it_has_room_for(network: str) -> None:
    """Who is read-only answers no ping (BEP 43), so its own queries must have earned whole replies."""
    swarm = Swarm(1, network=network)
    swarm.grow(OVERLAY)
    for is_read_only in (False, True, False, True):
        node = joined(swarm, read_only=is_read_only)
        assert node.contact_count == room_of(node, swarm)


@pytest.mark.parametrize("network", ["swarm", "unnamed"])
def test_who_join_all_at_once_know_most_of_whom_they_have_room_for(network: str) -> None:
    swarm = Swarm(3, network=network)
    # Where all datagrams take equally long, a whole crowd moves in step, and the same ones come too late each time.
    swarm.set_delay(DELAY_S, jitter=JITTER)
    first = swarm.new_node()
    for _ in range(OVERLAY):
        swarm.new_node().add_bootstrap([swarm.address_of(first)], swarm.now)
    # A minute: who joined last is not known to those who were done before.
    swarm.run_for(60.0)
    for node in swarm.nodes.values():
        assert node.contact_count >= 0.8 * room_of(node, swarm)


def own_searches(swarm: Swarm, node: Node) -> list[Address]:
    """Return whom a node has asked for contacts near its present id, in order."""
    there = swarm.address_of(node)
    asked = []
    for address, arrived in swarm.seen.items():
        for data, source in arrived:
            query = parse(data)
            if source != there or not isinstance(query, krpc.RequestMessage):
                continue
            if isinstance(query.request, krpc.FindNode | krpc.Get) and query.request.target == node.node_id:
                asked.append(address)
    return asked


def test_who_joins_a_large_overlay_knows_enough_of_each_part_and_leaves_the_rest_to_look_ups() -> None:
    swarm = Swarm(13, k=12)
    swarm.grow(10 * 2 ** (LARGE_PARTS_MIN + 1) - 20)
    node = joined(swarm, read_only=True)
    parts = Counter(160 - distance(node.node_id, one.node_id).bit_length() for one in node.contacts(swarm.now))
    assert min(parts[part] for part in range(LARGE_PARTS_MIN)) >= ENOUGH
    assert node.contact_count < room_of(node, swarm)


def test_the_last_search_of_a_join_asks_only_those_that_were_not_asked() -> None:
    swarm = Swarm(14)
    swarm.grow(OVERLAY)
    node = joined(swarm)
    asked = Counter(own_searches(swarm, node))
    # The way in is asked twice: in order to join, and in the search that its reply begins.
    del asked[next(iter(swarm.nodes))]
    assert len(asked) >= node.settings.k
    assert set(asked.values()) == {1}


def test_enlarged_far_buckets_are_filled() -> None:
    swarm = Swarm(5, k=4)
    swarm.grow(40)
    plain, wide = joined(swarm), joined(swarm, far_sizes=(16, 8))
    assert plain.contact_count == room_of(plain, swarm)
    assert wide.contact_count >= 0.9 * room_of(wide, swarm)
    # Twelve more in the farthest bucket and four in the next, but for the room near its own id, which differs.
    assert room_of(wide, swarm) >= room_of(plain, swarm) + 6


@pytest.mark.parametrize("count", [1, 6, 12])
@pytest.mark.parametrize("fills_table", [True, False])
def test_read_only_newcomers_of_one_network_find_an_item_at_once(count: int, fills_table: bool) -> None:
    """Their prefix has one budget at each node until they have proven themselves, which takes them tokens."""
    swarm = Swarm(11)
    overlay = [swarm.new_node(f"10.91.{1 + number % 2}.{10 + number}") for number in range(9)]
    ways_in = [swarm.address_of(node) for node in overlay[:2]]
    for node in overlay[1:]:
        node.add_bootstrap(ways_in[:1], swarm.now)
        swarm.run_until(partial(all_took, swarm, [node], Joined))
    secret = SecretKey.generate(b"\x07" * 32)
    item = MutableItem.signed(secret, 1_800_000_000_000_000, b"value")
    overlay[0].start_put(item, swarm.now)
    for _ in range(3):
        swarm.run_for(60.0)
        newcomers = [
            swarm.new_node(f"10.91.{1 + number % 2}.{50 + number}", read_only=True, fills_table=fills_table)
            for number in range(count)
        ]
        for node in newcomers:
            node.add_bootstrap(ways_in, swarm.now)
        swarm.run_until(partial(all_took, swarm, newcomers, Joined))
        for node in newcomers:
            node.start_get(Wanted(item.target, secret.zone_key, deadline=swarm.now + 4.0), swarm.now)
        swarm.run_until(partial(all_took, swarm, newcomers, GetDone))
        assert all_took(swarm, newcomers, ItemFound)
        for node in newcomers:
            swarm.kill(node)


def test_who_is_here_for_one_question_fills_no_table() -> None:
    swarm = Swarm(12)
    swarm.grow(OVERLAY)
    asked = []
    for fills_table in (True, False):
        node = joined(swarm, read_only=True, fills_table=fills_table)
        asked.append(sum(source == swarm.address_of(node) for source, _, _ in swarm.trace))
    assert asked[1] * 3 < asked[0]


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_the_find_nodes_of_a_newcomer_earn_replies_full_of_contacts(host: str) -> None:
    """Who has not proven its address gets three times what it sends: of an unpadded query, eight contacts of twenty."""
    swarm = Swarm(7)
    node = swarm.new_node(host)
    peer: Address = (host, 9)
    node.add_bootstrap([peer], swarm.now)
    acquaint(node, krpc.NodeInfo(b"\x55" * 20, peer), 0.01, swarm.now)
    node.start_find(b"\x66" * 20, swarm.now)
    asked = [data for data, _ in node.datagrams_to_send(swarm.now)]
    assert len(asked) == 2, "one to join by, one of the search"
    told = tuple(krpc.NodeInfo(bytes([n]) * 20, (host, 1_024 + n)) for n in range(node.settings.k))
    nodes, nodes6 = (told, ()) if host == "127.0.0.1" else ((), told)
    query = parse(asked[0])
    assert isinstance(query, krpc.RequestMessage)
    reply = krpc.Reply(
        transaction=query.transaction,
        node_id=b"\x55" * 20,
        nodes=nodes,
        nodes6=nodes6,
        ip=peer,
        version=VERSION,
        network=query.network,
    )
    for data in asked:
        assert len(compose(reply)) <= AMPLIFICATION_MAX * len(data)


def test_a_world_made_to_measure_cannot_make_a_node_search_without_end() -> None:
    """Whoever is asked is there, and tells of contacts ever nearer to us: there would be no end of ranges to fill."""
    swarm = Swarm(5)
    node = swarm.new_node()
    ids: dict[Address, bytes] = {}
    targets: dict[bytes, None] = {}
    node.add_bootstrap([("127.0.0.1", 9)], swarm.now)
    end = swarm.now + TICK_S
    while (asked := node.datagrams_to_send(swarm.now)) or (node.get_timer() or end) < end:
        if not asked:
            swarm.now = node.get_timer() or end
            node.handle_timer(swarm.now)
        for data, there in asked:
            query = parse(data)
            assert isinstance(query, krpc.RequestMessage)
            assert isinstance(query.request, krpc.FindNode)
            targets[query.request.target] = None
            assert len(targets) <= SEARCHES_MAX + 1
            told = []
            for _ in range(20):
                shared = swarm.rng.randrange(120)
                near = int.from_bytes(node.node_id) ^ 1 << 159 - shared ^ swarm.rng.randrange(1 << 159 - shared)
                address = ("127.0.0.1", 1_024 + len(ids))
                ids[address] = near.to_bytes(20)
                told.append(krpc.NodeInfo(ids[address], address))
            reply = krpc.Reply(
                transaction=query.transaction,
                node_id=ids.get(there, b"\x55" * 20),
                nodes=tuple(told),
                network=query.network,
            )
            node.receive_datagram(compose(reply), there, swarm.now)
    assert len(targets) >= SEARCHES_MAX // 2
    assert not node.operation_count


def test_the_bucket_round_our_own_id_is_refreshed_though_searches_for_our_own_id_go_through_it() -> None:
    """An unsplit bucket may be the whole space, and a look-up sees one place in it."""
    swarm = Swarm(6)
    node = swarm.new_node()
    other = swarm.new_node()
    node.add_bootstrap([swarm.address_of(other)], swarm.now)
    swarm.run_until(lambda: swarm.took(node, Joined) is not None)
    targets: list[bytes] = []

    def note(data: bytes, source: Address, target: Address) -> bool:
        query = parse(data)
        if source == swarm.address_of(node) and isinstance(query, krpc.RequestMessage):
            targets.extend([query.request.target] if isinstance(query.request, krpc.FindNode) else [])
        return False

    swarm.is_lost = note
    for _ in range(60):
        node.start_find(node.node_id, swarm.now)
        swarm.run_for(TICK_S)
    swarm.run_for(2 * TICK_S * REFRESH_EVERY_TICKS + BUCKET_AGE_S - 60 * TICK_S)
    assert any(target != node.node_id for target in targets)


def public_overlay(swarm: Swarm, count: int) -> list[Node]:
    """Return nodes in public space, each in a network of its own, that know each other and answer strangers."""
    nodes = [swarm.new_node(f"{11 + number}.0.7.1", read_only=False) for number in range(count)]
    for node in nodes[1:]:
        node.add_bootstrap([swarm.address_of(nodes[0])], swarm.now)
        swarm.run_until(partial(all_took, swarm, [node], Joined))
    swarm.run_until(lambda: not any(node.operation_count for node in nodes))
    return nodes


def test_a_node_that_a_stranger_has_reached_is_soon_known_to_its_neighbours() -> None:
    """As long as it is read-only nobody names it; then items would be put past it until its buckets are refreshed."""
    swarm = Swarm(15)
    overlay = public_overlay(swarm, 12)
    node = swarm.new_node("90.0.7.1")
    there = swarm.address_of(node)
    node.add_bootstrap([swarm.address_of(overlay[0])], swarm.now)
    swarm.run_until(lambda: swarm.took(node, Joined) is not None)
    swarm.run_until(lambda: not node.operation_count)
    assert node.is_read_only
    assert not any(one.address == there for other in overlay for one in other.contacts(swarm.now))
    # Somebody has the address from its owner.
    swarm.new_node("91.0.7.1", read_only=True, fills_table=False).add_bootstrap([there], swarm.now)
    swarm.run_for(TICK_S / 2)
    assert not node.is_read_only
    assert all(there in {one.address for one in other.contacts(swarm.now)} for other in overlay)


def test_a_join_looks_for_the_neighbours_of_the_id_that_it_ends_with() -> None:
    """The first replies tell a node where it is, and its id follows (BEP 42): the first one is of no more use."""
    swarm = Swarm(16)
    overlay = public_overlay(swarm, 40)
    node = swarm.new_node("90.0.7.1", bind_host="0.0.0.0", fills_table=False)
    first_id = node.node_id
    node.add_bootstrap([swarm.address_of(overlay[0])], swarm.now)
    swarm.run_until(lambda: swarm.took(node, Joined) is not None)
    assert node.node_id != first_id
    near = sorted(overlay, key=lambda other: distance(other.node_id, node.node_id))[: node.settings.k]
    assert {swarm.address_of(other) for other in near} <= {one.address for one in node.contacts(swarm.now)}
