"""The zone file on the disk: read as the zone of a key, and put in place anew, whole or not at all.

Guarantees: a file that was changed by somebody else since it was read is not overwritten unseen, but for an instant
between the look and the rename; mode and owner stay; a symbolic link stays and its target is replaced. Does not know
what changes a zone, or the journal.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from p2pdns.dns.name import Name
from p2pdns.dns.zonefile import placeholders, reader
from p2pdns.dns.zonefile.lines import logical_lines, normalised
from p2pdns.dns.zonefile.reader import Reading
from p2pdns.errors import Unavailable, ZoneFileError, hint_of, words_of
from p2pdns.signer.content import Content
from p2pdns.signer.journal import open_new, sync_folder, write_all
from p2pdns.signer.rewrite import rewritten

FILE_BYTES_MAX = 16 * 1024 * 1024  # That of `publish`.
NEW_FILE_MODE = 0o644  # As an editor's: a zone is public. A file that was there keeps its mode.
_EMPTY = Reading((), ())

KeysByName = Callable[[], Mapping[str, str]]
"""Returns the keys that stand for `{zone:NAME}`."""


@dataclass(frozen=True)
class Filed:
    """A zone file as it was read; `digest` tells it from any other."""

    text: str
    digest: str
    reading: Reading


class ZoneFile:
    """The zone file of a signer. A missing one is empty where `may_be_missing`."""

    def __init__(
        self,
        path: Path,
        apex: Name,
        *,
        reroot: Name | None = None,
        reroot_if_needed: Name | None = None,
        keys: KeysByName = dict,
        may_be_missing: bool = False,
    ) -> None:
        self.path = path
        self._apex = apex
        self._reroot = reroot
        self._reroot_if_needed = reroot_if_needed
        self._keys = keys
        self._may_be_missing = may_be_missing

    def load(self) -> Filed:
        """Return the file as it is now; ZoneFileError with all its mistakes, Unavailable where it cannot be read."""
        try:
            # Without O_NONBLOCK a pipe in the place of the file would be waited for until somebody writes into it.
            with open(os.open(self.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
                if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                    raise Unavailable("not a file", place=str(self.path), hint="is it the right file?")
                data = file.read(FILE_BYTES_MAX + 1)
        except FileNotFoundError as trouble:
            if not self._may_be_missing:
                raise self._trouble(trouble) from None
            data = b""
        except OSError as trouble:
            raise self._trouble(trouble) from None
        if len(data) > FILE_BYTES_MAX:
            raise Unavailable(f"more than {FILE_BYTES_MAX} bytes", place=str(self.path), hint="is it the right file?")
        try:
            text = data.decode()
        except UnicodeDecodeError:
            hint = "save it as UTF-8, or name another file"
            raise ZoneFileError("not a text file (UTF-8)", path=str(self.path), hint=hint) from None
        return Filed(text, _digest(data), self._read(text))

    def rewrite(self, filed: Filed, content: Content) -> Filed | None:
        """Put the file in place with another content; None where that is left to the journal.

        Unavailable where it cannot be written, or is not the file that was read.
        """
        text = rewritten(filed.text, filed.reading, self._apex, content, self._read)
        if text is None:
            return None
        data = text.encode()
        made = Filed(text, _digest(data), self._read(text))
        if text == filed.text:
            return made
        # What others wrote in the meantime is read first, and not overwritten.
        if self.load().digest != filed.digest:
            raise Unavailable(
                "changed by another program at the same time", place=str(self.path), hint="it is read again"
            )
        try:
            self._put(data)
        except OSError as trouble:
            raise self._trouble(trouble) from None
        return made

    def _read(self, text: str) -> Reading:
        lines = (line.text.lstrip("\ufeff \t\n")[:1] for line in logical_lines(normalised(text)))
        if all(first in ("", ";", "$") for first in lines) and "$GENERATE" not in text.upper():
            return _EMPTY
        names = placeholders.placeholders(text)
        filling = placeholders.fill(text, self._keys() if names else {}, path=str(self.path))
        return reader.reading(
            filling.text,
            apex=self._apex,
            path=str(self.path),
            reroot=self._reroot,
            reroot_if_needed=self._reroot_if_needed,
            mistakes=filling.mistakes,
        )

    def _put(self, data: bytes) -> None:
        target = Path(os.path.realpath(self.path))
        new = target.with_name(f".{target.name}.new")
        descriptor = open_new(new, NEW_FILE_MODE)
        try:
            with contextlib.suppress(FileNotFoundError):
                about = target.stat()
                os.fchmod(descriptor, about.st_mode & 0o777)
                with contextlib.suppress(PermissionError):
                    os.fchown(descriptor, about.st_uid, about.st_gid)
            write_all(descriptor, data)
            os.fsync(descriptor)
            os.replace(new, target)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(new)
            raise
        finally:
            os.close(descriptor)
        sync_folder(target.parent)

    def _trouble(self, trouble: OSError) -> Unavailable:
        return Unavailable(words_of(trouble), place=f'"{self.path}"', hint=hint_of(trouble))


def _digest(data: bytes) -> str:
    return hashlib.blake2s(data, digest_size=16).hexdigest()
