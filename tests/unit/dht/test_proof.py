"""How our own gets show that our address is ours: the last token of a node, and a second try where that is wanted."""

from __future__ import annotations

import random

import pytest

from p2pdns.addresses import Address
from p2pdns.dht import bencode, krpc
from p2pdns.dht.guard import TOKEN_PERIOD_S
from p2pdns.dht.krpc.reading import parse
from p2pdns.dht.krpc.writing import compose
from p2pdns.dht.node.machine import Node
from p2pdns.dht.node.values import GetDone, NodeSettings, Wanted
from p2pdns.dht.storage import Storage
from p2pdns.items.item import ImmutableItem, MutableItem
from tests.unit.dht.swarm import UNIX_NOW, acquaint, secret_of

NOW = 1_000.0
PEER = krpc.NodeInfo(b"\x11" * 20, ("127.0.0.1", 7_001))
OTHER = krpc.NodeInfo(b"\x12" * 20, ("127.0.0.1", 7_002))
TOKEN = b"8 bytes."
ITEM = MutableItem.signed(secret_of(1), int(UNIX_NOW * 1e6), b"value")


def new_node() -> Node:
    """Return a read-only node that knows one peer."""
    node = Node(
        node_id=None,
        network="unnamed",
        entropy=random.Random(1).randbytes,
        storage=Storage(),
        settings=NodeSettings(bind_host="127.0.0.1", read_only=True),
        now=NOW,
    )
    acquaint(node, PEER, 0.01, NOW)
    return node


def sent(node: Node, now: float = NOW) -> list[tuple[krpc.RequestMessage, Address]]:
    """Return the queries that a node sends."""
    found = [(parse(data), target) for data, target in node.datagrams_to_send(now)]
    return [(message, target) for message, target in found if isinstance(message, krpc.RequestMessage)]


def reply_to(query: krpc.RequestMessage, **values: object) -> bytes:
    """Return a reply of the peer."""
    return compose(krpc.Reply(transaction=query.transaction, node_id=PEER.node_id, **values))  # type: ignore[arg-type]


def done(node: Node) -> GetDone | None:
    """Return the end of a get, if it has come."""
    while (event := node.next_event()) is not None:
        if isinstance(event, GetDone):
            return event
    return None


def test_a_get_that_was_told_to_prove_itself_asks_again_with_the_token_and_finds_the_value() -> None:
    node = new_node()
    node.start_get(Wanted(ITEM.target, ITEM.key), NOW)
    ((query, _),) = sent(node)
    node.receive_datagram(reply_to(query, token=TOKEN, is_proof_wanted=True), PEER.address, NOW)
    ((again, target),) = sent(node)
    assert (again.request, target) == (krpc.Get(ITEM.target, None, TOKEN), PEER.address)
    value = bencode.encode(ITEM.value)
    whole = reply_to(again, token=TOKEN, key=ITEM.key.raw, seq=ITEM.seq, signature=ITEM.signature, value=value)
    node.receive_datagram(whole, PEER.address, NOW)
    # The value came without contacts, which are asked for.
    ((follow_up, _),) = sent(node)
    assert isinstance(follow_up.request, krpc.FindNode)
    node.receive_datagram(reply_to(follow_up), PEER.address, NOW)
    end = done(node)
    assert end is not None
    assert end.outcome.item == ITEM


def test_a_put_waits_for_the_end_of_its_search_at_a_node_that_wants_proof_too() -> None:
    node = new_node()
    node.start_put(ITEM, NOW)
    ((query, _),) = sent(node)
    node.receive_datagram(reply_to(query, token=TOKEN, is_proof_wanted=True), PEER.address, NOW)
    ((again, _),) = sent(node)
    assert again.request == krpc.Get(ITEM.target, ITEM.seq, TOKEN)


def test_who_wants_proof_for_ever_is_asked_twice_and_no_more() -> None:
    node = new_node()
    node.start_get(Wanted(ITEM.target, ITEM.key), NOW)
    for _ in range(2):
        ((query, _),) = sent(node)
        node.receive_datagram(reply_to(query, token=TOKEN, is_proof_wanted=True), PEER.address, NOW)
    assert sent(node) == []
    end = done(node)
    assert end is not None
    assert end.outcome.answered_count == 1


def test_what_the_first_reply_said_stands_when_the_second_does_not_come() -> None:
    node = new_node()
    node.start_get(Wanted(ITEM.target, ITEM.key), NOW)
    ((query, _),) = sent(node)
    node.receive_datagram(reply_to(query, token=TOKEN, is_proof_wanted=True, nodes=(OTHER,)), PEER.address, NOW)
    sent(node)
    asked: list[Address] = []
    while (due := node.get_timer()) is not None and due < NOW + 3:
        node.handle_timer(due)
        asked += [target for _, target in sent(node, due)]
    assert OTHER.address in asked


def test_the_next_get_carries_the_last_token_and_what_it_was_given_for_while_it_holds() -> None:
    node = new_node()
    node.start_get(Wanted(ITEM.target, ITEM.key), NOW)
    ((query, _),) = sent(node)
    assert isinstance(query.request, krpc.Get)
    assert query.request.pad_bytes > 0
    node.receive_datagram(reply_to(query, token=TOKEN), PEER.address, NOW)
    for target, now, expected in (
        (b"\x55" * 20, NOW + 1, (TOKEN, ITEM.target, 0)),
        (ITEM.target, NOW + 2, (TOKEN, None, 0)),
        (b"\x56" * 20, NOW + TOKEN_PERIOD_S + 1, (None, None, query.request.pad_bytes)),
    ):
        node.start_get(Wanted(target), now)
        get = next(q.request for q, _ in sent(node, now) if isinstance(q.request, krpc.Get))
        assert (get.token, get.token_of, get.pad_bytes) == expected


def test_a_token_of_another_kind_of_node_is_not_carried_on() -> None:
    node = new_node()
    node.start_get(Wanted(ITEM.target, ITEM.key), NOW)
    ((query, _),) = sent(node)
    node.receive_datagram(reply_to(query, token=b"4byt"), PEER.address, NOW)
    node.start_get(Wanted(b"\x55" * 20), NOW)
    get = next(q.request for q, _ in sent(node) if isinstance(q.request, krpc.Get))
    assert get.token is None


ASKER: Address = ("127.0.0.1", 7_009)
ANSWERED_MAX = 100  # Ten times what a stranger gets at once.


class Served:
    """A node that holds long items, and an address that asks it and has proven nothing."""

    def __init__(self) -> None:
        self.storage = Storage()
        settings = NodeSettings(bind_host="127.0.0.1", read_only=False)
        self.node = Node(
            node_id=None,
            network="unnamed",
            entropy=random.Random(2).randbytes,
            storage=self.storage,
            settings=settings,
            now=NOW,
        )
        self.items = [ImmutableItem(bytes([number]) * 900) for number in (1, 2)]
        for item in self.items:
            token = self.asked(krpc.Get(item.target, None, None, 400), ("127.0.0.1", 6_000)).token
            assert token is not None
            self.told(krpc.PutImmutable(bencode.encode(item.value), token), ("127.0.0.1", 6_000))

    def told(self, request: krpc.Request, address: Address = ASKER) -> object:
        """Send a request, and return the answer."""
        query = krpc.RequestMessage(transaction=b"tttt", node_id=b"\x22" * 20, request=request, read_only=True)
        self.node.receive_datagram(compose(query), address, NOW)
        ((data, _),) = [one for one in self.node.datagrams_to_send(NOW) if not isinstance(parse(one[0]), type(query))]
        return parse(data)

    def asked(self, get: krpc.Get, address: Address = ASKER) -> krpc.Reply:
        """Send a get, and return the reply."""
        reply = self.told(get, address)
        assert isinstance(reply, krpc.Reply)
        return reply


@pytest.mark.parametrize(
    ("of_first", "token_of_first", "is_proof"),
    [(True, None, True), (False, True, True), (False, None, False), (True, False, False)],
    ids=["of its target", "of another target that it names", "of another target", "of its target, and names another"],
)
def test_a_get_proves_its_address_by_a_token_of_the_target_that_it_names(
    of_first: bool, token_of_first: bool | None, is_proof: bool
) -> None:
    served = Served()
    first, second = (item.target for item in served.items)
    # The first replies to a stranger are whole, as long as its share of the budgets lasts.
    replies = (served.asked(krpc.Get(first, None, None, 1)) for _ in range(ANSWERED_MAX))
    short = next(reply for reply in replies if reply.is_proof_wanted)
    assert (short.value, short.token is None) == (None, False)
    named = None if token_of_first is None else first if token_of_first else second
    reply = served.asked(krpc.Get(first if of_first else second, None, short.token, 0, named))
    assert (reply.value is not None, reply.is_proof_wanted) == (is_proof, not is_proof)
