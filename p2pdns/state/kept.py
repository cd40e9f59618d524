"""Copies, in the state directory, of the last good reading of files elsewhere: block lists, the system's upstreams.

Guarantees: a copy is whole or is not there; one that cannot be written costs a warning and nothing else; a link in its
place is not followed. Does not know what the lines mean.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from io import BufferedWriter
from pathlib import Path

from p2pdns.directory import FILE_MODE
from p2pdns.errors import words_of
from p2pdns.log import get_logger

# The last line of every copy. A power cut may leave a renamed file without its text: then this line is missing.
END_LINE = b"# end\n"
_NEW = ".new"

log = get_logger("state")


class Copy:
    """One copy. `path` is a file of ours in the state directory."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @contextlib.contextmanager
    def written(self) -> Iterator[NewCopy]:
        """Yield a new copy to write lines to; it replaces the old one at the end, unless an error ends the block."""
        draft = NewCopy(self.path.with_name(self.path.name + _NEW))
        try:
            yield draft
            draft.finish(self.path)
        finally:
            draft.drop()

    @property
    def is_whole(self) -> bool:
        """Whether there is a copy, and all of it."""
        try:
            with open(_opened(self.path, os.O_RDONLY), "rb") as file:
                file.seek(-min(len(END_LINE), os.fstat(file.fileno()).st_size), os.SEEK_END)
                return file.read() == END_LINE
        except OSError:
            return False

    def lines(self, bytes_max: int) -> list[str]:
        """Return the lines of a small copy; none where it is missing or not whole."""
        try:
            with open(_opened(self.path, os.O_RDONLY), "rb") as file:
                text = file.read(bytes_max + 1)
        except OSError:
            return []
        is_good = len(text) <= bytes_max and text.endswith(END_LINE)
        return text.decode("utf-8", "replace").splitlines()[:-1] if is_good else []


class NewCopy:
    """A copy that is being written; where the disk refuses, the log says so once and the copy is dropped."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: BufferedWriter | None = None
        with self._told():
            self._file = open(_opened(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), "wb")  # noqa: SIM115

    def write(self, line: str) -> None:
        """Add a line."""
        if self._file is not None:
            with self._told():
                self._file.write(line.encode("utf-8", "replace") + b"\n")

    def finish(self, path: Path) -> None:
        """Put it into the place of the last copy."""
        if self._file is not None:
            with self._told():
                self._file.write(END_LINE)
                self._file.close()
                self._path.replace(path)
                self._file = None

    def drop(self) -> None:
        """Remove an unfinished copy."""
        if self._file is not None:
            file, self._file = self._file, None
            with contextlib.suppress(OSError):
                file.close()
            with contextlib.suppress(OSError):
                self._path.unlink()

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            reason = words_of(error)
            log.warning("no copy is kept", file=self._path.name.removesuffix(_NEW), reason=reason)
            self.drop()


def _opened(path: Path, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, FILE_MODE)
