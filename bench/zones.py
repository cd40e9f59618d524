"""What zones of many names cost beside a zone of one item: to read, to publish, to edit and to keep in memory.

    python bench/zones.py [--nodes 50] [--hosts 10000] [--count 50] [--seed 1] [--quick]

N nodes in one process, and resolvers beside them, each a daemon as users start it. Three zones are published by
`p2pdns publish` as owners do it: one of a dozen records, one of 1,000 hosts (its head pins all shards), and one of
10,000 (its pins are in manifests). A name counts as cold when the resolver has forgotten all about its zone. Questions
about the three zones take turns, so that whatever else the machine does meets all of them. Figures are ratios to the
zone of one item in the same run. Exit status 1 where a goal is missed.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lookup import percentile
from resolve import Resolver
from swarm import Swarm

from p2pdns.clock import unix_now
from p2pdns.dns.message import Question, RRset
from p2pdns.dns.name import Name
from p2pdns.dns.registry import Type
from p2pdns.dns.zone import Zone
from p2pdns.items.dividing import Division, divide
from p2pdns.items.item import MutableItem, next_seq
from p2pdns.items.keys import SecretKey
from p2pdns.items.packet import compose_packet
from p2pdns.items.shards.head import Head
from p2pdns.items.shards.partial import Needed, PartialZone

DEAD_PERCENT = (0, 30)
SMALL, MEDIUM = 12, 1_000
NOERROR, NXDOMAIN = 0, 3
SHARDS_AT_HAND = 512
REPLICAS = 20
ROUNDS = 200  # Of the work of one shard; its CPU is some hundred microseconds.
WORDS = ("publish", "--yes", "--json")


@dataclass
class Published:
    """A zone of this run."""

    name: str
    secret: SecretKey
    hosts: int
    path: Path
    key_path: Path
    seconds: float = 0.0
    rss_mb: float = 0.0
    copies: dict[str, tuple[int, int]] = field(default_factory=dict)

    @property
    def key(self) -> str:
        return str(self.secret.zone_key)


@dataclass(frozen=True)
class Verdict:
    """A goal, and what came of it."""

    what: str
    figure: float
    goal: float
    unit: str = "x"
    is_least: bool = False

    @property
    def is_met(self) -> bool:
        """Whether the goal is reached; not a number reaches none."""
        return self.figure >= self.goal if self.is_least else self.figure <= self.goal

    def __str__(self) -> str:
        word = "at least" if self.is_least else "at most"
        mark = "met   " if self.is_met else "MISSED"
        return f"{mark}  {self.what:<58}{self.figure:>9.2f} {self.unit:<4}({word} {self.goal:g})"


def zone_text(hosts: int, serial: int = 0) -> str:
    """Return a zone file with so many plain hosts; the serial changes one of them."""
    lines = ["$TTL 300", f'edited TXT "edition {serial}"']
    lines += [f"host{number} A 10.{number >> 16}.{number >> 8 & 255}.{number & 255}" for number in range(hosts)]
    return "\n".join(lines) + "\n"


def published(zone: Published, state: Path, swarm: Swarm) -> None:
    """Publish a zone through a daemon, as its owner does, and note what that took."""
    command = [sys.executable, "-m", "p2pdns", *WORDS, "-k", str(zone.key_path), str(zone.path)]
    command += ["--state", str(state)]
    began = time.perf_counter()
    environ = {**os.environ, "P2PDNS_CONFIG": os.devnull}
    process = subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stderr is not None
    said, trouble = process.stdout.read(), process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    zone.seconds, zone.rss_mb = time.perf_counter() - began, usage.ru_maxrss / 1000
    assert process.returncode == 0, said + trouble
    zone.copies = copies_of(zone, swarm)


def copies_of(zone: Published, swarm: Swarm) -> dict[str, tuple[int, int]]:
    """Return seq and count of copies of each item of a zone, by its target."""
    told = swarm.ask("copies", key=zone.key)
    assert told["items"], f"{zone.name}: {told}"
    return {target: (seq, count) for target, seq, count in told["items"]}


class Cold:
    """Times of questions of each kind about each zone."""

    def __init__(self, rng: random.Random, resolver: Resolver) -> None:
        self.rng = rng
        self.resolver = resolver
        self.ms: dict[tuple[str, str], list[float]] = {}
        self.rpcs: dict[tuple[str, str], list[int]] = {}
        self.lost = 0

    def ask(self, zone: Published, kind: str) -> None:
        """Ask for a name of a zone."""
        is_absent = kind.endswith("absent")
        number = self.rng.randrange(zone.hosts)
        name = f"no{self.rng.getrandbits(40):x}.{zone.key}" if is_absent else f"host{number}.{zone.key}"
        if kind.startswith("cold"):
            self.resolver.control.call("forget", key=zone.key)
        at = time.time()
        ms, codes = self.resolver.ask([name])
        self.resolver.settle()
        self.lost += codes != [NXDOMAIN if is_absent else NOERROR]
        self.ms.setdefault((zone.name, kind), []).extend(ms)
        entries = [entry for entry in self.resolver.control.call("lookups")["lookups"] if entry["at"] >= at]
        self.rpcs.setdefault((zone.name, kind), []).append(sum(entry["rpcs"] for entry in entries))

    def at(self, zone: str, kind: str, share: float) -> float:
        """Return the milliseconds below which this share of the questions was answered."""
        return percentile(self.ms[zone, kind], share)


def asked(zones: Sequence[Published], count: int, resolver: Resolver, rng: random.Random) -> Cold:
    """Ask about all zones in turn: cold names and cold absent ones, and then those whose head is at hand."""
    cold = Cold(rng, resolver)
    for _ in range(count):
        for zone in zones:
            # One name first, so that the next one of the same zone needs a shard and no head.
            for kind in ("cold", "known", "known absent", "cold absent"):
                if zone.hosts > SMALL or kind.startswith("cold"):
                    cold.ask(zone, kind)
    return cold


def reading_verdicts(percent: int, cold: Cold) -> Iterator[Verdict]:
    """Yield the goals of reading, at one share of dead nodes."""
    for share in (0.5, 0.95):
        for zone, factor in (("1,000", 1.9), ("10,000", 2.8)):
            # A negative answer waits for the whole look-up of the head, so it is held against one of the small zone.
            for word in ("", " absent"):
                one = cold.at("one item", f"cold{word}", share)
                for kind, goal in ((f"cold{word}", factor), (f"known{word}", 1.1)):
                    what = f"{percent} % dead, {zone} hosts: {kind} p{share * 100:.0f}"
                    yield Verdict(what, cold.at(zone, kind, share) / one, goal)
    yield Verdict(f"{percent} % dead: lost", cold.lost, 0, "")


def told(cold: Cold) -> Iterator[str]:
    """Yield a line for each kind of question."""
    for (zone, kind), ms in cold.ms.items():
        rpcs = statistics.mean(cold.rpcs[zone, kind])
        yield (
            f"{zone:>9} {'hosts' if zone != 'one item' else '':<6}{kind:<14}{len(ms):>4}"
            f"{percentile(ms, 0.5):>9.1f}{percentile(ms, 0.95):>9.1f}{rpcs:>8.1f}"
        )


def publishing_verdicts(zones: Sequence[Published], resolver: Resolver, state: Path, swarm: Swarm) -> Iterator[Verdict]:
    """Edit the large zones and the small one, and yield the goals of publishing."""
    one, *_, large = zones
    yield Verdict(f"{large.hosts} hosts published", large.seconds, 60.0, "s")
    share = sum(count >= REPLICAS - 2 for _, count in large.copies.values()) / len(large.copies)
    least = min(count for _, count in large.copies.values())
    yield Verdict(f"{large.hosts} hosts: least copies of {len(large.copies)} items", least, REPLICAS - 2, "", True)
    print(f"{share:.1%} of {len(large.copies)} items have {REPLICAS - 2} copies or more")
    engine = Path(f"/proc/{resolver.engine}/status").read_text().split("VmHWM:")[1].split()[0]
    yield Verdict(f"{large.hosts} hosts: RSS of `publish`", large.rss_mb, 120.0, "MB")
    yield Verdict(f"{large.hosts} hosts: RSS of the daemon that keeps them", int(engine) / 1000, 120.0, "MB")
    seconds: dict[str, list[float]] = {zone.name: [] for zone in zones}
    items = []
    for serial in range(1, 6):
        for zone in zones:
            before = zone.copies
            zone.path.write_text(zone_text(zone.hosts, serial))
            published(zone, state, swarm)
            seconds[zone.name].append(zone.seconds)
            if zone is not one:
                items.append(sum(before.get(target, (0, 0))[0] != seq for target, (seq, _) in zone.copies.items()))
    yield Verdict("items put for an edit, most", max(items), 3, "")
    for zone in zones[1:]:
        figure = statistics.median(seconds[zone.name]) / statistics.median(seconds[one.name])
        yield Verdict(f"{zone.name} hosts: an edit, beside a publication of one item", figure, 2.0)


def divided(secret: SecretKey, hosts: int) -> Division:
    """Return a zone of plain hosts as items."""
    apex = secret.zone_key.apex
    rrsets = [RRset(Name.of(b"host%d" % n).under(apex), Type.A, 300, (n.to_bytes(4),)) for n in range(hosts)]
    return divide(Zone.of(apex, rrsets, 1), entropy=os.urandom(32), unix_now=unix_now())


def memory_verdict(secret: SecretKey) -> Verdict:
    """Measure the bytes that a cached shard takes beside its own."""
    division = divided(secret, 10_000)
    zone = PartialZone(Head.verified(division.apex, division.head, 1))
    values = dict(division.items())
    names = iter(range(10_000))
    ours = 0
    tracemalloc.start()
    began, _ = tracemalloc.get_traced_memory()
    while zone.shard_count < SHARDS_AT_HAND:
        said = zone.answer(Question(Name.of(b"host%d" % next(names)).under(division.apex), Type.A))
        while isinstance(said, Needed):
            for wanted in said.items:
                value = bytes(bytearray(values[wanted]))  # As it comes from a datagram: a copy of its own.
                ours += len(value)
                zone = zone.with_value(wanted, value)
            break
    size_bytes = tracemalloc.get_traced_memory()[0] - began - ours
    tracemalloc.stop()
    return Verdict("a cached shard, beside its bytes", size_bytes / SHARDS_AT_HAND / 1000, 2.0, "kB")


def cpu_verdict(secret: SecretKey) -> Verdict:
    """Measure the CPU to verify and answer from one shard, beside one packed zone, in turns."""
    apex = secret.zone_key.apex
    seq = next_seq(unix_now(), None)
    division = divided(secret, MEDIUM)
    head = Head.verified(apex, division.head, seq)
    pinned, value = max(division.items(), key=lambda pair: len(pair[1]))
    shard = MutableItem.signed(secret, seq, value, pinned.salt)
    records = [RRset(apex.child(b"host%d" % n), Type.A, 300, (n.to_bytes(4),)) for n in range(38)]
    packed = MutableItem.signed(secret, seq, compose_packet(records, apex))
    zone = PartialZone(head).with_value(pinned, value)
    owner = next(
        Name.of(b"host%d" % number).under(apex)
        for number in range(MEDIUM)
        if not isinstance(zone.answer(Question(Name.of(b"host%d" % number).under(apex), Type.A)), Needed)
    )

    def by_shard() -> None:
        MutableItem.verified(shard.key, shard.seq, shard.value, shard.signature, shard.salt)
        said = PartialZone(head).with_value(pinned, shard.value).answer(Question(owner, Type.A))
        assert not isinstance(said, Needed)

    def by_packet() -> None:
        MutableItem.verified(packed.key, packed.seq, packed.value, packed.signature)
        Zone.verified(apex, packed.value, packed.seq).answer(Question(apex.child(b"host1"), Type.A))

    shard_s, packet_s = [], []
    for _ in range(ROUNDS):
        shard_s.append(cpu_of(by_shard))
        packet_s.append(cpu_of(by_packet))
    figure = statistics.median(shard_s) / statistics.median(packet_s)
    return Verdict("CPU to verify and answer one shard, beside a packed zone", figure, 1.5)


def cpu_of(work: Callable[[], None]) -> float:
    """Return the CPU seconds that some work takes."""
    began = time.process_time()
    work()
    return time.process_time() - began


def run(percent: int, options: argparse.Namespace) -> list[Verdict]:
    """Publish, kill a share of the nodes, and ask."""
    rng = random.Random(f"zones {options.seed} {percent}")
    found: list[Verdict] = []
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="p2pdns-bench-")))
        swarm = stack.enter_context(Swarm())
        addresses = swarm.ask("build", count=options.nodes, seed=options.seed)["addresses"]
        daemons = []
        for name in ("publisher", "reader"):
            (folder / name).mkdir()
            daemons.append(stack.enter_context(Resolver(folder / name, rng.sample(addresses, 3))))
        publisher, reader = daemons
        for daemon in daemons:
            daemon.ready()
        zones = []
        for name, hosts in (("one item", SMALL), ("1,000", MEDIUM), ("10,000", options.hosts)):
            zone = Published(
                name, SecretKey.generate(rng.randbytes(32)), hosts, folder / f"{hosts}.zone", folder / f"{hosts}.key"
            )
            zone.path.write_text(zone_text(hosts))
            zone.key_path.touch(0o600)
            zone.key_path.write_bytes(zone.secret.write(None))
            published(zone, folder / "publisher" / "state", swarm)
            items = f"{len(zone.copies)} items" if len(zone.copies) > 1 else "1 item"
            print(f"{name}: {items}, published in {zone.seconds:.1f} s, {zone.rss_mb:.0f} MB", flush=True)
            zones.append(zone)
        if not percent:
            found += publishing_verdicts(zones, publisher, folder / "publisher" / "state", swarm)
        swarm.ask("kill", percent=percent)
        cold = asked(zones, options.count, reader, rng)
        print(f"\n{percent} % dead{'':<18}n   p50 ms   p95 ms    RPCs")
        print("\n".join(told(cold)), flush=True)
        found += reading_verdicts(percent, cold)
    return found


def main() -> int:
    """Run everything and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, default=50)
    parser.add_argument("--hosts", type=int, default=10_000)
    parser.add_argument("--count", type=int, default=50, help="questions of a kind")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="15 questions of a kind, and 2,000 hosts")
    parser.add_argument("--json", action="store_true", help="the goals again, for machines")
    options = parser.parse_args()
    if options.quick:
        options.count, options.hosts = min(options.count, 15), min(options.hosts, 2_000)
    secret = SecretKey.generate(random.Random(options.seed).randbytes(32))
    found = [memory_verdict(secret), cpu_verdict(secret)]
    for percent in DEAD_PERCENT:
        found += run(percent, options)
    print()
    for verdict in found:
        print(verdict)
    if options.json:
        print(
            json.dumps(
                [{**vars(verdict), "met": verdict.is_met} for verdict in found if not math.isnan(verdict.figure)]
            )
        )
    return 0 if all(verdict.is_met for verdict in found) else 1


if __name__ == "__main__":
    sys.exit(main())
