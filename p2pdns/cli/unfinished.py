"""The file beside a key file, with `.edit` at the end of its name: an edit of a large zone that is not finished.

It has the items of the edit, but for their signatures: nothing in it is secret. The next publication with the key goes
on with it (`publishing.edits`), and it is removed when the edition is stored.

Guarantees: the file is there whole, or not at all; where the disk takes nothing, the edit is remembered by this process
alone, and a warning says so. Does not know what is in it.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from p2pdns.cli import files, ui
from p2pdns.cli.files import STANDARD_INPUT, beside, quoted
from p2pdns.errors import words_of
from p2pdns.publishing.edits import EDIT_BYTES_MAX, EditJournal, EditsInMemory

SUFFIX = ".edit"
PREFIX = "edit."  # In the state directory of a server that may not write beside the key.
FILE_MODE = 0o600


class FileJournal:
    """The edit of one key in a file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._unwritten: bytes | None = None

    def begun(self) -> bytes | None:
        """Return the edit that is not finished; None where there is none, or the file cannot be read."""
        if self._unwritten is not None:
            return self._unwritten
        try:
            descriptor = os.open(self.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            with open(descriptor, "rb") as file:
                return file.read(EDIT_BYTES_MAX + 1)
        except OSError:
            return None

    def begin(self, edit: bytes) -> None:
        """Write an edit, in the place of any other one."""
        draft = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        self._unwritten = None
        try:
            with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, FILE_MODE), "wb") as file:
                file.write(edit)
                file.flush()
                os.fsync(file.fileno())
            draft.replace(self.path)
        except OSError as trouble:
            with contextlib.suppress(OSError):
                draft.unlink(missing_ok=True)
            self._unwritten = edit
            what = f"{quoted(str(self.path))}: {words_of(trouble)}"
            ui.warning(f"{what}; if this publication is interrupted, the next one puts all of its items again")

    def end(self) -> None:
        """Remove the edit."""
        self._unwritten = None
        with contextlib.suppress(OSError):
            self.path.unlink(missing_ok=True)


def journal_of(key_file: str) -> EditJournal:
    """Return the journal of a key file; one in memory for a key that is in no file."""
    if key_file == STANDARD_INPUT or not os.path.isfile(key_file):
        return EditsInMemory()
    return FileJournal(Path(beside(key_file, SUFFIX)))


def journal_of_table(key_file: str, key: str, state: Path) -> EditJournal:
    """Return the journal of a table's key: beside the key, or in the state directory where that cannot be written."""
    place = Path(files.beside(key_file, SUFFIX))
    return FileJournal(place if os.access(place.parent, os.W_OK | os.X_OK) else state / f"{PREFIX}{key}")
