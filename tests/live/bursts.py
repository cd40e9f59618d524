"""Hundreds of questions at once over one socket, as c-ares and what is built on it send them; and who answers them.

Run as a program it is a resolver on loopback that gives every name one address: it prints its port, and ends when its
standard input does.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

BUFFER_BYTES = 8 << 20  # A client's own loss would look like ours.
QUIET_S = 2.0  # As long as c-ares waits before it asks again.
REPEATS_MAX = 3
ADDRESS = bytes([192, 0, 2, 53])
DATAGRAM_BYTES = 4_096


def question_of(name: str, rtype: int = 1) -> bytes:
    """Return a question as it stands in a message."""
    labels = b"".join(bytes([len(label)]) + label for label in name.encode().split(b"."))
    return labels + struct.pack("!BHH", 0, rtype, 1)


def udp_socket(port: int = 0) -> socket.socket:
    """Return a UDP socket on loopback with all the room that the system allows."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
    sock.bind(("127.0.0.1", port))
    return sock


class Client:
    """One socket that asks for many names at once."""

    def __init__(self, port: int) -> None:
        self._sock = udp_socket()
        self._sock.connect(("127.0.0.1", port))
        self._names: dict[int, str] = {}
        self.rcodes: dict[str, int] = {}
        self.repeat_count = 0
        self.seconds = 0.0

    def __enter__(self) -> Client:
        """Return itself."""
        return self

    def __exit__(self, *_exception: object) -> None:
        """Close the socket."""
        self._sock.close()

    def ask(self, names: Sequence[str]) -> None:
        """Send a query for each name, and do not wait."""
        self._began = time.monotonic()
        for name in names:
            self._names[len(self._names)] = name
            self._send(len(self._names) - 1)

    def repeat(self) -> None:
        """Send once more what had no answer yet, as a stub does; AssertionError where it has done so in vain."""
        self.repeat_count += 1
        assert self.repeat_count <= REPEATS_MAX, f"{len(self.rcodes)} of {len(self._names)} were answered"
        for number, name in self._names.items():
            if name not in self.rcodes:
                self._send(number)

    def hear(self) -> dict[str, int]:
        """Return the rcodes of all names; fewer where nothing has come for a while."""
        while len(self.rcodes) < len(self._names) and self._hear(QUIET_S):
            pass
        return self.rcodes

    def heard_count(self) -> int:
        """Return how many have been answered so far."""
        while self._hear(0):
            pass
        return len(self.rcodes)

    def _send(self, number: int) -> None:
        header = struct.pack("!HHHHHH", number, 0x0100, 1, 0, 0, 0)
        self._sock.send(header + question_of(self._names[number]))

    def _hear(self, wait_s: float) -> bool:
        if not select.select([self._sock], [], [], wait_s)[0]:
            return False
        (number, flags) = struct.unpack_from("!HH", self._sock.recv(DATAGRAM_BYTES))
        self.rcodes.setdefault(self._names[number], flags & 15)
        self.seconds = time.monotonic() - self._began
        return True


@contextlib.contextmanager
def answering(*, delay_s: float = 0.0) -> Iterator[int]:
    """Run a resolver in a process of its own; yield its port."""
    words = [sys.executable, str(Path(__file__).resolve()), str(delay_s)]
    process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield int(process.stdout.readline())
    finally:
        process.stdin.close()
        process.wait()
        process.stdout.close()


def main() -> None:
    """Answer until standard input ends."""
    delay_s = float(sys.argv[1])
    sock = udp_socket()
    sock.setblocking(False)
    sys.stdout.write(f"{sock.getsockname()[1]}\n")
    sys.stdout.flush()
    later: list[tuple[float, bytes, tuple[str, int]]] = []
    while True:
        wait_s = max(0.0, later[0][0] - time.monotonic()) if later else None
        readable = select.select([sock, sys.stdin], [], [], wait_s)[0]
        if sys.stdin in readable and not os.read(sys.stdin.fileno(), 1):
            return
        with contextlib.suppress(BlockingIOError):
            while True:
                data, address = sock.recvfrom(DATAGRAM_BYTES)
                end = data.index(0, 12) + 5
                rr = b"\xc0\x0c" + struct.pack("!HHIH", 1, 1, 300, 4) + ADDRESS
                is_a = data[end - 4 : end - 2] == b"\x00\x01"
                head = data[:2] + struct.pack("!HHHHH", 0x8180, 1, int(is_a), 0, 0)
                reply = head + data[12:end] + (rr if is_a else b"")
                later.append((time.monotonic() + delay_s, reply, address))
        while later and later[0][0] <= time.monotonic():
            _, reply, address = later.pop(0)
            sock.sendto(reply, address)


if __name__ == "__main__":
    main()
