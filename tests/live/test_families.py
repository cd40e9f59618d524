"""Engines that speak IPv4 and IPv6: what one publishes is found by those who have one family only."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

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
    assert (published["sent"], published["stored"]) == (4, 4)
    for engine in (ipv4, ipv6):
        assert engine.client.call("item", key=str(ALICE.zone_key), settled=True)["item"] == item.to_bytes().hex()


def test_an_engine_on_ipv4_loopback_opens_no_other_family_by_itself(start: Start) -> None:
    status = start("alone", config_with([])).status()
    assert len(status["dht_addresses"]) == 1
