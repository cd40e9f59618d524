"""A watch on the network of this machine: the kernel reports new addresses and routes (rtnetlink(7)).

Guarantees: the first change is reported a tenth of a second after it was made, further ones together and at most once a
second; if the kernel refuses the socket nothing is reported, and the rest of the daemon relies on its own timers. Does
not know the consequences of a change.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable

SETTLE_S = 0.1  # An address comes with its routes, and one of IPv6 is usable only a moment later.
PAUSE_S = 1.0  # A machine that starts containers has dozens of changes a second.
MESSAGES_BYTES_MAX = 65_536
RTM_NEWADDR, RTM_NEWROUTE = 20, 24
# RTMGRP_IPV4_IFADDR, RTMGRP_IPV4_ROUTE, RTMGRP_IPV6_IFADDR, RTMGRP_IPV6_ROUTE
GROUPS = 0x10 | 0x40 | 0x100 | 0x400
_HEADER = struct.Struct("=IHHII")  # struct nlmsghdr of netlink(7): length, type, flags, sequence, port.


class NetworkWatch:
    """Calls `on_change` after new addresses and routes."""

    def __init__(self, on_change: Callable[[], None]) -> None:
        self._on_change = on_change
        self._timer: asyncio.TimerHandle | None = None
        self._told_at = float("-inf")
        self._sock: socket.socket | None = None

    def open(self) -> None:
        """Begin to listen."""
        try:
            self._sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
            self._sock.setblocking(False)
            self._sock.bind((0, GROUPS))
        except OSError:
            self.close()
            return
        asyncio.get_running_loop().add_reader(self._sock, self._readable)

    def close(self) -> None:
        """Stop listening."""
        if self._timer is not None:
            self._timer.cancel()
        if self._sock is not None:
            asyncio.get_running_loop().remove_reader(self._sock)
            self._sock.close()
            self._sock = None

    def _readable(self) -> None:
        assert self._sock is not None
        has_come = False
        while True:
            try:
                data, source = self._sock.recvfrom(MESSAGES_BYTES_MAX)
            except BlockingIOError:
                break
            except OSError:
                # The buffer overflowed, so something has changed.
                has_come = True
                break
            # Any process of this machine may send to this socket; only the kernel has port 0.
            has_come = has_come or (source[0] == 0 and is_news(data))
        if has_come and self._timer is None:
            loop = asyncio.get_running_loop()
            wait_s = max(SETTLE_S, self._told_at + PAUSE_S - loop.time())
            self._timer = loop.call_later(wait_s, self._tell)

    def _tell(self) -> None:
        self._timer = None
        self._told_at = asyncio.get_running_loop().time()
        self._on_change()


def is_news(data: bytes) -> bool:
    """Return whether one of these netlink messages reports a new address or route."""
    at = 0
    while at + _HEADER.size <= len(data):
        size, kind, *_ = _HEADER.unpack_from(data, at)
        if kind in (RTM_NEWADDR, RTM_NEWROUTE):
            return True
        # Messages begin at multiples of four.
        at += max(_HEADER.size, (size + 3) & ~3)
    return False
