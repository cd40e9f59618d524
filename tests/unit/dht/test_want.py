"""BEP 32's `want`: contacts of both families in one reply, and what becomes of those that others tell of."""

from __future__ import annotations

import random

import pytest

from p2pdns.addresses import Address
from p2pdns.dht import krpc
from p2pdns.dht.krpc.reading import parse
from p2pdns.dht.krpc.writing import compose
from p2pdns.dht.node.bootstrap import HEARSAY_MAX
from p2pdns.dht.node.machine import HEARD_MAX, Node
from p2pdns.dht.node.values import NodeSettings, Wanted
from p2pdns.dht.storage import Storage
from p2pdns.items.item import MutableItem
from tests.unit.dht.swarm import UNIX_NOW, acquaint, nearest_of, prove, secret_of

NOW = 1_000.0
ASKER: Address = ("64.1.1.1", 6881)
TARGET = b"\x55" * 20
ITEM = MutableItem.signed(secret_of(1), int(UNIX_NOW * 1e6), b"x" * 900)


def new_node(host: str, network: str, storage: Storage) -> Node:
    """Return a full node that knows nobody."""
    return Node(
        node_id=None,
        network=network,
        entropy=random.Random(len(host)).randbytes,
        storage=storage,
        settings=NodeSettings(bind_host=host, read_only=False),
        now=NOW,
    )


def pair_of(network: str = "unnamed", *, known: int = 40) -> tuple[Node, Node]:
    """Return a node in both families, each half with contacts."""
    storage = Storage()
    storage.put_own(ITEM, NOW)
    ipv4, ipv6 = new_node("0.0.0.0", network, storage), new_node("::", network, storage)
    rng = random.Random(7)
    for n in range(known):
        acquaint(ipv4, krpc.NodeInfo(rng.randbytes(20), (f"45.{n}.1.1", 6881)), 0.05, NOW)
        acquaint(ipv6, krpc.NodeInfo(rng.randbytes(20), (f"2a00:{n:x}::1", 6881)), 0.05, NOW)
    ipv4.pair_with(ipv6)
    ipv6.pair_with(ipv4)
    return ipv4, ipv6


def asked(node: Node, request: krpc.Request, want: tuple[bytes, ...], *, asker: Address = ASKER) -> krpc.Reply:
    """Return the reply to a proven asker, and check its size."""
    prove(node, asker, NOW)
    network = krpc.network_of(node.network) if node.network != "unnamed" else None
    data = compose(
        krpc.RequestMessage(
            transaction=b"aa", node_id=bytes(20), request=request, want=want, read_only=True, network=network
        )
    )
    node.receive_datagram(data, asker, NOW)
    ((reply_data, _),) = node.datagrams_to_send(NOW)
    assert len(reply_data) <= krpc.REPLY_BYTES_MAX
    reply = parse(reply_data)
    assert isinstance(reply, krpc.Reply)
    return reply


def nearest(node: Node, count: int) -> tuple[krpc.NodeInfo, ...]:
    """Return the contacts that a reply should tell of."""
    return nearest_of(node, TARGET, count, NOW)


@pytest.mark.parametrize("request_", [krpc.FindNode(TARGET), krpc.GetPeers(TARGET), krpc.Get(TARGET)])
@pytest.mark.parametrize(
    ("want", "has_ipv4", "has_ipv6"),
    [((), True, False), ((b"n4",), True, False), ((b"n6",), False, True), ((b"n4", b"n6"), True, True)],
)
def test_want_names_the_families_and_without_it_the_querys_own_counts(
    request_: krpc.Request, want: tuple[bytes, ...], has_ipv4: bool, has_ipv6: bool
) -> None:
    ipv4, ipv6 = pair_of()
    reply = asked(ipv4, request_, want)
    assert reply.nodes == (nearest(ipv4, 8) if has_ipv4 else ())
    assert reply.nodes6 == (nearest(ipv6, 8) if has_ipv6 else ())


def test_over_ipv6_the_own_family_is_ipv6() -> None:
    ipv4, ipv6 = pair_of()
    asker = ("2a00:ffff::1", 6881)
    reply = asked(ipv6, krpc.FindNode(TARGET), (), asker=asker)
    assert (reply.nodes, reply.nodes6) == ((), nearest(ipv6, 8))
    both = asked(ipv6, krpc.FindNode(TARGET), (b"n6", b"n4"), asker=asker)
    assert (both.nodes, both.nodes6) == (nearest(ipv4, 8), nearest(ipv6, 8))


def test_a_node_of_one_family_has_nothing_to_tell_of_the_other() -> None:
    alone = new_node("0.0.0.0", "unnamed", Storage())
    reply = asked(alone, krpc.FindNode(TARGET), (b"n6",))
    assert (reply.nodes, reply.nodes6) == ((), ())


def test_contacts_of_both_families_make_room_for_the_value_and_the_nearest_stay() -> None:
    ipv4, _ = pair_of()
    reply = asked(ipv4, krpc.Get(ITEM.target), (b"n4", b"n6"))
    assert reply.value is not None
    assert 1 <= len(reply.nodes) < 8
    assert reply.nodes == nearest_of(ipv4, ITEM.target, 8, NOW)[: len(reply.nodes)]
    assert len(reply.nodes6) < 8


def test_in_a_named_network_twenty_of_each_family_are_cut_to_an_unfragmented_reply() -> None:
    ipv4, ipv6 = pair_of("a-network-of-its-own")
    reply = asked(ipv4, krpc.FindNode(TARGET), (b"n4", b"n6"))
    assert reply.nodes == nearest(ipv4, 20)[: len(reply.nodes)]
    assert reply.nodes6 == nearest(ipv6, 20)[: len(reply.nodes6)]
    assert min(len(reply.nodes), len(reply.nodes6)) >= 8


def test_a_private_contact_of_the_other_family_is_told_to_nobody_outside() -> None:
    ipv4, ipv6 = pair_of(known=0)
    acquaint(ipv6, krpc.NodeInfo(b"\x01" * 20, ("fd00::1", 6881)), 0.05, NOW)
    assert asked(ipv4, krpc.FindNode(TARGET), (b"n6",)).nodes6 == ()
    assert len(asked(ipv4, krpc.FindNode(TARGET), (b"n6",), asker=("192.168.1.9", 6881)).nodes6) == 1


# Our own queries


def queries_of(node: Node) -> list[tuple[krpc.RequestMessage, Address]]:
    """Return what a node asks."""
    found = [(parse(data), target) for data, target in node.datagrams_to_send(NOW)]
    return [(message, target) for message, target in found if isinstance(message, krpc.RequestMessage)]


@pytest.mark.parametrize(("known", "want"), [(0, (b"n4", b"n6")), (40, ())])
def test_both_families_are_asked_for_while_the_other_knows_few(known: int, want: tuple[bytes, ...]) -> None:
    ipv4, _ = pair_of(known=known)
    ipv4.add_bootstrap([ASKER], NOW)
    ((query, target),) = queries_of(ipv4)
    assert (target, query.want) == (ASKER, want)
    ipv4.start_get(Wanted(ITEM.target), NOW)
    assert all(query.want == () for query, _ in queries_of(ipv4)), "only a search for contacts asks for both"


def told_of(ipv4: Node, contacts: tuple[krpc.NodeInfo, ...]) -> None:
    """Have the IPv4 half's first contact tell of these IPv6 contacts."""
    ipv4.add_bootstrap([ASKER], NOW)
    ((query, _),) = queries_of(ipv4)
    reply = krpc.Reply(transaction=query.transaction, node_id=b"\x11" * 20, nodes6=contacts)
    ipv4.receive_datagram(compose(reply), ASKER, NOW)


def hearsay(count: int) -> tuple[krpc.NodeInfo, ...]:
    """Return contacts of the IPv6 DHT that may not exist."""
    return tuple(krpc.NodeInfo(bytes([n + 1]) * 20, (f"2a01:{n + 1:x}::1", 6881)) for n in range(count))


def test_contacts_heard_of_are_pinged_and_enter_a_table_when_they_answer() -> None:
    ipv4, ipv6 = pair_of(known=0)
    told_of(ipv4, hearsay(3))
    pings = queries_of(ipv6)
    assert [(type(query.request), target) for query, target in pings] == [
        (krpc.Ping, contact.address) for contact in hearsay(3)
    ]
    assert ipv6.contact_count == 0
    query, address = pings[1]
    ipv6.receive_datagram(
        compose(krpc.Reply(transaction=query.transaction, node_id=hearsay(2)[1].node_id)), address, NOW
    )
    assert ipv6.contact_count == 1
    searched = [target for query, target in queries_of(ipv6) if isinstance(query.request, krpc.FindNode)]
    assert searched == [address], "with the first of them the other DHT is joined"


def test_hearsay_is_bounded_and_ends_where_it_leads_nowhere() -> None:
    ipv4, ipv6 = pair_of(known=0)
    told_of(ipv4, hearsay(40))
    assert len(queries_of(ipv6)) == HEARD_MAX
    assert ipv6.wants_contacts
    later = NOW
    for n in range(HEARSAY_MAX):
        later += 30.0
        while (due := ipv6.get_timer()) is not None and due <= later and n < 9:
            ipv6.handle_timer(due)
        contact = krpc.NodeInfo(bytes([n + 100]) * 20, (f"2a02:{n + 1:x}::1", 6881))
        ipv6.contacts_heard((contact,), ASKER, later)
        ipv6._bootstrap._asked_back.clear()
    assert not ipv6.wants_contacts
    queries_of(ipv6)
    ipv6.contacts_heard(hearsay(1), ASKER, later)
    assert queries_of(ipv6) == []


def test_who_is_outside_cannot_make_us_ask_inside() -> None:
    ipv4, ipv6 = pair_of(known=0)
    told_of(ipv4, (krpc.NodeInfo(b"\x01" * 20, ("fd00::1", 6881)), krpc.NodeInfo(b"\x02" * 20, ("::1", 6881))))
    assert queries_of(ipv6) == []


def test_a_half_that_knows_enough_asks_nobody_on_hearsay() -> None:
    ipv4, ipv6 = pair_of(known=40)
    told_of(ipv4, hearsay(3))
    assert queries_of(ipv6) == []
