"""Since when this reader's roll-back protection holds for every key: one line, in a file of its own.

Guarantees: the note of one process is there for the next ones, as long as the state directory is. It has a file of its
own because it tells of the loss of the file with the marks. Does not know marks: their table counts those that went one
by one, and `told` only puts that into words.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path

from p2pdns.clock import boot_now, unix_now
from p2pdns.directory import FILE_MODE
from p2pdns.items.item import SEQ_PER_SECOND
from p2pdns.publishing.dates import date_of
from p2pdns.state.tables import SEEN_MAX, Facts

FILE_NAME = "reader.anew"
TOLD_AGAIN_S = 3_600.0  # How often at most the log says that marks make room for others.
NOTE_BYTES_MAX = 512  # Read back; what we write is shorter.


class Protection:
    """The last moment at which marks were lost, and why; None for a directory keeps it in memory."""

    def __init__(self, directory: Path | None) -> None:
        self._path = None if directory is None else directory / FILE_NAME
        self._note = _read(self._path) if self._path is not None else ""
        self._told_at = float("-inf")
        self._told = Facts()

    def told(self, facts: Facts, owed_count: int) -> str:
        """Return, in words, since when no answer falls below the newest item seen, and for which keys it may."""
        exceptions = []
        if facts.evicted_count:
            when = date_of(facts.evicted_unix * SEQ_PER_SECOND)
            exceptions.append(f"{facts.evicted_count} marks made room for others, the last at {when}")
        if facts.commitments_evicted_count:
            when = date_of(facts.commitments_evicted_unix * SEQ_PER_SECOND)
            exceptions.append(
                f"{facts.commitments_evicted_count} commitments to next keys made room for others, the last at {when}"
            )
        if facts.forgotten_count:
            when = date_of(facts.forgotten_unix * SEQ_PER_SECOND)
            exceptions.append(f"{facts.forgotten_count} marks were cleared with forget, the last at {when}")
        if owed_count:
            exceptions.append(f"{owed_count} marks are not on the disk, which takes none")
        whole = "whole but for this" if exceptions else "whole"
        return "; ".join([f"starts anew as of {self._note}" if self._note else whole, *exceptions])

    def begin(self, facts: Facts) -> None:
        """Take note of what was evicted in earlier runs, whose logs have said it."""
        self._told = facts

    def tell_evicted(self, facts: Facts, warning: Callable[..., None]) -> None:
        """Say in the log, now and then, that marks or commitments have made room for others."""
        told = self._told
        has_more_marks = facts.evicted_count > told.evicted_count
        has_more_commitments = facts.commitments_evicted_count > told.commitments_evicted_count
        if not (has_more_marks or has_more_commitments) or boot_now() < self._told_at + TOLD_AGAIN_S:
            return
        self._told_at, self._told = boot_now(), facts
        warning(
            "marks made room for others: roll-back protection has ended for their keys",
            count=facts.evicted_count,
            marks_max=SEEN_MAX,
            commitments=facts.commitments_evicted_count,
        )

    def starts_anew(self, reason: str) -> None:
        """Note that marks are lost as of now. A key whose mark was kept is protected still, without being named."""
        self._note = f"{date_of(int(unix_now()) * SEQ_PER_SECOND)}: {reason}"
        if self._path is not None:
            # If this fails, this process still says it; the table of marks reports a disk that refuses.
            with contextlib.suppress(OSError):
                _write(self._path, self._note)


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
