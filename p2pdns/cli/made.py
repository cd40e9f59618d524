"""The file beside a key file, with `.published` at the end of its name: the items that were published with the key.

It has a line for each item that was signed, and one for each that is stored: `signed SEQ SHA-256`, `stored SEQ
SHA-256`, or `merged SEQ SHA-256` if another publisher's change is in the item. By these lines `publish` knows its own
items, and refuses to replace one that was made with another copy of the key.

Guarantees: an item is in the file, on the disk, before it leaves this process; where the disk takes nothing, this
process remembers it all the same; nothing in the file is secret; a broken line counts as absent; the file does not grow
without end; no line is lost where several processes write and shorten it, and none of them waits for another. Does not
know the overlay.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
from collections.abc import Callable
from pathlib import Path

from p2pdns.cli import ui
from p2pdns.cli.files import STANDARD_INPUT, beside, quoted
from p2pdns.errors import words_of
from p2pdns.items.item import MutableItem
from p2pdns.publishing.memory import MERGED, SIGNED, STORED, WORDS, Line, Made, Memory, NoMemory, Origin, line_of

SUFFIX = ".published"
LINES_MAX = 64  # Then the lines of items that are done with go: some 5 kB.
SIGNED_MAX = 256  # Lines of items that were never stored, as while the network is down for hours; some 23 kB.
BYTES_READ_MAX = 65_536  # Ten times as much as the file ever has.
APPEND_TRIES_MAX = 8  # A shortened file takes the place of this one once in dozens of publications.
SEQ = re.compile("[0-9]{1,19}")  # A seq has 64 bits; Python refuses to read much longer numbers.
HEAD = "# p2pdns: what was published with this key file; without this, publish asks for --force\n"


def memory_of(key_file: str) -> Memory:
    """Return the memory of a key file; one that remembers nothing for a key that is in no file."""
    if key_file == STANDARD_INPUT or not os.path.isfile(key_file):
        return NoMemory()
    return KeyMemory(Path(beside(key_file, SUFFIX)))


class KeyMemory:
    """The memory of one key file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._is_told = False
        self._unwritten: list[Line] = []  # The disk has not taken these.

    def origin_of(self, item: MutableItem) -> Origin:
        """Return where an item was made."""
        return Made([*self._lines(), *self._unwritten]).origin_of(item)

    def signed(self, item: MutableItem, *, is_merged: bool = False) -> None:
        """Note an item before it leaves; a warning where that cannot be."""
        self._add(line_of(MERGED if is_merged else SIGNED, item))
        if len(self._lines()) > SIGNED_MAX:
            # Publications that always fail are never stored, and the file must not grow for that.
            self._shorten(_newest)

    def stored(self, item: MutableItem) -> None:
        """Note that an item is stored; older items need not be remembered any more."""

        def without_older(lines: list[Line]) -> list[Line]:
            made = Made(lines)
            made.stored(item)
            return made.lines

        self._add(line_of(STORED, item))
        if len(self._lines()) > LINES_MAX:
            self._shorten(without_older)

    def _lines(self) -> list[Line]:
        try:
            with self.path.open("rb") as file:
                return _lines_in(file.read(BYTES_READ_MAX))
        except OSError:
            return []

    def _add(self, line: Line) -> None:
        lines = [*self._unwritten, line]
        try:
            self._append("".join(map(_text, lines)))
        except OSError as trouble:
            self._unwritten = _newest(lines) if len(lines) > SIGNED_MAX else lines
            self._trouble(trouble)
        else:
            self._unwritten = []

    def _append(self, text: str) -> None:
        for _ in range(APPEND_TRIES_MAX):
            # In one write, so that two publications at a time do not mix their lines.
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600)
            try:
                size_bytes = os.fstat(descriptor).st_size
                # A full disk may have cut the last line, and this one must not be taken for its end.
                is_cut = size_bytes > 0 and os.pread(descriptor, 1, size_bytes - 1) != b"\n"
                written = f"{'' if size_bytes else HEAD}{chr(10) if is_cut else ''}{text}".encode()
                if os.write(descriptor, written) < len(written):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                os.fsync(descriptor)
                # Another process may have put a shortened file in the place of this one. What it saw of this one
                # before that is in the new file, so a line that came later is written again.
                if self._is_at_path(descriptor):
                    return
            finally:
                os.close(descriptor)
        raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))

    def _shorten(self, kept: Callable[[list[Line]], list[Line]]) -> None:
        try:
            descriptor = os.open(self.path, os.O_RDONLY | os.O_NOFOLLOW)
        except OSError:
            return
        try:
            # One process at a time; the others need not do it as well.
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if self._is_at_path(descriptor):
                before = os.pread(descriptor, BYTES_READ_MAX, 0)
                self._replace(kept(_lines_in(before)))
                came = _lines_in(os.pread(descriptor, BYTES_READ_MAX, len(before)))
                if came:
                    # Another process has written these into the old file just before the new one took its place.
                    self._append("".join(map(_text, came)))
        except BlockingIOError:
            pass
        except OSError as trouble:
            self._trouble(trouble)
        finally:
            os.close(descriptor)

    def _replace(self, lines: list[Line]) -> None:
        beside = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        try:
            with open(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                file.write(HEAD + "".join(map(_text, lines)))
                file.flush()
                os.fsync(file.fileno())
            beside.replace(self.path)
        except OSError:
            beside.unlink(missing_ok=True)
            raise

    def _is_at_path(self, descriptor: int) -> bool:
        try:
            return os.path.samestat(os.fstat(descriptor), os.lstat(self.path))
        except FileNotFoundError:
            return False

    def _trouble(self, trouble: OSError) -> None:
        if not self._is_told:
            self._is_told = True
            what = f"{quoted(str(self.path))}: {words_of(trouble)}"
            ui.warning(f"{what}; so the next command that publishes with this key file will ask for --force")


def _lines_in(text: bytes) -> list[Line]:
    found = []
    for line in text.decode("ascii", "replace").splitlines():
        words = line.split()
        # A power failure may have cut the last line.
        if len(words) == 3 and words[0] in WORDS and SEQ.fullmatch(words[1]) and len(words[2]) == 64:
            found.append((words[0], int(words[1]), words[2]))
    return found


def _newest(lines: list[Line]) -> list[Line]:
    stored = [line for line in lines if line[0] == STORED][-1:]
    return [*stored, *(line for line in lines[-LINES_MAX:] if line not in stored)]


def _text(line: Line) -> str:
    return " ".join(map(str, line)) + "\n"
