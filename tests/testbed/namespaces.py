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
from typing import NamedTuple

from deploy.testbed import engine, impair
from tests.conftest import REAL_SOCKET

IMPAIR = ("-I", "-S", impair.__file__)  # As in its container: a file by itself, without this package.
LEFT, RIGHT = "10.93.1.1", "10.93.1.2"
PORT = 7007
SECONDS_MAX = 30  # Guards only: no test waits for the clock.
MOMENT_S = 0.2  # So long a packet is awaited that must not come.
RECEIVE_BYTES = 4_000_000
CLONE_NEWNET = 0x40000000

_numbers = itertools.count()


class Arrival(NamedTuple):
    """A packet on the right: its number, the sender it bears, and its age."""

    number: int
    sender: str
    seconds: float


class Machines(NamedTuple):
    """Two namespaces by their names, and their sockets: a left one that sends, right ones for datagrams and for TCP."""

    left: str
    right: str
    sending: socket.socket
    receiving: socket.socket
    listening: socket.socket

    def send(self, count: int) -> list[float]:
        """Send numbered packets from the left to the right, all at once; return when each was sent."""
        times = []
        for number in range(count):
            times.append(time.monotonic())
            self.sending.sendto(number.to_bytes(100), (RIGHT, PORT))
        return times

    def arrivals(self, sent: list[float], expected: int) -> list[Arrival]:
        """Return the packets that arrive on the right: exactly `expected` must."""
        found: list[Arrival] = []
        while len(found) < expected or select.select([self.receiving], [], [], MOMENT_S)[0]:
            data, (sender, _) = self.receiving.recvfrom(65536)
            number = int.from_bytes(data)
            found.append(Arrival(number, sender, time.monotonic() - sent[number]))
        assert len(found) == expected
        return found

    def carry(self, count: int, *, expected: int | None = None) -> list[Arrival]:
        return self.arrivals(self.send(count), count if expected is None else expected)

    def stream(self, data: bytes) -> bytes:
        """Send bytes over TCP from the left; return what arrives on the right."""
        with ThreadPoolExecutor(1) as pool, _socket_in(self.left, socket.SOCK_STREAM) as sock:
            sock.connect((RIGHT, PORT))
            pool.submit(sock.sendall, data)
            peer, _ = self.listening.accept()
            with peer, peer.makefile("rb") as arriving:
                return arriving.read(len(data))


def ip(*arguments: str) -> str:
    return engine.run(["ip", *arguments])


def started(namespace: str, *words: str) -> subprocess.Popen[str]:
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
        kinds = ((left, socket.SOCK_DGRAM), (right, socket.SOCK_DGRAM), (right, socket.SOCK_STREAM))
        sending, receiving, listening = (sockets.enter_context(_socket_in(*kind)) for kind in kinds)
        for each in (receiving, listening):
            each.bind((RIGHT, PORT))
        listening.listen()
        yield Machines(left, right, sending, receiving, listening)


@contextlib.contextmanager
def impaired(namespace: str, *flags: str) -> Iterator[subprocess.Popen[str]]:
    """Run the impairing in a namespace, as a file by itself, from when it has begun until the end of the block."""
    process = started(namespace, *IMPAIR, *flags)
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
