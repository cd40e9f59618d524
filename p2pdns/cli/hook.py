"""The hook of `publish --watch`: a command that runs after each publication.

Guarantees: no shell reads the command; a hook that fails or hangs is reported and ends nothing; a hook that takes too
long is killed with its process group, and so is one that runs when the watch ends. Does not know what the hook does.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import signal
import subprocess
from collections.abc import Mapping

from p2pdns.errors import UsageError, abridged, words_of

HOOK_S_MAX = 30.0  # Nothing is watched while a hook runs.
PLACE = "--hook"


class Hook:
    """A command and its arguments."""

    def __init__(self, words: list[str], *, seconds_max: float = HOOK_S_MAX) -> None:
        self._words = words
        self._seconds_max = seconds_max

    @classmethod
    def read(cls, text: str) -> Hook:
        """Return the hook of a command line; UsageError where there is no such program."""
        try:
            words = shlex.split(text)
        except ValueError as trouble:
            what, hint = f"cannot be split into words: {trouble}".lower(), "close each quote in it"
            raise UsageError(what, place=PLACE, hint=hint) from None
        if not words:
            raise UsageError("no command", place=PLACE, hint="--hook 'PROGRAM ARGUMENT …'; no shell reads it")
        if shutil.which(words[0]) is None:
            hint = "name a program that can be run; for pipes and the like: --hook \"sh -c '…'\""
            raise UsageError(f'"{abridged(words[0])}": no such program', place=PLACE, hint=hint)
        return cls(words)

    def run(self, facts: Mapping[str, str]) -> str | None:
        """Run it with these variables in its environment; return what went wrong, None where nothing did."""
        try:
            # The output of a hook is no result of ours, so it goes to standard error.
            process = subprocess.Popen(
                self._words, stdin=subprocess.DEVNULL, stdout=2, env={**os.environ, **facts}, start_new_session=True
            )
        except OSError as trouble:
            return f"the hook did not start: {words_of(trouble)}"
        try:
            code = process.wait(self._seconds_max)
        except subprocess.TimeoutExpired:
            return f"the hook was ended: it had not ended in {self._seconds_max:g} s"
        finally:
            if process.poll() is None:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        if code:
            return f"the hook failed: {f'exit status {code}' if code > 0 else f'signal {-code}'}"
        return None
