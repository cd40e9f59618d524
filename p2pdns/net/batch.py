"""Datagrams: many read from a socket in one wake-up, and written to it.

Guarantees: reading and writing never wait, and no error of the network is an exception; a reply leaves from the
address that was asked, also where a socket is bound to all of them. Does not know what the datagrams mean.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator, Sequence

from p2pdns.addresses import Address

DATAGRAMS_PER_WAKEUP_MAX = 64  # One burst from one socket must not keep the other doors waiting.
DATAGRAM_BYTES_MAX = 4096  # A query of more is no query; a larger buffer costs its allocation every time.

IPV4_PKTINFO = getattr(socket, "IP_PKTINFO", 8)
_IPV6_PKTINFO = getattr(socket, "IPV6_PKTINFO", 50)
_ANCILLARY_BYTES = socket.CMSG_SPACE(20) + socket.CMSG_SPACE(12)

Ancillary = Sequence[tuple[int, int, bytes]]
Datagram = tuple[bytes, Address, Ancillary]
"""Bytes, who sent them, and what makes a reply leave from the address that was asked (empty when it is clear)."""


def read_datagrams(sock: socket.socket, count_max: int = DATAGRAMS_PER_WAKEUP_MAX) -> Iterator[Datagram]:
    """Yield the datagrams that wait, at most `count_max` of them; network errors end the round, nothing else.

    A datagram of more than `DATAGRAM_BYTES_MAX` comes cut to one byte more than that.
    """
    is_wildcard = sock.getsockname()[0] in ("0.0.0.0", "::")
    for _ in range(count_max):
        try:
            if is_wildcard:
                data, ancillary, _, sender = sock.recvmsg(DATAGRAM_BYTES_MAX + 1, _ANCILLARY_BYTES)
                yield data, sender, _reply_ancillary(ancillary)
            else:
                data, sender = sock.recvfrom(DATAGRAM_BYTES_MAX + 1)
                yield data, sender, ()
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            # An ICMP error of an earlier reply is reported on the next read; the datagrams behind it still wait.
            continue


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
