"""Faults that end: what was cut, impaired or killed in a block is healed at its end, in reverse order.

    with testbed.faults() as faults:
        faults.cut("west")
        faults.impair(Impairment(delay_ms=100, loss_percent=10), every_link=True)
        …

Guarantees: undone at the end of the block, on an exception, on Ctrl-C, SIGTERM and SIGHUP, and should all that be
passed by, at the end of the program; a second Ctrl-C does not interrupt the undoing. What undoes a fault is on the list
before the fault is made, so that nothing is forgotten which was made in part. SIGKILL is the exception: then the faults
stay, `status` shows them, and `heal` and `unimpair` end them. Does not know how a fault is made.
"""

from __future__ import annotations

import atexit
import contextlib
import secrets
import signal
import threading
from types import FrameType
from typing import TYPE_CHECKING, Any, Self

from deploy.testbed.impair import Impairment
from deploy.testbed.places import removed

if TYPE_CHECKING:
    from deploy.testbed.testbed import Testbed

ENDING_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
SHELL_SIGNAL_BASE = 128  # A shell shows 128 + its number for a program that a signal ended.


class Faults:
    """The faults of one block."""

    def __init__(self, testbed: Testbed) -> None:
        self._testbed = testbed
        self._undo = contextlib.ExitStack()
        self._before: dict[int, Any] = {}
        self._is_ending = False

    def __enter__(self) -> Self:
        """Begin; from now on a signal that ends programs ends the block."""
        if threading.current_thread() is threading.main_thread():
            for number in ENDING_SIGNALS:
                self._before[number] = signal.signal(number, self._end_block)
        # A signal can come between the block and its end, where no `with` sees it.
        atexit.register(self.undo)
        return self

    def __exit__(self, *_: object) -> None:
        """Undo everything."""
        try:
            self._is_ending = True
        finally:
            self.undo()

    def _end_block(self, number: int, _frame: FrameType | None) -> None:
        # The first one ends the block; the undoing that follows is what all others want, too.
        if self._is_ending:
            return
        self._is_ending = True
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        raise SystemExit(SHELL_SIGNAL_BASE + number)

    def undo(self) -> None:
        """Undo what is still on, the last first; one that fails does not keep the others."""
        self._is_ending = True
        try:
            self._undo.close()
        finally:
            atexit.unregister(self.undo)
            for number, handler in self._before.items():
                signal.signal(number, handler)
            self._before.clear()
            self._is_ending = False

    def cut(self, *words: str) -> list[str]:
        """Cut sides, addresses or services off from the other side; return the networks."""
        networks = self._testbed.networks_at(words)
        # What was cut already is not ours to heal.
        self._undo.callback(self._testbed.heal_networks, removed(networks, self._testbed.cut_now()))
        self._testbed.cut_networks(networks)
        return [str(network) for network in networks]

    def impair(self, impairment: Impairment, **where: Any) -> list[dict[str, Any]]:
        """Impair as `Testbed.impair` does; return where and how."""
        fault = secrets.token_hex(4)
        self._undo.callback(self._testbed.unimpair, fault=fault)
        return self._testbed.impair(impairment, fault=fault, **where)

    def has_netem(self) -> bool:
        """Return whether the kernel has netem."""
        return self._testbed.has_netem()

    def kill(self, *words: str, signal_name: str = "KILL") -> list[str]:
        """Kill what runs at these places, and start it again at the end; return the places."""
        victims = [container for container in self._testbed.containers_at(words) if container.is_running]
        self._undo.callback(self._testbed.start_ids, [container.id for container in victims])
        return self._testbed.kill(*(container.place for container in victims), signal_name=signal_name)
