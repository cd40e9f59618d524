"""The event loop of a simulated world: asyncio's, in virtual time, with one heap for timers and datagrams.

Guarantees: time stands still while anything can run, and jumps to the next event when nothing can; callbacks run in
the order in which asyncio runs them; while a world runs, the clocks that production code reads show its time. Does not
know what runs in it.
"""

from __future__ import annotations

import asyncio
import gc
import heapq
import time
from collections import deque
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from contextvars import Context
from typing import Any, Protocol, TypeVar, TypeVarTuple, Unpack

from p2pdns import remembered

UNIX_AT_START = 1_800_000_000.0
BOOTED_AT = 1_000.0
# Cancelled timers that may lie in the heap before it is cleared of them; asyncio keeps as many.
CANCELLED_TIMERS_MAX = 100
# Pure results that each cache keeps: a process with ten thousand nodes meets ten thousand hosts, and one of 4,096 would
# compute nearly all of them again.
REMEMBERED_MIN = 32_768

# Objects made since the last search for garbage, and how many such searches make a longer one. In between, what refers
# to itself stays: after thirty look-ups in a world of 1,500 that was 112 objects of 450,000.
GARBAGE_THRESHOLDS = (50_000, 20, 100)

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class Readable(Protocol):
    """A socket that the loop can wait for; its inbox may be empty."""

    inbox: list[Any]

    def fileno(self) -> int:
        """Return a number that no descriptor of the process has."""


class VirtualLoop(asyncio.BaseEventLoop):
    """The event loop of asyncio; its clock is virtual, and so are the sockets that it waits for."""

    def __init__(self) -> None:
        super().__init__()
        self.now = BOOTED_AT
        self._runnable: deque[asyncio.Handle] = deque()
        # The callbacks with their times, in the order of these and then of arrival here.
        self._events: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._serial = 0
        self._cancelled_count = 0
        self._readers: dict[Readable, asyncio.Handle] = {}
        self._waiting: dict[Readable, None] = {}

    def time(self) -> float:
        """Return the virtual time."""
        return self.now

    @property
    def unix_time(self) -> float:
        """The seconds since 1970 that a right clock shows in this world."""
        return UNIX_AT_START + self.now - BOOTED_AT

    # Callbacks

    def call_soon(
        self, callback: Callable[[Unpack[Ts]], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.Handle:
        """Have a callback run in the next round."""
        handle = asyncio.Handle(callback, args, self, context)
        self._runnable.append(handle)
        return handle

    call_soon_threadsafe = call_soon  # All runs in one thread.

    def call_at(
        self, when: float, callback: Callable[[Unpack[Ts]], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """Have a callback run at a time."""
        timer = asyncio.TimerHandle(when, callback, args, self, context)
        self.happen_at(when, self._runnable.append, timer)
        return timer

    def call_later(
        self, delay: float, callback: Callable[[Unpack[Ts]], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """Have a callback run after a delay."""
        return self.call_at(self.now + delay, callback, *args, context=context)

    def happen_at(self, when: float, event: Callable[..., None], *args: Any) -> None:
        """Have something happen at a time, before the callbacks of that time; it cannot be called off."""
        self._serial += 1
        heapq.heappush(self._events, (when, self._serial, event, args))

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        del handle
        self._cancelled_count += 1
        if self._cancelled_count > max(CANCELLED_TIMERS_MAX, len(self._events) // 2):
            self._cancelled_count = 0
            self._events = [event for event in self._events if not _is_cancelled_timer(event[3])]
            heapq.heapify(self._events)

    # Sockets

    def add_reader(self, fd: Any, callback: Callable[[Unpack[Ts]], Any], *args: *Ts) -> None:
        """Have a callback run in each round in which a socket has datagrams."""
        self._readers[fd] = asyncio.Handle(callback, args, self)

    def remove_reader(self, fd: Any) -> bool:
        """Wait for a socket no more."""
        return self._readers.pop(fd, None) is not None

    def arrived(self, at: Readable) -> None:
        """Hear that a socket has a datagram."""
        self._waiting[at] = None

    # Rounds

    def _run_once(self) -> None:
        """Run rounds: the sockets that have datagrams, in the order in which these came, timers, other callbacks.

        `asyncio.BaseEventLoop.run_forever` calls this method until the loop is to stop, and it returns no sooner.
        """
        runnable, pop_event = self._runnable, heapq.heappop
        next_one = runnable.popleft
        while True:
            if self._waiting:
                self._wake_readers()
            events = self._events
            if not runnable:
                assert events, "nothing will ever happen again"
                if events[0][0] > self.now:
                    self.now = events[0][0]
            now = self.now
            while events and events[0][0] <= now:
                _, _, happen, args = pop_event(events)
                happen(*args)
            for _ in range(len(runnable)):
                handle = next_one()
                if not handle._cancelled:
                    handle._run()
            if self._stopping:  # type: ignore[attr-defined]  # Of `asyncio.BaseEventLoop`.
                return

    def _wake_readers(self) -> None:
        for at in list(self._waiting):
            if not at.inbox:
                del self._waiting[at]
            elif (reader := self._readers.get(at)) is not None:
                self._runnable.append(reader)


def _is_cancelled_timer(args: tuple[Any, ...]) -> bool:
    return len(args) == 1 and isinstance(args[0], asyncio.TimerHandle) and args[0].cancelled()


@contextmanager
def clocks_of(loop: VirtualLoop) -> Iterator[None]:
    """Have the system's clocks show the virtual time: production code reads them through `p2pdns.clock`.

    The whole process sees it, so one world runs at a time; `time.monotonic` still tells real time.
    """
    shown = {"clock_gettime": lambda _clock: loop.now, "time": lambda: loop.unix_time}
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
        with clocks_of(loop), remembered.at_least(REMEMBERED_MIN), seldom_collected():
            return loop.run_until_complete(story(loop))
    finally:
        loop.close()


@contextmanager
def seldom_collected() -> Iterator[None]:
    """Have Python search for garbage less often: a world makes little that refers to itself, and keeps much.

    The search cost a tenth of the time of a growing world. No history depends on it.
    """
    before = gc.get_threshold()
    gc.set_threshold(*GARBAGE_THRESHOLDS)
    try:
        yield
    finally:
        gc.set_threshold(*before)
