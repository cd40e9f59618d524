"""Calls that are put off: one at a time, or any number of them over one timer.

Guarantees: a call comes once, when its time is over, and not when it was cancelled before. Does not know what waits.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable

from p2pdns.timing import Clock, Later, Timer


def later(seconds: float, callback: Callable[[], None]) -> Timer:
    """Call back after so many seconds of the running loop."""
    return asyncio.get_running_loop().call_later(seconds, callback)


class Wait:
    """A call that is put off until a time."""

    __slots__ = ("_waiting", "callback", "due")

    def __init__(self, due: float, callback: Callable[[], None], waiting: dict[Wait, None]) -> None:
        self.due = due
        self.callback = callback
        self._waiting = waiting

    def cancel(self) -> None:
        """Let it not come."""
        self._waiting.pop(self, None)


class Waits:
    """Calls that nearly always are cancelled, and seldom come: they share one timer, set for the first of them.

    To set and to cancel a timer of the loop costs more than all else that a query does before it is sent. The timer
    stays set when its call is cancelled, and then finds nothing to do.
    """

    def __init__(self, clock: Clock, later: Later) -> None:
        self._clock = clock
        self._later = later
        self._waiting: dict[Wait, None] = {}
        self._timer: Timer | None = None
        self._rings_at = math.inf

    def call_at(self, due: float, callback: Callable[[], None]) -> Wait:
        """Call back at a time of the clock."""
        wait = Wait(due, callback, self._waiting)
        self._waiting[wait] = None
        if due < self._rings_at:
            self._set(due)
        return wait

    def _set(self, due: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._rings_at = due
        self._timer = self._later(max(0.0, due - self._clock()), self._ring)

    def _ring(self) -> None:
        self._timer, self._rings_at = None, math.inf
        now = self._clock()
        for wait in [wait for wait in self._waiting if wait.due <= now]:
            # The call before may have cancelled it.
            if wait in self._waiting:
                del self._waiting[wait]
                wait.callback()
        first = min((wait.due for wait in self._waiting), default=math.inf)
        if first < self._rings_at:
            self._set(first)
