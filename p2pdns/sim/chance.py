"""Chance of one machine of a simulated world: random bytes by a seed, in a tenth of the memory of `random.Random`.

Guarantees: the same seed and the same calls give the same bytes, on every machine. Does not know their use.
"""

from __future__ import annotations

import hashlib

BLOCK_BYTES = 64  # Of BLAKE2b; some sixteen transaction ids come from one.


class Chance:
    """BLAKE2b of a counter under a key that follows from the seed."""

    __slots__ = ("_block", "_counter", "_key", "_used")

    def __init__(self, seed: str) -> None:
        self._key = hashlib.blake2b(seed.encode(), digest_size=32).digest()
        self._counter = 0
        self._block = b""
        self._used = 0

    def randbytes(self, count: int) -> bytes:
        """Return so many random bytes."""
        end = self._used + count
        if end > len(self._block):
            parts = [self._block[self._used :]]
            missing = end - len(self._block)
            while missing > 0:
                self._counter += 1
                self._block = hashlib.blake2b(self._counter.to_bytes(8), key=self._key).digest()
                parts.append(self._block[:missing])
                self._used = min(missing, BLOCK_BYTES)
                missing -= BLOCK_BYTES
            return b"".join(parts)
        found = self._block[self._used : end]
        self._used = end
        return found

    def random(self) -> float:
        """Return a number from 0 to below 1."""
        return (int.from_bytes(self.randbytes(8)) >> 11) / (1 << 53)
