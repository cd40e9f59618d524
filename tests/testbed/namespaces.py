"""Machines made of network namespaces: a left one and a right one, joined by a wire and by nothing else.

Needs root and `ip`. Guarantees: nothing in them can reach any other machine, and they are gone afterwards. The left
one asks, the right one echoes; both are small programs, because a test process cannot change its namespace and back.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

IMPAIR = Path(__file__).resolve().parents[2] / "deploy" / "testbed" / "impair.py"
LEFT, RIGHT = "10.93.1.1", "10.93.1.2"
PORT = 7007
SECONDS_MAX = 30  # Guards only: no test waits for the clock.

_numbers = itertools.count()

# Sends back what it gets, behind the address that it came from; and over TCP as it is.
ECHO = f"""
import socket, threading
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
udp.bind(("{RIGHT}", {PORT}))
tcp = socket.create_server(("{RIGHT}", {PORT}))
def stream():
    while True:
        peer, _ = tcp.accept()
        with peer:
            while data := peer.recv(65536):
                peer.sendall(data)
threading.Thread(target=stream, daemon=True).start()
print("ready", flush=True)
while True:
    data, source = udp.recvfrom(65536)
    udp.sendto(data[:4] + source[0].encode(), source)
"""

# Sends numbered packets of a size, all at once, and prints number, sender that the echo saw, and times of each reply.
# It waits for as many as must come, and then a moment for one that must not.
ASK = f"""
import json, socket, sys, time
count, size, expected = map(int, sys.argv[1:])
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4000000)
replies, sent = [], {{}}
for number in range(count):
    sent[number] = time.monotonic()
    sock.sendto(number.to_bytes(4, "big").ljust(size, b"x"), ("{RIGHT}", {PORT}))
print("sent", flush=True)
sock.settimeout({SECONDS_MAX})
while len(replies) < expected:
    data, _ = sock.recvfrom(65536)
    number = int.from_bytes(data[:4], "big")
    replies.append([number, data[4:].decode(), time.monotonic() - sent[number], time.monotonic() - sent[0]])
sock.settimeout(0.2)
try:
    while True:
        replies.append([int.from_bytes(sock.recvfrom(65536)[0][:4], "big"), "too many", 0.0, 0.0])
except TimeoutError:
    pass
print(json.dumps(replies))
"""

STREAM = f"""
import socket, sys, threading, os
data = os.urandom(int(sys.argv[1]))
with socket.create_connection(("{RIGHT}", {PORT}), timeout={SECONDS_MAX}) as sock:
    threading.Thread(target=sock.sendall, args=(data,), daemon=True).start()
    back = b""
    while len(back) < len(data):
        back += sock.recv(65536)
print("same" if back == data else "different")
"""


def ip(*arguments: str) -> str:
    """Run `ip`, which must succeed; return what it printed."""
    return subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True).stdout


def started(namespace: str, *words: str | Path) -> subprocess.Popen[str]:
    """Start a Python in a namespace. `ip netns exec` becomes it, so its process id is the program's."""
    command = ["ip", "netns", "exec", namespace, sys.executable, *words]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def line_of(process: subprocess.Popen[str]) -> str:
    """Return the next line that a program says."""
    assert process.stdout is not None
    return process.stdout.readline()


@contextlib.contextmanager
def namespaces(*names: str) -> Iterator[list[str]]:
    """Make namespaces, and take them away at the end; yield what they are called."""
    made = [f"p2pdns{os.getpid()}-{next(_numbers)}-{name}" for name in names]
    with contextlib.ExitStack() as undo:
        for name in made:
            ip("netns", "add", name)
            undo.callback(ip, "netns", "del", name)
            ip("-n", name, "link", "set", "lo", "up")
        yield made


@dataclass(frozen=True)
class Reply:
    """An echo: of which packet, from which sender it had seemed to come, and after how long."""

    number: int
    sender: str
    seconds: float
    seconds_since_first: float


@dataclass(frozen=True)
class Machines:
    """Two namespaces by their names, with an echo running in the right one."""

    left: str
    right: str

    def asking(self, count: int, *, size_bytes: int = 100, expected: int | None = None) -> subprocess.Popen[str]:
        """Return a program that sends packets from the left to the right, says so, and in the end prints replies."""
        expected = count if expected is None else expected
        return started(self.left, "-c", ASK, str(count), str(size_bytes), str(expected))

    def ask(self, count: int, *, size_bytes: int = 100, expected: int | None = None) -> list[Reply]:
        """Send packets from the left to the right; return the replies, of which exactly `expected` must come."""
        said, _ = self.asking(count, size_bytes=size_bytes, expected=expected).communicate(timeout=SECONDS_MAX)
        return [Reply(*reply) for reply in json.loads(said.splitlines()[-1])]

    def stream(self, size_bytes: int) -> str:
        """Send bytes over TCP from the left to the right and back; return "same" or "different"."""
        return started(self.left, "-c", STREAM, str(size_bytes)).communicate(timeout=SECONDS_MAX)[0].strip()


def wire(left: str, address: str, right: str) -> None:
    """Join two namespaces by a wire, whose left end is up and has an address; the right end is down."""
    ip("-n", left, "link", "add", "name", "wire", "type", "veth", "peer", "name", "wire", "netns", right)
    plug_in(left, address)


def plug_in(name: str, address: str) -> None:
    """Give this end of the wire an address, and take it up."""
    ip("-n", name, "address", "add", f"{address}/24", "dev", "wire")
    ip("-n", name, "link", "set", "wire", "up")


@contextlib.contextmanager
def machines() -> Iterator[Machines]:
    """Make the two machines, with an echo on the right; take them away at the end."""
    with namespaces("l", "r") as (left, right):
        wire(left, LEFT, right)
        plug_in(right, RIGHT)
        echo = started(right, "-c", ECHO)
        try:
            assert line_of(echo) == "ready\n"
            yield Machines(left, right)
        finally:
            echo.kill()
            echo.communicate(timeout=SECONDS_MAX)


@contextlib.contextmanager
def impaired(namespace: str, *flags: str) -> Iterator[subprocess.Popen[str]]:
    """Run the impairing in a namespace, as a file by itself, from when it has begun until the end of the block."""
    process = started(namespace, "-I", "-S", IMPAIR, *flags)
    try:
        line = line_of(process)
        assert json.loads(line or "{}").get("event") == "up", process.communicate(timeout=SECONDS_MAX)[1]
        yield process
    finally:
        process.terminate()
        process.communicate(timeout=SECONDS_MAX)


def ending(process: subprocess.Popen[str], signal_number: int) -> dict[str, int]:
    """End the impairing by a signal; return what it had counted."""
    process.send_signal(signal_number)
    out, err = process.communicate(timeout=SECONDS_MAX)
    assert (process.returncode, err) == (0, "")
    counters: dict[str, int] = json.loads(out.splitlines()[-1])["counters"]
    return counters
