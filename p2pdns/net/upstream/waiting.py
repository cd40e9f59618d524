"""Delayed calls: one at a time, or any number of them over one timer.

Guarantees: a call is made once, when its time has come, and never after it was cancelled. Does not know what waits.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from dataclasses import dataclass

from p2pdns.timing import Clock, Later, Timer


def later(seconds: float, callback: Callable[[], None]) -> Timer:
    """Call back after so many seconds of the running loop."""
    return asyncio.get_running_loop().call_later(seconds, callback)


@dataclass(slots=True, eq=False)
class Wait:
    """A call that is delayed until a time."""

    due: float
    callback: Callable[[], None]
    waiting: dict[Wait, None]

    def cancel(self) -> None:
        """Do not make the call."""
        self.waiting.pop(self, None)


class Waits:
    """Delayed calls of which nearly all are cancelled: they share one timer, which is set for the first of them.

    Setting and cancelling a timer of the loop costs more than everything else that a query does before it is sent. When
    a call is cancelled, the timer stays set, and later finds nothing to do.
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
            # The call before may have cancelled this one.
            if wait in self._waiting:
                del self._waiting[wait]
                wait.callback()
        first = min((wait.due for wait in self._waiting), default=math.inf)
        if first < self._rings_at:
            self._set(first)
