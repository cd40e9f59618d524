"""What a question costs at the DNS port of an idle `p2pdns serve`, healthy and with dead peers, against its goals.

    python bench/resolve.py [--nodes 50] [--seed 1] [--quick] [--json]

N nodes in one process, and resolvers beside them, each a daemon as users start it: supervisor, front and engine. Every
zone is put, the resolvers join, and only then that share of the nodes is closed without a word: so tables are full of
the dead. Each kind of question goes to a resolver of its own, which has learnt nothing of the dead from the kind
before. A key counts as cold when nobody has asked this resolver for it. Commits are those of marks, which a first
answer waits for; what one takes is in milliseconds, disk included. The peers have one core for all of them, which on a
real network they have not: where many questions come at once, most of the time is theirs.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import random
import select
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from lookup import item_of, percentile
from swarm import NETWORK, Swarm

from p2pdns.addresses import read_address
from p2pdns.admin.control import ControlClient
from p2pdns.dht import krpc
from p2pdns.dht.krpc.reading import parse
from p2pdns.dht.krpc.writing import compose
from p2pdns.items.keys import SecretKey

DEAD_PERCENT = (0, 30)
ABSENT_FIRST = 5  # Absent keys asked just before a live one.
AT_ONCE = 50
K = 20
QUIET_S = 0.15  # Between two questions: what a look-up still asks after its first item is over by then.
REPLY_S_MAX = 8.0  # More than the 4 s after which every question is answered.
READY_S_MAX = 30.0
READY_POLL_S = 0.5
NOERROR, SERVFAIL = 0, 2


@dataclass
class Sample:
    """What the questions of one kind took and cost; `lost` were not answered as they should have been."""

    percent: int
    kind: str
    ms: list[float] = field(default_factory=list)
    lost: int = 0
    rpcs: float = math.nan
    datagrams: float = math.nan
    engine_ms: float = math.nan
    front_ms: float = math.nan
    nodes_ms: float = math.nan
    commits: float = math.nan
    commit_ms: float = math.nan
    load: float = 0.0
    note: str = ""

    def at(self, share: float) -> float:
        """Return the time below which this share of the questions was answered."""
        return percentile(self.ms, share)


class Resolver:
    """A daemon and a client of its DNS port."""

    def __init__(self, folder: Path, bootstrap: Sequence[str]) -> None:
        words = ["--state", str(folder / "state"), "--network", NETWORK, "--upstream", "none"]
        words += ["--dht", "127.0.0.1:0", "--dns", "127.0.0.1:0"]
        for address in bootstrap:
            words += ["--bootstrap", address]
        self._log = (folder / "log").open("wb")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "p2pdns", "serve", *words],
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            env={**os.environ, "P2PDNS_CONFIG": os.devnull},
        )
        self.control = ControlClient(folder / "state")
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        self.sock.bind(("127.0.0.1", 0))
        self.engine = self.front = 0

    def __enter__(self) -> Resolver:
        return self

    def __exit__(self, *trouble: object) -> None:
        self._process.send_signal(signal.SIGTERM)
        self._process.wait()
        self.sock.close()
        self._log.close()

    def ready(self) -> None:
        """Wait until it answers and its table is filled."""
        give_up = time.monotonic() + READY_S_MAX
        before = 0
        while True:
            assert time.monotonic() < give_up, f"no resolver within {READY_S_MAX:g} s: {before} contacts"
            time.sleep(READY_POLL_S)
            if not self.control.is_running():
                continue
            status = self.control.call("status")["status"]
            # A table that no longer grows, for the search that fills it has no event at this socket.
            if status["contacts"] and status["contacts"] == before:
                break
            before = status["contacts"]
        self.contact_count = before
        self.sock.connect(read_address(status["dns_addresses"][0]))
        self.dht = read_address(status["dht_address"])
        self.node_id = bytes.fromhex(status["node_id"])
        self.engine, supervisor = status["pid"], status["supervisor_pid"]
        children = Path(f"/proc/{supervisor}/task/{supervisor}/children").read_text().split()
        (self.front,) = (int(pid) for pid in children if int(pid) != self.engine)
        assert self.ask(["localhost"])[1] == [NOERROR], "the front does not answer"

    def ask(self, names: Sequence[str], wanted: int = -1) -> tuple[list[float], list[int]]:
        """Send all questions at once; return milliseconds and response code of each (-1: none), or of one of them."""
        sent: dict[int, tuple[int, float]] = {}
        ms, codes = [math.inf] * len(names), [-1] * len(names)
        for index, name in enumerate(names):
            number = random.getrandbits(16)
            while number in sent:
                number = random.getrandbits(16)
            sent[number] = (index, time.perf_counter())
            self.sock.send(query_of(number, name))
        give_up = time.perf_counter() + REPLY_S_MAX
        while sent and (left := give_up - time.perf_counter()) > 0:
            if not select.select([self.sock], [], [], left)[0]:
                break
            data = self.sock.recv(4096)
            now = time.perf_counter()
            index, began = sent.pop(int.from_bytes(data[:2]), (-1, 0.0))
            if index >= 0:
                ms[index], codes[index] = (now - began) * 1000, data[3] & 15
            # What comes late of an earlier burst is nobody's.
            if index >= 0 and index == wanted:
                break
        return ms, codes

    def settle(self) -> None:
        """Wait until nothing is asked for any more, and take what came late out of the socket."""
        time.sleep(QUIET_S)
        while select.select([self.sock], [], [], 0)[0]:
            self.sock.recv(4096)

    def holds(self, target: bytes) -> bool:
        """Return whether its own node holds an item, asked as any other node would ask it."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind(("127.0.0.1", 0))
            sock.settimeout(REPLY_S_MAX)
            query = krpc.RequestMessage(
                transaction=b"hold",
                node_id=bytes(20),
                request=krpc.Get(target, None, None, 400),
                read_only=True,
                network=krpc.network_of(NETWORK),
            )
            sock.sendto(compose(query), self.dht)
            reply = parse(sock.recv(4096))
            return isinstance(reply, krpc.Reply) and reply.value is not None

    def spent(self) -> tuple[float, float, int]:
        """Return CPU milliseconds of engine and front, and replies the engine has been sent."""
        replies = self.control.call("status")["status"]["counters"]["dht"].get("reply", 0)
        return cpu_ms(self.engine), cpu_ms(self.front), replies

    def committed(self) -> tuple[int, float]:
        """Return how many commits of marks there were, and the milliseconds that they took in all."""
        marks = self.control.call("status")["status"]["marks"]
        return marks["commits"], marks["commits_ms"]


def query_of(number: int, name: str) -> bytes:
    """Return a question for an address."""
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    return number.to_bytes(2) + b"\x01\x00\x00\x01" + bytes(6) + labels + b"\x00\x00\x01\x00\x01"


def cpu_ms(pid: int) -> float:
    """Return what all threads of a process have spent, to the microsecond."""
    spent = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(OSError):
            spent += int((task / "schedstat").read_text().split()[0])
    return spent / 1e6


@contextlib.contextmanager
def measured(sample: Sample, resolver: Resolver, swarm: Swarm, question_count: int) -> Iterator[None]:
    """Note what the questions asked inside have cost."""
    nodes_before = swarm.ask("spent")
    commits, commits_ms = resolver.committed()
    engine, front, replies = resolver.spent()
    at = time.time()
    yield
    resolver.settle()
    # The status just asked for is on the engine's account as well; it takes a millisecond.
    engine_after, front_after, replies_after = resolver.spent()
    done = [entry for entry in resolver.control.call("lookups")["lookups"] if entry["at"] >= at]
    rpcs = sum(entry["rpcs"] for entry in done)
    sample.rpcs = rpcs / question_count
    sample.datagrams = (rpcs + replies_after - replies) / question_count
    sample.engine_ms = (engine_after - engine) / question_count
    sample.front_ms = (front_after - front) / question_count
    sample.nodes_ms = (swarm.ask("spent")["cpu_s"] - nodes_before["cpu_s"]) * 1000 / question_count
    commits_after, commits_ms_after = resolver.committed()
    sample.commits = (commits_after - commits) / question_count
    sample.commit_ms = (commits_ms_after - commits_ms) / (commits_after - commits) if commits_after > commits else 0.0
    sample.load = os.getloadavg()[0]


class Run:
    """The questions of one share of dead peers."""

    def __init__(self, percent: int, count: int, seed: int) -> None:
        self.percent = percent
        self.count = count
        # A stream of its own: that of the nodes has made the keys that are found.
        self.rng = random.Random(f"questions {seed}")
        self.samples: dict[str, Sample] = {}
        self.contacts: list[int] = []

    def sample(self, kind: str) -> Sample:
        """Return a new sample."""
        self.samples[kind] = Sample(self.percent, kind)
        return self.samples[kind]

    def absent(self) -> str:
        """Return a name that nobody has published."""
        return f"h0.{SecretKey.generate(self.rng.randbytes(32)).zone_key}"

    def one_by_one(self, kind: str, names: Sequence[str], code: int, resolver: Resolver, swarm: Swarm) -> None:
        """Ask each name of an idle resolver."""
        sample = self.sample(kind)
        with measured(sample, resolver, swarm, len(names)):
            for name in names:
                ms, codes = resolver.ask([name])
                sample.ms += ms
                sample.lost += codes != [code]
                resolver.settle()

    def behind_absent(self, keys: Sequence[str], resolver: Resolver, swarm: Swarm) -> None:
        """Ask each name alone, and then, forgotten, with five absent ones just before it."""
        alone, behind = self.sample("live key alone"), self.sample(f"live key behind {ABSENT_FIRST} absent")
        ratios, cpu_alone, cpu_behind = [], [], []
        with measured(behind, resolver, swarm, len(keys) * (ABSENT_FIRST + 2)):
            for key in keys:
                before = cpu_ms(resolver.engine)
                ms, codes = resolver.ask([f"h0.{key}"])
                cpu_alone.append(cpu_ms(resolver.engine) - before)
                resolver.settle()
                resolver.control.call("forget", key=key)
                names = [*(self.absent() for _ in range(ABSENT_FIRST)), f"h0.{key}"]
                before = cpu_ms(resolver.engine)
                later_ms, later_codes = resolver.ask(names, wanted=ABSENT_FIRST)
                cpu_behind.append(cpu_ms(resolver.engine) - before)
                alone.ms += ms
                behind.ms.append(later_ms[-1])
                alone.lost += codes[0] != NOERROR
                behind.lost += later_codes[-1] != NOERROR
                ratios.append(later_ms[-1] / ms[0])
                time.sleep(2 * QUIET_S)
                resolver.settle()
        # Whatever else this machine does, the work that comes before the answer is the same.
        work = [(p, percentile(cpu_alone, p), percentile(cpu_behind, p)) for p in (0.5, 0.95)]
        behind.note = f"ratio of each pair p50 {statistics.median(ratios):.1f}, p95 {percentile(ratios, 0.95):.1f}"
        behind.note += "; engine's CPU until the answer, alone and behind: " + ", ".join(
            f"p{p * 100:.0f} {first:.1f} and {second:.1f} ms" for p, first, second in work
        )

    def at_once(self, keys: Sequence[str], resolver: Resolver, swarm: Swarm) -> None:
        """Ask for many cold keys in one burst."""
        sample = self.sample(f"{len(keys)} cold keys at once")
        with measured(sample, resolver, swarm, len(keys)):
            sample.ms, codes = resolver.ask([f"h0.{key}" for key in keys])
            sample.lost = sum(code != NOERROR for code in codes)
            time.sleep(1.0)

    def publish(self, count: int, resolvers: Sequence[Resolver], swarm: Swarm) -> None:
        """Publish zones through the daemon, and count in the nodes' storages who holds them."""
        sample = self.sample("publish")
        resolver = resolvers[-1]
        told, held = [], []
        with measured(sample, resolver, swarm, count):
            for _ in range(count):
                item = item_of(SecretKey.generate(self.rng.randbytes(32)))
                began = time.perf_counter()
                outcome = resolver.control.call("publish", item=item.to_bytes().hex())
                sample.ms.append((time.perf_counter() - began) * 1000)
                told.append(outcome["stored"])
                target = item.target
                answer = swarm.ask("holders", target=target.hex())["nodes"]
                nodes = {bytes.fromhex(node): is_held for node, is_held in answer.items()}
                nodes |= {other.node_id: other.holds(target) for other in resolvers}
                nearest = sorted(nodes, key=lambda node: int.from_bytes(node) ^ int.from_bytes(target))[:K]
                held.append(sum(nodes[node] for node in nearest))
                sample.lost += 2 * held[-1] < len(nearest)
                resolver.settle()
        sample.rpcs = sample.datagrams = math.nan  # Those of a put are in no list.
        sample.note = (
            f"replicas on the {K} nearest living: mean {statistics.mean(held):.1f}, least {min(held)}"
            f"; told of {statistics.mean(told):.1f}"
        )


# What was published of pkdns 0.7.1 for the same questions among 50 nodes on loopback; not measured in this run.
PKDNS = {
    (0, "a cold key"): "14 / 20",
    (30, "a cold key"): "11 / 20",
    (0, "absent key"): "32 / 36",
    (30, "absent key"): "2056 / 2068",
    (0, "behind"): "10300",
    (30, "behind"): "10300",
    (0, "at once"): "- / 131",
    (0, "publish"): "20-40",
    (30, "publish"): "2040",
}
PKDNS_DATAGRAMS = "101-116 datagrams a look-up"


@dataclass(frozen=True)
class Verdict:
    """A goal, and what came of it."""

    percent: int
    what: str
    goal: float
    figure: float
    unit: str = "ms"

    @property
    def is_met(self) -> bool:
        """Whether the goal is reached."""
        return self.figure <= self.goal


def verdicts(run: Run) -> Iterator[Verdict]:
    """Yield each goal with the figure of this run."""
    samples, percent = run.samples, run.percent
    cold = samples["a cold key"]
    yield Verdict(percent, "cold key p50", 10.0, cold.at(0.5))
    yield Verdict(percent, "cold key p95", 20.0, cold.at(0.95))
    yield Verdict(percent, "absent key p95", 250.0, samples["an absent key"].at(0.95))
    alone, behind = (next(s for k, s in samples.items() if word in k) for word in ("alone", "behind"))
    yield Verdict(percent, f"behind {ABSENT_FIRST} absent p50 (twice alone)", 2 * alone.at(0.5), behind.at(0.5))
    yield Verdict(percent, f"behind {ABSENT_FIRST} absent p95 (twice alone)", 2 * alone.at(0.95), behind.at(0.95))
    many = next(s for k, s in samples.items() if "at once" in k)
    yield Verdict(percent, f"{many.kind} p95", 130.0, many.at(0.95))
    yield Verdict(percent, "publish p95", 500.0, samples["publish"].at(0.95))
    yield Verdict(percent, "lost, and published to too few", 0.0, float(sum(s.lost for s in samples.values())), "")


def run_one(percent: int, nodes: int, count: int, seed: int) -> Run:
    """Ask everything at one share of dead peers."""
    run = Run(percent, count, seed)
    pairs, puts = count, max(5, count // 3)
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="p2pdns-bench-")))
        swarm = stack.enter_context(Swarm())
        addresses = swarm.ask("build", count=nodes, seed=seed)["addresses"]
        keys = swarm.ask("put", count=count + pairs + AT_ONCE)["keys"]
        resolvers = []
        for number in range(5):
            own = folder / str(number)
            own.mkdir()
            resolvers.append(stack.enter_context(Resolver(own, run.rng.sample(addresses, 3))))
        for resolver in resolvers:
            resolver.ready()
        run.contacts = [resolver.contact_count for resolver in resolvers]
        swarm.ask("kill", percent=percent)
        cold, absent, behind, many, _ = resolvers
        run.one_by_one("a cold key", [f"h0.{key}" for key in keys[:count]], NOERROR, cold, swarm)
        run.one_by_one("an absent key", [run.absent() for _ in range(count)], SERVFAIL, absent, swarm)
        run.behind_absent(keys[count : count + pairs], behind, swarm)
        run.at_once(keys[count + pairs :], many, swarm)
        run.publish(puts, resolvers, swarm)
    return run


HEAD = (
    f"{'':<44}{'n':>4}{'p50':>8}{'p95':>8}{'lost':>6}{'RPCs':>7}{'data-':>7}{'engine':>8}{'front':>7}{'nodes':>7}"
    f"{'com-':>7}{'a':>8}{'load':>6}  pkdns (published)\n"
    f"{'':<44}{'':>4}{'ms':>8}{'ms':>8}{'':>6}{'':>7}{'grams':>7}{'ms CPU':>8}{'ms CPU':>7}{'ms CPU':>7}"
    f"{'mits':>7}{'commit':>8}{'':>6}  ms"
)


def row(sample: Sample) -> str:
    """Return one line of the table; costs are those of one question."""
    costs = "".join(
        f"{'-' if math.isnan(value) else f'{value:.{digits}f}':>{width}}"
        for value, width, digits in (
            (sample.rpcs, 7, 1),
            (sample.datagrams, 7, 1),
            (sample.engine_ms, 8, 1),
            (sample.front_ms, 7, 2),
            (sample.nodes_ms, 7, 1),
            (sample.commits, 7, 2),
            (sample.commit_ms, 8, 2),
        )
    )
    published = next((text for (p, word), text in PKDNS.items() if p == sample.percent and word in sample.kind), "-")
    return (
        f"{sample.percent:>3} % dead  {sample.kind:<32}{len(sample.ms):>4}{sample.at(0.5):>8.1f}{sample.at(0.95):>8.1f}"
        f"{sample.lost:>6}{costs}{sample.load:>6.1f}  {published}" + (f"\n{'':<12}{sample.note}" if sample.note else "")
    )


def main() -> int:
    """Run everything and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, default=50)
    parser.add_argument("--count", type=int, default=50, help="cold questions, and absent ones")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="15 questions of a kind")
    parser.add_argument("--json", action="store_true", help="every figure, for machines")
    options = parser.parse_args()
    count = min(options.count, 15) if options.quick else options.count
    if not options.json:
        print(f"{options.nodes} nodes, seed {options.seed}; {PKDNS_DATAGRAMS} were published of pkdns\n{HEAD}")
    runs = []
    for percent in DEAD_PERCENT:
        runs.append(run_one(percent, options.nodes, count, options.seed))
        if not options.json:
            print("\n".join(row(sample) for sample in runs[-1].samples.values()), flush=True)
    found = [verdict for run in runs for verdict in verdicts(run)]
    if options.json:
        samples = [asdict(sample) for run in runs for sample in run.samples.values()]
        goals = [{**asdict(verdict), "met": verdict.is_met} for verdict in found]
        print(json.dumps({"nodes": options.nodes, "seed": options.seed, "samples": samples, "goals": goals}))
    else:
        print()
        for verdict in found:
            print(
                f"{'met   ' if verdict.is_met else 'MISSED'}  {verdict.percent:>3} % dead  {verdict.what:<42}"
                f"{verdict.figure:>8.1f} {verdict.unit:<2} (goal {verdict.goal:.1f})"
            )
    return 0 if all(verdict.is_met for verdict in found) else 1


if __name__ == "__main__":
    sys.exit(main())
