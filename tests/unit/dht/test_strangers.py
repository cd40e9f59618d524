"""Messages of the Rust crates `mainline` 5 and 8, as captured: read, written the same, and answered for them."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from p2pdns.addresses import Address
from p2pdns.dht import krpc
from p2pdns.dht.bencode import decode, encode
from p2pdns.dht.krpc.reading import parse
from p2pdns.dht.krpc.writing import compose
from p2pdns.dht.node.machine import Node
from p2pdns.dht.node.values import NodeSettings
from p2pdns.dht.storage import Storage
from p2pdns.items.item import MutableItem
from p2pdns.items.keys import SecretKey

VECTORS = json.loads((Path(__file__).parents[2] / "vectors" / "strangers.json").read_text())["vectors"]
CLIENT: Address = ("64.1.1.1", 6881)
START = 1_000.0
ITEM = MutableItem.signed(SecretKey.generate(b"\x07" * 32), 5, b"value", b"salt")


def of(request: str) -> list[bytes]:
    """Return the datagrams of a kind, one a version."""
    return [bytes.fromhex(vector["datagram"]) for vector in VECTORS if vector["request"] == request]


def answer_to(data: bytes, node: Node) -> dict[bytes, object]:
    """Return what a node answers, as a dictionary."""
    node.receive_datagram(data, CLIENT, START)
    (sent,) = [datagram for datagram, address in node.datagrams_to_send(START) if address == CLIENT]
    top = decode(sent)
    assert isinstance(top, dict)
    return dict(top)


def new_node() -> Node:
    return Node(
        node_id=None,
        network="unnamed",
        entropy=random.Random(1).randbytes,
        storage=Storage(),
        settings=NodeSettings(read_only=False),
        now=START,
    )


@pytest.mark.parametrize("vector", VECTORS, ids=[vector["bug"] for vector in VECTORS])
def test_what_the_crates_send_is_read_and_written_the_same(vector: dict[str, str]) -> None:
    data = bytes.fromhex(vector["datagram"])
    message = parse(data)
    assert isinstance(message, krpc.RequestMessage)
    assert type(message.request).__name__ == vector["request"]
    assert compose(message) == data


@pytest.mark.parametrize("data", of("PutMutable"))
def test_a_put_of_ours_has_all_that_one_of_the_crates_has(data: bytes) -> None:
    message = parse(data)
    assert isinstance(message, krpc.RequestMessage)
    put = krpc.PutMutable(ITEM.key.raw, ITEM.seq, encode(ITEM.value), ITEM.signature, b"tokentok", ITEM.salt, 4)
    assert message.request == put


@pytest.mark.parametrize("data", of("Get"))
def test_a_get_of_the_crates_is_answered_in_types_that_they_read(data: bytes) -> None:
    # Their parser drops a reply whose transaction has another length than theirs, or whose `v` or `ip` has.
    node = new_node()
    absent = answer_to(data, node)
    node.storage.put_own(ITEM, START)
    found = answer_to(data, node)
    asked = decode(data)
    assert isinstance(asked, dict)
    for answer in (absent, found):
        assert answer[b"t"] == asked[b"t"]
        for name, size in ((b"v", 4), (b"ip", 6)):
            text = answer.get(name, bytes(size))
            assert isinstance(text, bytes)
            assert len(text) == size
    values = found[b"r"]
    assert isinstance(values, dict)
    assert (values[b"v"], values[b"seq"], values[b"sig"]) == (ITEM.value, ITEM.seq, ITEM.signature)
    assert {b"id", b"token", b"k"} <= set(values)
    assert b"prove" not in values
