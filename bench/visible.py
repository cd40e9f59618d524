"""How soon what the engine knows to be untrue is gone from the door: a new seq, a petname, a reload.

    python bench/visible.py [--rounds 30]

`p2pdns serve` with both processes on loopback, and one node beside it. Each round makes a change whose name the front
answers from its cache. The time runs from the engine's word, as a second front at its link hears it right after the
daemon's own, to the first reply with the new answer; questions are put one after another. Exit status 1 when the
median of a kind is above 10 ms, or a second question still got the old answer.
"""

from __future__ import annotations

import argparse
import math
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from pathlib import Path

import dns.message

sys.path.append(str(Path(__file__).resolve().parents[1]))

from tests.live.front_process import GUARD_S, wait_until
from tests.live.served import KEY, Served
from tests.live.test_cached import Configured, Witness, in_a_word, is_from_the_front, shown

MEDIAN_MS_MAX = 10.0
QUESTIONS_MAX = 2  # One may be read in the same turn of the front as the word of the engine, and before it.
FIRST, ADDRESSES = "192.0.2.250", "192.0.2."


def _local_data(daemon: Configured, number: int) -> None:
    daemon.configure(f'[dns]\nlocal_data = ["router.lan A {ADDRESSES}{number}"]\n')


def _petname(daemon: Configured, number: int) -> None:
    if number % 2:
        daemon.control.call("name-add", name="dora", key=KEY)
    else:
        daemon.control.call("name-remove", name="dora")


Change = Callable[[Configured, int], object]
KINDS: dict[str, tuple[str, Change]] = {
    "a new seq, published here": (
        f"www.{KEY}",
        lambda daemon, number: daemon.publish_address(f"{ADDRESSES}{number}"),
    ),
    "a new seq, put by another node": (
        f"www.{KEY}",
        lambda daemon, number: daemon.publish_address(f"{ADDRESSES}{number}", elsewhere=True),
    ),
    "a reload with other local data": ("router.lan", _local_data),
    "a petname made or removed": ("www.dora.p2p.alt", _petname),
}


def visible_s(daemon: Configured, name: str, change: Callable[[], object]) -> float | None:
    """Return the seconds from the engine's word to the new answer; None when the second question got the old one."""
    wait_until(lambda: is_from_the_front(daemon, name), "an answer of the front alone")
    before = shown(daemon, name)
    asked = dns.message.make_query(name, "A").to_wire()
    with (
        closing(Witness(daemon)) as witness,
        ThreadPoolExecutor(1) as pool,
        socket.socket(type=socket.SOCK_DGRAM) as sock,
    ):
        sock.settimeout(GUARD_S)
        sock.connect(("127.0.0.1", daemon.port))
        changing = pool.submit(change)
        witness.hear()
        began = time.perf_counter()
        for _ in range(QUESTIONS_MAX):
            sock.send(asked)
            reply = sock.recv(65_535)
            passed_s = time.perf_counter() - began
            if in_a_word(dns.message.from_wire(reply)) != before:
                break
        else:
            passed_s = -1.0
        changing.result(GUARD_S)
    return passed_s if passed_s >= 0 else None


def measured(daemon: Configured, rounds: int) -> int:
    """Measure every kind of change, print what came of it, and return the exit status."""
    status = 0
    for kind, (name, change) in KINDS.items():
        daemon.publish_address(FIRST)
        found = [visible_s(daemon, name, partial(change, daemon, number)) for number in range(1, rounds + 1)]
        late = found.count(None)
        times_ms = sorted(one * 1000 for one in found if one is not None)
        median = statistics.median(times_ms or [math.inf])
        worst = max(times_ms, default=math.inf)
        print(f"{kind:32} median {median:5.1f} ms, worst {worst:5.1f} ms, {late} of {rounds} late")
        status |= late > 0 or median > MEDIAN_MS_MAX
    return int(status)


def main() -> int:
    """Run the bench and return its exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=30)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="visible") as text:
        folder = Path(text)
        other = Served(folder / "other", "--no-dns")
        daemon = Configured(folder, other)
        try:
            wait_until(lambda: daemon.status()["contacts"] > 0, "a contact")
            return measured(daemon, options.rounds)
        finally:
            daemon.end()
            other.end()


if __name__ == "__main__":
    sys.exit(main())
