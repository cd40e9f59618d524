"""Visits to read-only nodes: in a network of our own no other stranger would show them that they can be reached."""

from __future__ import annotations

import random

import pytest

from p2pdns.addresses import Address
from p2pdns.dht import krpc
from p2pdns.dht.krpc.reading import parse
from p2pdns.dht.krpc.writing import compose
from p2pdns.dht.node.bootstrap import TICK_S
from p2pdns.dht.node.core import ASKED_S
from p2pdns.dht.node.machine import Node
from p2pdns.dht.node.values import NodeSettings
from p2pdns.dht.node.visits import READERS_MAX, Visits
from p2pdns.dht.storage import Storage

OURS = "a-network-of-ours"
READER: Address = ("93.184.216.34", 6881)
READER_ID = b"\x31" * 20


def pings_to_a_reader(network: str, *, again_at: float | None = None) -> list[float]:
    """Return when a node pings a peer that has asked it at second 0 and perhaps once more, in an hour and a half."""
    node = Node(
        node_id=None,
        network=network,
        entropy=random.Random(3).randbytes,
        storage=Storage(),
        settings=NodeSettings(read_only=False),
        now=0.0,
    )
    named = None if network == "mainline" else krpc.network_of(network)
    query = krpc.RequestMessage(
        transaction=b"tttt", node_id=READER_ID, request=krpc.Ping(), read_only=True, network=named
    )
    sent: list[float] = []
    for second in range(5_400):
        now = float(second)
        if now in (0.0, again_at):
            node.receive_datagram(compose(query), READER, now)
        node.handle_timer(now)
        for data, address in node.datagrams_to_send(now):
            message = parse(data)
            if isinstance(message, krpc.RequestMessage) and isinstance(message.request, krpc.Ping):
                assert address == READER
                sent.append(now)
    return sent


def test_a_reader_is_visited_once_when_its_translator_has_forgotten_us() -> None:
    (visited_at,) = pings_to_a_reader(OURS)
    assert ASKED_S < visited_at < ASKED_S + 60.0 + 10 * TICK_S


def test_a_reader_that_asks_again_is_left_alone_for_as_long_again() -> None:
    (visited_at,) = pings_to_a_reader(OURS, again_at=500.0)
    assert visited_at > 500.0 + ASKED_S


def test_in_mainline_nobody_visits_a_reader() -> None:
    assert pings_to_a_reader("mainline") == []


def test_one_prefix_has_one_place_however_many_addresses_ask_from_it() -> None:
    visits = Visits()
    visits.heard(READER_ID, READER, 0.0)
    for number in range(256):
        visits.heard(READER_ID, (f"8.8.8.{number}", 6881), 1.0)
    due = [visits.next_due(10_000.0) for _ in range(3)]
    assert due == [(READER_ID, READER), (READER_ID, ("8.8.8.255", 6881)), None]


@pytest.mark.parametrize("count", [READERS_MAX, READERS_MAX + 1])
def test_the_readers_remembered_are_bounded_and_the_oldest_goes(count: int) -> None:
    visits = Visits()
    for number in range(count):
        visits.heard(READER_ID, (f"8.8.{number}.1", 6881), float(number))
    due = visits.next_due(10_000.0)
    assert due is not None
    assert due[1][0] == f"8.8.{count - READERS_MAX}.1"
