"""What a forged source address gets out of a node: ours, libtorrent's and stock kademlia's, in the same run.

    python bench/amplify.py [--seconds 5] [--rate 2000]

First, per message type, the bytes of one reply over the bytes of its request, from an address that the node has never
heard of. Then a flood of each type, each packet from the next of many loopback addresses that stand for victims; what
arrives there, replies and pings alike, is what the node reflects. Our ceiling is 8 kB/s for every type, the first burst
included; the exit status is 1 when it is broken. Between two floods the budgets have time to fill. CPU is that of the
thread that the node runs in, as a share of the flood's time.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import select
import socket
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import libtorrent
import umsgpack
from kademlia.network import Server
from torrents import new_session

from p2pdns.clock import boot_now
from p2pdns.dht import krpc
from p2pdns.dht.bencode import encode
from p2pdns.dht.guard import POOL_BURST_BYTES, POOL_BYTES_PER_SECOND, REFLECTED_BYTES_PER_SECOND_MAX
from p2pdns.dht.krpc.reading import parse
from p2pdns.dht.krpc.writing import compose
from p2pdns.dht.node.machine import Node
from p2pdns.dht.node.values import NodeSettings
from p2pdns.dht.storage import Storage
from p2pdns.items.item import MutableItem
from p2pdns.items.keys import SecretKey
from p2pdns.net.endpoint import Endpoint

Address = tuple[str, int]

VICTIMS = 256  # Each a prefix of its own, as loopback counts them.
NEIGHBOURS = 20  # Who fill the tables, so that replies are as long as they get.
REPLY_S_MAX = 0.3
ITEM = MutableItem.signed(SecretKey.generate(b"\x07" * 32), 1_800_000_000_000_000, b"x" * 990)
KADEMLIA_KEY = b"k" * 20


def victims(count: int) -> list[socket.socket]:
    """Return sockets at that many loopback addresses."""
    sockets = []
    for number in range(count):
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind((f"127.9.{number // 250}.{number % 250 + 1}", 0))
        sock.setblocking(False)
        sockets.append(sock)
    return sockets


def received_bytes(sock: socket.socket, wait_s: float = 0.0) -> int:
    """Return how many bytes of payload have come; requests of the node for a reply of its own count as well."""
    total = 0
    while select.select([sock], [], [], 0.0 if total else wait_s)[0]:
        total += len(sock.recv(65_535))
    return total


def krpc_queries() -> dict[str, bytes]:
    """Return a query of each type, as short as the type allows."""
    requests: dict[str, krpc.Request] = {
        "ping": krpc.Ping(),
        "find_node": krpc.FindNode(bytes(20)),
        "get_peers": krpc.GetPeers(bytes(20)),
        "get, absent": krpc.Get(bytes(20)),
        "get, 990 bytes": krpc.Get(ITEM.target),
        "unknown method": krpc.Unknown(b"vote", None),
    }
    return {
        name: compose(krpc.RequestMessage(transaction=b"aa", node_id=os.urandom(20), request=request, read_only=True))
        for name, request in requests.items()
    }


def kademlia_queries() -> dict[str, bytes]:
    """Return the same of the kademlia package (rpcudp: 0, 20 bytes of id, umsgpack)."""

    def query(method: str, *arguments: Any) -> bytes:
        body: bytes = umsgpack.packb([method, [os.urandom(20), *arguments]])
        return b"\x00" + os.urandom(20) + body

    return {
        "ping": query("ping"),
        "find_node": query("find_node", bytes(20)),
        "get, absent": query("find_value", bytes(20)),
        "get, 990 bytes": query("find_value", KADEMLIA_KEY),
    }


def ratios(target: Address, queries: dict[str, bytes]) -> dict[str, float]:
    """Return reply bytes over request bytes for each type, each from an address of its own."""
    found = {}
    for (name, data), sock in zip(queries.items(), victims(len(queries)), strict=True):
        sock.sendto(data, target)
        found[name] = received_bytes(sock, REPLY_S_MAX) / len(data)
        sock.close()
    return found


def flood(target: Address, data: bytes, *, rate: int, seconds: float) -> tuple[float, float, float, float]:
    """Return packets sent, bytes sent and bytes that arrived at the victims, each a second, and the node's CPU."""
    sockets = victims(VICTIMS)
    cpu_clock = time.pthread_getcpuclockid(threading.main_thread().ident or 0)
    cpu_began = time.clock_gettime(cpu_clock)
    sent, arrived = 0, 0
    began = time.monotonic()
    while (elapsed := time.monotonic() - began) < seconds:
        for _ in range(int(elapsed * rate) - sent):
            sockets[sent % VICTIMS].sendto(data, target)
            sent += 1
        ready, _, _ = select.select(sockets, [], [], 0.005)
        arrived += sum(received_bytes(sock) for sock in ready)
    cpu = (time.clock_gettime(cpu_clock) - cpu_began) / elapsed
    arrived += sum(received_bytes(sock) for sock in select.select(sockets, [], [], REPLY_S_MAX)[0])
    for sock in sockets:
        sock.close()
    return sent / elapsed, sent * len(data) / elapsed, arrived / elapsed, cpu


REFILL_S = POOL_BURST_BYTES / POOL_BYTES_PER_SECOND + 0.2
Measured = tuple[dict[str, float], dict[str, tuple[float, float, float, float]]]
Measure = Callable[[Address, dict[str, bytes]], Measured]


async def of_ours(measure: Measure) -> Measured:
    """Measure a node of ours among neighbours."""
    endpoints: list[Endpoint] = []
    for _ in range(NEIGHBOURS + 1):
        node = Node(
            node_id=None,
            network="unnamed",
            entropy=os.urandom,
            storage=Storage(),
            settings=NodeSettings(bind_host="127.0.0.1"),
            now=boot_now(),
        )
        endpoint = await Endpoint.open(node, ("127.0.0.1", 0))
        if endpoints:
            await endpoint.bootstrap([endpoints[0].address])
        endpoints.append(endpoint)
    endpoints[0].node.storage.put_own(ITEM, boot_now())
    try:
        return await asyncio.to_thread(measure, endpoints[0].address, krpc_queries())
    finally:
        for endpoint in endpoints:
            endpoint.close()


async def of_libtorrent(measure: Measure) -> Measured:
    """Measure a session of libtorrent among others, with its own limits, which no setting here has lifted."""
    sessions = [new_session({}) for _ in range(NEIGHBOURS // 2 + 1)]
    addresses = [("127.0.0.1", session.listen_port()) for session in sessions]
    for address in addresses[1:]:
        sessions[0].add_dht_node(address)
    await asyncio.to_thread(store_in_libtorrent, addresses[0])
    return await asyncio.to_thread(measure, addresses[0], krpc_queries())


def store_in_libtorrent(target: Address) -> None:
    """Put the item there."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        sock.settimeout(5.0)

        def ask(request: krpc.Request) -> krpc.Message:
            query = krpc.RequestMessage(transaction=b"pp", node_id=os.urandom(20), request=request, read_only=True)
            sock.sendto(compose(query), target)
            return parse(sock.recv(2_048))

        answer = ask(krpc.Get(ITEM.target))
        assert isinstance(answer, krpc.Reply)
        value, token = encode(ITEM.value), answer.token or b""
        stored = ask(krpc.PutMutable(ITEM.key.raw, ITEM.seq, value, ITEM.signature, token))
        assert isinstance(stored, krpc.Reply), stored


async def of_kademlia(measure: Measure) -> Measured:
    """Measure a node of the kademlia package among others."""
    servers: list[Any] = []
    for _ in range(NEIGHBOURS + 1):
        server = Server()
        await server.listen(0, interface="127.0.0.1")
        address = server.transport.get_extra_info("sockname")
        if servers:
            await server.bootstrap([servers[0].transport.get_extra_info("sockname")])
        servers.append(server)
        if len(servers) == 1:
            first = address
    servers[0].storage[KADEMLIA_KEY] = b"x" * 990
    try:
        return await asyncio.to_thread(measure, first, kademlia_queries())
    finally:
        for server in servers:
            server.stop()


def main() -> None:
    """Run the measurements and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--rate", type=int, default=2_000)
    options = parser.parse_args()
    random.seed(1)

    def measure(target: Address, queries: dict[str, bytes]) -> Measured:
        first = ratios(target, queries)
        floods = {}
        for kind, data in queries.items():
            time.sleep(REFILL_S)
            floods[kind] = flood(target, data, rate=options.rate, seconds=options.seconds)
        return first, floods

    results = {
        "p2pdns": asyncio.run(of_ours(measure)),
        f"libtorrent {libtorrent.__version__}": asyncio.run(of_libtorrent(measure)),
        "kademlia": asyncio.run(of_kademlia(measure)),
    }
    print(
        f"\nreply / request in bytes, one request from an unknown address\n{'':24}"
        + "".join(f"{n:>20}" for n in results)
    )
    for kind in krpc_queries():
        row = [result[0].get(kind) for result in results.values()]
        print(f"{kind:24}" + "".join(f"{'-' if ratio is None else f'x {ratio:.1f}':>20}" for ratio in row))
    print(
        f"\nfloods of {options.rate:,} packets/s from {VICTIMS} forged addresses, {options.seconds:g} s each: reflected"
    )
    for kind in krpc_queries():
        cells = [result[1].get(kind) for result in results.values()]
        print(f"{kind:24}" + "".join(f"{'-' if cell is None else f'{cell[2]:,.0f} B/s':>20}" for cell in cells))
    ours = results["p2pdns"][1]
    slowest = min(cell[0] for cell in ours.values())
    share = max(cell[3] for cell in ours.values())
    print(f"\nour node took at most {100 * share:.0f} % of a core; the slowest flood had {slowest:,.0f} packets/s")
    kind, worst = max(((kind, cell[2]) for kind, cell in ours.items()), key=lambda pair: pair[1])
    is_kept = worst <= REFLECTED_BYTES_PER_SECOND_MAX
    print(
        f"{'met' if is_kept else 'MISSED'}: at most {worst:,.0f} bytes/s reflected ({kind}), "
        f"ceiling {REFLECTED_BYTES_PER_SECOND_MAX:,.0f}"
    )
    sys.exit(0 if is_kept else 1)


if __name__ == "__main__":
    main()
