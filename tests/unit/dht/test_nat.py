"""Read-only until reachable: who may say where we are, what counts as a stranger's visit, and the reason in words."""

from __future__ import annotations

import random

import pytest

from p2pdns.addresses import Address
from p2pdns.dht import krpc
from p2pdns.dht.krpc.reading import parse
from p2pdns.dht.krpc.writing import compose
from p2pdns.dht.node.core import ASKED_S
from p2pdns.dht.node.machine import Node
from p2pdns.dht.node.nat import NatDetector
from p2pdns.dht.node.values import NodeSettings
from p2pdns.dht.storage import Storage

OURS: Address = ("93.184.216.34", 6881)
ELSEWHERE: Address = ("93.184.216.99", 6881)
VOTERS: list[Address] = [("8.8.8.8", 6881), ("9.9.9.9", 6881), ("1.1.1.1", 6881)]
STRANGER: Address = ("5.5.5.5", 6881)


def reach_of(*votes: tuple[Address, Address], host: str = "0.0.0.0", is_visited: bool = False) -> NatDetector:
    """Return what a node concludes from these votes, and from a stranger's visit."""
    reach = NatDetector(host, None)
    for voter, ours in votes:
        reach.told(voter, ours)
    if is_visited:
        reach.unsolicited_query_came()
    return reach


def all_say(ours: Address) -> list[tuple[Address, Address]]:
    """Return a vote of every voter for an address."""
    return [(voter, ours) for voter in VOTERS]


@pytest.mark.parametrize(
    ("reach", "is_read_only", "words"),
    [
        (reach_of(), True, "fewer than 3 contacts in different networks agree"),
        (reach_of(*all_say(OURS)[:2], is_visited=True), True, "fewer than 3 contacts in different networks agree"),
        (reach_of(*all_say(OURS)), True, "see us at 93.184.216.34, but no query of a stranger has arrived"),
        (reach_of(*all_say(OURS), is_visited=True), False, "queries of strangers arrive there"),
        (
            reach_of(*[(voter, (OURS[0], 7_000 + n)) for n, voter in enumerate(VOTERS)], is_visited=True),
            True,
            "not at one port: a NAT that lets no stranger in",
        ),
        (reach_of((("8.8.8.8", 1), ("10.0.0.1", 1))), True, "fewer than 3"),
        (reach_of((("10.0.0.2", 1), ("10.0.0.1", 1))), False, "see us at 10.0.0.1, a private address"),
        (reach_of(host="127.0.0.1"), False, "bound to a loopback address"),
        (reach_of(host="192.168.1.7"), False, "bound to a private address"),
        (NatDetector("0.0.0.0", True), True, "the settings say so"),
        (NatDetector("0.0.0.0", False), False, "the settings say so"),
        (NatDetector("127.0.0.1", True), True, "the settings say so"),
    ],
)
def test_read_only_and_why(reach: NatDetector, is_read_only: bool, words: str) -> None:
    assert reach.is_read_only is is_read_only
    assert words in reach.reason


def test_an_address_that_changed_must_be_reached_anew() -> None:
    reach = reach_of(*all_say(OURS), is_visited=True)
    for voter in VOTERS:
        reach.told(voter, ELSEWHERE)
    assert reach.address == ELSEWHERE
    assert reach.is_read_only
    reach.unsolicited_query_came()
    assert not reach.is_read_only


def test_a_visit_before_the_votes_counts_for_the_first_address() -> None:
    reach = reach_of(is_visited=True)
    for voter, ours in all_say(OURS):
        reach.told(voter, ours)
    assert not reach.is_read_only
    # One voter who is wrong for a while takes nothing away.
    reach.told(VOTERS[0], ELSEWHERE)
    assert reach.is_read_only
    reach.told(VOTERS[0], OURS)
    assert not reach.is_read_only


def public_node(read_only: bool | None = None) -> Node:
    """Return a node bound to every address."""
    return Node(
        node_id=None,
        network="unnamed",
        entropy=random.Random(3).randbytes,
        storage=Storage(),
        settings=NodeSettings(read_only=read_only),
        now=0.0,
    )


def visit(node: Node, address: Address, now: float) -> None:
    """Have a stranger's ping arrive."""
    ping = krpc.RequestMessage(transaction=b"tttt", node_id=b"\x77" * 20, request=krpc.Ping())
    node.receive_datagram(compose(ping), address, now)


def known_node() -> Node:
    """Return a node that three places see at one address, and that wrote to a silent fourth."""
    node = public_node()
    node.add_bootstrap([*VOTERS, STRANGER], 0.0)
    for data, address in node.datagrams_to_send(0.0):
        if address in VOTERS:
            node_id = random.Random(address[0]).randbytes(20)
            reply = krpc.Reply(transaction=parse(data).transaction, node_id=node_id, ip=OURS)
            node.receive_datagram(compose(reply), address, 0.01)
    assert node.address == OURS
    assert node.is_read_only
    return node


def test_who_we_wrote_to_is_no_stranger_though_it_never_answered() -> None:
    node = known_node()
    visit(node, STRANGER, 5.0)
    assert node.is_read_only, "a NAT lets in whoever we wrote to"
    visit(node, ("6.6.6.6", 6881), 5.0)
    assert not node.is_read_only


def test_who_we_wrote_to_long_ago_is_a_stranger_again() -> None:
    node = known_node()
    visit(node, STRANGER, ASKED_S + 1.0)
    assert not node.is_read_only


@pytest.mark.parametrize("read_only", [True, False])
def test_the_first_nodes_of_a_public_network_can_be_told(read_only: bool) -> None:
    node = public_node(read_only)
    assert node.is_read_only is read_only
    assert node.read_only_reason == "the settings say so"
