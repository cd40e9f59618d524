"""Engines that speak IPv4 and IPv6: what one publishes is found by those who have one family only."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from p2pdns.cli.status import lines_of
from p2pdns.config import Config
from tests.live.test_engine import ALICE, Start, config_of, start, zone_item

__all__ = ["start"]  # The fixture.


def config_with(bootstrap: list[str], **dht: Any) -> Config:
    """Return the configuration of an engine on the loopback addresses named."""
    config = config_of(bootstrap)
    return replace(config, dht=replace(config.dht, **dht))


def test_an_engine_of_both_families_joins_two_dhts_and_stores_in_both(start: Start) -> None:
    ipv4 = start("ipv4", config_with([]))
    ipv6 = start("ipv6", config_with([], listen="[::1]:0"))
    known = [ipv4.status()["dht_address"], ipv6.status()["dht_address"]]
    both = start("both", config_with(known, listen_ipv6="[::1]:0"))
    while both.status()["contacts"] < 2:
        continue
    status = both.status()
    assert [address.rpartition(":")[0] for address in status["dht_addresses"]] == ["127.0.0.1", "[::1]"]
    item = zone_item(7)
    published = both.client.call("publish", item=item.to_bytes().hex())
    assert (published["sent"], published["stored"]) == (1, 1), "of two families the one with more others speaks"
    for engine in (ipv4, ipv6):
        assert engine.client.call("item", key=str(ALICE.zone_key), settled=True)["item"] == item.to_bytes().hex()


def test_status_tells_of_each_family_what_it_is_and_why(start: Start) -> None:
    status = start("both", config_with([], listen_ipv6="[::1]:0")).status()
    assert list(status["families"]) == ["IPv4", "IPv6"]
    for family, address in zip(status["families"].values(), status["dht_addresses"], strict=True):
        assert (family["address"], family["contacts"], family["read_only"]) == (address, 0, False)
        assert family["read_only_reason"] == "bound to a loopback address"
        assert len(bytes.fromhex(family["node_id"])) == 20
    assert status["families"]["IPv4"]["node_id"] != status["families"]["IPv6"]["node_id"]
    lines = [line.split() for line in "\n".join(f"{n}  {v}" for n, v in lines_of(status)).splitlines()]
    ipv6 = lines[lines.index(["IPv6"]) :]
    assert ipv6[2] == ["address", status["dht_addresses"][1]]
    assert ["read", "only", "reason", "bound", "to", "a", "loopback", "address"] in ipv6


def test_an_engine_on_ipv4_loopback_opens_no_other_family_by_itself(start: Start) -> None:
    status = start("alone", config_with([])).status()
    assert len(status["dht_addresses"]) == 1
