"""Machines made of network namespaces: a left one, a router and a right one, joined by two wires and by nothing else.

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
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

IMPAIR = Path(__file__).resolve().parents[2] / "deploy" / "testbed" / "impair.py"
LEFT, RIGHT = "10.93.1.2", "10.93.2.2"
LEFT_NETWORK, RIGHT_NETWORK = "10.93.1.0/24", "10.93.2.0/24"
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
count, size = int(sys.argv[1]), int(sys.argv[2])
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4000000)
expected = int(sys.argv[3])
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
import socket, sys, threading, hashlib, os
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


@dataclass(frozen=True)
class Reply:
    """An echo: of which packet, from which sender it had seemed to come, and after how long."""

    number: int
    sender: str
    seconds: float
    seconds_since_first: float


@dataclass(frozen=True)
class Machines:
    """Three namespaces by their names, with an echo running in the right one."""

    left: str
    router: str
    right: str

    def ask(self, count: int = 1, *, size_bytes: int = 100, expected: int | None = None) -> list[Reply]:
        """Send packets from the left to the right; return the replies, of which exactly `expected` must come."""
        words = [str(count), str(size_bytes), str(count if expected is None else expected)]
        return [Reply(*reply) for reply in json.loads(self.run(self.left, ASK, *words).splitlines()[-1])]

    def asking(self, count: int) -> subprocess.Popen[str]:
        """Return a program that sends packets to the right, says so, and prints the replies in the end."""
        command = ["ip", "netns", "exec", self.left, sys.executable, "-c", ASK, str(count), "100", str(count)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    def stream(self, size_bytes: int) -> str:
        """Send bytes over TCP from the left to the right and back; return "same" or "different"."""
        return self.run(self.left, STREAM, str(size_bytes)).strip()

    def run(self, namespace: str, program: str, *arguments: str) -> str:
        """Run a Python program in a namespace; return what it printed."""
        command = ["ip", "netns", "exec", namespace, sys.executable, "-c", program, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=SECONDS_MAX).stdout

    def rules(self, namespace: str) -> list[int]:
        """Return the preferences of the policy rules in a namespace."""
        return [int(line.partition(":")[0]) for line in ip("-n", namespace, "rule", "show").splitlines()]

    def devices(self, namespace: str) -> set[str]:
        """Return the names of the network devices in a namespace."""
        return {link["ifname"] for link in json.loads(ip("-json", "-n", namespace, "link", "show"))}


@contextlib.contextmanager
def machines() -> Iterator[Machines]:
    """Make the three machines, with an echo on the right; take them away at the end."""
    prefix = f"p2pdns{os.getpid()}-{next(_numbers)}"
    left, router, right = names = [f"{prefix}-{side}" for side in ("l", "m", "r")]
    with contextlib.ExitStack() as undo:
        for name in names:
            ip("netns", "add", name)
            undo.callback(ip, "netns", "del", name)
            ip("-n", name, "link", "set", "lo", "up")
        for end, subnet in ((left, "10.93.1"), (right, "10.93.2")):
            leg = f"leg-{end[-1]}"
            ip("-n", router, "link", "add", "name", leg, "type", "veth", "peer", "name", "wire", "netns", end)
            ip("-n", router, "address", "add", f"{subnet}.1/24", "dev", leg)
            ip("-n", router, "link", "set", leg, "up")
            ip("-n", end, "address", "add", f"{subnet}.2/24", "dev", "wire")
            ip("-n", end, "link", "set", "wire", "up")
            ip("-n", end, "route", "add", "default", "via", f"{subnet}.1")
        ip("netns", "exec", router, "sh", "-c", "echo 1 >/proc/sys/net/ipv4/ip_forward")
        echo = subprocess.Popen(
            ["ip", "netns", "exec", right, sys.executable, "-c", ECHO], stdout=subprocess.PIPE, text=True
        )
        undo.callback(_end, echo)
        assert echo.stdout is not None
        assert echo.stdout.readline() == "ready\n"
        yield Machines(left, router, right)


@contextlib.contextmanager
def impaired(namespace: str, *flags: str) -> Iterator[subprocess.Popen[str]]:
    """Run the impairing in a namespace, from when it says that it has begun until the end of the block."""
    process = start(namespace, flags)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert json.loads(line or "{}").get("event") == "up", process.communicate(timeout=SECONDS_MAX)[1]
        yield process
    finally:
        _end(process)


def start(namespace: str, flags: Sequence[str]) -> subprocess.Popen[str]:
    """Start the impairing in a namespace, as a file by itself."""
    command = ["ip", "netns", "exec", namespace, sys.executable, "-I", "-S", str(IMPAIR), *flags]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def ending(process: subprocess.Popen[str], signal_number: int) -> dict[str, int]:
    """End the impairing by a signal; return what it had counted."""
    process.send_signal(signal_number)
    out, err = process.communicate(timeout=SECONDS_MAX)
    assert (process.returncode, err) == (0, "")
    counters = json.loads(out.splitlines()[-1])["counters"]
    assert isinstance(counters, dict)
    return counters


def _end(process: subprocess.Popen[str]) -> None:
    # `ip netns exec` becomes the program, so its process id is the program's.
    if process.poll() is None:
        process.terminate()
    process.communicate(timeout=SECONDS_MAX)
