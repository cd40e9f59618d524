"""The event loop of a simulated world: asyncio's own, in virtual time.

Guarantees: time stands still while anything can run, and jumps to the next timer when nothing can; while a world runs,
the clocks that production code reads show its time. Does not know what runs in it.
"""

from __future__ import annotations

import asyncio
import selectors
import time
from collections import deque
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar

UNIX_AT_START = 1_800_000_000.0
BOOTED_AT = 1_000.0

T = TypeVar("T")


class Readable(Protocol):
    """A socket that the loop can wait for; its inbox may be empty."""

    inbox: deque[Any]

    def fileno(self) -> int:
        """Return a number that no descriptor of the process has."""


class _Selector(selectors.BaseSelector):
    """The readable sockets; where there is none, `select` lets its timeout pass at once."""

    def __init__(self) -> None:
        self.now = BOOTED_AT
        self._waiting: dict[Readable, None] = {}
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

    def arrived(self, at: Readable) -> None:
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
    """The event loop of asyncio itself; its clock is virtual, and so are the sockets that it waits for."""

    def __init__(self) -> None:
        self.virtual = _Selector()
        super().__init__(self.virtual)

    def time(self) -> float:
        """Return the virtual time."""
        return self.virtual.now

    @property
    def unix_time(self) -> float:
        """The seconds since 1970 that a right clock shows in this world."""
        return UNIX_AT_START + self.virtual.now - BOOTED_AT


@contextmanager
def clocks_of(loop: VirtualLoop) -> Iterator[None]:
    """Have the system's clocks show the virtual time: production code reads them through `p2pdns.clock`.

    The whole process sees it, so one world runs at a time; `time.monotonic` still tells real time.
    """
    shown = {"clock_gettime": lambda _clock: loop.time(), "time": lambda: loop.unix_time}
    real = {name: getattr(time, name) for name in shown}
    vars(time).update(shown)
    try:
        yield
    finally:
        vars(time).update(real)


def run(story: Callable[[VirtualLoop], Coroutine[Any, Any, T]]) -> T:
    """Return the result of a story in virtual time."""
    loop = VirtualLoop()
    try:
        with clocks_of(loop):
            return loop.run_until_complete(story(loop))
    finally:
        loop.close()
