"""The daemon of a state directory, also while it starts: between `serve &` and its control socket lie seconds.

A command in that time would take a node of its own, and what it published would never be put again; or it would hold
the lock of the state directory in the very moment in which the daemon wants it. So `serve` marks the directory as the
first thing it does, and whoever finds the mark, or the lock, waits for the socket.

Guarantees: a wait ends when the daemon answers, when it ends, or after half a minute. Does not know what is asked.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from p2pdns.admin.control import ControlClient
from p2pdns.cli import ui
from p2pdns.directory import is_marked, refuse_if_taken
from p2pdns.errors import Unavailable

START_S_MAX = 30.0  # Block lists and a slow disk may take seconds; a daemon that takes longer is in trouble.
SAID_AFTER_S = 1.0  # A wait that a person notices is explained.
POLL_S = 0.05
GRACE_S = 2.0  # How much later than the command a `serve` that was typed before it may reach its mark.


def is_taken(directory: Path) -> bool:
    """Return whether a daemon runs or starts in a state directory, or another command has its databases open."""
    # The mark first: while it is there the lock is left alone, which the engine may want in this very moment.
    if is_marked(directory):
        return True
    try:
        refuse_if_taken(directory)
    except Unavailable:
        return True
    return False


def running_daemon(
    directory: Path,
    *,
    grace_seconds: float = 0.0,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> ControlClient | None:
    """Return the way to the daemon, once it answers; None where none runs and none starts within the grace.

    Unavailable when it ends before it answers, or takes too long.
    """
    client = ControlClient(directory)
    began = clock()
    has_seen = is_told = False
    while not client.is_running():
        waited = clock() - began
        if is_taken(directory):
            has_seen = True
        elif has_seen:
            raise Unavailable(
                "the p2pdns that had this state directory has ended before it answered",
                place=str(directory),
                hint="what it said on its standard error tells why; then do this again",
            )
        elif waited >= grace_seconds:
            return None
        if waited >= START_S_MAX:
            raise Unavailable(
                f"a daemon has this state directory, and has not answered in {START_S_MAX:g} s",
                place=str(directory),
                hint="its log may say why",
            )
        if has_seen and waited >= SAID_AFTER_S and not is_told:
            is_told = True
            ui.note(f"waiting for the daemon that starts in {directory}")
        sleep(POLL_S)
    return client
