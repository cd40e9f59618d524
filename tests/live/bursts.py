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
QUIET_S = 6.0  # Longer than a question is kept.
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
            number = len(self._names)
            self._names[number] = name
            header = struct.pack("!HHHHHH", number, 0x0100, 1, 0, 0, 0)
            self._sock.send(header + question_of(name))

    def hear(self, count: int | None = None) -> dict[str, int]:
        """Return the rcodes of so many names, or of all; fewer where nothing has come for a while."""
        wanted = len(self._names) if count is None else count
        while len(self.rcodes) < wanted and select.select([self._sock], [], [], QUIET_S)[0]:
            message = self._sock.recv(DATAGRAM_BYTES)
            (number, flags) = struct.unpack_from("!HH", message)
            self.rcodes.setdefault(self._names[number], flags & 15)
            self.seconds = time.monotonic() - self._began
        return self.rcodes


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
