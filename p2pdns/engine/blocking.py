"""The block lists of the configuration: files of names, read a little at a time.

Guarantees: reading a million names keeps no question waiting for longer than a few milliseconds; what is in force is
always the whole of a reading, never a part; a file that cannot be read is a `ConfigError`, a line that is no name is a
warning with file and line. Does not know what is answered for a blocked name.
"""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from p2pdns.errors import KEY_FILE_HINT, KEY_FILE_MARK, KEY_FILE_TEXT, ConfigError, hint_of
from p2pdns.log import get_logger
from p2pdns.resolver.blocking import NAMES_MAX, BlockedNames, read_line

FILE_BYTES_MAX = 268_435_456  # Of one list; four million names of 60 characters, which is more than are taken.
LINE_BYTES_MAX = 4_096  # A hosts file has some hundred a line; a file with a longer one is no list.
SLICE_BYTES = 16_384  # Some five hundred lines, two milliseconds; then others have their turn.
WARNINGS_PER_FILE_MAX = 10  # Who has taken the wrong format sees it in the first ones.

log = get_logger("block")

Signature = tuple[tuple[str, int, int, int], ...]


class BlockLists:
    """What the lists said when they were last read."""

    def __init__(self) -> None:
        self.names = BlockedNames()
        self.warnings: list[str] = []
        self._signature: Signature = ()
        self._reading: asyncio.Task[None] | None = None
        self._trouble: ConfigError | None = None

    def is_outdated(self, paths: Sequence[str]) -> bool:
        """Return whether these files are others, or have changed; ConfigError for one that cannot be read."""
        signature = signature_of(paths)
        # What is being read may be what nobody wants any more.
        is_reading = self._reading is not None and not self._reading.done()
        return is_reading or signature != self._signature

    async def load(self, paths: Sequence[str]) -> None:
        """Read the files, unless that was done, and let what they say take the place of what was said before."""
        signature = signature_of(paths)
        if signature == self._signature:
            return
        names, warnings = BlockedNames(), list[str]()
        for _ in read(paths, names, warnings):
            await asyncio.sleep(0)
        self.names, self.warnings, self._signature = names, warnings, signature
        log.info("block lists are read", names=len(names))
        for warning in warnings:
            log.warning(warning)

    def begin(self, paths: Sequence[str], on_read: Callable[[], None]) -> None:
        """Read the files in the background; what was said before holds until then, and if that fails."""
        self.close()
        self._trouble = None
        self._reading = asyncio.create_task(self._read(paths, on_read))

    async def _read(self, paths: Sequence[str], on_read: Callable[[], None]) -> None:
        try:
            await self.load(paths)
        except ConfigError as trouble:
            log.error("block lists stay as they were", reason=str(trouble))
            self._trouble = trouble
            return
        on_read()

    async def finished(self) -> None:
        """Return when what `begin` began is done; ConfigError when that came to nothing."""
        if self._reading is not None:
            await asyncio.wait({self._reading})
        # Told once: the next reload may find the old files in their places and nothing to read.
        trouble, self._trouble = self._trouble, None
        if trouble is not None:
            raise trouble

    def close(self) -> None:
        """Stop reading."""
        if self._reading is not None:
            self._reading.cancel()


def signature_of(paths: Sequence[str]) -> Signature:
    """Return what differs once a file is another; ConfigError for one that is not there or cannot be read."""
    found = []
    for path in paths:
        with _opened(path) as fd:
            facts = os.fstat(fd)
            if not stat.S_ISREG(facts.st_mode):
                raise _trouble(path, "not a file", "name a file of names, one a line")
            if facts.st_size > FILE_BYTES_MAX:
                raise _trouble(path, f"{facts.st_size} bytes, {FILE_BYTES_MAX} allowed", "is it the right file?")
            found.append((path, facts.st_mtime_ns, facts.st_size, facts.st_ino))
    return tuple(found)


def read(paths: Sequence[str], names: BlockedNames, warnings: list[str]) -> Iterator[None]:
    """Add the names of the files and what is wrong with their lines, and yield after every slice of the work."""
    for path in paths:
        faults = 0
        for number, line in _lines(path):
            if line is None:
                yield
                continue
            if KEY_FILE_MARK in line:
                # Told before any line at fault is, so that none is shown.
                raise _trouble(path, f"not a list of names; {KEY_FILE_TEXT}", KEY_FILE_HINT)
            found, fault = read_line(line)
            for name in found:
                names.add(name)
            if fault:
                faults += 1
                if faults <= WARNINGS_PER_FILE_MAX:
                    warnings.append(f"{path}:{number}: {fault}")
            if names.is_full:
                warnings.append(f"{path}:{number}: more than {NAMES_MAX} names, the rest is left out")
                return
        if faults > WARNINGS_PER_FILE_MAX:
            warnings.append(f"{path}: {faults - WARNINGS_PER_FILE_MAX} more lines that cannot be read")


def _lines(path: str) -> Iterator[tuple[int, str | None]]:
    """Yield (number, line) of a file, and (number, None) where it was read from the disk."""
    number = 0
    rest = b""
    with _opened(path) as fd:
        while True:
            piece = _read(fd, path)
            *lines, rest = (rest + piece).split(b"\n")
            if not piece and rest:
                lines, rest = [rest], b""
            if len(rest) > LINE_BYTES_MAX:
                what = f"line {number + len(lines) + 1} has more than {LINE_BYTES_MAX} bytes"
                raise _trouble(path, what, "is it the right file? it should have one name a line")
            for line in lines:
                number += 1
                yield number, line.decode("utf-8", "replace")
            if not piece:
                return
            yield number, None


@contextmanager
def _opened(path: str) -> Iterator[int]:
    """Yield a descriptor that reads a file; ConfigError when the system refuses it."""
    try:
        # A pipe without a writer would keep us waiting for ever.
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        raise _trouble(path, "no such file", "check the name, or leave it out of the list") from None
    except OSError as trouble:
        raise _refused(path, trouble) from None
    try:
        yield fd
    finally:
        os.close(fd)


def _read(fd: int, path: str) -> bytes:
    try:
        return os.read(fd, SLICE_BYTES)
    except OSError as trouble:
        raise _refused(path, trouble) from None


def _refused(path: str, trouble: OSError) -> ConfigError:
    return _trouble(path, (trouble.strerror or str(trouble)).lower(), hint_of(trouble))


def _trouble(path: str, what: str, hint: str) -> ConfigError:
    return ConfigError(what, place=f"[dns] block: {Path(path)}", hint=hint)
