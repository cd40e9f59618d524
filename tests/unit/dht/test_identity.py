"""The id that fits our address: who moves it, how many it takes, and how often it moves (BEP 42)."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest

from p2pdns.addresses import Address
from p2pdns.dht import krpc
from p2pdns.dht.krpc.reading import parse
from p2pdns.dht.krpc.writing import compose
from p2pdns.dht.node.identity import CHANGE_S_MIN, VOTES_MIN
from p2pdns.dht.node.machine import Node
from p2pdns.dht.node.values import NodeSettings, PublicReport, Wanted
from p2pdns.dht.routing.ids import is_id_allowed
from p2pdns.dht.storage import Storage

OURS = "93.184.216.34"
ELSEWHERE = "203.0.114.9"
VOTERS: list[Address] = [(f"{first}.8.8.8", 6881) for first in (5, 8, 9, 12, 23, 31, 37, 45, 46, 52, 62, 77)]


class Told:
    """A node and the contacts that tell it its address, each in answer to a request of the node's."""

    def __init__(self, bind_host: str = "0.0.0.0") -> None:
        self.rng = random.Random(1)
        self.storage = Storage()
        self.node = Node(
            node_id=None,
            network="unnamed",
            entropy=self.rng.randbytes,
            storage=self.storage,
            settings=NodeSettings(bind_host=bind_host),
            now=0.0,
        )

    def by(self, voters: Sequence[Address], *hosts: str, now: float = 0.0) -> None:
        """Have these contacts say where they see the node, by turns at these hosts, as they answer a get of it."""
        self.node.add_bootstrap(voters, now)
        self.node.start_get(Wanted(self.rng.randbytes(20)), now)
        asked = 0
        for data, target in self.node.datagrams_to_send(now):
            message = parse(data)
            if target in voters and isinstance(message, krpc.RequestMessage):
                node_id, ours = random.Random(target[0]).randbytes(20), (hosts[asked % len(hosts)], 6881)
                reply = krpc.Reply(transaction=message.transaction, node_id=node_id, ip=ours)
                self.node.receive_datagram(compose(reply), target, now + 0.01)
                asked += 1
        assert asked >= min(len(voters), VOTES_MIN), "the node asked fewer than the test needs"


@pytest.mark.parametrize(("count", "is_moved"), [(4, False), (5, True)])
def test_an_id_moves_to_the_address_that_five_prefixes_report(count: int, is_moved: bool) -> None:
    told = Told()
    first_id = told.node.node_id
    told.by(VOTERS[:count], OURS)
    assert (told.node.node_id != first_id) is is_moved
    assert is_id_allowed(told.node.node_id, OURS) is is_moved
    assert told.node.counters["id-changed"] == is_moved
    assert told.storage.node_ids == (told.node.node_id,)


def test_a_moved_node_keeps_its_contacts_and_looks_for_its_new_neighbours() -> None:
    told = Told()
    told.by(VOTERS[:VOTES_MIN], OURS)
    assert {contact.address for contact in told.node.contacts(1.0)} == set(VOTERS[:VOTES_MIN])
    said = [parse(data) for data, _ in told.node.datagrams_to_send(0.02)]
    searches = [
        query for query in said if isinstance(query, krpc.RequestMessage) and query.node_id == told.node.node_id
    ]
    assert {query.request for query in searches} >= {krpc.FindNode(told.node.node_id)}


def test_many_voices_of_one_prefix_do_not_move_an_id() -> None:
    told = Told()
    first_id = told.node.node_id
    told.by([(f"8.8.8.{last}", 6881) for last in range(1, 15)], OURS)
    assert told.node.node_id == first_id


def test_without_a_majority_an_id_stays() -> None:
    told = Told()
    first_id = told.node.node_id
    told.by(VOTERS[:9], OURS, ELSEWHERE, "198.97.190.53")
    assert told.node.node_id == first_id


def test_an_id_moves_at_most_once_an_hour() -> None:
    told = Told()
    told.by(VOTERS[:VOTES_MIN], OURS)
    moved = told.node.node_id
    told.by(VOTERS, ELSEWHERE, now=60.0)
    assert told.node.node_id == moved
    assert told.node.counters["id-change-too-soon"] > 0
    told.by(VOTERS, ELSEWHERE, now=CHANGE_S_MIN + 60.0)
    assert told.node.node_id != moved
    assert is_id_allowed(told.node.node_id, ELSEWHERE)


def test_an_id_that_fits_already_stays() -> None:
    told = Told()
    told.by(VOTERS[:VOTES_MIN], OURS)
    moved = told.node.node_id
    told.by(VOTERS, OURS, now=2 * CHANGE_S_MIN)
    assert told.node.node_id == moved


@pytest.mark.parametrize("host", ["192.168.1.2", "10.0.0.1", "127.0.0.1", "100.64.0.9", "192.0.2.1", "0.0.0.0"])
def test_an_address_that_is_not_public_moves_no_id(host: str) -> None:
    told = Told()
    first_id = told.node.node_id
    told.by(VOTERS, host)
    assert told.node.node_id == first_id


def test_contacts_in_private_space_do_not_move_an_id() -> None:
    told = Told()
    first_id = told.node.node_id
    told.by([(f"192.168.{third}.1", 6881) for third in range(10)], OURS)
    assert told.node.node_id == first_id


def test_an_ipv6_node_takes_an_id_for_its_ipv6_address() -> None:
    told = Told("::")
    ours = "2a00:1450:4001:81b::200e"
    told.by([(f"2a02:{number:x}::1", 6881) for number in range(1, VOTES_MIN + 1)], ours)
    assert is_id_allowed(told.node.node_id, ours)
    assert told.node.counters["id-changed"] == 1


# The public address


@pytest.mark.parametrize("count", [0, 1, 2, 3, 5])
def test_a_public_address_is_known_by_the_word_of_three_prefixes(count: int) -> None:
    told = Told()
    if count:
        told.by(VOTERS[:count], OURS)
    report = told.node.public_report
    assert (report.host, report.vote_count) == (OURS if count else None, count)
    assert report.address == (OURS if count >= 3 else None)


def test_a_prefix_with_many_addresses_has_one_word_on_the_public_address() -> None:
    told = Told()
    told.by([(f"8.8.8.{last}", 6881) for last in range(1, 15)], ELSEWHERE)
    assert told.node.public_report == PublicReport(ELSEWHERE, 1, 1)
    told.by([voter for voter in VOTERS if voter[0] != "8.8.8.8"][:4], OURS, now=60.0)
    assert told.node.public_report == PublicReport(OURS, 4, 5)
    assert told.node.public_report.address == OURS
    told.by([(f"8.8.8.{last}", 6881) for last in range(1, 15)], ELSEWHERE, now=120.0)
    assert told.node.public_report.address == OURS


def test_without_a_majority_no_public_address_is_known() -> None:
    assert PublicReport(OURS, 3, 6).address is None
    assert PublicReport(OURS, 4, 7).address == OURS
    told = Told()
    told.by(VOTERS[:6], OURS, ELSEWHERE)
    assert told.node.public_report == PublicReport(OURS, 3, 6)
    assert told.node.public_report.address is None


def test_another_public_address_needs_a_majority_again() -> None:
    told = Told()
    told.by(VOTERS[:3], OURS)
    assert told.node.public_report.address == OURS
    told.by(VOTERS[3:6], ELSEWHERE, now=60.0)
    assert told.node.public_report == PublicReport(OURS, 3, 6)
    assert told.node.public_report.address is None
    told.by(VOTERS[6:7], ELSEWHERE, now=120.0)
    assert told.node.public_report == PublicReport(ELSEWHERE, 4, 7)
    assert told.node.public_report.address == ELSEWHERE


@pytest.mark.parametrize("host", ["192.168.1.2", "10.0.0.1", "127.0.0.1", "100.64.0.9", "192.0.2.1", "0.0.0.0"])
def test_an_address_that_is_not_public_is_no_word_on_the_public_address(host: str) -> None:
    told = Told()
    told.by(VOTERS, host)
    assert told.node.public_report == PublicReport()


def test_contacts_in_private_space_have_no_word_on_the_public_address() -> None:
    told = Told()
    told.by([(f"192.168.{third}.1", 6881) for third in range(10)], OURS)
    assert told.node.public_report == PublicReport()
