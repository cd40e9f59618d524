"""What a name of the ordinary DNS costs that nobody has asked for yet: front and engine, and unbound beside them.

    python bench/forward.py [--names 4000] [--rounds 5] [--window 50] [--json]

Both resolvers forward to one upstream on loopback, a process of its own, which answers every question at once with an
address and an OPT, as real ones do. A client keeps as many distinct names under way as the window says, in rounds that
take turns between the two. The CPU is that of the resolver's processes alone, front and engine together; the figure is
the least of the rounds, because whatever else this machine does can only add to it. Needs the Debian package unbound,
whose service need not run.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from p2pdns.addresses import read_address
from p2pdns.admin.control import ControlClient
from p2pdns.errors import P2pdnsError
from tests.outside.forwarders import SYSTEM_PATH, UNBOUND

HOST = "127.0.0.1"
GOAL_US = 300.0  # Of CPU a name, front and engine together.
READY_S_MAX = 30.0
READY_POLL_S = 0.2
LOST_S = 2.0  # A question without an answer for so long is asked again, and counted.
RETRIES_MAX = 100  # In a round; more would measure losses.
WARM_NAMES = 500  # Asked before the first round: what is imported and allocated once is nobody's share.
# An A of 192.0.2.9 for the name at offset 12, and an OPT.
TAIL = b"\xc0\x0c\x00\x01\x00\x01\x00\x00\x01\x2c\x00\x04\xc0\x00\x02\x09" + b"\x00\x00\x29\x04\xd0" + bytes(6)

# Without the validator, as ours has none.
UNBOUND_OPTIONS = """
    outgoing-interface: 127.0.0.1
    module-config: "iterator"
"""


@dataclass
class Resolver:
    """A running resolver: where it answers, which processes are it, what its names took."""

    name: str
    address: tuple[str, int]
    parts: dict[str, int]
    us: list[float] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)
    us_of: dict[str, list[float]] = field(default_factory=dict)

    def spent_us(self) -> dict[str, float]:
        """Return the CPU that each of its processes has taken."""
        return {part: cpu_us(pid) for part, pid in self.parts.items()}


def cpu_us(pid: int) -> float:
    """Return what all threads of a process have spent, to the microsecond."""
    spent = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(OSError):
            spent += int((task / "schedstat").read_text().split()[0])
    return spent / 1e3


def answer_for_ever(sock: socket.socket) -> None:
    """Be the upstream: repeat the ID and the question, and add the answer."""
    while True:
        query, address = sock.recvfrom(4096)
        end = query.index(b"\x00", 12) + 5
        sock.sendto(query[:2] + b"\x81\x80\x00\x01\x00\x01\x00\x00\x00\x01" + query[12:end] + TAIL, address)


@contextlib.contextmanager
def upstream() -> Iterator[int]:
    """Run the upstream in a process of its own, and yield its port."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        sock.bind((HOST, 0))
        pid = os.fork()
        if not pid:
            try:
                answer_for_ever(sock)
            finally:
                os._exit(0)
        try:
            yield sock.getsockname()[1]
        finally:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


@contextlib.contextmanager
def process(folder: Path, words: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program until the end."""
    with (folder / "log").open("wb") as log:
        started = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env={**os.environ, "P2PDNS_CONFIG": os.devnull}
        )
        try:
            yield started
        finally:
            started.send_signal(signal.SIGTERM)
            started.wait()


@contextlib.contextmanager
def ours(folder: Path, upstream_port: int) -> Iterator[Resolver]:
    """Run `p2pdns serve` as users start it."""
    words = ["--state", str(folder / "state"), "--network", "forward bench", "--upstream", f"{HOST}:{upstream_port}"]
    words += ["--dht", f"{HOST}:0", "--dns", f"{HOST}:0"]
    with process(folder, [sys.executable, "-m", "p2pdns", "serve", *words]) as started:
        control = ControlClient(folder / "state")

        def is_ready() -> bool:
            assert started.poll() is None, (folder / "log").read_text()
            with contextlib.suppress(P2pdnsError):
                return control.is_running()
            return False

        wait_until(is_ready)
        status = control.call("status")["status"]
        address = read_address(status["dns_addresses"][0])
        engine, supervisor = status["pid"], status["supervisor_pid"]
        children = [int(pid) for pid in Path(f"/proc/{supervisor}/task/{supervisor}/children").read_text().split()]
        (front,) = (pid for pid in children if pid != engine)
        wait_until(lambda: answers(address))
        yield Resolver("p2pdns", address, {"front": front, "engine": engine})


@contextlib.contextmanager
def unbound(folder: Path, upstream_port: int) -> Iterator[Resolver]:
    """Run unbound with one thread and no validation."""
    program = shutil.which("unbound", path=SYSTEM_PATH)
    assert program, "no unbound"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind((HOST, 0))
        port = free.getsockname()[1]
    conf = folder / "unbound.conf"
    conf.write_text(
        UNBOUND.format(port=port, folder=folder, host=HOST, upstream=upstream_port, options=UNBOUND_OPTIONS)
    )
    with process(folder, [program, "-d", "-p", "-c", str(conf)]) as started:
        wait_until(lambda: answers((HOST, port)))
        yield Resolver("unbound", (HOST, port), {"unbound": started.pid})


def wait_until(holds: Callable[[], bool]) -> None:
    """Wait until something holds."""
    give_up = time.monotonic() + READY_S_MAX
    while not holds():
        assert time.monotonic() < give_up, f"not ready within {READY_S_MAX:g} s"
        time.sleep(READY_POLL_S)


def answers(address: tuple[str, int]) -> bool:
    """Return whether a resolver answers a question that is forwarded."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect(address)
        with contextlib.suppress(OSError):
            sock.send(query_of(1, f"ready{random.getrandbits(32)}.example.com"))
            return bool(select.select([sock], [], [], READY_POLL_S)[0]) and bool(sock.recv(4096)[7])
    return False


def query_of(number: int, name: str) -> bytes:
    """Return a question for an address."""
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    return number.to_bytes(2) + b"\x01\x00\x00\x01" + bytes(6) + labels + b"\x00\x00\x01\x00\x01"


def ask(resolver: Resolver, names: list[str], window: int) -> int:
    """Ask every name, so many at a time; return how many had to be asked again."""
    retry_count = 0
    waiting = list(reversed(names))
    under_way: dict[int, str] = {}
    number = 0
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        sock.connect(resolver.address)
        while waiting or under_way:
            while waiting and len(under_way) < window:
                number = number % 0xFFFF + 1
                under_way[number] = waiting.pop()
                sock.send(query_of(number, under_way[number]))
            if not select.select([sock], [], [], LOST_S)[0]:
                retry_count += len(under_way)
                assert retry_count <= RETRIES_MAX, f"{resolver.name} does not answer"
                waiting += under_way.values()
                under_way.clear()
                continue
            reply = sock.recv(4096)
            assert (reply[3] & 0x0F, reply[7]) == (0, 1), f"{resolver.name} answers {reply.hex()}"
            under_way.pop(int.from_bytes(reply[:2]), None)
    return retry_count


def measure(resolvers: list[Resolver], rounds: int, count: int, window: int) -> int:
    """Ask both in turns; return how many questions were lost on the way."""
    lost = 0
    for number in range(-1, rounds):
        for resolver in resolvers:
            names = [f"n{index}.r{number + 1}.example.com" for index in range(count if number >= 0 else WARM_NAMES)]
            spent, began = resolver.spent_us(), time.perf_counter()
            lost += ask(resolver, names, window)
            if number >= 0:
                spent_now = resolver.spent_us()
                took = {part: (spent_now[part] - before) / len(names) for part, before in spent.items()}
                resolver.us.append(sum(took.values()))
                for part, us in took.items():
                    resolver.us_of.setdefault(part, []).append(us)
                resolver.rates.append(len(names) / (time.perf_counter() - began))
    return lost


def main() -> int:
    """Run everything and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--names", type=int, default=4000, help="distinct names a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--window", type=int, default=50, help="questions under way at a time")
    parser.add_argument("--json", action="store_true", help="every figure, for machines")
    options = parser.parse_args()
    if shutil.which("unbound", path=SYSTEM_PATH) is None:
        print("p2pdns: error: this bench needs the Debian package unbound", file=sys.stderr)
        print("p2pdns: hint: apt-get install unbound", file=sys.stderr)
        return 2
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="p2pdns-bench-")))
        port = stack.enter_context(upstream())
        resolvers = []
        for start in (ours, unbound):
            place = folder / start.__name__
            place.mkdir()
            resolvers.append(stack.enter_context(start(place, port)))
        lost = measure(resolvers, options.rounds, options.names, options.window)
    own, other = (min(resolver.us) for resolver in resolvers)
    if options.json:
        figures = {
            resolver.name: {"us": resolver.us, "us_of": resolver.us_of, "names_a_second": resolver.rates}
            for resolver in resolvers
        }
        print(json.dumps({**figures, "ratio": own / other, "lost": lost, "goal_us": GOAL_US, "met": own <= GOAL_US}))
        return 0 if own <= GOAL_US else 1
    print(f"{options.names} cold names a round, {options.rounds} rounds, {options.window} under way, {lost} lost\n")
    print(f"{'':<10}{'us CPU a name':>15}{'median':>9}{'names a second':>17}")
    for resolver in resolvers:
        median = sorted(resolver.us)[len(resolver.us) // 2]
        print(f"{resolver.name:<10}{min(resolver.us):>15.0f}{median:>9.0f}{max(resolver.rates):>17.0f}", end="")
        parts = resolver.us_of if len(resolver.us_of) > 1 else {}
        print("".join(f"  {part} {min(us):.0f}" for part, us in parts.items()))
    print(f"\n{'met   ' if own <= GOAL_US else 'MISSED'}  {own:.0f} us a name (goal {GOAL_US:.0f})", end="")
    print(f"; {own / other:.1f} times unbound's {other:.0f}")
    return 0 if own <= GOAL_US else 1


if __name__ == "__main__":
    sys.exit(main())
