"""The machine and the network under a simulation: an event loop in virtual time, and datagram sockets in memory.

Guarantees: time stands still while anything can run, and jumps to the next timer when nothing can; the same seed and
the same calls give the same history; no datagram leaves the process. Does not know what the datagrams mean.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
import selectors
import socket
import time
from collections import deque
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TextIO, TypeVar, cast
from unittest.mock import patch

from p2pdns.addresses import Address

UNIX_AT_START = 1_800_000_000.0
BOOTED_AT = 1_000.0
FIRST_FILENO = 1 << 20  # Above all descriptors of the process itself.
DELAY_S_MIN, DELAY_S_MAX = 0.005, 0.080
SOCKET_DATAGRAMS_MAX = 512  # A receive buffer of the usual size holds about so many.

T = TypeVar("T")


class _Selector(selectors.BaseSelector):
    """What is readable now; without that, `select` lets the time pass that it was told to wait."""

    def __init__(self) -> None:
        self.now = BOOTED_AT
        self._waiting: dict[VirtualSocket, None] = {}
        self._keys: dict[Any, selectors.SelectorKey] = {}

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        """Watch a socket."""
        fileno = fileobj if isinstance(fileobj, int) else fileobj.fileno()
        self._keys[fileobj] = selectors.SelectorKey(fileobj, fileno, events, data)
        return self._keys[fileobj]

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        """Watch it no more."""
        return self._keys.pop(fileobj)

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        """Return what is watched."""
        return self._keys

    def close(self) -> None:
        """Watch nothing."""
        self._keys.clear()

    def arrived(self, at: VirtualSocket) -> None:
        """Hear that a socket has a datagram."""
        self._waiting[at] = None

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Return the sockets that have datagrams, in the order in which these came."""
        self._waiting = {at: None for at in self._waiting if at.inbox}
        ready = [self._keys[at] for at in self._waiting if at in self._keys]
        if not ready:
            assert timeout is not None, "nothing will ever happen again"
            self.now += max(0.0, timeout)
        return [(key, selectors.EVENT_READ) for key in ready]


class VirtualLoop(asyncio.SelectorEventLoop):
    """The event loop of asyncio itself; the clock that it reads is virtual, and so is what it waits for."""

    def __init__(self) -> None:
        self.virtual = _Selector()
        super().__init__(self.virtual)

    def time(self) -> float:
        """Return the virtual time."""
        return self.virtual.now


@contextmanager
def clocks_of(loop: VirtualLoop) -> Iterator[None]:
    """Have the system's clocks show the virtual time: production code reads them through p2pdns.clock."""
    with (
        patch.object(time, "clock_gettime", lambda _clock: loop.time()),
        patch.object(time, "time", lambda: UNIX_AT_START + loop.time() - BOOTED_AT),
    ):
        yield


class VirtualSocket:
    """A bound datagram socket of the simulated network, as far as an endpoint uses one."""

    def __init__(self, network: VirtualNetwork, address: Address, fileno: int) -> None:
        self.inbox: deque[tuple[bytes, Address]] = deque()
        self._network = network
        self._address = address
        self._fileno = fileno

    def fileno(self) -> int:
        """Return a number that no descriptor of the process has."""
        return self._fileno

    def getsockname(self) -> Address:
        """Return where it is bound."""
        return self._address

    def recvfrom(self, size_bytes: int) -> tuple[bytes, Address]:
        """Return the oldest datagram, cut to a size."""
        if not self.inbox:
            raise BlockingIOError
        data, sender = self.inbox.popleft()
        return data[:size_bytes], sender

    def sendto(self, data: bytes, address: Address) -> int:
        """Send a datagram."""
        self._network.send(data, self._address, address)
        return len(data)

    def close(self) -> None:
        """Leave the network; what waits is lost."""
        self._network.closed(self._address)
        self.inbox.clear()


class VirtualNetwork:
    """Datagrams on their way: each is late by a time of its own, and a share of them is lost."""

    def __init__(self, loop: VirtualLoop, seed: int, *, loss: float) -> None:
        self.trace = hashlib.sha256()
        # Where two runs differ is found by comparing these.
        self.lines: TextIO | None = None
        self.datagram_count = 0
        self.lost_count = 0
        self._loop = loop
        self._random = random.Random(seed)
        self._loss = loss
        self._sockets: dict[Address, VirtualSocket] = {}
        self._opened_count = 0

    def open(self, address: Address) -> socket.socket:
        """Return a socket that is bound to an address of this network."""
        assert address not in self._sockets, "the port is in use"
        self._sockets[address] = VirtualSocket(self, address, FIRST_FILENO + self._opened_count)
        self._opened_count += 1
        return cast(socket.socket, self._sockets[address])

    def closed(self, address: Address) -> None:
        """Have nothing arrive at an address any more."""
        self._sockets.pop(address, None)

    def send(self, data: bytes, sender: Address, receiver: Address) -> None:
        """Take a datagram, and let it arrive later or never."""
        self.datagram_count += 1
        self.note("datagram", sender, receiver, hashlib.sha256(data).hexdigest())
        is_lost = self._random.random() < self._loss
        delay_s = self._random.uniform(DELAY_S_MIN, DELAY_S_MAX)
        if is_lost:
            self.lost_count += 1
        else:
            self._loop.call_later(delay_s, self._arrive, data, sender, receiver)

    def _arrive(self, data: bytes, sender: Address, receiver: Address) -> None:
        there = self._sockets.get(receiver)
        if there is not None and len(there.inbox) < SOCKET_DATAGRAMS_MAX:
            there.inbox.append((data, sender))
            self._loop.virtual.arrived(there)

    def note(self, *facts: object) -> None:
        """Add something that happened now to the trace."""
        line = repr((self._loop.time(), *facts)) + "\n"
        self.trace.update(line.encode())
        if self.lines is not None:
            self.lines.write(line)


def run(story: Callable[[VirtualLoop], Coroutine[Any, Any, T]]) -> T:
    """Return what a story in virtual time comes to."""
    loop = VirtualLoop()
    try:
        with clocks_of(loop):
            return loop.run_until_complete(story(loop))
    finally:
        loop.close()
