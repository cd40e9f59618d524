"""A node under bad input: mutated packets of a real swarm, made-up structures, and forged replies, in both families.

Whatever comes, it is counted; nobody enters the table who did not answer a request of ours.
"""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pdns.addresses import Address
from p2pdns.dht import krpc
from p2pdns.dht.bencode import decode, encode
from p2pdns.dht.krpc.reading import parse
from p2pdns.dht.krpc.writing import compose
from p2pdns.dht.node.machine import Node
from p2pdns.errors import StrangerError
from tests.unit.dht.swarm import Swarm, item_of

PACKETS = 100_000  # A family; both together take some fifteen seconds.
COUNTED_EVERY = 50  # Of them this share is looked at one by one.
HOSTS = {"ipv4": "127.0.0.1", "ipv6": "::1"}
ITEM = item_of(1)
STRANGERS = 4_000

FIELDS = [b"a", b"e", b"id", b"ip", b"k", b"n", b"nodes", b"nodes6", b"nw", b"port", b"q", b"r", b"ro", b"salt", b"seq"]
FIELDS += [b"cas", b"sig", b"t", b"target", b"info_hash", b"token", b"v", b"values", b"want", b"y", b"pad"]
EVIL_BYTES = [b"", b"\0", b"\xff" * 19, b"\0" * 20, b"\xff" * 21, b"x" * 26, b"x" * 38, b"y" * 64, b"z" * 1_001]
EVIL_VALUES: list[Any] = [*EVIL_BYTES, 0, -1, 2**31, 2**63 - 1, 2**63, -(2**64), [], {}, [[]], [b"x"] * 100, {b"": 0}]
# What no encoder of ours would write: numbers and nesting beyond all bounds, and forms with two readings.
RAW = [b"i" + b"9" * 900 + b"e", b"i-0e", b"i03e", b"ie", b"9999999999:", b"-1:x", b"l" * 600, b"d" * 600]
RAW += [b"l" * 500 + b"e" * 500, b"d1:a" * 300 + b"e" * 300, b"d1:b0:1:a0:e", b"d1:a0:1:a0:e", b"03:abc"]


def swarm_in(host: str, network: str = "swarm") -> Swarm:
    """Return a settled swarm of one family in which an item was put and got."""
    swarm = Swarm(3, network=network, bind_host=host)
    nodes = [swarm.new_node(host) for _ in range(5)]
    for node in nodes[1:]:
        node.add_bootstrap([swarm.address_of(nodes[0])], swarm.now)
    swarm.run_until(lambda: all(node.contact_count == 4 for node in nodes))
    swarm.put(nodes[1], ITEM)
    swarm.get(nodes[2], ITEM.target, ITEM.key)
    swarm.run_for(1.0)
    return swarm


def mutated(data: bytes, rng: random.Random) -> bytes:
    """Return a packet with a few bytes changed, cut, doubled, or with something raw put in."""
    changed = bytearray(data)
    for _ in range(rng.randrange(1, 4)):
        at = rng.randrange(len(changed) + 1)
        kind = rng.randrange(8)
        if kind < 4 and at < len(changed):
            changed[at] = rng.randrange(256)
        elif kind == 4:
            changed[at:at] = rng.choice(RAW)
        elif kind == 5:
            del changed[at : at + rng.randrange(1, 30)]
        elif kind == 6:
            changed[at:at] = changed[at : at + rng.randrange(1, 30)]
        else:
            del changed[at:]
    return bytes(changed)


def rebuilt(data: bytes, rng: random.Random) -> bytes:
    """Return a packet that is whole bencode, with some of its fields made evil, removed, or moved."""
    top = decode(data)
    assert isinstance(top, dict), "a packet of a swarm is a dictionary"
    inner = [value for value in top.values() if isinstance(value, dict)]
    for _ in range(rng.randrange(1, 4)):
        place = rng.choice([top, *inner])
        kind = rng.randrange(4)
        if kind == 0 and place:
            del place[rng.choice(sorted(place))]
        elif kind == 1:
            place[rng.choice(FIELDS)] = rng.choice(EVIL_VALUES)
        elif place:
            place[rng.choice(sorted(place))] = rng.choice(EVIL_VALUES)
    return encode(top)


def others_say() -> set[bytes]:
    """Return queries that our own nodes never send."""
    requests: list[krpc.Request] = [krpc.Ping(), krpc.GetPeers(bytes(20)), krpc.AnnouncePeer(bytes(20), 6881, b"token")]
    requests += [krpc.Unknown(b"sample_infohashes", bytes(20)), krpc.Unknown(b"vote", None)]
    network = krpc.network_of("swarm")
    return {
        compose(
            krpc.RequestMessage(
                transaction=b"oo", node_id=b"\x44" * 20, request=request, network=network, want=(b"n4",)
            )
        )
        for request in requests
    }


def total(node: Node) -> int:
    """Return how much a node has counted so far."""
    return sum(node.counters.values())


def addresses_of(node: Node, now: float) -> set[Address]:
    """Return who is in its table."""
    return {contact.address for contact in node.contacts(now)}


@pytest.mark.parametrize("family", HOSTS)
def test_a_hundred_thousand_mutated_packets_are_counted_and_let_nobody_in(family: str) -> None:
    host = HOSTS[family]
    swarm = swarm_in(host)
    corpus = sorted({data for entries in swarm.seen.values() for data, _ in entries} | others_say())
    node = next(iter(swarm.nodes.values()))
    rng = random.Random(f"fuzz {family}")
    known = addresses_of(node, swarm.now)
    own = list(swarm.nodes)
    now = swarm.now
    for number in range(PACKETS):
        data = rng.choice(corpus)
        data = rebuilt(data, rng) if number % 8 == 0 else mutated(data, rng)
        # Most come from anywhere, some with the address of a contact that has answered before.
        source = (host, 20_000 + rng.randrange(STRANGERS)) if rng.random() < 0.9 else rng.choice(own)
        now += 0.001
        before = total(node) if number % COUNTED_EVERY == 0 else None
        node.receive_datagram(data, source, now)
        # Whoever was asked back is never heard of again.
        node.datagrams_to_send(now)
        if before is not None:
            assert total(node) > before, data
    assert addresses_of(node, now) == known
    assert node.in_flight_count < 128


TREES = st.recursive(
    st.one_of(
        st.binary(max_size=70),
        st.sampled_from(EVIL_BYTES),
        st.integers(-(2**70), 2**70),
        st.sampled_from([b"q", b"r", b"e", b"ping", b"find_node", b"get", b"put", b"get_peers", b"announce_peer"]),
    ),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(FIELDS), inner, max_size=6),
    max_leaves=20,
)
PACKET = st.fixed_dictionaries(
    {b"t": st.binary(min_size=1, max_size=4), b"y": st.sampled_from([b"q", b"r", b"e"])},
    optional={field: TREES for field in FIELDS if field not in (b"t", b"y")}
    | {b"q": st.sampled_from([b"ping", b"get", b"put", b"find_node", b"get_peers", b"announce_peer", b"vote"])},
)


@settings(max_examples=400, deadline=None)
@given(packet=PACKET, family=st.sampled_from(sorted(HOSTS)))
def test_any_structure_is_counted_and_lets_nobody_in(packet: dict[bytes, Any], family: str) -> None:
    host = HOSTS[family]
    node = Swarm(network="unnamed").new_node(host)
    node.receive_datagram(encode(packet), (host, 9), 1000.0)
    assert total(node) > 0
    assert node.contact_count == 0


@pytest.mark.parametrize("raw", RAW, ids=lambda raw: raw[:8].decode())
@pytest.mark.parametrize("frame", [b"%b", b"d1:ad2:id20:%be1:q4:ping1:t1:x1:y1:qe", b"d1:rd2:id20:%be1:t1:x1:y1:re"])
def test_giant_numbers_and_deep_nesting_end_in_a_reason(raw: bytes, frame: bytes) -> None:
    with pytest.raises(StrangerError):
        parse(frame % raw)
    with pytest.raises(StrangerError):
        parse(b"d1:ad2:id20:" + bytes(20) + b"1:v" + raw + b"e1:q3:put1:t1:x1:y1:qe")


@pytest.mark.parametrize("family", HOSTS)
def test_replies_full_of_useless_contacts_make_nobody_a_contact_and_are_followed_at_most_to_this_machine(
    family: str,
) -> None:
    host, is_ipv6 = HOSTS[family], family == "ipv6"
    swarm = swarm_in(host)
    node, other = list(swarm.nodes.values())[:2]
    address = swarm.address_of(other)
    hosts = ["::", "ff02::1", "fe80::1", "fd00::1", "2001:db8::1", "2a00:1450::1", "::ffff:127.0.0.1"]
    hosts = hosts if is_ipv6 else ["0.0.0.0", "224.0.0.1", "255.255.255.255", "10.0.0.1", "192.0.2.1", "8.8.8.8"]
    ids = (node.node_id, other.node_id, b"\x01" * 20)
    useless = tuple(krpc.NodeInfo(node_id, (each, 6881)) for each in hosts for node_id in ids)
    portless = (krpc.NodeInfo(b"\x03" * 20, (host, 0)),) * 2
    twins = (krpc.NodeInfo(node.node_id, (host, 7_000)),) * 3 + (krpc.NodeInfo(other.node_id, address),) * 3
    known = addresses_of(node, swarm.now)
    node.start_find(b"\x02" * 20, swarm.now, deadline=swarm.now + 1.0)
    sent = node.datagrams_to_send(swarm.now)
    request = next(parse(data) for data, target in sent if target == address)
    fields: dict[str, Any] = {"nodes6" if is_ipv6 else "nodes": useless + twins + portless}
    reply = krpc.Reply(
        transaction=request.transaction, node_id=other.node_id, network=krpc.network_of("swarm"), **fields
    )
    data = compose(reply)
    node.receive_datagram(data, address, swarm.now)
    assert {target for _, target in node.datagrams_to_send(swarm.now)} <= known
    assert addresses_of(node, swarm.now) == known
    node.handle_timer(swarm.now + 1.0)
    # Those with our own id are nobody new, nor is whom we know already; of the rest none is to be reached.
    assert node.counters["contact-out-of-reach"] == 2 * len(hosts)
    assert node.counters["contact-own-id"] == len(hosts) + 3
    assert node.counters["contact-repeated"] == 3
    assert node.counters["contact-port-0"] == 2


@pytest.mark.parametrize("family", HOSTS)
def test_a_token_holds_for_its_own_address_and_target_only(family: str) -> None:
    host = HOSTS[family]
    node = Swarm(network="unnamed").new_node(host)
    holder, thief = (host, 7_001), (host, 7_002)
    value = encode(ITEM.value)

    def say(request: krpc.Request, source: Address) -> krpc.Message:
        query = krpc.RequestMessage(transaction=b"tt", node_id=b"\x55" * 20, request=request, read_only=True)
        node.receive_datagram(compose(query), source, 1000.0)
        return parse(node.datagrams_to_send(1000.0)[-1][0])

    def put(token: bytes, source: Address) -> krpc.Message:
        return say(krpc.PutMutable(ITEM.key.raw, ITEM.seq, value, ITEM.signature, token), source)

    tokens = {}
    for target in (ITEM.target, b"\x09" * 20):
        answer = say(krpc.Get(target), holder)
        assert isinstance(answer, krpc.Reply)
        tokens[target] = answer.token or b""
    for token, source in ((tokens[ITEM.target], thief), (tokens[b"\x09" * 20], holder), (b"", holder)):
        refusal = put(token, source)
        assert isinstance(refusal, krpc.Error)
        assert refusal.code == krpc.PROTOCOL_ERROR
    assert (node.counters["token-refused"], node.counters["refused-bad-token"]) == (3, 3)
    assert len(node.storage) == 0
    assert isinstance(put(tokens[ITEM.target], holder), krpc.Reply)
    assert len(node.storage) == 1
