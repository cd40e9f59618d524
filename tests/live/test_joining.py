"""Joining without a centre: by what was saved, with every bootstrap node and the DNS dead, and by the wire alone."""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from p2pdns.addresses import Address
from p2pdns.clock import boot_now
from p2pdns.dht.node.machine import Node
from p2pdns.dht.node.values import NodeSettings, Wanted
from p2pdns.dht.routing.contact import SavedContact
from p2pdns.dht.storage import Storage
from p2pdns.net.endpoint import Endpoint
from tests.live.test_engine import EngineProcess, config_of
from tests.live.test_overlay_nodes import GUARD_S, item_of

NODES, BOOTSTRAP_NODES = 20, 3
# Neighbours find each other within two seconds; a datagram lost, or a port in use, takes as long as the next try.
WIRE_S_MAX = 120.0


async def open_node(
    address: Address, saved: list[SavedContact] | None = None, node_id: bytes | None = None
) -> Endpoint:
    """Return a node at an address, as new or as it comes back."""
    node = Node(
        node_id=node_id,
        network="joining",
        entropy=os.urandom,
        storage=Storage(),
        settings=NodeSettings(bind_host=address[0]),
        now=boot_now(),
    )
    node.restore_contacts(saved or [], boot_now())
    return await Endpoint.open(node, address)


def test_an_overlay_of_20_forms_again_with_every_bootstrap_node_and_the_dns_dead(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def no_dns(*args: object) -> None:
        raise AssertionError("a name was looked up")

    async def play() -> None:
        centre = [await open_node(("127.0.0.1", 0)) for _ in range(BOOTSTRAP_NODES)]
        live = [await open_node(("127.0.0.1", 0)) for _ in range(NODES)]
        for endpoint in [*centre[1:], *live]:
            await endpoint.bootstrap([centre[0].address])
        now = boot_now()
        remembered = [(endpoint.address, endpoint.node.contacts(now), endpoint.node.node_id) for endpoint in live]
        for endpoint in [*centre, *live]:
            endpoint.close()
        monkeypatch.setattr(socket, "getaddrinfo", no_dns)
        began = time.monotonic()
        live = [await open_node(*one) for one in remembered]
        await asyncio.gather(*(endpoint.bootstrap() for endpoint in live))
        sys.stdout.write(f"\n{NODES} nodes formed again in {time.monotonic() - began:.2f} s\n")
        item = item_of(1)
        outcome = await live[0].put(item)
        assert (outcome.sent_count, outcome.stored_count) == (NODES - 1, NODES - 1)
        for endpoint in live:
            assert (await endpoint.get(Wanted(item.target, item.key), on_item=lambda _: None)).item == item
        # Not one by one: the later ones would have to look among ever more dead ones, which is another test's subject.
        for endpoint in live:
            endpoint.close()

    asyncio.run(asyncio.wait_for(play(), GUARD_S))


def wait_until(is_so: Callable[[], bool]) -> None:
    """Ask until something holds."""
    give_up_at = time.monotonic() + WIRE_S_MAX
    while not is_so():
        assert time.monotonic() < give_up_at
        threading.Event().wait(0.05)


def test_two_engines_on_one_wire_find_each_other_with_nothing_said(tmp_path: Path) -> None:
    # A network that nobody else on this machine is in; multicast stays on the loopback interface.
    network = f"wire {secrets.token_hex(4)}"
    config = config_of()
    config = replace(config, dht=replace(config.dht, network=network, lan_discovery=True))
    engines = [EngineProcess(tmp_path / name, config) for name in ("one", "two")]
    try:
        for engine in engines:
            engine.wait_for_line("dht: listening on")
        wait_until(lambda: all(engine.status()["contacts"] == 1 for engine in engines))
    finally:
        ends = [engine.end() for engine in engines]
    assert [code for code, _ in ends] == [0, 0]
    assert not any("Traceback" in text for _, text in ends)
    assert any("found a node on the local network" in text for _, text in ends)
