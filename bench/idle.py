"""What a node sends when nobody asks it anything, and how soon an overlay is there again after everything was off.

    python bench/idle.py [--nodes 20 100] [--minutes 60] [--seed 1]

Nodes in memory under a virtual clock, with all of their datagrams: once they have met, an hour in which nobody asks for
anything. Queries a minute are counted for each node and each minute; bytes are those of queries and replies, without
IP and UDP headers. Then 20 nodes that all were off come back with the contacts they had saved, and every bootstrap node
dead: real sockets on loopback in one process, in real time.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from p2pdns import log
from p2pdns.addresses import Address
from p2pdns.clock import boot_now
from p2pdns.dht import krpc
from p2pdns.dht.krpc.reading import parse
from tests.live.test_joining import open_node
from tests.unit.dht.swarm import Swarm

SETTLING_S = 2_400.0  # Two rounds of refresh, in which nodes still meet each other for the first time.
QUERIES_A_MINUTE_MAX = 20
REFORMING, CENTRE = 20, 3


def idle(nodes: int, minutes: int, seed: int) -> bool:
    """Print what an hour costs each of this many nodes; return whether the goal is met."""
    began = time.monotonic()
    swarm = Swarm(seed)
    swarm.grow(nodes)
    swarm.run_for(SETTLING_S)
    queries: Counter[tuple[Address, int]] = Counter()
    sent: Counter[Address] = Counter()
    first_minute = int(swarm.now // 60)

    def note(data: bytes, source: Address, target: Address) -> bool:
        sent[source] += len(data)
        if isinstance(parse(data), krpc.RequestMessage):
            queries[source, int(swarm.now // 60)] += 1
        return False

    swarm.is_lost = note
    swarm.run_for(60.0 * minutes)
    counts = [queries[a, first_minute + m] for a in swarm.nodes for m in range(minutes)]
    means = [sum(queries[a, first_minute + m] for m in range(minutes)) / minutes for a in swarm.nodes]
    rates = [sent[a] / (60 * minutes) for a in swarm.nodes]
    most = max(counts)
    print(
        f"{nodes:>5} nodes{minutes:>5} min   queries a minute: mean {statistics.mean(means):.1f}, busiest node "
        f"{max(means):.1f}, busiest minute {most} (goal {QUERIES_A_MINUTE_MAX}: "
        f"{'met' if most <= QUERIES_A_MINUTE_MAX else 'MISSED'})   bytes/s sent: mean {statistics.mean(rates):.0f}, "
        f"most {max(rates):.0f}   ({time.monotonic() - began:.0f} s)",
        flush=True,
    )
    return most <= QUERIES_A_MINUTE_MAX


async def forms_again() -> None:
    """Print how long an overlay takes to form by saved contacts alone."""
    centre = [await open_node(("127.0.0.1", 0)) for _ in range(CENTRE)]
    live = [await open_node(("127.0.0.1", 0)) for _ in range(REFORMING)]
    for endpoint in (*centre[1:], *live):
        await endpoint.bootstrap([centre[0].address])
    now = boot_now()
    remembered = [(endpoint.address, endpoint.node.contacts(now), endpoint.node.node_id) for endpoint in live]
    for endpoint in (*centre, *live):
        endpoint.close()
    began = time.monotonic()
    live = [await open_node(*one) for one in remembered]
    await asyncio.gather(*(endpoint.bootstrap() for endpoint in live))
    seconds = time.monotonic() - began
    known = [endpoint.node.contact_count for endpoint in live]
    print(
        f"{REFORMING:>5} nodes formed again by saved contacts, {CENTRE} bootstrap nodes dead, in {seconds:.2f} s; "
        f"contacts of each: {min(known)} to {max(known)}"
    )
    for endpoint in live:
        endpoint.close()


def main() -> int:
    """Run everything and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, nargs="*", default=[20, 100])
    parser.add_argument("--minutes", type=int, default=60)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    log.configure("error")
    asyncio.run(forms_again())
    results = [idle(nodes, options.minutes, options.seed) for nodes in options.nodes]
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
