"""Nodes that surround a key, and replies that aim us at a third party, against whole nodes in virtual time."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from p2pdns.addresses import Address
from p2pdns.dht import krpc
from p2pdns.dht.krpc.reading import parse
from p2pdns.dht.krpc.writing import compose
from p2pdns.dht.lookup.shortlist import HOST_CONTACTS_MAX, HOST_DATAGRAMS_MAX
from p2pdns.dht.node.core import QUERY_BYTES
from p2pdns.dht.node.machine import Node
from p2pdns.dht.routing.ids import id_for
from tests.unit.dht.swarm import Swarm, acquaint, item_of

ITEM = item_of(7)
VICTIM = "10.66.66.66"
PORTS = range(20_001, 20_076)
LEAST_PAD_BYTES = 40  # A seq makes a get a little longer too.


class Stranger:
    """A node that answers every query, with the contacts it is told to name."""

    operation_count = 0

    def __init__(self, node_id: bytes, network: bytes | None) -> None:
        self.node_id = node_id
        self.named: tuple[krpc.NodeInfo, ...] = ()
        self.stored_count = 0
        self._network = network
        self._out: list[tuple[bytes, Address]] = []

    def receive_datagram(self, data: bytes, address: Address, now: float) -> None:
        """Answer a query."""
        query = parse(data)
        if not isinstance(query, krpc.RequestMessage):
            return
        self.stored_count += isinstance(query.request, krpc.PutMutable)
        is_search = isinstance(query.request, krpc.FindNode | krpc.Get)
        reply = krpc.Reply(
            transaction=query.transaction,
            node_id=self.node_id,
            network=self._network,
            nodes=self.named if is_search else (),
            token=b"token" if isinstance(query.request, krpc.Get) else None,
        )
        self._out.append((compose(reply), address))

    def datagrams_to_send(self, now: float) -> list[tuple[bytes, Address]]:
        """Return the replies."""
        out, self._out = self._out, []
        return out

    def next_event(self) -> None:
        """Return nothing."""

    def get_timer(self) -> None:
        """Return nothing."""

    def handle_timer(self, now: float) -> None:
        """Do nothing."""


def near_id(number: int) -> bytes:
    """Return the id at a distance from the item."""
    return (int.from_bytes(ITEM.target) ^ number).to_bytes(20)


def world(host: str, count: int) -> tuple[Swarm, Node]:
    """Return a swarm of honest nodes that know each other, each at a host of its own but on loopback, and one of it."""
    swarm = Swarm(3, read_only=False)
    for number in range(count):
        swarm.new_node(host.format(number + 1))
    for address, node in swarm.nodes.items():
        for other, peer in swarm.nodes.items():
            if other != address:
                acquaint(node, krpc.NodeInfo(peer.node_id, other), 0.01, swarm.now)
    return swarm, next(iter(swarm.nodes.values()))


def let_in(swarm: Swarm, address: Address, node_id: bytes) -> Stranger:
    """Add a stranger whom every honest node knows."""
    stranger = Stranger(node_id, krpc.network_of("swarm"))
    for node in swarm.nodes.values():
        if isinstance(node, Node):
            acquaint(node, krpc.NodeInfo(node_id, address), 0.01, swarm.now)
    swarm.nodes[address] = stranger  # type: ignore[assignment]
    swarm.events[address] = []
    return stranger


def get(swarm: Swarm, node: Node) -> None:
    """Look for the item."""
    swarm.get(node, ITEM.target, ITEM.key)


def put(swarm: Swarm, node: Node) -> None:
    """Publish the item."""
    swarm.put(node, ITEM)


def find(swarm: Swarm, node: Node) -> None:
    """Look for contacts, as a join and a refresh do."""
    node.start_find(ITEM.target, swarm.now)
    swarm.run_until(lambda: node.operation_count == 0)


@pytest.mark.parametrize("act", [get, put, find])
@pytest.mark.parametrize("crowd", [1, 6])
def test_replies_that_name_one_host_at_many_ports_draw_twenty_datagrams_there(
    act: Callable[[Swarm, Node], None], crowd: int
) -> None:
    swarm, node = world("10.0.0.{}", 8)
    for number in range(crowd):
        stranger = let_in(swarm, (f"10.1.{number}.1", 5_000), near_id(2**100 + number))
        stranger.named = tuple(krpc.NodeInfo(near_id(port), (VICTIM, port)) for port in PORTS)
    act(swarm, node)
    sent = [size for _, target, size in swarm.trace if target[0] == VICTIM]
    assert 0 < len(sent) <= HOST_DATAGRAMS_MAX
    padded = [size for size in sent if size > QUERY_BYTES + LEAST_PAD_BYTES]
    assert len(padded) <= 2, "one id is padded, with its retransmit"


def test_the_seeds_of_a_join_stand_on_the_word_of_the_one_who_named_them() -> None:
    swarm, _ = world("10.0.0.{}", 1)
    newcomer = swarm.new_node("10.0.5.5", fills_table=False)
    stranger = let_in(swarm, ("10.1.0.1", 5_000), near_id(1))
    stranger.named = tuple(krpc.NodeInfo(near_id(port), (f"10.7.{port % 250}.{port // 250}", port)) for port in PORTS)
    newcomer.add_bootstrap([("10.1.0.1", 5_000)], swarm.now)
    swarm.run_for(3.0)
    asked = [target for source, target, _ in swarm.trace if target[0].startswith("10.7.") and source[0] == "10.0.5.5"]
    assert len(asked) == len(set(asked)), "what is only heard of is asked once"


@pytest.mark.parametrize("host", ["10.9.9.9", "9.9.9.9"])
def test_a_put_counts_two_storers_of_a_host_and_the_rest_is_honest(host: str) -> None:
    swarm, node = world("10.0.0.{}" if host.startswith("10.") else "8.{}.0.1", 30)
    strangers = []
    for number in range(20):
        node_id = near_id(number + 1)
        if host == "9.9.9.9":
            node_id = id_for(host, node_id[:19] + b"\x01")[:3] + node_id[3:19] + b"\x01"
        strangers.append(let_in(swarm, (host, 5_000 + number), node_id))
    outcome = swarm.put(node, ITEM)
    assert sum(stranger.stored_count for stranger in strangers) <= HOST_CONTACTS_MAX
    honest = [one for one in swarm.nodes.values() if isinstance(one, Node)]
    holders = sum(one.storage.held(ITEM.target, swarm.now) is not None for one in honest)
    assert outcome.stored_count == outcome.sent_count == 20
    assert holders >= 18


def test_a_put_passes_over_ids_that_bep_42_forbids() -> None:
    swarm, node = world("8.{}.0.1", 30)
    strangers = [let_in(swarm, (f"9.{number}.0.1", 5_000), near_id(number + 1)) for number in range(20)]
    assert swarm.put(node, ITEM).stored_count == 20
    assert not any(stranger.stored_count for stranger in strangers)


def test_ten_that_are_nearest_and_name_inventions_hide_nothing() -> None:
    swarm, node = world("127.0.0.1", 40)
    swarm.put(node, ITEM)
    for number in range(10):
        stranger = let_in(swarm, ("127.0.0.1", 5_000 + number), near_id(2**100 + number))
        stranger.named = tuple(
            krpc.NodeInfo(near_id(100 * number + port), ("127.0.0.1", port + 1_000 * number)) for port in PORTS
        )
    askers = [one for one in swarm.nodes.values() if isinstance(one, Node)]
    for asker in [one for one in askers if one.storage.held(ITEM.target, swarm.now) is None][:5]:
        outcome = swarm.get(asker, ITEM.target, ITEM.key)
        assert outcome.item == ITEM
        assert outcome.complete
        assert outcome.first_s is not None
        assert outcome.first_s < 0.05, "an answer waits for no silence"
