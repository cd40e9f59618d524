"""A place for sessions in a swarm: a few nodes of a network of its own, and a configuration that leads to them."""

from __future__ import annotations

import contextlib
import random
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from p2pdns.demo.swarm import Swarm
from tests.cli import runner

ROOT = Path(__file__).resolve().parents[2]
NODE_COUNT = 3
PORTS = (20_000, 32_000)  # Linux gives out those from 32,768 on.


def free_port() -> int:
    """Return a port of loopback that nobody uses now, for UDP and TCP.

    It is none of those that the kernel gives to sockets that name no port: one of the many nodes beside the daemon of a
    session could have it first.
    """
    lot = random.SystemRandom()
    while True:
        port = lot.randrange(*PORTS)
        with (
            socket.socket(socket.AF_INET, socket.SOCK_STREAM) as tcp,
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp,
            contextlib.suppress(OSError),
        ):
            tcp.bind(("127.0.0.1", port))
            udp.bind(("127.0.0.1", port))
            return port


@contextmanager
def swarm_nodes(folder: Path) -> Iterator[list[str]]:
    """Yield the addresses of a few nodes of a network of their own, whose name is "session"."""
    folder.mkdir()
    with Swarm(folder, "session") as swarm:
        yield [facts["dht_address"] for facts in swarm.grow(NODE_COUNT)]


def place_among(nodes: list[str], folder: Path, dns_port: int, *, is_warm: bool = False) -> runner.Place:
    """Return a place whose $P2PDNS_CONFIG names these nodes; $NODE is the address of the first."""
    checkout = folder / "checkout"
    checkout.mkdir()
    shutil.copytree(ROOT / "zones", checkout / "zones")
    config = folder / "session.toml"
    config.write_text(
        f'[dns]\nlisten = ["127.0.0.1:{dns_port}"]\n\n[upstream]\nservers = "none"\n\n'
        f'[dht]\nnetwork = "session"\nlisten = "127.0.0.1:0"\nbootstrap = {nodes!r}\n'
    )
    return runner.Place.of(checkout, {"P2PDNS_CONFIG": str(config), "NODE": nodes[0]}, is_warm=is_warm)


@contextmanager
def place_in_swarm(folder: Path, dns_port: int, *, is_warm: bool = False) -> Iterator[runner.Place]:
    """Yield a place whose $P2PDNS_CONFIG names a swarm; $NODE is the address of its first node."""
    with swarm_nodes(folder / "nodes") as nodes:
        yield place_among(nodes, folder, dns_port, is_warm=is_warm)
