"""The UDP door: datagrams in, datagrams out, a bounded number at a time.

Guarantees: no datagram ends in an exception; datagrams are read ahead, up to a bound, because the system gives a socket
room for a few hundred queries and drops the rest of a burst; a response leaves from the address that was asked; a
response that the system does not take is counted and lost. Does not know what a datagram says.
"""

from __future__ import annotations

import asyncio
import socket
from collections import Counter, deque

from p2pdns.addresses import Address
from p2pdns.clock import boot_now
from p2pdns.front.funnel import Funnel
from p2pdns.front.transport import UDP
from p2pdns.net.batch import DATAGRAM_BYTES_MAX, Ancillary, Datagram, read_batch, reader_of, send_datagram

READ_AHEAD_MAX = 2_048  # Datagrams read and not worked on: at most 8 MiB, and a tenth of a second of work.
# Reading a datagram costs two microseconds, answering it fifty: reading ahead makes room in the socket for a burst.
READ_PER_TURN_MAX = 512
HANDLED_PER_READ_MAX = 16
HANDLED_PER_TURN_MAX = 64  # One burst from one socket must not keep the other doors waiting.


class UdpDoor:
    """One bound UDP socket in front of the funnel."""

    def __init__(self, sock: socket.socket, funnel: Funnel) -> None:
        self.counters: Counter[str] = Counter()
        self._sock = sock
        self._read_one = reader_of(sock)
        self._funnel = funnel
        self._loop = asyncio.get_running_loop()
        self._read: deque[Datagram] = deque()
        self._turn: asyncio.Handle | None = None
        # Not a DatagramProtocol: that one allocates 256 KiB for every datagram and handles one a wakeup.
        self._loop.add_reader(sock.fileno(), self._on_readable)

    def close(self) -> None:
        """Stop reading; the caller closes the socket."""
        self._loop.remove_reader(self._sock.fileno())
        if self._turn is not None:
            self._turn.cancel()
            self._turn = None

    def _on_readable(self) -> None:
        # A turn that is planned reads what has arrived.
        if self._turn is None:
            self._take_turn()

    def _take_turn(self) -> None:
        for _ in range(HANDLED_PER_TURN_MAX // HANDLED_PER_READ_MAX):
            room = READ_AHEAD_MAX - len(self._read)
            self._read += read_batch(self._read_one, min(room, READ_PER_TURN_MAX))[0]
            if not self._read:
                break
            now = boot_now()
            for _ in range(min(len(self._read), HANDLED_PER_READ_MAX)):
                self._received(*self._read.popleft(), now)
        # A call of `call_soon` runs after the loop has looked at all sockets again.
        self._turn = self._loop.call_soon(self._take_turn) if self._read else None

    def _received(self, data: bytes, address: Address, ancillary: Ancillary, now: float) -> None:
        if len(data) > DATAGRAM_BYTES_MAX:
            self.counters["oversize"] += 1
            return

        def reply(response: bytes) -> None:
            self._send(response, address, ancillary)

        response = self._funnel.receive(data, address, reply, now, UDP)
        if response:
            self._send(response, address, ancillary)

    def _send(self, response: bytes, address: Address, ancillary: Ancillary) -> None:
        sent = send_datagram(self._sock, response, address, ancillary)
        self.counters["sent" if sent else "unsent"] += 1
