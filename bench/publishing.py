"""How long a zone of several items takes to be published, and an edit of it, beside a zone of one item.

    python bench/publishing.py [--hosts 10000] [--nodes 50] [--dead 0] [--edits 10]

The nodes are in one process on loopback, and share one core; the daemon that publishes is one of its own, and this
process signs. Replicas are counted at the nodes when all is done: those of the item with the fewest, and the mean.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

from swarm import NETWORK
from swarm import Swarm as Nodes

from p2pdns.admin.control import ControlClient
from p2pdns.admin.publishing import publish_through, whole_through
from p2pdns.demo.swarm import Swarm
from p2pdns.dns.message import RRset
from p2pdns.dns.registry import Type
from p2pdns.items.dividing import Division
from p2pdns.items.item import mutable_target
from p2pdns.items.keys import SecretKey
from p2pdns.publishing.changes import WholeZone
from p2pdns.publishing.editions import DividedItem, draft_of
from p2pdns.publishing.memory import Made
from p2pdns.publishing.stored import Stored

GOAL_S, GOAL_REPLICAS, GOAL_RSS_MB = 60.0, 18, 120


def content(secret: SecretKey, count: int, edit: int = 0) -> WholeZone:
    """Return a zone of plain hosts; each edit changes the address of one."""
    apex = secret.zone_key.apex
    rrsets = []
    for number in range(count):
        address = 0x0A000000 + number + (1 << 20 if number == edit - 1 else 0)
        rrsets.append(RRset(apex.child(b"host%d" % number), Type.A, 300, (address.to_bytes(4),)))
    return WholeZone(apex, draft_of(rrsets, apex))


def rss_mb(pids: list[int]) -> float:
    """Return the largest resident set of some processes."""
    lines = [line for pid in pids for line in Path(f"/proc/{pid}/status").read_text().splitlines()]
    return max(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


class Publishing:
    """One publisher: its key, and what it remembers."""

    def __init__(self, client: ControlClient) -> None:
        self.secret = SecretKey.generate(os.urandom(32))
        self._client = client
        self._memory = Made()

    def publish(self, zone: WholeZone) -> tuple[float, Stored]:
        """Publish a zone; return how long that took, and how it ended."""
        began = time.monotonic()
        done = publish_through(self._client, self.secret, zone, memory=self._memory)
        return time.monotonic() - began, done


def main() -> int:
    """Print the figures; return 1 where a goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hosts", type=int, default=10_000)
    parser.add_argument("--nodes", type=int, default=50)
    parser.add_argument("--dead", type=int, default=0, help="percent")
    parser.add_argument("--edits", type=int, default=10)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, Nodes() as nodes, Swarm(Path(folder), NETWORK) as swarm:
        addresses = nodes.ask("build", count=options.nodes, seed=1)["addresses"]
        daemon = swarm.start("publisher", "--no-dns", bootstrap=addresses[:3])
        swarm.wait_until_ready(daemon, contact_count_min=options.nodes // 3)
        if options.dead:
            nodes.ask("kill", percent=options.dead)
        small = [Publishing(daemon.control) for _ in range(options.edits)]
        one_item_s = statistics.median(one.publish(content(one.secret, 5))[0] for one in small)
        one = Publishing(daemon.control)
        before = nodes.ask("spent")
        took_s, done = one.publish(content(one.secret, options.hosts))
        spent = nodes.ask("spent")
        assert done.item is not None
        division = _division(daemon.control, done)
        counts = []
        items = [pinned for pinned, _ in division.items()]
        for pinned in items:
            holders = nodes.ask("holders", target=mutable_target(one.secret.zone_key.raw, pinned.salt).hex())["nodes"]
            counts.append(sum(holders.values()))
        edits = [one.publish(content(one.secret, options.hosts, edit))[0] for edit in range(1, options.edits + 1)]
        memory = rss_mb(daemon.pids)
        print(f"{options.hosts} hosts: {division.item_count} items of {division.size_bytes} bytes, {done}")
        print(f"published in {took_s:.1f} s (goal {GOAL_S:.0f}), {1000 * took_s / division.item_count:.0f} ms an item")
        print(f"replicas: {min(counts)} at least (goal {GOAL_REPLICAS}), {statistics.mean(counts):.1f} in the mean")
        cpu_s, datagrams = spent["cpu_s"] - before["cpu_s"], spent["datagrams"] - before["datagrams"]
        print(f"the nodes: {cpu_s:.1f} s of one core, {datagrams} datagrams")
        print(f"one item {1000 * one_item_s:.0f} ms; an edit p50 {1000 * statistics.median(edits):.0f} ms")
        print(f"resident set of the daemon {memory:.0f} MB (goal {GOAL_RSS_MB})")
    return int(took_s > GOAL_S or min(counts) < GOAL_REPLICAS or memory > GOAL_RSS_MB)


def _division(client: ControlClient, done: Stored) -> Division:
    assert done.item is not None
    found = whole_through(client, done.item, lambda progress: None)
    assert isinstance(found, DividedItem)
    return found.division


if __name__ == "__main__":
    sys.exit(main())
