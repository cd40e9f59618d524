"""Every refusal of BEP 5 and BEP 44 as a stranger sees it: a datagram in, an error with its code out."""

from __future__ import annotations

import random

import pytest

from p2pdns.addresses import Address
from p2pdns.dht import bencode, krpc
from p2pdns.dht.krpc.reading import parse
from p2pdns.dht.krpc.writing import compose
from p2pdns.dht.node.machine import Node
from p2pdns.dht.node.values import NodeSettings
from p2pdns.dht.storage import Storage
from p2pdns.items.item import MutableItem
from p2pdns.values import replace
from tests.unit.dht.swarm import UNIX_NOW, prove, secret_of

NOW = 1_000.0
ASKER: Address = ("127.0.0.1", 7777)
SEQ = int(UNIX_NOW * 1e6)
HELD = MutableItem.signed(secret_of(1), SEQ, b"held", b"salt")
NEWER = MutableItem.signed(secret_of(1), SEQ + 1, b"newer", b"salt")


@pytest.fixture
def node() -> Node:
    """Return a node that holds an item."""
    node = Node(
        node_id=None,
        network="unnamed",
        entropy=random.Random(1).randbytes,
        storage=Storage(),
        settings=NodeSettings(bind_host="127.0.0.1"),
        now=NOW,
    )
    node.storage.put_own(HELD, NOW)
    # The answers are what is judged here, not their ration.
    prove(node, ASKER, NOW)
    return node


def answer(node: Node, data: bytes) -> krpc.Message:
    """Return what a datagram is answered with."""
    node.receive_datagram(data, ASKER, NOW)
    replies = [parse(sent) for sent, target in node.datagrams_to_send(NOW) if target == ASKER]
    (found,) = [message for message in replies if not isinstance(message, krpc.RequestMessage)]
    assert found.transaction == b"tt"
    return found


def asked(node: Node, request: krpc.Request) -> krpc.Message:
    """Return the answer to a request."""
    return answer(node, compose(krpc.RequestMessage(transaction=b"tt", node_id=b"\x77" * 20, request=request)))


def token_of(node: Node, target: bytes) -> bytes:
    """Return the token with which something may be put there."""
    reply = asked(node, krpc.Get(target))
    assert isinstance(reply, krpc.Reply)
    assert reply.token is not None
    return reply.token


def put_of(item: MutableItem) -> krpc.PutMutable:
    """Return the put of an item, without a token."""
    return krpc.PutMutable(item.key.raw, item.seq, bencode.encode(item.value), item.signature, b"", item.salt)


PUTS: dict[str, tuple[krpc.PutMutable | krpc.PutImmutable, int]] = {
    "wrong token": (replace(put_of(NEWER), token=b"12345678"), 203),
    "value too big": (replace(put_of(NEWER), value=bencode.encode(b"v" * 1001)), 205),
    "bad signature": (replace(put_of(NEWER), signature=bytes(64)), 206),
    "salt too big": (replace(put_of(NEWER), salt=b"s" * 65), 207),
    "cas mismatch": (replace(put_of(NEWER), cas=SEQ - 1), 301),
    "older seq": (put_of(MutableItem.signed(secret_of(1), SEQ - 1, b"older", b"salt")), 302),
    "equal seq, another value": (put_of(MutableItem.signed(secret_of(1), SEQ, b"other", b"salt")), 302),
    "immutable value too big": (krpc.PutImmutable(bencode.encode(b"v" * 1001), b""), 205),
}


@pytest.mark.parametrize("case", PUTS)
def test_a_bad_put_is_refused_with_its_code_and_changes_nothing(node: Node, case: str) -> None:
    put, code = PUTS[case]
    if not put.token:
        put = replace(put, token=token_of(node, put.target))
    refusal = asked(node, put)
    assert isinstance(refusal, krpc.Error)
    assert refusal.code == code
    held = node.storage.held(HELD.target, NOW)
    assert held is not None
    assert (len(node.storage), held.item) == (1, HELD)


def test_a_good_put_with_the_right_cas_is_taken(node: Node) -> None:
    put = replace(put_of(NEWER), cas=SEQ, token=token_of(node, NEWER.target))
    assert isinstance(asked(node, put), krpc.Reply)
    held = node.storage.held(HELD.target, NOW)
    assert held is not None
    assert held.item == NEWER


ID = b"2:id20:" + b"\x77" * 20
MALFORMED = {
    "no id": b"d1:ade1:q4:ping1:t2:tt1:y1:qe",
    "short id": b"d1:ad2:id3:abce1:q4:ping1:t2:tt1:y1:qe",
    "find_node without target": b"d1:ad" + ID + b"e1:q9:find_node1:t2:tt1:y1:qe",
    "get with a short target": b"d1:ad" + ID + b"6:target2:xxe1:q3:get1:t2:tt1:y1:qe",
    "get with a negative seq": b"d1:ad" + ID + b"3:seqi-1e6:target20:" + bytes(20) + b"e1:q3:get1:t2:tt1:y1:qe",
    "put without token": b"d1:ad" + ID + b"1:v1:xe1:q3:put1:t2:tt1:y1:qe",
    "put without value": b"d1:ad" + ID + b"5:token1:xe1:q3:put1:t2:tt1:y1:qe",
    "announce_peer at port 0": b"d1:ad"
    + ID
    + b"9:info_hash20:"
    + bytes(20)
    + b"4:porti0e5:token1:xe1:q13:announce_peer1:t2:tt1:y1:qe",
    "arguments that are a list": b"d1:ale1:q4:ping1:t2:tt1:y1:qe",
}


@pytest.mark.parametrize("case", MALFORMED)
def test_a_malformed_query_is_203(node: Node, case: str) -> None:
    refusal = answer(node, MALFORMED[case])
    assert isinstance(refusal, krpc.Error)
    assert refusal.code == 203


@pytest.mark.parametrize(("seq", "has_value"), [(None, True), (SEQ - 1, True), (SEQ, False), (SEQ + 1, False)])
def test_a_get_with_seq_draws_the_item_only_when_it_is_newer(node: Node, seq: int | None, has_value: bool) -> None:
    reply = asked(node, krpc.Get(HELD.target, seq))
    assert isinstance(reply, krpc.Reply)
    assert reply.seq == SEQ
    assert (reply.value is not None, reply.key is not None, reply.signature is not None) == (has_value,) * 3
    assert reply.token is not None


def test_unknown_keys_disturb_no_query_and_no_reply_of_ours(node: Node) -> None:
    data = b"d1:ad3:fooi7e" + ID + b"4:wantle3:zzzd1:xi1eee2:iol1:ae1:q4:ping1:t2:tt1:x1:y1:y1:q1:zdee"
    reply = answer(node, data)
    assert isinstance(reply, krpc.Reply)
    assert (reply.node_id, reply.ip, reply.version) == (node.node_id, ASKER, b"PD\x00\x01")


def test_an_unknown_method_without_target_is_204(node: Node) -> None:
    refusal = asked(node, krpc.Unknown(b"vote", None))
    assert isinstance(refusal, krpc.Error)
    assert refusal.code == 204
