"""Node ids, contacts, buckets and the table."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import kademlia.routing
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pdns.dht import krpc
from p2pdns.dht.routing.bucket import Bucket, random_id_in
from p2pdns.dht.routing.contact import Contact
from p2pdns.dht.routing.ids import ID_BITS, crc32c, distance, id_for, is_id_allowed
from p2pdns.dht.routing.reach import is_for
from p2pdns.dht.routing.table import FAILURES_MAX, RoutingTable

OWN = bytes(20)
VECTORS = json.loads((Path(__file__).parents[2] / "vectors" / "bep42.json").read_text())["vectors"]


def wire(number: int, port: int | None = None, host: str = "127.0.0.1") -> krpc.NodeInfo:
    """Return a contact with this number as its id."""
    return krpc.NodeInfo(number.to_bytes(20), (host, port or number % 60_000 + 1))


def spread(count: int, seed: int = 1) -> list[krpc.NodeInfo]:
    """Return contacts with random ids and ports of their own."""
    rng = random.Random(seed)
    return [krpc.NodeInfo(rng.randbytes(20), ("127.0.0.1", port + 1)) for port in range(count)]


def table_of(contacts: Sequence[krpc.NodeInfo], own: bytes = OWN, size: int = 20, **more: Any) -> RoutingTable:
    """Return a table that all these contacts have answered."""
    table = RoutingTable(own, 0.0, size=size, **more)
    for contact in contacts:
        table.answered(contact, 0.01, 1.0)
    return table


# Ids


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["ip"])
def test_bep42_vector_gives_the_first_21_bits_and_the_last_byte(vector: dict[str, Any]) -> None:
    expected = bytes.fromhex(vector["id"])
    made = id_for(vector["ip"], bytes(19) + bytes([vector["rand"]]))
    assert int.from_bytes(made[:3]) >> 3 == int.from_bytes(expected[:3]) >> 3
    assert made[19] == expected[19]
    assert is_id_allowed(expected, vector["ip"])
    assert is_id_allowed(made, vector["ip"])
    assert not is_id_allowed(bytes([expected[0] ^ 1]) + expected[1:], vector["ip"])


def test_crc32c_is_castagnolis() -> None:
    assert crc32c(b"123456789") == 0xE3069283
    assert crc32c(b"") == 0


def test_ids_in_non_public_space_are_exempt_and_spread_out() -> None:
    assert is_id_allowed(b"\xff" * 20, "192.168.1.7")
    assert id_for("127.0.0.1", b"\xa5" * 20) == b"\xa5" * 20


@given(st.binary(min_size=20, max_size=20), st.sampled_from(["1.2.3.4", "2001:4860::8888"]))
def test_an_id_made_for_a_public_address_is_allowed_there(random_bytes: bytes, host: str) -> None:
    assert is_id_allowed(id_for(host, random_bytes), host)


@pytest.mark.parametrize(
    ("host", "peer", "expected"),
    [
        ("8.8.8.8", "9.9.9.9", True),
        ("8.8.8.8", "192.168.1.1", True),
        ("192.168.1.2", "9.9.9.9", False),
        ("192.168.1.2", "10.0.0.1", True),
        ("169.254.1.1", "9.9.9.9", False),
        ("127.0.0.1", "10.0.0.1", False),
        ("127.0.0.1", "127.0.0.1", True),
        ("10.0.0.1", "127.0.0.1", True),
        ("192.0.2.1", "9.9.9.9", False),
        ("224.0.0.1", "127.0.0.1", False),
    ],
)
def test_private_contacts_stay_in_private_space(host: str, peer: str, expected: bool) -> None:
    assert is_for(host, peer) is expected


# The table


@given(
    st.integers(0, 2**32),
    st.integers(0, 160),
    st.binary(min_size=20, max_size=20),
    st.integers(1, 45),
    st.sampled_from([(), (16, 8), (3,)]),
)
def test_closest_equals_brute_force(seed: int, count: int, target: bytes, k: int, far: tuple[int, ...]) -> None:
    table = table_of(spread(count, seed), own=random.Random(seed + 1).randbytes(20), size=8, far_sizes=far)
    everyone = sorted(table, key=lambda contact: distance(contact.id, target))
    assert table.closest(target, k) == everyone[:k]


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(1, 40), st.booleans()), max_size=250), st.integers(0, 9))
def test_whatever_happens_ids_addresses_and_ranges_stay_consistent(
    steps: list[tuple[int, int, bool]], seed: int
) -> None:
    rng = random.Random(seed)
    ids = [rng.randbytes(20) for _ in range(61)]
    table = RoutingTable(rng.randbytes(20), 0.0, size=4)
    for index, port, is_answer in steps:
        contact = krpc.NodeInfo(ids[index], ("127.0.0.1", port))
        if is_answer:
            table.answered(contact, 0.001 * port, 1.0)
        else:
            table.failed(contact)
    known: list[Contact] = []
    for bucket in table.buckets:
        assert len(bucket.nodes) <= bucket.ksize
        assert not set(bucket.nodes) & set(bucket.replacement_nodes)
        members = [*bucket.nodes.values(), *bucket.replacement_nodes.values()]
        assert all(bucket.range[0] <= contact.long_id <= bucket.range[1] for contact in members)
        known += members
    assert len({contact.address for contact in known}) == len(known)
    assert len({contact.id for contact in known}) == len(known)
    assert all(table.get(contact.wire) is contact for contact in known)
    addresses = {("127.0.0.1", port) for port in range(1, 41)}
    assert {address for address in addresses if table.has_address(address)} == {contact.address for contact in known}
    assert [bucket.range[0] for bucket in table.buckets[1:]] == [b.range[1] + 1 for b in table.buckets[:-1]]


def test_buckets_never_read_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(kademlia.routing, "time")
    table = table_of(spread(200))
    table.touch(bytes(20), 5.0)
    assert len(table.buckets) > 3
    assert all(isinstance(bucket, Bucket) for bucket in table.buckets)


def test_our_own_id_is_never_a_contact() -> None:
    table = table_of([krpc.NodeInfo(OWN, ("127.0.0.1", 1))])
    assert len(table) == 0


def test_a_second_id_at_an_address_waits_until_the_first_is_silent() -> None:
    table = table_of([wire(5, port=7)])
    assert table.answered(wire(6, port=7), 0.01, 2.0) is None
    table.failed(wire(5, port=7))
    assert table.answered(wire(6, port=7), 0.01, 3.0) is not None
    assert [contact.id for contact in table] == [wire(6).node_id]


def test_a_known_id_at_another_address_waits_until_the_first_is_silent() -> None:
    table = table_of([wire(5, port=7)])
    assert table.answered(wire(5, port=8), 0.01, 2.0) is None
    table.failed(wire(5, port=7))
    assert table.answered(wire(5, port=8), 0.01, 3.0) is not None
    assert [contact.address[1] for contact in table] == [8]


def test_only_repeated_silence_evicts() -> None:
    table = table_of([wire(5)])
    for _ in range(FAILURES_MAX - 1):
        table.failed(wire(5))
    assert len(table) == 1
    assert table.closest(OWN, is_reliable=True) == []
    table.answered(wire(5), 0.01, 2.0)
    assert table.closest(OWN, is_reliable=True)
    for _ in range(FAILURES_MAX):
        table.failed(wire(5))
    assert len(table) == 0


def far(count: int, first: int = 0) -> list[krpc.NodeInfo]:
    """Return contacts in the half of the id space that is not ours."""
    return [wire(2 ** (ID_BITS - 1) + number + 1) for number in range(first, first + count)]


def test_the_best_replacement_moves_up_and_not_the_newest() -> None:
    table = RoutingTable(OWN, 0.0, size=4)
    # Our half must exist, or the full bucket would split instead.
    for near in (1, 2, 3, 4, 5):
        table.answered(wire(near), 0.01, 0.0)
    for contact in far(4):
        table.answered(contact, 0.01, 1.0)
    quick, slow = far(2, first=10)
    table.answered(quick, 0.02, 2.0)
    table.answered(slow, 0.9, 3.0)
    for _ in range(FAILURES_MAX):
        table.failed(far(1)[0])
    assert table.bucket_of(quick.node_id).nodes.keys() == {c.node_id for c in [*far(3, first=1), quick]}


def full_far_bucket(rtts: Sequence[float]) -> RoutingTable:
    """Return a table whose far bucket is full, its members met one after the other."""
    table = RoutingTable(OWN, 0.0, size=len(rtts))
    for near in range(1, len(rtts) + 2):
        table.answered(wire(near), 0.01, 0.0)
    for contact, rtt, at in zip(far(len(rtts)), rtts, range(1, 99), strict=False):
        table.answered(contact, rtt, float(at))
    return table


def test_a_much_faster_newcomer_takes_the_place_of_the_slowest_younger_contact() -> None:
    table = full_far_bucket([0.9, 0.1, 0.4, 0.1])
    newcomer = far(1, first=50)[0]
    table.answered(newcomer, 0.02, 9.0)
    members = table.bucket_of(newcomer.node_id).nodes
    assert newcomer.node_id in members
    assert far(1, first=2)[0].node_id not in members
    # The oldest is slower still, and stays: nobody takes a whole bucket by being near.
    assert far(1)[0].node_id in members


def test_a_slightly_faster_newcomer_waits() -> None:
    table = full_far_bucket([0.1, 0.1, 0.1, 0.1])
    newcomer = far(1, first=50)[0]
    table.answered(newcomer, 0.09, 9.0)
    assert newcomer.node_id not in table.bucket_of(newcomer.node_id).nodes


def test_a_newcomer_replaces_a_silent_contact_at_once() -> None:
    table = full_far_bucket([0.01, 0.01, 0.01, 0.01])
    table.failed(far(1)[0])
    newcomer = far(1, first=50)[0]
    assert table.wants(newcomer.node_id, newcomer.address)
    table.answered(newcomer, 0.5, 9.0)
    assert newcomer.node_id in table.bucket_of(newcomer.node_id).nodes


def test_a_full_far_bucket_of_reliable_contacts_wants_nobody() -> None:
    table = full_far_bucket([0.01, 0.01, 0.01, 0.01])
    newcomer = far(1, first=50)[0]
    assert not table.wants(newcomer.node_id, newcomer.address)
    assert table.wants(wire(99).node_id, wire(99).address)


def test_enlarged_far_buckets_hold_more() -> None:
    contacts = spread(2000)
    plain, wide = table_of(contacts), table_of(contacts, far_sizes=(128, 64, 32))
    assert len(wide) > len(plain) + 100
    assert [bucket.ksize for bucket in reversed(wide.buckets)][:3] == [128, 64, 32]


@given(st.integers(0, 1000), st.integers(150, 600))
def test_the_estimated_k_distance_is_within_a_factor_of_four_of_the_true_one(seed: int, count: int) -> None:
    contacts = spread(count, seed)
    own = random.Random(seed + 5).randbytes(20)
    estimate = table_of(contacts, own=own).k_distance(20)
    assert estimate is not None
    mean = 20 * 2**ID_BITS // count
    assert mean / 4 < estimate < mean * 4


def test_a_small_table_estimates_nothing() -> None:
    assert table_of(spread(39)).k_distance() is None


def test_a_bucket_is_stale_from_the_moment_at_which_it_has_the_age() -> None:
    table = RoutingTable(OWN, 0.0, size=20)
    assert table.stale_buckets(899.0, 900.0) == []
    assert table.stale_buckets(900.0, 900.0) == list(table.buckets)


def test_stale_buckets_are_those_that_no_look_up_went_through() -> None:
    table = table_of(spread(100))
    table.touch(b"\xff" * 20, 950.0)
    stale = table.stale_buckets(1000.0, 900.0)
    assert table.bucket_of(b"\xff" * 20) not in stale
    assert len(stale) == len(table.buckets) - 1


def test_a_look_up_leaves_the_bucket_round_our_own_id_as_stale_as_it_was() -> None:
    table = table_of(spread(100))
    table.touch(OWN, 950.0)
    assert table.bucket_of(OWN) in table.stale_buckets(1000.0, 900.0)


@given(st.binary(min_size=20, max_size=20))
def test_a_random_id_in_a_bucket_is_in_its_range(random_bytes: bytes) -> None:
    for bucket in table_of(spread(100)).buckets:
        number = int.from_bytes(random_id_in(bucket, random_bytes))
        assert bucket.range[0] <= number <= bucket.range[1]


def test_saved_contacts_are_ordered_by_reliability_then_age_then_rtt() -> None:
    table = RoutingTable(OWN, 0.0)
    table.answered(wire(1), 0.3, 10.0)
    table.answered(wire(2), 0.1, 10.0)
    table.answered(wire(3), 0.1, 5.0)
    table.answered(wire(4), 0.1, 1.0)
    table.failed(wire(4))
    saved = table.saved(20.0)
    assert [int.from_bytes(contact.node_id) for contact in saved] == [3, 2, 1, 4]
    assert saved[0].known_s == 15.0
    assert saved[0].rtt_ms == 100.0


def test_the_timeout_follows_rfc_6298_from_the_second_sample_on() -> None:
    contact = Contact(wire(1), 0.0)
    assert contact.timeout is None
    contact.answered(0.1, 1.0)
    assert contact.timeout is None
    contact.answered(0.1, 2.0)
    assert contact.timeout == pytest.approx(0.1 + 4 * 0.0375)


def test_contacts_compare_by_id_and_address() -> None:
    assert Contact(wire(1), 0.0) == Contact(wire(1), 9.0)
    assert Contact(wire(1), 0.0) != Contact(wire(1, port=9), 0.0)
    assert len({Contact(wire(1), 0.0), Contact(wire(1), 9.0)}) == 1
