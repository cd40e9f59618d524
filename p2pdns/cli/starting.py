"""The daemon of a state directory, even while it starts: its control socket appears seconds after `serve &`.

A command in that time would publish by a node of its own, and no daemon would put the item again; or it would hold the
lock of the state directory when the daemon needs it. So `serve` first of all marks the directory, and a command that
finds the mark or the lock waits for the socket.

Guarantees: a wait ends when the daemon answers, when it ends, or after half a minute. Does not know the command.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from p2pdns.admin.control import ControlClient
from p2pdns.cli import ui
from p2pdns.directory import is_marked, refuse_if_taken
from p2pdns.errors import Unavailable
from p2pdns.timing import Clock

START_S_MAX = 30.0  # Block lists and a slow disk take seconds; a daemon that takes longer is in trouble.
SAID_AFTER_S = 1.0  # A user notices a longer wait, so a note explains it.
POLL_S = 0.05
GRACE_S = 2.0  # A `serve` typed before the command may reach its mark this much later.


def is_taken(directory: Path) -> bool:
    """Return whether a daemon runs or starts in a state directory, or another command has its databases open."""
    # The mark comes first: looking at the lock takes it for a moment, and a starting engine needs it.
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
    client: ControlClient | None = None,
    grace_seconds: float = 0.0,
    clock: Clock = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> ControlClient | None:
    """Return the client of the daemon once it answers; None if no daemon runs, and none starts within the grace.

    Unavailable when the daemon ends before it answers, or takes too long.
    """
    client = client or ControlClient(directory)
    began = clock()
    has_seen = is_told = False
    while not client.is_running():
        waited = clock() - began
        if is_taken(directory):
            has_seen = True
        elif has_seen:
            what = "the p2pdns that had this state directory has ended before it answered"
            hint = "its standard error says why; then run this command again"
            raise Unavailable(what, place=str(directory), hint=hint)
        elif waited >= grace_seconds:
            return None
        if waited >= START_S_MAX:
            what = f"a daemon has this state directory, and has not answered in {START_S_MAX:g} s"
            raise Unavailable(what, place=str(directory), hint="its log may say why")
        if has_seen and waited >= SAID_AFTER_S and not is_told:
            is_told = True
            ui.note(f"waiting for the daemon that starts in {directory}")
        sleep(POLL_S)
    return client
