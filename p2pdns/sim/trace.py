"""The trace of a simulated world: one hash over all that happened in it, in order.

Guarantees: every byte of every datagram, its ends and its time are hashed, and each entry says where it ends, so that
two histories share a hash only if they are the same; the hash depends neither on the machine nor on the order of sets.
Does not know what the entries mean.
"""

from __future__ import annotations

import hashlib
import struct

from p2pdns.addresses import Address
from p2pdns.remembered import remembered

BATCH_ENTRIES_MAX = 512  # Hashed together, because a call for each costs more than its bytes; about 150 kB.
ADDRESSES_REMEMBERED_MAX = 16_384

_DATAGRAM = struct.Struct("<cdIII")  # Kind, time, and the lengths of both addresses and of the data.
_FACT = struct.Struct("<cdI")


@remembered(ADDRESSES_REMEMBERED_MAX)
def _bytes_of(address: Address) -> bytes:
    return repr(address).encode()


class Trace:
    """A hash that grows by entries."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self._batch: list[bytes] = []

    def add_datagram(self, now: float, sender: Address, receiver: Address, data: bytes) -> None:
        """Add a datagram that was sent."""
        one, other = _bytes_of(sender), _bytes_of(receiver)
        batch = self._batch
        batch += (_DATAGRAM.pack(b"d", now, len(one), len(other), len(data)), one, other, data)
        if len(batch) >= 4 * BATCH_ENTRIES_MAX:
            self._flush()

    def add_fact(self, now: float, facts: tuple[object, ...]) -> None:
        """Add something else that happened, as its `repr` tells it."""
        told = repr(facts).encode()
        self._batch += (_FACT.pack(b"f", now, len(told)), told)

    def hexdigest(self) -> str:
        """Return the hash of all entries so far."""
        self._flush()
        return self._hash.hexdigest()

    def _flush(self) -> None:
        self._hash.update(b"".join(self._batch))
        self._batch.clear()
