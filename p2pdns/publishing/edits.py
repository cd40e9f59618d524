"""An edit of a divided zone that was begun: the division to be published, and the edition that it is made from.

It is on the disk before the first item is put, and goes when the head is stored. An edit that was interrupted is gone
on with: the same content gives the same items again, and those that are stored already are not put twice.

Guarantees: what comes back from a disk is the whole edit, or nothing. Does not know where it is kept.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass
from typing import Protocol

from p2pdns.dns.name import Name
from p2pdns.errors import StrangerError
from p2pdns.items.dividing import ITEMS_MAX, Division, gathered
from p2pdns.items.item import VALUE_BYTES_READ_MAX
from p2pdns.items.shards.pinned import SALT_DIGEST_BYTES

SALT_BYTES = 1 + SALT_DIGEST_BYTES
DIGEST_BYTES = 32
MAGIC = b"p2pdns edit 1\n"
_SIZE = struct.Struct("!H")
EDIT_BYTES_MAX = (ITEMS_MAX + 2) * (SALT_BYTES + _SIZE.size + VALUE_BYTES_READ_MAX)  # Some 8 MB.


@dataclass(frozen=True)
class Edit:
    """A division that is about to be published above the edition whose value has this SHA-256; of zeros: above none."""

    base: bytes
    division: Division

    def compose(self) -> bytes:
        """Return the edit as it is kept."""
        head = self.division.head
        parts = [MAGIC, self.base, _SIZE.pack(len(head)), head]
        for pinned, value in self.division.items():
            parts += [pinned.salt, _SIZE.pack(len(value)), value]
        body = b"".join(parts)
        return body + hashlib.sha256(body).digest()

    @classmethod
    def parse(cls, apex: Name, data: bytes) -> Edit | None:
        """Return the edit that was kept of a zone; None where it is damaged, or another zone's."""
        body, digest = data[:-DIGEST_BYTES], data[-DIGEST_BYTES:]
        if not body.startswith(MAGIC) or hashlib.sha256(body).digest() != digest:
            return None
        at = len(MAGIC) + DIGEST_BYTES
        base = body[len(MAGIC) : at]
        try:
            head, at = _value_at(body, at)
            values: dict[bytes, bytes] = {}
            while at < len(body):
                salt = body[at : at + SALT_BYTES]
                values[salt], at = _value_at(body, at + SALT_BYTES)
            division = gathered(apex, head, lambda pinned: values.get(pinned.salt))
        except (struct.error, StrangerError):
            return None
        return cls(base, division) if isinstance(division, Division) else None


def _value_at(body: bytes, at: int) -> tuple[bytes, int]:
    """Return the value that begins at an offset, and the offset behind it."""
    # The rest is not cut off each time: an edit of the largest size would be copied eight thousand times.
    (size,) = _SIZE.unpack_from(body, at)
    at += _SIZE.size
    return body[at : at + size], at + size


def base_of(value: bytes | None) -> bytes:
    """Return what an edit says of the edition that it is made from."""
    return bytes(DIGEST_BYTES) if value is None else hashlib.sha256(value).digest()


class EditJournal(Protocol):
    """Where an edit outlives the process that has begun it."""

    def begun(self) -> bytes | None:
        """Return the edit that is not finished, as it was kept."""

    def begin(self, edit: bytes) -> None:
        """Keep an edit, in the place of any other one; returns once it is on the disk, where the disk takes it."""

    def end(self) -> None:
        """Keep nothing any more: the edit is published."""


class EditsInMemory:
    """The journal of a process that keeps nothing."""

    def __init__(self) -> None:
        self.edit: bytes | None = None

    def begun(self) -> bytes | None:
        """Return the edit that is not finished."""
        return self.edit

    def begin(self, edit: bytes) -> None:
        """Keep an edit."""
        self.edit = edit

    def end(self) -> None:
        """Keep nothing any more."""
        self.edit = None
