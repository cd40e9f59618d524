"""The UDP door: datagrams in, datagrams out, a bounded number at a time.

Guarantees: nothing that arrives ends in an exception; a reply leaves from the address that was asked; a reply
that the system does not take is counted and gone. Does not know what a datagram says.
"""

from __future__ import annotations

import asyncio
import socket
from collections import Counter

from p2pdns.addresses import Address
from p2pdns.clock import boot_now
from p2pdns.front.funnel import Funnel
from p2pdns.sockets import DATAGRAM_BYTES_MAX, Ancillary, read_datagrams, send_datagram


class UdpDoor:
    """One bound UDP socket in front of the funnel."""

    def __init__(self, sock: socket.socket, funnel: Funnel) -> None:
        self.counters: Counter[str] = Counter()
        self._sock = sock
        self._funnel = funnel
        self._loop = asyncio.get_running_loop()
        # Not a DatagramProtocol: that one allocates 256 KiB for every datagram and handles one a wakeup.
        self._loop.add_reader(sock.fileno(), self._on_readable)

    def close(self) -> None:
        """Stop reading; the socket belongs to whoever opened it."""
        self._loop.remove_reader(self._sock.fileno())

    def _on_readable(self) -> None:
        now = boot_now()
        for data, address, ancillary in read_datagrams(self._sock):
            if len(data) > DATAGRAM_BYTES_MAX:
                self.counters["oversize"] += 1
                continue
            self._received(data, address, ancillary, now)

    def _received(self, data: bytes, address: Address, ancillary: Ancillary, now: float) -> None:
        def reply(response: bytes) -> None:
            self._send(response, address, ancillary)

        response = self._funnel.receive(data, address, reply, now, is_stream=False)
        if response:
            self._send(response, address, ancillary)

    def _send(self, response: bytes, address: Address, ancillary: Ancillary) -> None:
        sent = send_datagram(self._sock, response, address, ancillary)
        self.counters["sent" if sent else "unsent"] += 1
