"""Faults that end: each that was made in a block is undone at its end, in reverse order.

    with Faults(testbed) as faults:
        faults.cut("west")
        faults.impair(Impairment(delay_ms=100, loss_percent=10), every_link=True)
        …

Guarantees: faults are undone at the end of the block, on an exception, on Ctrl-C, SIGTERM and SIGHUP, and otherwise at
the end of the program; a second Ctrl-C does not interrupt the undoing. A fault is on the list of what is to be undone
before it is made, so that one which was made in part is undone too. SIGKILL is the exception: then the faults stay,
`status` shows them, and `heal` and `unimpair` end them. Does not know how a fault is made.
"""

from __future__ import annotations

import atexit
import contextlib
import secrets
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, Self

from deploy.testbed.impair import Impairment
from deploy.testbed.places import removed
from deploy.testbed.testbed import Testbed

ENDING_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
SHELL_SIGNAL_BASE = 128  # A shell shows 128 + its number for a program that a signal ended.


@contextlib.contextmanager
def first_signal_ends(end: Callable[[int, FrameType | None], Any]) -> Iterator[Callable[[], None]]:
    """Call `end` at the first signal that ends programs, and ignore all others in the block.

    Yields a function that ignores the first one too. Programs that are started then ignore them as well.
    """
    numbers = ENDING_SIGNALS if threading.current_thread() is threading.main_thread() else ()

    def ignore() -> None:
        for number in numbers:
            signal.signal(number, signal.SIG_IGN)

    def end_once(number: int, frame: FrameType | None) -> None:
        ignore()
        end(number, frame)

    before = {number: signal.signal(number, end_once) for number in numbers}
    try:
        yield ignore
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _end_program(number: int, _frame: FrameType | None) -> None:
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    raise SystemExit(SHELL_SIGNAL_BASE + number)


class Faults:
    """The faults of one block."""

    def __init__(self, testbed: Testbed) -> None:
        self._testbed = testbed
        self._undo = contextlib.ExitStack()

    def __enter__(self) -> Self:
        """Begin; from now on a signal that ends programs ends the block."""
        self._ignore_signals = self._undo.enter_context(first_signal_ends(_end_program))
        # A signal can come between the block and its end, where no `with` sees it.
        self._undo.callback(atexit.unregister, self.undo)
        atexit.register(self.undo)
        return self

    def __exit__(self, *_: object) -> None:
        """Undo everything."""
        self.undo()

    def undo(self) -> None:
        """Undo the faults that are still on, the last first; if one fails, the others are undone all the same."""
        try:
            self._ignore_signals()
        finally:
            self._undo.close()

    def cut(self, *words: str) -> list[str]:
        """Cut sides, addresses or services off from the other side; return the networks."""
        networks = self._testbed.places().networks_at(*words)
        # A network that was cut before stays cut. `heal` without a word would heal all.
        if ours := removed(networks, self._testbed.cut_now()):
            self._undo.callback(self._testbed.heal, *map(str, ours))
            self._testbed.cut(*map(str, ours))
        return [str(network) for network in networks]

    def impair(self, impairment: Impairment, **where: Any) -> list[dict[str, Any]]:
        """Impair as `Testbed.impair` does; return where and how."""
        fault = secrets.token_hex(4)
        self._undo.callback(self._testbed.unimpair, fault=fault)
        return self._testbed.impair(impairment, fault=fault, **where)

    def kill(self, *words: str, signal_name: str = "KILL") -> list[str]:
        """Kill the containers that run at these places, and have them run again at the end; return the places."""
        victims = [container for container in self._testbed.places().containers_at(*words) if container.is_running]
        places = [container.place for container in victims]
        self._undo.callback(self._testbed.start_ids, [container.id for container in victims])
        # A container whose processes were stopped counts as running, so that to start it would do nothing.
        if signal_name.removeprefix("SIG") == "STOP":
            self._undo.callback(self._testbed.kill, *places, signal_name="CONT")
        return self._testbed.kill(*places, signal_name=signal_name)
