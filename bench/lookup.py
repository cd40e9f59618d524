"""How long a look-up takes and what it costs, healthy and with dead peers, beside `kademlia` and libtorrent.

    python bench/lookup.py [--nodes 200] [--gets 100] [--quick] [--seed 1] [--no-kademlia] [--no-libtorrent]

N nodes in one process on loopback, each with a socket of its own. For each share of dead peers a fresh overlay is
built, items are put, that share of the nodes is closed without a word, and live nodes that do not hold the item get
it, one get after the other: so tables are fresh, and full of the dead. All nodes share one core: the times include
the work of everybody who answers. libtorrent's sessions have threads of their own, and are fewer; their `done` is what
it calls authoritative, which it says fifteen seconds after anybody was silent.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import logging
import math
import os
import random
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torrents
from kademlia.network import Server

from p2pdns.clock import boot_now, unix_now
from p2pdns.dht.node.machine import Node
from p2pdns.dht.node.values import GetOutcome, NodeSettings, Wanted
from p2pdns.dht.storage import Storage
from p2pdns.dns.message import RRset
from p2pdns.items.item import MutableItem, next_seq
from p2pdns.items.keys import SecretKey, ZoneId
from p2pdns.items.packet import compose_packet
from p2pdns.log import get_logger
from p2pdns.net.endpoint import Endpoint
from p2pdns.overlay.finder import Overlay
from p2pdns.resolver.steps import Budget, Found
from p2pdns.state.marks import Reader

VALUE = b"as many bytes as one of our packed zones has".ljust(200, b".")
KADEMLIA_GET_S_MAX = 30.0  # A hostile or half-dead swarm may keep one of its gets for minutes.
DEAD_PERCENT = (0, 10, 30, 50)
TORRENTS, TORRENT_GETS = 50, 20  # Each session has four threads; each get among the dead takes fifteen seconds.
TORRENT_DEAD_PERCENT = (0, 30)
GOALS = (
    ("first answer p50, healthy", "ms", 5.0),
    ("completion p95, 30 % dead", "ms", 250.0),
    ("absent key p95, 30 % dead", "ms", 250.0),
    ("50 cold keys at once: first answer p95", "ms", 130.0),
    ("50 cold keys at once: lost", "", 0.0),
    ("datagrams a get, healthy", "", 50.0),
    ("datagrams a get, 30 % dead", "", 80.0),
)


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value below which `share` of the values lie, nan for none."""
    if not values:
        return math.nan
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


@dataclass
class Sample:
    """What the gets of one kind in one overlay took."""

    first_ms: list[float] = field(default_factory=list)
    done_ms: list[float] = field(default_factory=list)
    outcomes: list[GetOutcome] = field(default_factory=list)
    lost: int = 0
    cpu_ms: float = 0.0
    datagrams: float = 0.0

    def mean(self, of: Callable[[GetOutcome], float | None]) -> float:
        """Return the mean of one figure over the outcomes that have it."""
        values = [value for outcome in self.outcomes if (value := of(outcome)) is not None]
        return sum(values) / len(values) if values else math.nan


def item_of(secret: SecretKey) -> MutableItem:
    """Return a zone of a dozen records as an item."""
    apex = secret.zone_key.apex
    records = [
        RRset(apex.child(b"h%d" % n), rtype, 300, (bytes([10 + n] * size),))
        for rtype, size in ((1, 4), (28, 16))
        for n in range(6)
    ]
    return MutableItem.signed(secret, next_seq(unix_now(), None), compose_packet(records, apex))


class World:
    """Nodes of ours, on loopback."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.live: list[Endpoint] = []
        self.items: list[MutableItem] = []

    async def build(self, count: int) -> None:
        """Start `count` nodes that join by a few of the earlier ones."""
        for _ in range(count):
            node = Node(
                node_id=None,
                network="bench",
                entropy=os.urandom,
                storage=Storage(),
                settings=NodeSettings(bind_host="127.0.0.1"),
                now=boot_now(),
            )
            endpoint = await Endpoint.open(node, ("127.0.0.1", 0))
            if self.live:
                known = self.rng.sample(self.live, min(3, len(self.live)))
                await endpoint.bootstrap([peer.address for peer in known])
            self.live.append(endpoint)
        while any(endpoint.node.operation_count for endpoint in self.live):  # noqa: ASYNC110 - upkeep has no event
            await asyncio.sleep(0.01)

    async def put(self, count: int) -> None:
        """Have random nodes put `count` items."""
        for _ in range(count):
            item = item_of(SecretKey.generate(self.rng.randbytes(32)))
            outcome = await self.rng.choice(self.live).put(item)
            assert outcome.stored_count >= min(20, len(self.live) - 1), outcome
            self.items.append(item)

    def kill(self, percent: int) -> None:
        """Close a share of the nodes. An unconnected socket never hears of it: the dead are silent."""
        self.rng.shuffle(self.live)
        count = len(self.live) * percent // 100
        for endpoint in self.live[:count]:
            endpoint.close()
        del self.live[:count]

    def asker(self, target: bytes) -> Endpoint:
        """Return a live node that does not hold the target."""
        while True:
            endpoint = self.rng.choice(self.live)
            if endpoint.node.storage.held(target, boot_now()) is None:
                return endpoint

    async def get(self, endpoint: Endpoint, target: bytes, item: MutableItem | None, sample: Sample) -> None:
        """Get once and note what it took."""
        found: list[float] = []
        started = time.perf_counter()
        outcome = await endpoint.get(
            Wanted(target, item.key if item else None), on_item=lambda _: found.append(time.perf_counter())
        )
        sample.done_ms.append((time.perf_counter() - started) * 1000)
        sample.outcomes.append(outcome)
        if found:
            sample.first_ms.append((found[0] - started) * 1000)
        if item is not None and outcome.item != item:
            sample.lost += 1

    def close(self) -> None:
        """Close every node."""
        for endpoint in self.live:
            endpoint.close()


@contextlib.contextmanager
def measured(sample: Sample, count: int) -> Iterator[None]:
    """Note CPU and datagrams of the whole process per get."""
    cpu, before = time.process_time(), DATAGRAMS[0]
    yield
    sample.cpu_ms = (time.process_time() - cpu) * 1000 / count
    sample.datagrams = (DATAGRAMS[0] - before) / count


DATAGRAMS = [0]


def count_datagrams() -> None:
    """Count what every endpoint sends."""
    stock = Node.datagrams_to_send

    def counted(self: Node, now: float) -> list[Any]:
        out = stock(self, now)
        DATAGRAMS[0] += len(out)
        return out

    Node.datagrams_to_send = counted  # type: ignore[method-assign]


@dataclass
class Result:
    """What one share of dead peers gave."""

    percent: int
    present: Sample = field(default_factory=Sample)
    absent: Sample = field(default_factory=Sample)
    burst: Sample = field(default_factory=Sample)
    pairs: Sample = field(default_factory=Sample)


async def run_ours(nodes: int, gets: int, percent: int, seed: int) -> Result:
    """Measure gets, absent keys, 50 keys at once and pairs in a fresh world."""
    result = Result(percent)
    world = World(random.Random(seed))
    await world.build(nodes)
    await world.put(gets + 50)
    world.kill(percent)
    # A full collection over the objects of all these nodes takes 150 ms; a real process has one of them.
    gc.collect()
    gc.freeze()
    with measured(result.present, gets):
        for item in world.items[:gets]:
            await world.get(world.asker(item.target), item.target, item, result.present)
    with measured(result.absent, gets // 2):
        for _ in range(gets // 2):
            target = world.rng.randbytes(20)
            await world.get(world.asker(target), target, None, result.absent)
    burst = world.items[gets:]
    asker = max(world.live, key=lambda e: sum(e.node.storage.held(i.target, 0.0) is None for i in burst))
    cold = [item for item in burst if asker.node.storage.held(item.target, boot_now()) is None]
    with measured(result.burst, len(cold)):
        await asyncio.gather(*(world.get(asker, item.target, item, result.burst) for item in cold))
    with measured(result.pairs, gets // 4):
        for item in world.items[: gets // 4]:
            await ask_pair(world.asker(item.target), item, result.pairs)
    world.close()
    gc.unfreeze()
    return result


async def ask_pair(asker: Endpoint, item: MutableItem, sample: Sample) -> None:
    """Ask for A and AAAA of one name as a browser does: two questions at the same moment, one fetch for both."""
    reader = Overlay(asker, Reader(None), clock=boot_now, unix_clock=unix_now, tell=get_logger("overlay").error)
    budget = Budget(deadline=boot_now() + 4)
    started = time.perf_counter()
    answers = await asyncio.gather(*(reader.zone(ZoneId.of_key(item.key), False, budget) for _ in range(2)))
    sample.first_ms.append((time.perf_counter() - started) * 1000)
    sample.lost += sum(not isinstance(answer, Found) for answer in answers)
    await reader.zone(ZoneId.of_key(item.key), True, budget)
    sample.done_ms.append((time.perf_counter() - started) * 1000)
    await reader.close()


# kademlia


async def run_kademlia(nodes: int, gets: int, percent: int, seed: int) -> Sample:
    """Measure the same gets with stock `kademlia`; its gets have no first answer before the end."""
    rng = random.Random(seed)
    servers: list[Server] = []
    sent = [0]
    for _ in range(nodes):
        server = Server(ksize=20, alpha=4)
        await server.listen(0, interface="127.0.0.1")
        _count_transport(server, sent)
        if servers:
            known = rng.sample(servers, min(3, len(servers)))
            await server.bootstrap([peer.transport.get_extra_info("sockname")[:2] for peer in known])
        servers.append(server)
    keys = [f"key-{number}" for number in range(gets)]
    for key in keys:
        await rng.choice(servers).set(key, VALUE)
    rng.shuffle(servers)
    dead = nodes * percent // 100
    for server in servers[:dead]:
        server.stop()
    before = sent[0]
    sample = await _kademlia_gets(servers[dead:], keys, rng)
    sample.datagrams = (sent[0] - before) / max(1, len(keys))
    for server in servers[dead:]:
        server.stop()
    return sample


def _count_transport(server: Any, sent: list[int]) -> None:
    stock = server.protocol.transport.sendto

    class Counting:
        """The transport, counting."""

        def sendto(self, data: bytes, address: Any) -> None:
            """Send and count."""
            sent[0] += 1
            stock(data, address)

    server.protocol.transport = Counting()


async def _kademlia_gets(live: Sequence[Any], keys: Sequence[str], rng: random.Random) -> Sample:
    sample = Sample()

    async def get(key: str) -> None:
        started = time.perf_counter()
        value = None
        with contextlib.suppress(Exception):
            value = await asyncio.wait_for(rng.choice(live).get(key), KADEMLIA_GET_S_MAX)
        sample.lost += value != VALUE
        sample.done_ms.append((time.perf_counter() - started) * 1000)

    cpu = time.process_time()
    # Its gets wait for timeouts of 5 s, so several run at once; that costs it nothing but patience.
    for start in range(0, len(keys), 5):
        await asyncio.gather(*(get(key) for key in keys[start : start + 5]))
    sample.cpu_ms = (time.process_time() - cpu) * 1000 / max(1, len(keys))
    sample.first_ms = sample.done_ms
    return sample


# The report


def row(name: str, sample: Sample, extra: str = "") -> str:
    """Return one line of the table."""
    return (
        f"{name:<26}{percentile(sample.first_ms, 0.5):>9.1f}{percentile(sample.first_ms, 0.95):>9.1f}"
        f"{percentile(sample.done_ms, 0.5):>9.1f}{percentile(sample.done_ms, 0.95):>9.1f}"
        f"{sample.datagrams:>8.1f}{sample.cpu_ms:>8.1f}{sample.lost:>6}{extra}"
    )


def extras(sample: Sample) -> str:
    """Return RPCs, retransmits, RPCs to the first item, bytes, and the share of complete look-ups."""
    if not sample.outcomes:
        return ""
    complete = sum(outcome.complete for outcome in sample.outcomes) * 100 // len(sample.outcomes)
    return (
        f"{sample.mean(lambda o: o.rpc_count - o.retransmit_count):>7.1f}"
        f"{sample.mean(lambda o: o.retransmit_count):>6.1f}"
        f"{sample.mean(lambda o: o.rpcs_to_first):>7.1f}{sample.mean(lambda o: o.bytes_sent + o.bytes_received):>8.0f}"
        f"{complete:>6}%"
    )


def print_result(result: Result) -> None:
    """Print what one share of dead peers gave."""
    names = (
        ("get", result.present),
        ("absent key", result.absent),
        (f"{len(result.burst.done_ms)} cold keys at once", result.burst),
        ("A + AAAA pair", result.pairs),
    )
    for name, sample in names:
        print(row(f"{result.percent:>3} % dead  {name}", sample, extras(sample)))


def goals_met(results: dict[int, Result], nodes: int) -> Iterator[tuple[str, str, float, float]]:
    """Yield name, unit, goal and figure."""
    healthy, sick = results[0], results[30]
    figures = (
        percentile(healthy.present.first_ms, 0.5),
        percentile(sick.present.done_ms, 0.95),
        percentile(sick.absent.done_ms, 0.95),
        percentile(healthy.burst.first_ms, 0.95),
        float(sum(sample.burst.lost + sample.present.lost for sample in results.values())),
        healthy.present.datagrams,
        sick.present.datagrams,
    )
    for (name, unit, goal), figure in zip(GOALS, figures, strict=True):
        yield name, unit, goal, figure
    if 50 in results:
        yield "completion p95, 50 % dead", "ms", 500.0, percentile(results[50].present.done_ms, 0.95)
    bound = 1.5 * math.log(nodes, 20) + 4
    yield "RPCs to the first item, healthy", "", bound, healthy.present.mean(lambda outcome: outcome.rpcs_to_first)


async def main() -> None:
    """Run everything and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, default=200)
    parser.add_argument("--gets", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="60 nodes, 20 gets, 0 and 30 %% dead")
    parser.add_argument("--no-kademlia", action="store_true", help="without that peer")
    parser.add_argument("--no-libtorrent", action="store_true", help="without that peer")
    options = parser.parse_args()
    if options.quick:
        options.nodes, options.gets = min(options.nodes, 60), min(options.gets, 20)
    logging.disable(logging.CRITICAL)
    count_datagrams()
    print(f"{options.nodes} nodes, {options.gets} gets, seed {options.seed}; ms unless said otherwise")
    head = f"{'':<26}{'first':>9}{'':>9}{'done':>9}{'':>9}{'data-':>8}{'CPU':>8}{'lost':>6}{'':>7}{'re-':>6}{'RPCs':>7}"
    print(head)
    columns = ("p50", "p95", "p50", "p95", "grams", "a get", "", "RPCs", "sent", "first", "bytes", "compl.")
    print(
        f"{'':<26}" + "".join(f"{c:>{w}}" for c, w in zip(columns, (9, 9, 9, 9, 8, 8, 6, 7, 6, 7, 8, 7), strict=True))
    )
    results: dict[int, Result] = {}
    for percent in (0, 30) if options.quick else DEAD_PERCENT:
        results[percent] = await run_ours(options.nodes, options.gets, percent, options.seed)
        print_result(results[percent])
    if not options.no_kademlia:
        await print_kademlia(results, options.nodes, options.seed)
    if not options.no_libtorrent:
        await asyncio.to_thread(print_libtorrent, min(options.nodes, TORRENTS), options.seed)
    print()
    for name, unit, goal, figure in goals_met(results, options.nodes):
        print(f"{'met   ' if figure <= goal else 'MISSED'}  {name:<42}{figure:>8.1f} {unit} (goal {goal:.1f})")


async def print_kademlia(results: dict[int, Result], nodes: int, seed: int) -> None:
    """Print stock `kademlia` beside us, and the ratios."""
    for percent, ours in results.items():
        # Twenty gets bound the time: at 50 % dead each takes some ten seconds.
        theirs = await run_kademlia(nodes, 20, percent, seed)
        ratios = [percentile(theirs.done_ms, share) / percentile(ours.present.first_ms, share) for share in (0.5, 0.95)]
        # It takes the first value that most of a few nodes agree on, so its end compares with our first answer.
        extra = f"  {ratios[0]:.1f} x our first p50, {ratios[1]:.1f} x our first p95"
        print(row(f"{percent:>3} % dead  kademlia", theirs, extra))


def print_libtorrent(nodes: int, seed: int) -> None:
    """Print sessions of libtorrent beside us."""
    for percent in TORRENT_DEAD_PERCENT:
        times = torrents.measure(nodes, TORRENT_GETS, percent, seed)
        # Its sessions count neither CPU nor datagrams of a look-up.
        sample = Sample(times.first_ms, times.done_ms, lost=times.lost, cpu_ms=math.nan, datagrams=math.nan)
        print(row(f"{percent:>3} % dead  libtorrent", sample, f"  {nodes} nodes, {TORRENT_GETS} gets"), flush=True)


def run(coroutine: Awaitable[None]) -> None:
    """Run to the end."""
    asyncio.run(coroutine)  # type: ignore[arg-type]


if __name__ == "__main__":
    run(main())
