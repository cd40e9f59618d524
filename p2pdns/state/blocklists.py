"""The block lists of the configuration: files of names, read a little at a time.

Guarantees: reading a million names keeps no question waiting for longer than a few milliseconds; what is in force is
always the whole of a reading, never a part; a file that cannot be read, or that holds no name although it holds lines,
is a `ConfigError`, and at the start of a daemon a warning and the last good copy; a line that is no name is a warning
with file and line. Does not know what is answered for a blocked name.
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
LINE_BYTES_MAX = 4_096  # A hosts file has some hundred a line; a file with a longer one is no list.
SLICE_BYTES = 16_384  # Some five hundred lines, two milliseconds; then others have their turn.
WARNINGS_PER_FILE_MAX = 10  # Who has taken the wrong format sees it in the first ones.
COPY_PREFIX = "block."

log = get_logger("block")

Signature = tuple[tuple[str, int, int, int], ...]


@dataclass(frozen=True, slots=True)
class ListFile:
    """A list of names to block, or of names that are exceptions; `setting` is where the configuration names it.

    Where `copy` is set, that is read in its place.
    """

    path: str
    is_exceptions: bool = False
    copy: Path | None = field(default=None, compare=False)

    @property
    def setting(self) -> str:
        """Where the configuration names it."""
        return "block_except" if self.is_exceptions else "block"


def files_of(config: DnsTable) -> tuple[ListFile, ...]:
    """Return the lists that the configuration names."""
    return (*map(ListFile, config.block), *(ListFile(path, is_exceptions=True) for path in config.block_except))


class BlockLists:
    """What the lists said when they were last read. Copies are kept in `directory`; without one there are none."""

    def __init__(self, directory: Path | None = None) -> None:
        self.names = BlockedNames()
        self.warnings: list[str] = []
        self._directory = directory
        self._signature: Signature = ()
        self._reading: asyncio.Task[None] | None = None
        self._trouble: ConfigError | None = None

    def is_outdated(self, files: Sequence[ListFile]) -> bool:
        """Return whether these files are others, or have changed; ConfigError for one that cannot be read."""
        signature = signature_of(files)
        # What is being read may be what nobody wants any more.
        is_reading = self._reading is not None and not self._reading.done()
        return is_reading or signature != self._signature

    async def load(self, files: Sequence[ListFile]) -> None:
        """Read the files, unless that was done, and let what they say take the place of what was said before."""
        signature = signature_of(files)
        if signature != self._signature:
            await self._take(files, signature, [])

    async def start(self, files: Sequence[ListFile]) -> None:
        """Read the files; for one that cannot be read there is a warning, and its last good copy if there is one.

        A daemon that would not start for it would leave its machine without any names.
        """
        told: list[str] = []
        wanted = list(files)
        signatures = {file: _signature_or_none(file) for file in files}
        # Each round but the last gives up one file.
        for _ in range(len(files) + 1):
            try:
                await self._take(wanted, tuple(filter(None, map(signatures.get, files))), told)
                return
            except _ListError as trouble:
                wanted = [other for file in wanted for other in self._instead(file, trouble, told)]

    def _instead(self, file: ListFile, trouble: _ListError, told: list[str]) -> list[ListFile]:
        """Return what is read in the place of a file: itself, where it is not the one at fault, else its copy."""
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
        """Read the files in the background; what was said before holds until then, and if that fails."""
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


class _ListError(ConfigError):
    """A list that cannot be used."""

    def __init__(self, file: ListFile, what: str, hint: str) -> None:
        super().__init__(what, place=f"[dns] {file.setting}: {Path(file.path)}", hint=hint)
        self.file = file


def signature_of(files: Sequence[ListFile]) -> Signature:
    """Return what differs once a file is another; ConfigError for one that is not there or cannot be read."""
    return tuple(map(_signature_of, files))


def _signature_of(file: ListFile) -> tuple[str, int, int, int]:
    with _opened(file) as fd:
        facts = os.fstat(fd)
        if not stat.S_ISREG(facts.st_mode):
            raise _ListError(file, "not a file", "name a file of names, one a line")
        if facts.st_size > FILE_BYTES_MAX:
            what = f"{facts.st_size} bytes, {FILE_BYTES_MAX} allowed"
            raise _ListError(file, what, "is it the right file?")
        return (f"{file.setting} {file.path}", facts.st_mtime_ns, facts.st_size, facts.st_ino)


def _signature_or_none(file: ListFile) -> tuple[str, int, int, int] | None:
    try:
        return _signature_of(file)
    except ConfigError:
        return None


def _copy_name(file: ListFile) -> str:
    return COPY_PREFIX + hashlib.blake2b(f"{file.setting} {file.path}".encode(), digest_size=8).hexdigest()


def read(
    files: Sequence[ListFile], names: BlockedNames, warnings: list[str], draft: NewCopy | None = None
) -> Iterator[None]:
    """Add the names of the files and what is wrong with their lines, and yield after every slice of the work.

    What was taken is written to `draft`.
    """
    for file in files:
        if file.copy is None:
            # A pipe in the place of a file would never end.
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
            # Told before any line at fault is, so that none is shown.
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
        # A page that says "moved", or a download of another form: an empty list would let everything through.
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
            piece = _read(fd, file)
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
    """Yield a descriptor that reads a file; ConfigError when the system refuses it."""
    try:
        # A pipe without a writer would keep us waiting for ever.
        fd = os.open(file.copy or file.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        raise _ListError(file, "no such file", "check the name, or leave it out of the list") from None
    except OSError as trouble:
        raise _refused(file, trouble) from None
    try:
        yield fd
    finally:
        os.close(fd)


def _read(fd: int, file: ListFile) -> bytes:
    try:
        return os.read(fd, SLICE_BYTES)
    except OSError as trouble:
        raise _refused(file, trouble) from None


def _refused(file: ListFile, trouble: OSError) -> ConfigError:
    return _ListError(file, words_of(trouble), hint_of(trouble))
