"""Datagrams: many read from a socket in one wake-up, and many written to it.

Guarantees: one wake-up reads a bounded number; no error of the network is an exception, nor keeps those behind it from
being read or sent; a reply can leave from the address that was asked, also where a socket is bound to all of them. Does
not know what the datagrams mean.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from p2pdns.addresses import Address

T = TypeVar("T")

DATAGRAM_BYTES_MAX = 4096  # A query of more is no query; a larger buffer costs its allocation every time.

IPV4_PKTINFO = getattr(socket, "IP_PKTINFO", 8)
_IPV6_PKTINFO = getattr(socket, "IPV6_PKTINFO", 50)
_ANCILLARY_BYTES = socket.CMSG_SPACE(20) + socket.CMSG_SPACE(12)

Ancillary = Sequence[tuple[int, int, bytes]]
Datagram = tuple[bytes, Address, Ancillary]
"""Bytes, who sent them, and what makes a reply leave from the address that was asked (empty when it is clear)."""


def read_batch(read: Callable[[], T], count_max: int) -> tuple[list[T], bool]:
    """Return the datagrams that wait, at most `count_max`, and whether the socket is known to be empty now.

    `read` reads one datagram from a non-blocking socket.
    """
    batch: list[T] = []
    for _ in range(count_max):
        try:
            batch.append(read())
        except (BlockingIOError, InterruptedError):
            return batch, True
        except OSError:
            # An ICMP error of an earlier datagram is reported on the next read; the datagrams behind it still wait.
            continue
    return batch, False


def reader_of(sock: socket.socket, bytes_max: int = DATAGRAM_BYTES_MAX) -> Callable[[], Datagram]:
    """Return what reads one datagram together with the way of its reply.

    A datagram of more than `bytes_max` comes cut to one byte more than that.
    """
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
            # struct in_pktinfo: for sending, the local address is the second field and the index is left open.
            return [(level, kind, struct.pack("=I4s4s", 0, data[4:8], bytes(4)))]
        if level == socket.IPPROTO_IPV6 and kind == _IPV6_PKTINFO and len(data) == 20:
            return [(level, kind, data)]
    return ()


def send_datagram(sock: socket.socket, data: bytes, receiver: Address, ancillary: Ancillary = ()) -> bool:
    """Send one datagram; return whether the system took it. A full buffer or an unreachable host is no error."""
    try:
        if ancillary:
            sock.sendmsg([data], ancillary, 0, receiver)
        else:
            sock.sendto(data, receiver)
    except OSError:
        return False
    return True


def send_batch(sock: socket.socket, datagrams: Iterable[tuple[bytes, Address]]) -> int:
    """Send datagrams in order; return how many of them the system took."""
    sendto = sock.sendto
    sent_count = 0
    for data, receiver in datagrams:
        try:
            sendto(data, receiver)
        except OSError:
            # A full buffer or an unreachable host: a lost datagram like any other, and the rest has other receivers.
            continue
        sent_count += 1
    return sent_count
