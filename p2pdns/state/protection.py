"""Since when this reader's roll-back protection holds for every key: a line in a file of its own.

Guarantees: what was said in one process is said by the next ones, until the state directory itself goes. It is a
file of its own, because it tells what became of the one with the marks. Does not know marks: how many have gone one by
one stands beside them, and is only put into words here.
"""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

from p2pdns.clock import unix_now
from p2pdns.state.seen import Facts

FILE_NAME = "reader.anew"
WHOLE = "whole"
NOTE_BYTES_MAX = 512  # Read back; what we write is shorter.
FILE_MODE = 0o600


class Protection:
    """The last moment at which marks were lost, and why; None for a directory keeps it in memory."""

    def __init__(self, directory: Path | None) -> None:
        self._path = None if directory is None else directory / FILE_NAME
        self._note = _read(self._path) if self._path is not None else ""

    def __str__(self) -> str:
        """Return, in words, since when no answer falls below the newest item seen."""
        return f"starts anew as of {self._note}" if self._note else WHOLE

    def told(self, facts: Facts, owed_count: int) -> str:
        """Return the same, and for which keys an answer may fall below what they have shown."""
        exceptions = []
        if facts.evicted_count:
            when = moment(facts.evicted_unix)
            exceptions.append(f"{facts.evicted_count} marks made room for others, the last at {when}")
        if facts.forgotten_count:
            when = moment(facts.forgotten_unix)
            exceptions.append(f"{facts.forgotten_count} marks were cleared with forget, the last at {when}")
        if owed_count:
            exceptions.append(f"{owed_count} marks are not on the disk, which takes none")
        return "; ".join([str(self) if self._note or not exceptions else "whole but for this", *exceptions])

    def starts_anew(self, reason: str) -> None:
        """Remember that marks are lost as of now. For keys whose mark was kept it says too little, never too much."""
        self._note = f"{moment(unix_now())}: {reason}"
        if self._path is not None:
            # Without the file this process says it all the same, and a disk that refuses is complained of elsewhere.
            with contextlib.suppress(OSError):
                _write(self._path, self._note)


def moment(unix: float) -> str:
    """Return a time as a person reads it."""
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(unix))


def _read(path: Path) -> str:
    try:
        content = path.read_bytes()[:NOTE_BYTES_MAX]
    except FileNotFoundError:
        return ""
    except OSError:
        content = b""
    lines = content.decode("utf-8", "replace").splitlines()
    return (lines[0].strip() if lines else "") or "a time unknown: the file that tells it cannot be read"


def _write(path: Path, note: str) -> None:
    new = path.with_name(f"{path.name}.new")
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, FILE_MODE)
    try:
        os.write(descriptor, f"{note}\n".encode())
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    new.replace(path)
