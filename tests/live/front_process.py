"""A front process of its own, and clients for it, for the live tests."""

from __future__ import annotations

import os
import select
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import dns.message
import dns.query

from p2pdns.config import Config
from p2pdns.net.sockets import open_dns

GUARD_S = 20.0  # No step of a test takes a tenth of it.


def wait_until(condition: Callable[[], bool], what: str, guard_s: float = GUARD_S) -> float:
    """Wait until a condition holds; return after how many seconds it did."""
    started = time.monotonic()
    while not condition():
        assert time.monotonic() - started < guard_s, f"waited {guard_s} s in vain: {what}"
        select.select([], [], [], 0.01)
    return time.monotonic() - started


class FrontProcess:
    """A real front with sockets, configuration and alive pipe of its own."""

    def __init__(self, state_dir: Path, config: Config | None = None, host: str = "127.0.0.1") -> None:
        self._sockets = open_dns((host, 0))
        self.address = self._sockets.address
        self.config_fd = os.memfd_create("config")
        os.pwrite(self.config_fd, (config or Config()).to_json().encode(), 0)
        alive_read, self._alive_write = os.pipe()
        self.errors = state_dir / "front.err"
        udp, tcp = self._sockets.udp.fileno(), self._sockets.tcp.fileno()
        words = ["--config-fd", self.config_fd, "--alive-fd", alive_read, "--state", state_dir]
        words += ["--udp-fd", udp, "--tcp-fd", tcp]
        with self.errors.open("wb") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "p2pdns.front.main", *map(str, words)],
                pass_fds=[self.config_fd, alive_read, udp, tcp],
                stderr=errors,
            )
        os.close(alive_read)

    def leave(self) -> None:
        """Close the pipe, as the death of a supervisor would."""
        if self._alive_write >= 0:
            os.close(self._alive_write)
            self._alive_write = -1

    def close(self) -> str:
        """End the process; return what it wrote to standard error."""
        self.leave()
        try:
            assert self.process.wait(GUARD_S) == 0
        finally:
            self.process.kill()
            self.process.wait()
            self._sockets.close()
            os.close(self.config_fd)
        return self.errors.read_text()

    def ask(
        self, name: str, rtype: str = "A", *, timeout_s: float = GUARD_S, **options: int | bool
    ) -> dns.message.Message:
        """Ask over UDP with a client that knows nothing of ours."""
        message = dns.message.make_query(name, rtype, **options)  # type: ignore[arg-type]
        return dns.query.udp(message, self.address[0], timeout=timeout_s, port=self.address[1])

    def ask_tcp(self, name: str, rtype: str = "A") -> dns.message.Message:
        """Ask over TCP."""
        message = dns.message.make_query(name, rtype)
        return dns.query.tcp(message, self.address[0], timeout=GUARD_S, port=self.address[1])

    def connect(self) -> socket.socket:
        """Return a TCP connection."""
        return socket.create_connection(self.address, timeout=GUARD_S)


def framed(message: bytes) -> bytes:
    """Return a message as it travels over TCP."""
    return struct.pack("!H", len(message)) + message


def read_framed(sock: socket.socket) -> bytes | None:
    """Return the next message of a stream, or None at its end."""
    head = _read_exactly(sock, 2)
    return None if head is None else _read_exactly(sock, int.from_bytes(head, "big"))


def _read_exactly(sock: socket.socket, size: int) -> bytes | None:
    data = b""
    while len(data) < size:
        try:
            piece = sock.recv(size - len(data))
        except ConnectionResetError:
            return None
        if not piece:
            return None
        data += piece
    return data
