"""The journal: a file of entries, each on the disk before the change that it tells of is acknowledged.

A line is a digest and JSON. The digest covers the lines above it too, so a line that is lost is noticed. Guarantees:
an entry survives a crash once `append` has returned; a line that was not finished is cut off at the next start, since
its change was not acknowledged; damage above good lines is an error and loses nothing; one process at a time has a
journal. Does not know what the entries mean.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import stat
from pathlib import Path
from typing import Any

from p2pdns.errors import Unavailable, hint_of, words_of

# Some thousand changes. A larger one is written anew with what still counts, which takes milliseconds.
JOURNAL_BYTES_MAX = 1_048_576
FILE_BYTES_MAX = 16 * JOURNAL_BYTES_MAX  # No journal of ours grows so far; what is larger is another file.
DIGEST_CHARACTERS = 16
FILE_MODE = 0o600  # It holds MACs of TSIG; its owner alone has a use for it.
VERSION = 1

Entry = dict[str, Any]


def _digest(before: str, text: str) -> str:
    return hashlib.blake2s(f"{before}{text}".encode(), digest_size=DIGEST_CHARACTERS // 2).hexdigest()


def _line(before: str, entry: Entry) -> tuple[bytes, str]:
    text = json.dumps(entry, separators=(",", ":"), sort_keys=True)
    digest = _digest(before, text)
    return f"{digest} {text}\n".encode(), digest


def _read_line(before: str, line: bytes) -> tuple[Entry, str] | None:
    """Return the entry of a line and its digest; None for a line that was not written so."""
    try:
        digest, _, text = line.decode().partition(" ")
        if not text or digest != _digest(before, text):
            return None
        entry = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return (entry, digest) if isinstance(entry, dict) else None


class Journal:
    """An open journal; `entries` are those that were there, `cut_bytes` is what was cut off."""

    def __init__(self, path: Path, zone: str) -> None:
        """Open or make the journal of a zone; Unavailable where it cannot be used."""
        self.path = path
        self.entries: list[Entry] = []
        self.cut_bytes = 0
        self.size_bytes = 0
        self._head: Entry = {"journal": VERSION, "zone": zone}
        self._last = ""
        self._descriptor = self._opened()
        try:
            self._read()
        except BaseException:
            os.close(self._descriptor)
            raise

    def append(self, entry: Entry) -> None:
        """Write an entry and wait until it is on the disk; Unavailable, and nothing is written, where that fails."""
        line, digest = _line(self._last, entry)
        try:
            self._write(line)
            os.fsync(self._descriptor)
        except OSError as trouble:
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptor, self.size_bytes)
            raise Unavailable(words_of(trouble), place=str(self.path), hint=hint_of(trouble)) from None
        self._last = digest
        self.size_bytes += len(line)

    def compact(self, entries: list[Entry]) -> None:
        """Put these entries in the place of all others, by a new file, so that a crash leaves the one or the other."""
        new = self.path.with_name(self.path.name + ".new")
        lines, last = list[bytes](), ""
        for entry in [self._head, *entries]:
            line, last = _line(last, entry)
            lines.append(line)
        data = b"".join(lines)
        try:
            descriptor = open_new(new, FILE_MODE)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                write_all(descriptor, data)
                os.fsync(descriptor)
                os.replace(new, self.path)
            except BaseException:
                os.close(descriptor)
                raise
            # From here on the new file is the journal, whatever fails: lines written to the old file would be lost.
            os.close(self._descriptor)
            self._descriptor, self._last, self.size_bytes = descriptor, last, len(data)
            sync_folder(self.path.parent)
        except OSError as trouble:
            raise Unavailable(words_of(trouble), place=str(new), hint=hint_of(trouble)) from None

    def close(self) -> None:
        """Let another process have the journal."""
        os.close(self._descriptor)

    def _opened(self) -> int:
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            descriptor = os.open(self.path, flags, FILE_MODE)
        except OSError as trouble:
            raise Unavailable(words_of(trouble), place=str(self.path), hint=hint_of(trouble)) from None
        try:
            self._refuse_planted(descriptor)
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except Unavailable:
            os.close(descriptor)
            raise
        except BlockingIOError:
            os.close(descriptor)
            hint = "a zone has one signer: end the other one, or name another zone file"
            raise Unavailable("another signer has this zone file", place=str(self.path), hint=hint) from None
        return descriptor

    def _refuse_planted(self, descriptor: int) -> None:
        """Refuse a file that another user could have put here: whoever writes the journal writes the zone."""
        about = os.fstat(descriptor)
        is_ours = about.st_uid in (0, os.geteuid()) and about.st_nlink == 1 and stat.S_ISREG(about.st_mode)
        if not is_ours or about.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            hint = "ls -l shows it; keep the zone file in a folder of your own"
            raise Unavailable("other users can write this journal", place=str(self.path), hint=hint)

    def _read(self) -> None:
        data = os.pread(self._descriptor, FILE_BYTES_MAX + 1, 0)
        if len(data) > FILE_BYTES_MAX:
            raise self._foreign(f"more than {FILE_BYTES_MAX} bytes")
        lines = data.split(b"\n")
        good = self._read_good(lines)
        if good and self.entries.pop(0) != self._head:
            raise self._foreign("the journal of another zone")
        self.size_bytes = sum(len(line) + 1 for line in lines[:good])
        rest = data[self.size_bytes :]
        # An unfinished line is the last one of the file. Lines behind a damaged one are changes that were acknowledged.
        if b"\n" in rest.rstrip(b"\n\0") or (not good and rest and not _line("", self._head)[0].startswith(rest)):
            what = f"damaged in line {good + 1}, and there is more behind it"
            hint = f"mv {self.path} elsewhere to go on from the zone file; changes that it lacks are in the journal"
            raise Unavailable(what, place=str(self.path), hint=hint)
        self.cut_bytes = len(rest)
        os.ftruncate(self._descriptor, self.size_bytes)
        os.lseek(self._descriptor, self.size_bytes, os.SEEK_SET)
        if not good:
            self.append(self._head)
            sync_folder(self.path.parent)

    def _read_good(self, lines: list[bytes]) -> int:
        """Read lines up to the first bad one, and return how many are good; the last element is behind the last \\n."""
        for index, line in enumerate(lines[:-1]):
            found = _read_line(self._last, line)
            if found is None:
                return index
            entry, self._last = found
            self.entries.append(entry)
        return len(lines) - 1

    def _foreign(self, what: str) -> Unavailable:
        hint = f"it is no journal of this zone: mv {self.path} elsewhere"
        return Unavailable(what, place=str(self.path), hint=hint)

    def _write(self, data: bytes) -> None:
        os.lseek(self._descriptor, self.size_bytes, os.SEEK_SET)
        write_all(self._descriptor, data)


def open_new(path: Path, mode: int) -> int:
    """Return a descriptor of a new file, in place of one that a crash has left there; never of anybody else's."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)


def write_all(descriptor: int, data: bytes) -> None:
    """Write all bytes; OSError where the disk takes no more."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def sync_folder(folder: Path) -> None:
    """Have the names in a folder on the disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
