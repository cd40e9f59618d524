"""Datagrams: many are read from a socket in one wake-up, and many are written to it.

Guarantees: one wake-up reads a bounded number; an error of the network raises no exception, and the datagrams behind it
are still read or sent; a reply can leave from the address that was asked, even from a socket bound to all addresses.
Does not know what the datagrams mean.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from p2pdns.addresses import Address

T = TypeVar("T")

DATAGRAM_BYTES_MAX = 4096  # No query is longer, and each datagram costs the allocation of a whole buffer.

IPV4_PKTINFO = 8  # IP_PKTINFO of Linux; Python 3.11 has no name for it.
_ANCILLARY_BYTES = socket.CMSG_SPACE(20) + socket.CMSG_SPACE(12)

Ancillary = Sequence[tuple[int, int, bytes]]
Datagram = tuple[bytes, Address, Ancillary]
"""Bytes, their sender, and the data that makes a reply leave from the address that was asked (often empty)."""


def read_batch(read: Callable[[], T], count_max: int) -> tuple[list[T], bool]:
    """Return the waiting datagrams, at most `count_max`, and whether the socket is known to be empty now.

    `read` reads one datagram from a non-blocking socket.
    """
    batch: list[T] = []
    for _ in range(count_max):
        try:
            batch.append(read())
        except (BlockingIOError, InterruptedError):
            return batch, True
        except OSError:
            # This read reports an ICMP error of an earlier datagram; others still wait behind it.
            continue
    return batch, False


def reader_of(sock: socket.socket, bytes_max: int = DATAGRAM_BYTES_MAX) -> Callable[[], Datagram]:
    """Return a function that reads one datagram with the way of its reply; a longer one is cut to `bytes_max + 1`."""
    read_bytes_max = bytes_max + 1
    recvfrom, recvmsg = sock.recvfrom, sock.recvmsg

    def read() -> Datagram:
        data, sender = recvfrom(read_bytes_max)
        return data, sender, ()

    def read_with_way() -> Datagram:
        data, ancillary, _, sender = recvmsg(read_bytes_max, _ANCILLARY_BYTES)
        return data, sender, _reply_ancillary(ancillary)

    is_wildcard = sock.getsockname()[0] in ("0.0.0.0", "::")
    return read_with_way if is_wildcard else read


def _reply_ancillary(ancillary: Sequence[tuple[int, int, bytes]]) -> Ancillary:
    for level, kind, data in ancillary:
        if level == socket.IPPROTO_IP and kind == IPV4_PKTINFO and len(data) == 12:
            # struct in_pktinfo: for sending, the second field is the local address, and the interface is left open.
            return [(level, kind, struct.pack("=I4s4s", 0, data[4:8], bytes(4)))]
        if level == socket.IPPROTO_IPV6 and kind == socket.IPV6_PKTINFO and len(data) == 20:
            return [(level, kind, data)]
    return ()


def send_datagram(sock: socket.socket, data: bytes, receiver: Address, ancillary: Ancillary = ()) -> bool:
    """Send one datagram; return whether the system took it: a full buffer or an unreachable host is no error."""
    try:
        if ancillary:
            sock.sendmsg([data], ancillary, 0, receiver)
        else:
            sock.sendto(data, receiver)
    except OSError:
        return False
    return True


def send_batch(sock: socket.socket, datagrams: Iterable[tuple[bytes, Address]]) -> int:
    """Send datagrams in order; return the count of those that the system took."""
    sendto = sock.sendto
    sent_count = 0
    for data, receiver in datagrams:
        try:
            sendto(data, receiver)
        except OSError:
            # A full buffer or an unreachable host: this datagram is lost like any other, and the rest are still sent.
            continue
        sent_count += 1
    return sent_count
