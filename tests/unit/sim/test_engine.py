"""Addresses of simulated machines: each its own, and with ids spread over the whole circle."""

from __future__ import annotations

from collections import Counter

from p2pdns.addresses import AddressClass, class_of
from p2pdns.dht.routing.ids import id_for
from p2pdns.sim.engine import HOSTS_MAX, host_of


def test_no_two_machines_share_an_address_and_all_are_public() -> None:
    hosts = [host_of(number) for number in range(HOSTS_MAX)]
    assert len({*hosts}) == HOSTS_MAX
    assert {class_of(host) for host in hosts[:: HOSTS_MAX // 512]} == {AddressClass.PUBLIC}


def test_the_first_machines_have_a_network_of_their_own_each() -> None:
    assert len({host_of(number).rsplit(".", 2)[0] for number in range(20_480)}) == 20_480


def test_the_ids_that_bep_42_allows_a_small_world_are_as_many_as_its_machines() -> None:
    # With the same chance for all, only the address tells them apart.
    ids = sorted(id_for(host_of(number), bytes(20)) for number in range(200))
    assert len({node_id[:2] for node_id in ids}) >= 198
    eighths = Counter(node_id[0] >> 5 for node_id in ids)
    assert min(eighths[eighth] for eighth in range(8)) >= 10
