"""An ear for the network of this machine: addresses and routes that come, told by the kernel (rtnetlink(7)).

Guarantees: the first change is told a tenth of a second after it was made, further ones together and at most once a
second; where the kernel has no such socket nothing is told, and everything else goes on by its own timers. Does not
know what is done about it.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable

SETTLE_S = 0.1  # An address comes with its routes, and IPv6's is usable a moment later.
PAUSE_S = 1.0  # A machine that starts containers has dozens of changes a second.
MESSAGES_BYTES_MAX = 65_536
RTM_NEWADDR, RTM_NEWROUTE = 20, 24
# RTMGRP_IPV4_IFADDR, RTMGRP_IPV4_ROUTE, RTMGRP_IPV6_IFADDR, RTMGRP_IPV6_ROUTE
GROUPS = 0x10 | 0x40 | 0x100 | 0x400
_HEADER = struct.Struct("=IHHII")  # struct nlmsghdr of netlink(7): length, type, flags, sequence, port.


class NetworkWatch:
    """Calls `on_change` when an address or a route has come."""

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
        except (OSError, AttributeError):
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
                # There was more than the buffer holds: something has changed.
                has_come = True
                break
            # Only the kernel has port 0; any process of this machine may send to us.
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
    """Return whether one of these netlink messages says that an address or a route has come."""
    at = 0
    while at + _HEADER.size <= len(data):
        size, kind, *_ = _HEADER.unpack_from(data, at)
        if kind in (RTM_NEWADDR, RTM_NEWROUTE):
            return True
        # Messages begin at multiples of four.
        at += max(_HEADER.size, (size + 3) & ~3)
    return False
