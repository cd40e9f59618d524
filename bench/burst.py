"""A thousand names at once over one socket: how many are answered, how many get SERVFAIL, and how long it takes.

    python bench/burst.py [--count 1000] [--delay-ms 20]

Ours and unbound, each a process with its defaults, above the same resolver on loopback, which gives every name an
address after the delay; unbound once more with as large a buffer as ours. Each is asked for ordinary names, cold and
then again from its cache; ours also for names of one zone of the overlay. Behind each burst another socket asks for one
name. Nothing is asked twice: what a socket's buffer does not hold is missing among the answered. Goals for ours: no
SERVFAIL, and all are answered. Needs the Debian package unbound, whose service it leaves alone; all stays on 127.0.0.1.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from p2pdns.net.sockets import BUFFER_BYTES
from tests.live.bursts import Client, answering
from tests.live.front_process import wait_until
from tests.live.served import KEY, Served

SYSTEM_PATH = "/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/sbin:/usr/local/bin"
END_S_MAX = 10.0
SERVFAIL = 2
COUNT_MAX = 65_536  # IDs of one socket.
UNBOUND = """
server:
    interface: 127.0.0.1@{port}
    outgoing-interface: 127.0.0.1
    access-control: 127.0.0.0/8 allow
    do-ip6: no
    do-daemonize: no
    do-not-query-localhost: no
    module-config: "iterator"
    username: ""
    chroot: ""
    directory: "{folder}"
    pidfile: ""
    so-rcvbuf: {buffer_bytes}
    logfile: "{folder}/unbound.log"
remote-control:
    control-enable: no
forward-zone:
    name: "."
    forward-addr: 127.0.0.1@{upstream}
"""


def free_port() -> int:
    """Return a port that was free a moment ago."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@contextlib.contextmanager
def unbound(folder: Path, upstream: int, *, buffer_bytes: int = 0) -> Iterator[int]:
    """Run unbound with its defaults above a resolver, or with another buffer; yield its port."""
    program = shutil.which("unbound", path=SYSTEM_PATH)
    if program is None:
        sys.exit("bench/burst.py: unbound is not here\nbench/burst.py: hint: apt-get install unbound")
    folder.mkdir()
    port = free_port()
    (folder / "unbound.conf").write_text(
        UNBOUND.format(port=port, folder=folder, upstream=upstream, buffer_bytes=buffer_bytes)
    )
    process = subprocess.Popen([program, "-d", "-c", str(folder / "unbound.conf")], stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: is_answering(port), "unbound")
        yield port
    finally:
        process.terminate()
        process.wait(END_S_MAX)


def is_answering(port: int) -> bool:
    """Return whether something answers at a port."""
    with Client(port) as client:
        try:
            client.ask(["ready.example"])
            return bool(client.hear())
        except ConnectionRefusedError:
            return False


@contextlib.contextmanager
def ours(folder: Path, upstream: int) -> Iterator[int]:
    """Run a daemon of this checkout above a resolver, with a zone of its own; yield its port."""
    folder.mkdir()
    daemon = Served(folder / "state", "--upstream", f"127.0.0.1:{upstream}")
    try:
        daemon.publish_here(folder)
        yield daemon.port
    finally:
        daemon.end()


def run(title: str, port: int, names: Sequence[str], *, is_judged: bool) -> bool:
    """Ask for all names at once and print what came; return whether the goals were met."""
    with Client(port) as greedy, Client(port) as other:
        greedy.ask(names)
        other.ask([f"other-{names[0]}"])
        other.hear()
        heard_before_count = greedy.heard_count()
        rcodes = greedy.hear()
        servfail_count = sum(rcode == SERVFAIL for rcode in rcodes.values())
        is_met = not servfail_count and len(rcodes) == len(names) and bool(other.rcodes)
        print(
            f"{title:<39}{len(rcodes):>6} of {len(names)}{servfail_count:>10}{greedy.seconds * 1000:>8.0f}"
            f"{other.seconds * 1000:>8.0f}{heard_before_count:>10}"
            + (("  met" if is_met else "  MISSED") if is_judged else "")
        )
        return is_met or not is_judged


def main() -> int:
    """Run everything and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=1_000)
    parser.add_argument("--delay-ms", type=float, default=20.0)
    options = parser.parse_args()
    if not 0 < options.count <= COUNT_MAX:
        parser.error(f"--count: 1 to {COUNT_MAX}")
    print(f"{'':<39}{'answered':>14}{'SERVFAIL':>10}{'ms':>8}{'other':>8}{'before it':>10}")
    ordinary = [f"n{number}.example" for number in range(options.count)]
    zone = [f"n{number}.{KEY}" for number in range(options.count)]
    met = []
    with tempfile.TemporaryDirectory(prefix="p2pdns-burst") as folder, answering(delay_s=options.delay_ms / 1000) as up:
        large = functools.partial(unbound, buffer_bytes=BUFFER_BYTES)
        for name, opened in (("p2pdns", ours), ("unbound", unbound), ("unbound, large buffer", large)):
            with opened(Path(folder) / name.replace(", ", "-").replace(" ", "-"), up) as port:
                is_judged = opened is ours
                met.append(run(f"{name}, ordinary, cold", port, ordinary, is_judged=is_judged))
                met.append(run(f"{name}, ordinary, again", port, ordinary, is_judged=is_judged))
                if is_judged:
                    met.append(run(f"{name}, a zone, cold", port, zone, is_judged=True))
                    met.append(run(f"{name}, a zone, again", port, zone, is_judged=True))
    return 0 if all(met) else 1


if __name__ == "__main__":
    sys.exit(main())
