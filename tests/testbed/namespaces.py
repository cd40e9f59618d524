"""Machines made of network namespaces: a left one and a right one, joined by a wire and by nothing else.

Needs root and `ip`. Guarantees: nothing in them can reach any other machine, and they are gone afterwards. A socket
stays in the namespace of the thread that made it, so a test has sockets on both machines without being on either.
"""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import json
import os
import select
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from tests.conftest import REAL_SOCKET

IMPAIR = Path(__file__).resolve().parents[2] / "deploy" / "testbed" / "impair.py"
LEFT, RIGHT = "10.93.1.1", "10.93.1.2"
PORT = 7007
SECONDS_MAX = 30  # Guards only: no test waits for the clock.
MOMENT_S = 0.2  # So long a reply is awaited that must not come.
RECEIVE_BYTES = 4_000_000
CLONE_NEWNET = 0x40000000

_numbers = itertools.count()


class Reply(NamedTuple):
    """An echo: the number of its packet, the sender that the echo saw, and its age since that packet and the first."""

    number: int
    sender: str
    seconds: float
    seconds_since_first: float


class Machines(NamedTuple):
    """Two namespaces by their names, and their sockets: a left one that asks, a right one that echoes, one for TCP."""

    left: str
    right: str
    asking: socket.socket
    echoing: socket.socket
    listening: socket.socket

    def send(self, count: int, *, size_bytes: int = 100) -> list[float]:
        """Send numbered packets from the left to the right, all at once; return when each was sent."""
        times = []
        for number in range(count):
            times.append(time.monotonic())
            self.asking.sendto(number.to_bytes(4).ljust(size_bytes, b"x"), (RIGHT, PORT))
        return times

    def replies(self, sent: list[float], expected: int) -> list[Reply]:
        """Echo packets on the right; return the replies on the left, of which exactly `expected` must come."""
        found: list[Reply] = []
        while True:
            wait_s = SECONDS_MAX if len(found) < expected else MOMENT_S
            ready, _, _ = select.select([self.asking, self.echoing], [], [], wait_s)
            if self.echoing in ready:
                data, source = self.echoing.recvfrom(65536)
                self.echoing.sendto(data[:4] + source[0].encode(), source)
            if self.asking in ready:
                data, now = self.asking.recv(65536), time.monotonic()
                number = int.from_bytes(data[:4])
                found.append(Reply(number, data[4:].decode(), now - sent[number], now - sent[0]))
            if not ready:
                assert len(found) == expected
                return found

    def ask(self, count: int, *, size_bytes: int = 100, expected: int | None = None) -> list[Reply]:
        return self.replies(self.send(count, size_bytes=size_bytes), count if expected is None else expected)

    def stream(self, data: bytes) -> bytes:

        def echo() -> None:
            peer, _ = self.listening.accept()
            with peer:
                while part := peer.recv(65536):
                    peer.sendall(part)

        with ThreadPoolExecutor(2) as pool, _socket_in(self.left, socket.SOCK_STREAM) as sock:
            sock.connect((RIGHT, PORT))
            for work in (echo, lambda: sock.sendall(data)):
                pool.submit(work)
            back = b""
            while len(back) < len(data) and (part := sock.recv(65536)):
                back += part
            return back


def ip(*arguments: str) -> str:
    return subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True).stdout


def started(namespace: str, *words: str | Path) -> subprocess.Popen[str]:
    """Start a Python in a namespace. `ip netns exec` becomes it, so its process id is the program's."""
    command = ["ip", "netns", "exec", namespace, sys.executable, *words]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@contextlib.contextmanager
def namespaces(*names: str) -> Iterator[list[str]]:
    """Make namespaces, and take them away at the end; yield their names."""
    made = [f"p2pdns{os.getpid()}-{next(_numbers)}-{name}" for name in names]
    with contextlib.ExitStack() as undo:
        for name in made:
            ip("netns", "add", name)
            undo.callback(ip, "netns", "del", name)
            ip("-n", name, "link", "set", "lo", "up")
        yield made


def wire(left: str, address: str, right: str) -> None:
    """Join two namespaces by a wire, whose left end is up and has an address; the right end is down."""
    ip("-n", left, "link", "add", "name", "wire", "type", "veth", "peer", "name", "wire", "netns", right)
    plug_in(left, address)


def plug_in(name: str, address: str) -> None:
    ip("-n", name, "address", "add", f"{address}/24", "dev", "wire")
    ip("-n", name, "link", "set", "wire", "up")


def _socket_in(namespace: str, kind: int) -> socket.socket:
    """Return a socket in a namespace, made by a thread that enters it and ends there."""

    def make() -> socket.socket:
        with open(f"/run/netns/{namespace}") as entrance:
            assert ctypes.CDLL(None).setns(entrance.fileno(), CLONE_NEWNET) == 0
        # The guard against addresses that are not loopback is for sockets with a way out of here.
        made = REAL_SOCKET(socket.AF_INET, kind)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BYTES)
        made.settimeout(SECONDS_MAX)
        return made

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(make).result()


@contextlib.contextmanager
def machines() -> Iterator[Machines]:
    with namespaces("l", "r") as (left, right), contextlib.ExitStack() as sockets:
        wire(left, LEFT, right)
        plug_in(right, RIGHT)
        asking = sockets.enter_context(_socket_in(left, socket.SOCK_DGRAM))
        echoing, listening = (
            sockets.enter_context(_socket_in(right, kind)) for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM)
        )
        for each in (echoing, listening):
            each.bind((RIGHT, PORT))
        listening.listen()
        yield Machines(left, right, asking, echoing, listening)


@contextlib.contextmanager
def impaired(namespace: str, *flags: str) -> Iterator[subprocess.Popen[str]]:
    """Run the impairing in a namespace, as a file by itself, from when it has begun until the end of the block."""
    process = started(namespace, "-I", "-S", IMPAIR, *flags)
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        assert json.loads(line or "{}").get("event") == "up", process.communicate(timeout=SECONDS_MAX)[1]
        yield process
    finally:
        process.terminate()
        process.communicate(timeout=SECONDS_MAX)


def ending(process: subprocess.Popen[str], signal_number: int) -> dict[str, int]:
    process.send_signal(signal_number)
    out, err = process.communicate(timeout=SECONDS_MAX)
    assert (process.returncode, err) == (0, "")
    counters: dict[str, int] = json.loads(out.splitlines()[-1])["counters"]
    return counters
