"""A node under a flood of 2,000 forged queries a second: what it reflects, and who is served all the same."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from p2pdns.addresses import Address
from p2pdns.dht import bencode, krpc
from p2pdns.dht.guard import REFLECTED_BYTES_PER_SECOND_MAX
from p2pdns.dht.krpc.reading import parse
from p2pdns.dht.krpc.writing import compose
from p2pdns.dht.node.machine import Node
from p2pdns.dht.node.server import RequestServer
from p2pdns.dht.node.values import NodeSettings
from p2pdns.dht.storage import Storage
from p2pdns.items.item import MutableItem
from p2pdns.values import replace
from tests.unit.dht.swarm import UNIX_NOW, acquaint, secret_of

START = 1_000.0
RATE = 2_000
SECONDS = 5
WARM_S = 7  # Until every victim has been served once; before, a newcomer is one of them.
ITEM = MutableItem.signed(secret_of(1), int(UNIX_NOW * 1e6), b"x" * 990)
CONTACTS = 60
TARGET = b"\x55" * 20


def new_node() -> Node:
    """Return a full node with contacts all over the world and an item."""
    node = Node(
        node_id=None,
        network="unnamed",
        entropy=random.Random(1).randbytes,
        storage=Storage(),
        settings=NodeSettings(read_only=False),
        now=START,
    )
    rng = random.Random(2)
    for n in range(CONTACTS):
        acquaint(node, krpc.NodeInfo(rng.randbytes(20), (f"45.{n}.1.1", 6881)), 0.05, START)
    node.storage.put_own(ITEM, START)
    return node


def put_of(token: bytes) -> krpc.PutMutable:
    """Return a put of another item."""
    item = MutableItem.signed(secret_of(2), ITEM.seq, b"y" * 900)
    return krpc.PutMutable(item.key.raw, item.seq, bencode.encode(item.value), item.signature, token)


REQUESTS: dict[str, krpc.Request | bytes] = {
    "ping": krpc.Ping(),
    "find_node": krpc.FindNode(TARGET),
    "padded find_node": krpc.FindNode(TARGET, 400),
    "get of what is held": krpc.Get(ITEM.target),
    "padded get of what is held": krpc.Get(ITEM.target, pad_bytes=400),
    "get of what is absent": krpc.Get(TARGET),
    "get_peers": krpc.GetPeers(TARGET),
    "put": put_of(b"12345678"),
    "announce_peer": krpc.AnnouncePeer(TARGET, 6881, b"12345678"),
    "unknown method": krpc.Unknown(b"vote", None),
    "unknown method with a target": krpc.Unknown(b"vote", TARGET),
    "query without arguments": b"d1:q4:ping1:t2:aa1:y1:qe",
    "garbage": b"d1:y1:q" * 20,
}


def query(request: krpc.Request | bytes, node_id: bytes, *, read_only: bool = False) -> bytes:
    """Return a datagram; what is bytes already stays as it is."""
    if isinstance(request, bytes):
        return request
    return compose(
        krpc.RequestMessage(
            transaction=b"aa",
            node_id=node_id,
            request=request,
            read_only=read_only,
            want=(b"n4", b"n6") if isinstance(request, krpc.FindNode) else (),
        )
    )


def forged(n: int) -> Address:
    """Return the source of the n-th packet: by turns one victim, one of 60, and one that comes only once."""
    if n % 4 == 0:
        return ("12.7.7.7", 6881)
    if n % 4 == 1:
        return (f"13.{n // 4 % 60}.7.7", 6881)
    return (f"{20 + n // 65_536}.{n // 256 % 256}.{n % 256}.1", 6881)


class Flooded:
    """A node and the flood; time passes by packets."""

    def __init__(self, requests: list[krpc.Request | bytes]) -> None:
        self.node = new_node()
        self.now = START
        self.reflected = 0
        self.inbox: dict[Address, list[krpc.Message]] = {}
        self._requests = requests
        self._count = 0

    def deliver(self, data: bytes, source: Address) -> None:
        """Have a datagram arrive, and take out what it leads to."""
        self.node.receive_datagram(data, source, self.now)
        self._collect()

    def _collect(self) -> None:
        for data, target in self.node.datagrams_to_send(self.now):
            if target[0].startswith("64."):
                self.inbox.setdefault(target, []).append(parse(data))
            elif not target[0].startswith("45."):
                self.reflected += len(data)

    def packets(self, count: int) -> Iterator[int]:
        """Send so many packets of the flood, yielding after each."""
        for _ in range(count):
            self._count += 1
            self.now = START + self._count / RATE
            timer = self.node.get_timer()
            if timer is not None and timer <= self.now:
                self.node.handle_timer(self.now)
            request = self._requests[self._count % len(self._requests)]
            node_id = self._count.to_bytes(20, "little")
            self.deliver(query(request, node_id, read_only=self._count // 4 % 2 == 1), forged(self._count))
            yield self._count

    def pass_time(self, seconds: float) -> None:
        """Have the flood go on."""
        for _ in self.packets(int(seconds * RATE)):
            pass

    def ask(self, request: krpc.Request, source: Address, *, read_only: bool = False) -> krpc.Reply | None:
        """Ask as an honest stranger does: a second time when nothing came, and answering pings."""
        for _ in range(2):
            self.deliver(query(request, b"\x77" * 20, read_only=read_only), source)
            for message in self.inbox.pop(source, []):
                if isinstance(message, krpc.RequestMessage) and not read_only:
                    answer = krpc.Reply(transaction=message.transaction, node_id=b"\x77" * 20)
                    self.deliver(compose(answer), source)
                elif isinstance(message, krpc.Reply):
                    return message
            for message in self.inbox.pop(source, []):
                if isinstance(message, krpc.Reply):
                    return message
            self.pass_time(0.35)
        return None


@pytest.mark.parametrize("kind", REQUESTS)
def test_a_forged_flood_of_any_query_reflects_at_most_8_kilobytes_a_second(kind: str) -> None:
    flooded = Flooded([REQUESTS[kind]])
    flooded.pass_time(SECONDS)
    assert flooded.reflected <= REFLECTED_BYTES_PER_SECOND_MAX * SECONDS
    assert flooded.node.in_flight_count <= 64 + 32
    assert bool(flooded.reflected) == (kind != "garbage")


def test_a_forged_flood_of_all_queries_together_reflects_no_more() -> None:
    flooded = Flooded(list(REQUESTS.values()))
    flooded.pass_time(SECONDS)
    assert flooded.reflected <= REFLECTED_BYTES_PER_SECOND_MAX * SECONDS


@pytest.mark.parametrize("kind", ["ping", "find_node", "get of what is held", "query without arguments"])
def test_an_honest_newcomer_is_answered_while_a_flood_goes_on(kind: str) -> None:
    flooded = Flooded([REQUESTS[kind]])
    flooded.pass_time(WARM_S)
    for n in range(10):
        reply = flooded.ask(krpc.FindNode(TARGET), (f"64.{n}.1.1", 6881))
        assert reply is not None
        assert len(reply.nodes) == 8
        flooded.pass_time(0.1)


def test_a_read_only_newcomer_is_answered_and_a_token_earns_it_the_value_while_a_flood_goes_on() -> None:
    flooded = Flooded([REQUESTS["get of what is held"]])
    flooded.pass_time(WARM_S)
    newcomer = ("64.1.1.1", 6881)
    reply = flooded.ask(krpc.Get(ITEM.target, pad_bytes=1), newcomer, read_only=True)
    assert reply is not None
    assert reply.token is not None
    assert (reply.value, reply.is_proof_wanted) == (None, True)
    for _ in range(100):
        shown = flooded.ask(krpc.Get(ITEM.target, token=reply.token), newcomer, read_only=True)
        assert shown is not None
        assert shown.value is not None
        assert not shown.is_proof_wanted


@pytest.mark.parametrize("request_kind", ["get", "get with an older seq", "get_peers"])
def test_a_stranger_is_never_told_that_we_have_nothing_where_we_have_it(request_kind: str) -> None:
    flooded = Flooded([REQUESTS["get of what is held"]])
    flooded.node._server.peers.announce(ITEM.target, ("46.1.1.1", 6881), START)
    requests: dict[str, krpc.Request] = {
        "get": krpc.Get(ITEM.target),
        "get with an older seq": krpc.Get(ITEM.target, ITEM.seq - 1),
        "get_peers": krpc.GetPeers(ITEM.target),
    }
    request = requests[request_kind]
    flooded.pass_time(WARM_S)
    for n in range(4):
        reply = flooded.ask(request, (f"64.{n}.1.1", 6881), read_only=True)
        assert reply is None or reply.value is not None or reply.peers


def test_a_short_reply_says_the_seq_where_that_is_all_we_have_to_say() -> None:
    node_id, near = b"\x77" * 20, tuple(krpc.NodeInfo(bytes([n]) * 20, (f"45.{n}.1.1", 6881)) for n in range(1, 9))
    newest = krpc.Reply(transaction=b"aa", node_id=node_id, nodes=near, token=b"token", seq=ITEM.seq)
    short = RequestServer._short(newest, 200)
    assert short is not None
    told = parse(short)
    assert isinstance(told, krpc.Reply)
    assert told.seq == ITEM.seq
    assert 0 < len(told.nodes) < 8
    # With a value behind it a seq would say that there is none.
    whole = replace(newest, key=b"k" * 32, signature=b"s" * 64, value=b"1:x")
    short = RequestServer._short(whole, 200)
    assert short is not None
    told = parse(short)
    assert isinstance(told, krpc.Reply)
    assert told.seq is None


def test_a_value_that_a_long_transaction_leaves_no_room_for_is_not_denied() -> None:
    node = new_node()
    node.storage.put_own(MutableItem.signed(secret_of(3), ITEM.seq, b"z" * 996), START)
    target = MutableItem.signed(secret_of(3), ITEM.seq, b"").target
    asked = krpc.RequestMessage(transaction=b"t" * 32, node_id=b"\x77" * 20, request=krpc.Get(target), read_only=True)
    node.receive_datagram(compose(asked), ("64.5.5.5", 6881), START)
    sent = [parse(data) for data, _ in node.datagrams_to_send(START)]
    assert all(isinstance(message, krpc.Reply) and message.value is not None for message in sent)


def read_at(nodes: list[Node], targets: list[bytes], per_second: float) -> list[int]:
    """Return, for each target, how many nodes sent its value to a read-only client that asks all of them at a pace.

    The client does as the Rust crate does: a ping goes with each get, and neither says more than BEP 5 and 44 do.
    """
    client: Address = ("64.9.9.9", 6881)
    found = []
    for n, target in enumerate(targets):
        now = START + n / per_second
        count = 0
        for node in nodes:
            for request in (krpc.Get(target), krpc.Ping()):
                asked = krpc.RequestMessage(
                    transaction=b"aaaa", node_id=b"\x77" * 20, request=request, read_only=True, version=b"RS\0\5"
                )
                node.receive_datagram(compose(asked), client, now)
            replies = [parse(data) for data, address in node.datagrams_to_send(now) if address == client]
            values = [reply for reply in replies if isinstance(reply, krpc.Reply) and reply.value is not None]
            denied = [reply for reply in replies if isinstance(reply, krpc.Reply) and reply.token and not reply.value]
            assert not denied, "who holds an item must not say that there is none"
            count += bool(values)
        found.append(count)
    return found


def test_a_stranger_that_reads_five_keys_a_second_finds_each_of_them_at_a_node_that_is_near() -> None:
    rng = random.Random(7)
    nodes = [
        Node(
            node_id=None,
            network="unnamed",
            entropy=random.Random(number).randbytes,
            storage=Storage(),
            settings=NodeSettings(read_only=False),
            now=START,
        )
        for number in range(8)
    ]
    for node in nodes:
        for number, other in enumerate(nodes):
            if other is not node:
                acquaint(node, krpc.NodeInfo(other.node_id, (f"45.{number}.1.1", 6881)), 0.05, START)
    items = [MutableItem.signed(secret_of(100 + n), ITEM.seq, rng.randbytes(300)) for n in range(60)]
    for node in nodes:
        for item in items:
            node.storage.put_own(item, START)
    found = read_at(nodes, [item.target for item in items], 5.0)
    assert min(found) >= 1


def test_a_token_for_one_target_earns_the_value_of_another() -> None:
    flooded = Flooded([REQUESTS["find_node"]])
    newcomer = ("64.1.1.1", 6881)
    absent = flooded.ask(krpc.Get(TARGET), newcomer, read_only=True)
    assert absent is not None
    flooded.pass_time(WARM_S)
    shown = flooded.ask(krpc.Get(ITEM.target, None, absent.token, 0, TARGET), newcomer, read_only=True)
    assert shown is not None
    assert shown.value is not None


def test_a_proven_contact_is_always_answered_while_a_flood_goes_on() -> None:
    flooded = Flooded([REQUESTS["find_node"], REQUESTS["get of what is held"]])
    flooded.pass_time(WARM_S)
    contact = ("64.2.2.2", 6881)
    assert flooded.ask(krpc.FindNode(TARGET), contact) is not None
    for _ in flooded.packets(RATE * 2):
        flooded.deliver(query(krpc.Get(ITEM.target), b"\x77" * 20), contact)
        message = flooded.inbox.pop(contact)[-1]
        assert isinstance(message, krpc.Reply)
        assert message.value is not None


def test_a_challenged_address_that_stays_silent_is_sent_no_reply_and_one_ping() -> None:
    flooded = Flooded([REQUESTS["find_node"]])
    flooded.pass_time(WARM_S)
    victim = ("64.3.3.3", 6881)
    for _ in range(20):
        flooded.deliver(query(krpc.FindNode(TARGET), b"\x66" * 20), victim)
    flooded.pass_time(3)
    messages = flooded.inbox[victim]
    assert [type(message) for message in messages] == [krpc.RequestMessage]


def test_newcomers_are_not_challenged_while_nothing_is_wrong() -> None:
    node = new_node()
    near = node.node_id[:-1] + b"\x66"
    node.receive_datagram(query(krpc.FindNode(TARGET), near), ("64.4.4.4", 6881), START)
    sent = [parse(data) for data, _ in node.datagrams_to_send(START)]
    assert [type(message) for message in sent] == [krpc.RequestMessage, krpc.Reply], (
        "a ping for the table, and the reply"
    )
