"""The value that a signer has published last, in a file beside the zone file: the next start counts its change from it.

Guarantees: the file appears whole or not at all, and is on the disk when `write` returns; another file in its place is
an error, and never a value. Does not know what a value means: the file has a digest and the bytes.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from pathlib import Path

from p2pdns.errors import Unavailable, hint_of, words_of
from p2pdns.items.item import VALUE_BYTES_READ_MAX
from p2pdns.signer.journal import open_new, sync_folder, write_all

ENDING = ".last"
DIGEST_BYTES = 16
FILE_MODE = 0o600  # Its owner alone has a use for it, as for the journal.


def _digest(value: bytes) -> bytes:
    return hashlib.blake2s(value, digest_size=DIGEST_BYTES).digest()


class LastPublished:
    """The file of one zone file."""

    def __init__(self, zone_file: Path) -> None:
        self.path = zone_file.with_name(zone_file.name + ENDING)

    def read(self) -> bytes | None:
        """Return the value; None where the file is not there, Unavailable where it cannot be read or is damaged."""
        try:
            descriptor = os.open(self.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                data = os.pread(descriptor, DIGEST_BYTES + VALUE_BYTES_READ_MAX + 1, 0)
            finally:
                os.close(descriptor)
        except FileNotFoundError:
            return None
        except OSError as trouble:
            raise self._trouble(trouble) from None
        value = data[DIGEST_BYTES:]
        if len(value) > VALUE_BYTES_READ_MAX or data[:DIGEST_BYTES] != _digest(value):
            raise Unavailable("damaged", place=str(self.path), hint="it is written again by the next publication")
        return value

    def write(self, value: bytes) -> None:
        """Keep a value in place of the one before; Unavailable where the disk takes nothing."""
        new = self.path.with_name(f".{self.path.name}.new")
        try:
            descriptor = open_new(new, FILE_MODE)
            try:
                write_all(descriptor, _digest(value) + value)
                os.fsync(descriptor)
                os.replace(new, self.path)
            except BaseException:
                with contextlib.suppress(OSError):
                    os.unlink(new)
                raise
            finally:
                os.close(descriptor)
            sync_folder(self.path.parent)
        except OSError as trouble:
            raise self._trouble(trouble) from None

    def _trouble(self, trouble: OSError) -> Unavailable:
        return Unavailable(words_of(trouble), place=str(self.path), hint=hint_of(trouble))
