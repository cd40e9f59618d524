"""What was published with a key file: the file beside it, whose name has `.published` at its end.

A line for each item that was signed, and one for each that is stored: `signed SEQ SHA-256`, `stored SEQ SHA-256`. By it
`publish` knows its own items, and refuses to replace one that was made with another copy of the key.

Guarantees: an item is in the file, on the disk, before it leaves this process; nothing in the file is secret; a broken
line counts as absent; the file does not grow without end. Does not know the overlay.
"""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path

from p2pdns.cli import ui
from p2pdns.cli.files import STANDARD_INPUT, quoted
from p2pdns.errors import words_of
from p2pdns.items.item import MutableItem
from p2pdns.publishing.memory import Line, Made, Memory, NoMemory, line_of

SUFFIX = ".published"
LINES_MAX = 64  # Then the lines of items that are done with go: some 5 kB.
SIGNED_MAX = 256  # Of items that were never stored, as when a line is down for hours; some 23 kB.
BYTES_READ_MAX = 65_536  # Ten times as much as the file ever has.
SEQ = re.compile("[0-9]{1,19}")  # Of 64 bits; Python refuses to read much longer numbers.
HEAD = "# p2pdns: what was published with this key file; without this, publish asks for --force\n"


def memory_of(key_file: str) -> Memory:
    """Return the memory of a key file; one that remembers nothing for a key that is in no file."""
    if key_file == STANDARD_INPUT or not os.path.isfile(key_file):
        return NoMemory()
    return KeyMemory(Path(key_file + SUFFIX))


class KeyMemory:
    """The memory of one key file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._is_told = False

    def is_made_here(self, item: MutableItem) -> bool:
        """Return whether an item was signed here, or is older than one that was stored from here."""
        return Made(self._lines()).is_made_here(item)

    def signed(self, item: MutableItem) -> None:
        """Note an item before it leaves; a warning where that cannot be."""
        self._add(line_of("signed", item))
        lines = self._lines()
        if len(lines) > SIGNED_MAX:
            # Publications that always fail are never stored, and the file must not grow for that.
            stored = [line for line in lines if line[0] == "stored"]
            self._write([*stored[-1:], *(line for line in lines[-LINES_MAX:] if line not in stored[-1:])])

    def stored(self, item: MutableItem) -> None:
        """Note that an item is stored: what was older is done with."""
        self._add(line_of("stored", item))
        lines = self._lines()
        if len(lines) > LINES_MAX:
            made = Made(lines)
            made.stored(item)
            self._write(made.lines)

    def _lines(self) -> list[Line]:
        try:
            with self.path.open("rb") as file:
                text = file.read(BYTES_READ_MAX).decode("ascii", "replace")
        except OSError:
            return []
        found = []
        for line in text.splitlines():
            words = line.split()
            # A power failure may have cut the last line.
            if len(words) == 3 and words[0] in ("signed", "stored") and SEQ.fullmatch(words[1]) and len(words[2]) == 64:
                found.append((words[0], int(words[1]), words[2]))
        return found

    def _add(self, line: Line) -> None:
        text = _text(line)
        try:
            # In one write, so that two publications at a time do not mix their lines.
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600)
            try:
                size_bytes = os.fstat(descriptor).st_size
                # A full disk may have cut the last line, and this one must not be taken for its end.
                is_cut = size_bytes > 0 and os.pread(descriptor, 1, size_bytes - 1) != b"\n"
                line_bytes = f"{'' if size_bytes else HEAD}{chr(10) if is_cut else ''}{text}".encode()
                if os.write(descriptor, line_bytes) < len(line_bytes):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except OSError as trouble:
            self._trouble(trouble)

    def _write(self, lines: list[Line]) -> None:
        beside = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        try:
            with beside.open("x") as file:
                file.write(HEAD + "".join(map(_text, lines)))
                file.flush()
                os.fsync(file.fileno())
            beside.replace(self.path)
        except OSError as trouble:
            beside.unlink(missing_ok=True)
            self._trouble(trouble)

    def _trouble(self, trouble: OSError) -> None:
        if not self._is_told:
            self._is_told = True
            what = f"{quoted(str(self.path))}: {words_of(trouble)}"
            ui.warning(f"{what}; so the next publication with this key file will ask for --force")


def _text(line: Line) -> str:
    return " ".join(map(str, line)) + "\n"
