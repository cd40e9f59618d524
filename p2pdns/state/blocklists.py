"""The block lists of the configuration: files of names, read a little at a time.

Guarantees: while a million names are read, no question waits longer than a few milliseconds; a reading comes into force
whole or not at all; a file that cannot be read, or that has lines but no name, is a `ConfigError`, at the start of a
daemon a warning and the last good copy; a line that is no name is a warning with file and line. Does not know what is
answered for a blocked name.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from p2pdns.config import DnsTable
from p2pdns.errors import KEY_FILE_HINT, KEY_FILE_MARK, KEY_FILE_TEXT, ConfigError, hint_of, words_of
from p2pdns.log import get_logger
from p2pdns.resolver.blocking import EXCEPTIONS_MAX, NAMES_MAX, BlockedNames, read_line
from p2pdns.state.kept import Copy, NewCopy

FILE_BYTES_MAX = 268_435_456  # Of one list; four million names of 60 characters, which is more than are taken.
LINE_BYTES_MAX = 4_096  # A line of a hosts file has some hundred; a file with a longer line is no list.
SLICE_BYTES = 16_384  # Some five hundred lines, two milliseconds; then other tasks run.
WARNINGS_PER_FILE_MAX = 10  # The first ones show that a file has the wrong format.
COPY_PREFIX = "block."

log = get_logger("block")

Signature = tuple[tuple[str, int, int, int], ...]


@dataclass(frozen=True, slots=True)
class ListFile:
    """A list of names to block, or of names that are exceptions; `copy` is read in its place where it is set."""

    path: str
    is_exceptions: bool = False
    copy: Path | None = field(default=None, compare=False)

    @property
    def setting(self) -> str:
        return "block_except" if self.is_exceptions else "block"


def files_of(config: DnsTable) -> tuple[ListFile, ...]:
    """Return the lists that the configuration names."""
    return (*map(ListFile, config.block), *(ListFile(path, is_exceptions=True) for path in config.block_except))


class BlockLists:
    """The names of the last reading. Copies of the lists are kept in `directory`, where one is given."""

    def __init__(self, directory: Path | None = None) -> None:
        self.names = BlockedNames()
        self.warnings: list[str] = []
        self._directory = directory
        self._signature: Signature = ()
        self._reading: asyncio.Task[None] | None = None
        self._trouble: ConfigError | None = None

    def is_outdated(self, files: Sequence[ListFile]) -> bool:
        """Return whether these files differ from those last read; ConfigError for one that cannot be read."""
        signature = tuple(map(_signature_of, files))
        # The files that are being read may have been replaced since.
        is_reading = self._reading is not None and not self._reading.done()
        return is_reading or signature != self._signature

    async def load(self, files: Sequence[ListFile]) -> None:
        """Read the files, unless they are those last read, and replace the names in force."""
        signature = tuple(map(_signature_of, files))
        if signature != self._signature:
            await self._take(files, signature, [])

    async def start(self, files: Sequence[ListFile]) -> None:
        """Read the files; in place of one that cannot be read take its last good copy, if there is one, and warn.

        A daemon that did not start because of a list would leave its machine without DNS.
        """
        told: list[str] = []
        wanted = list(files)
        signatures: list[tuple[str, int, int, int]] = []
        for file in files:
            with contextlib.suppress(ConfigError):
                signatures.append(_signature_of(file))
        # Each round but the last replaces or gives up one file.
        for _ in range(len(files) + 1):
            try:
                await self._take(wanted, tuple(signatures), told)
                return
            except _ListError as trouble:
                wanted = [other for file in wanted for other in self._instead(file, trouble, told)]

    def _instead(self, file: ListFile, trouble: _ListError, told: list[str]) -> list[ListFile]:
        """Return the file, where it is not the one at fault; else its copy, or nothing."""
        if file != trouble.file:
            return [file]
        copy = self._copy_of(file)
        has_copy = file.copy is None and copy is not None and copy.is_whole
        told.append(f"{trouble}; {'its last good copy is used' if has_copy else 'it is left out'}")
        return [ListFile(file.path, file.is_exceptions, copy.path)] if copy is not None and has_copy else []

    async def _take(self, files: Sequence[ListFile], signature: Signature, told: list[str]) -> None:
        names, warnings = BlockedNames(), list[str]()
        with contextlib.ExitStack() as copies:
            for file in files:
                copy = self._copy_of(file)
                draft = None if copy is None or file.copy is not None else copies.enter_context(copy.written())
                for _ in read([file], names, warnings, draft):
                    await asyncio.sleep(0)
        self.names, self.warnings, self._signature = names, [*told, *warnings], signature
        self._remove_copies(files)
        if files:
            log.info("block lists are read", names=len(names), exceptions=names.exception_count)
        for warning in self.warnings:
            log.warning(warning)

    def _copy_of(self, file: ListFile) -> Copy | None:
        return None if self._directory is None else Copy(self._directory / _copy_name(file))

    def _remove_copies(self, files: Sequence[ListFile]) -> None:
        if self._directory is None:
            return
        wanted = {_copy_name(file) for file in files}
        with contextlib.suppress(OSError):
            for name in os.listdir(self._directory):
                if name.startswith(COPY_PREFIX) and name not in wanted:
                    (self._directory / name).unlink()

    def begin(self, files: Sequence[ListFile], on_read: Callable[[], None]) -> None:
        """Read the files in the background; the old names stay in force meanwhile, and if it fails."""
        self.close()
        self._trouble = None
        self._reading = asyncio.create_task(self._read(files, on_read))

    async def _read(self, files: Sequence[ListFile], on_read: Callable[[], None]) -> None:
        try:
            await self.load(files)
        except ConfigError as trouble:
            log.error("block lists stay as they were", reason=str(trouble))
            self._trouble = trouble
            return
        on_read()

    async def finished(self) -> None:
        """Return when the reading that `begin` began has ended; ConfigError when it has failed."""
        if self._reading is not None:
            await asyncio.wait({self._reading})
        # The failure is told once: the next reload may find the old files in their places and nothing to read.
        trouble, self._trouble = self._trouble, None
        if trouble is not None:
            raise trouble

    def close(self) -> None:
        """Stop reading."""
        if self._reading is not None:
            self._reading.cancel()


class _ListError(ConfigError):
    """A list that cannot be used."""

    def __init__(self, file: ListFile, what: str, hint: str) -> None:
        super().__init__(what, place=f"[dns] {file.setting}: {Path(file.path)}", hint=hint)
        self.file = file


def _signature_of(file: ListFile) -> tuple[str, int, int, int]:
    """Return values that differ once a file has changed; ConfigError where it is missing or cannot be read."""
    with _opened(file) as fd:
        facts = os.fstat(fd)
        if not stat.S_ISREG(facts.st_mode):
            raise _ListError(file, "not a file", "name a file of names, one a line")
        if facts.st_size > FILE_BYTES_MAX:
            raise _ListError(file, f"{facts.st_size} bytes, {FILE_BYTES_MAX} allowed", "is it the right file?")
        return (f"{file.setting} {file.path}", facts.st_mtime_ns, facts.st_size, facts.st_ino)


def _copy_name(file: ListFile) -> str:
    return COPY_PREFIX + hashlib.blake2b(f"{file.setting} {file.path}".encode(), digest_size=8).hexdigest()


def read(
    files: Sequence[ListFile], names: BlockedNames, warnings: list[str], draft: NewCopy | None = None
) -> Iterator[None]:
    """Add the names of the files, and warnings about their lines; yield after every slice of the work.

    Each name and exception that was added is written to `draft` too.
    """
    for file in files:
        if file.copy is None:
            # This refuses a pipe in the place of a file: it would never end.
            _signature_of(file)
        yield from _read_file(file, names, warnings, draft)


def _read_file(file: ListFile, names: BlockedNames, warnings: list[str], draft: NewCopy | None) -> Iterator[None]:
    faults = taken = 0
    first_fault = ""
    for number, line in _lines(file):
        if line is None:
            yield
            continue
        if KEY_FILE_MARK in line:
            # This comes before the warnings about lines, so that no line of a key file is shown.
            raise _ListError(file, f"not a list of names; {KEY_FILE_TEXT}", KEY_FILE_HINT)
        found = read_line(line.removeprefix("\ufeff") if number == 1 else line)
        exceptions = found.names + found.exceptions if file.is_exceptions else found.exceptions
        for name in () if file.is_exceptions else found.names:
            names.add(name)
            if draft is not None:
                draft.write(name)
        for name in exceptions:
            if not names.add_exception(name):
                warnings.append(f"{file.path}:{number}: more than {EXCEPTIONS_MAX} exceptions, the rest is left out")
                return
            if draft is not None:
                draft.write(f"@@||{name}^")
        taken += len(found.names) + len(found.exceptions)
        if found.fault:
            faults += 1
            first_fault = first_fault or f"line {number}: {found.fault}"
            if faults <= WARNINGS_PER_FILE_MAX:
                warnings.append(f"{file.path}:{number}: {found.fault}")
        if names.is_full:
            warnings.append(f"{file.path}:{number}: more than {NAMES_MAX} names, the rest is left out")
            return
    if faults and not taken:
        # It is a page that says "moved", or a list of another format. Taken as empty it would block nothing.
        what = f"no line of it holds a name; {first_fault}"
        raise _ListError(file, what, "is it the right file? a line is a name, or one of a hosts file")
    if faults > WARNINGS_PER_FILE_MAX:
        warnings.append(f"{file.path}: {faults - WARNINGS_PER_FILE_MAX} more lines that cannot be read")


def _lines(file: ListFile) -> Iterator[tuple[int, str | None]]:
    """Yield (number, line) of a file, and (number, None) where it was read from the disk."""
    number = 0
    rest = b""
    with _opened(file) as fd:
        while True:
            piece = os.read(fd, SLICE_BYTES)
            *lines, rest = (rest + piece).split(b"\n")
            if not piece and rest:
                lines, rest = [rest], b""
            if len(rest) > LINE_BYTES_MAX:
                what = f"line {number + len(lines) + 1} has more than {LINE_BYTES_MAX} bytes"
                raise _ListError(file, what, "is it the right file? it should have one name a line")
            for line in lines:
                number += 1
                yield number, line.decode("utf-8", "replace")
            if not piece:
                return
            yield number, None


@contextmanager
def _opened(file: ListFile) -> Iterator[int]:
    """Yield a descriptor that reads a file; ConfigError when the system refuses that, also inside the block."""
    try:
        # A pipe without a writer would keep us waiting for ever.
        fd = os.open(file.copy or file.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            yield fd
        finally:
            os.close(fd)
    except FileNotFoundError:
        raise _ListError(file, "no such file", "check the name, or leave it out of the list") from None
    except OSError as trouble:
        raise _ListError(file, words_of(trouble), hint_of(trouble)) from None
