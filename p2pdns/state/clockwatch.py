"""Whether this machine's clock can be right, by what its reader has adopted: said in the log when that changes.

Guarantees: a clock that is behind is told once when it is found so, and once when it no longer is; `warning` says it
for as long as it lasts. Does not know when to look, and sets no clock.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from p2pdns import log
from p2pdns.items.item import SEQ_PER_SECOND, Present
from p2pdns.state.protection import moment
from p2pdns.timing import UnixClock


class Adopted(Protocol):
    """What the watch needs of the reader's state; `p2pdns.state.State`."""

    @property
    def newest_seq(self) -> int | None:
        """The highest seq ever adopted, which bounds the time from below."""


class ClockWatch:
    """The clock beside what was adopted. `tell` hears of the present at once, and whenever it is looked at."""

    def __init__(
        self, state: Adopted, unix_clock: UnixClock, tell: Callable[[Present], None] = lambda present: None
    ) -> None:
        self._state = state
        self._unix_clock = unix_clock
        self._tell = tell
        self._was_behind = False
        self._log = log.get_logger("clock")
        tell(self.present)

    @property
    def present(self) -> Present:
        """What is known of the time."""
        return Present(self._unix_clock(), self._state.newest_seq)

    @property
    def cause(self) -> str | None:
        """What is wrong with the clock, in words; None where nothing is known to be."""
        present = self.present
        if present.newest_seq is None or not present.is_clock_behind:
            return None
        return (
            f"this machine's clock shows {moment(present.clock_unix)}, and it has adopted an item that was signed at "
            f"{moment(present.newest_seq / SEQ_PER_SECOND)}"
        )

    @property
    def warning(self) -> str | None:
        """The same, and what to do, in words for the log."""
        cause = self.cause
        if cause is None:
            return None
        return (
            f"{cause}: set the clock; only if it is right now and was ahead "
            'before, "p2pdns forget --ahead" clears the marks that it cannot believe'
        )

    def look(self) -> None:
        """Log what has changed, and tell the present: a clock may be set at any time."""
        self._tell(self.present)
        warning = self.warning
        if warning is not None and not self._was_behind:
            self._log.warning(warning)
        if warning is None and self._was_behind:
            self._log.info("this machine's clock is no longer behind what was adopted")
        self._was_behind = warning is not None
