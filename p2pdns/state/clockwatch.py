"""Whether this machine's clock can be right, judged by the items that its reader has adopted.

Guarantees: the log says once that the clock is behind, and once that it no longer is; `warning` says it for as long as
it lasts. Does not know when to look, and sets no clock.
"""

from __future__ import annotations

from collections.abc import Callable

from p2pdns import log
from p2pdns.items.item import SEQ_PER_SECOND, Present
from p2pdns.overlay.ports import ReaderState
from p2pdns.publishing.dates import date_of
from p2pdns.timing import UnixClock


class ClockWatch:
    """The clock, compared with the newest item adopted. `tell` is told the present at once, and at every `look`."""

    def __init__(
        self, state: ReaderState, unix_clock: UnixClock, tell: Callable[[Present], None] = lambda present: None
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
        """The fault of the clock, in words; None where none is known."""
        present = self.present
        if present.newest_seq is None or not present.is_clock_behind:
            return None
        shown, signed = date_of(int(present.clock_unix) * SEQ_PER_SECOND), date_of(present.newest_seq)
        return f"this machine's clock shows {shown}, and it has adopted an item that was signed at {signed}"

    @property
    def warning(self) -> str | None:
        """The cause, and what to do, in words for the log."""
        remedy = "set the clock; only if it is right now and was ahead before"
        todo = f'{remedy}, "p2pdns forget --ahead" clears the marks that it cannot believe'
        return None if (cause := self.cause) is None else f"{cause}: {todo}"

    def look(self) -> None:
        """Tell the present, because a clock may be set at any time, and log what has changed."""
        self._tell(self.present)
        warning = self.warning
        if warning is not None and not self._was_behind:
            self._log.warning(warning)
        if warning is None and self._was_behind:
            self._log.info("this machine's clock is no longer behind what was adopted")
        self._was_behind = warning is not None
