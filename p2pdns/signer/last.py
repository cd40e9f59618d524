"""The zone as a signer has published it last, in a file beside the zone file: the next start counts its change from it.

Guarantees: the file appears whole or not at all, and is on the disk when `write` returns; another file in its place is
an error, and never a zone. Does not know what a zone may say: the file has a digest, the seq and the draft.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from pathlib import Path
from typing import NamedTuple

from p2pdns.errors import StrangerError, Unavailable, hint_of, words_of
from p2pdns.publishing.editions import Draft, compose_draft, parse_draft
from p2pdns.publishing.edits import EDIT_BYTES_MAX
from p2pdns.signer.journal import open_new, sync_folder, write_all

ENDING = ".last"
DIGEST_BYTES = 16
SEQ_BYTES = 8
FILE_BYTES_MAX = DIGEST_BYTES + SEQ_BYTES + EDIT_BYTES_MAX  # What a division takes is more than what it says.
FILE_MODE = 0o600  # Its owner alone has a use for it, as for the journal.


class Last(NamedTuple):
    """What was published: the zone without what another publisher has in the overlay, and the seq of its item."""

    seq: int
    draft: Draft


def _digest(data: bytes) -> bytes:
    return hashlib.blake2s(data, digest_size=DIGEST_BYTES).digest()


class LastPublished:
    """The file of one zone file."""

    def __init__(self, zone_file: Path) -> None:
        self.path = zone_file.with_name(zone_file.name + ENDING)

    def read(self) -> Last | None:
        """Return what was published last; None where nothing was, Unavailable where it is damaged or cannot be read."""
        try:
            descriptor = os.open(self.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                data = os.pread(descriptor, FILE_BYTES_MAX + 1, 0)
            finally:
                os.close(descriptor)
        except FileNotFoundError:
            return None
        except OSError as trouble:
            raise self._trouble(trouble) from None
        digest, seq, draft = data[:DIGEST_BYTES], data[DIGEST_BYTES:][:SEQ_BYTES], data[DIGEST_BYTES + SEQ_BYTES :]
        try:
            if len(data) <= FILE_BYTES_MAX and digest == _digest(seq + draft):
                return Last(int.from_bytes(seq), parse_draft(draft))
        except StrangerError:
            pass
        raise Unavailable("damaged", place=str(self.path), hint="it is written again by the next publication")

    def write(self, last: Last) -> None:
        """Keep this in place of what was published before; Unavailable where the disk takes nothing."""
        data = last.seq.to_bytes(SEQ_BYTES) + compose_draft(last.draft)
        new = self.path.with_name(f".{self.path.name}.new")
        try:
            descriptor = open_new(new, FILE_MODE)
            try:
                write_all(descriptor, _digest(data) + data)
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
