"""How the core is told the time, and asks to be called later: types alone.

Guarantees: nothing here has a clock. Does not know whose clock it is: `p2pdns.clock` in the processes, a number that
somebody turns in tests and simulator.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeAlias

Clock: TypeAlias = Callable[[], float]
"""Returns seconds that never go back and have no date, as `p2pdns.clock.boot_now` does: only differences mean anything.
Deadlines are times of this clock."""

UnixClock: TypeAlias = Callable[[], float]
"""Returns the seconds since 1970, as `p2pdns.clock.unix_now` does: they may be wrong, and may jump."""


class Timer(Protocol):
    """A call that has yet to come."""

    def cancel(self) -> None:
        """Let it not come."""


Later: TypeAlias = Callable[[float, Callable[[], None]], Timer]
"""Calls back after so many seconds."""
