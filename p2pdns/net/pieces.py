"""Streams that are read through one buffer.

Guarantees: a stream is handed on in order, in pieces of a bounded size. Does not know what a piece says.
"""

from __future__ import annotations

import asyncio

PIECE_BYTES_MAX = 65_536


def new_buffer() -> memoryview:
    """Return a buffer for any number of streams of one event loop."""
    return memoryview(bytearray(PIECE_BYTES_MAX))


class PieceProtocol(asyncio.BufferedProtocol):
    """A protocol for one stream; its `buffer_updated` takes each piece with `piece`.

    asyncio's own protocol allocates 256 KiB for every piece, and the system gives and takes back this memory each time:
    that costs many times as much as the reading.
    """

    def __init__(self, buffer: memoryview | None = None) -> None:
        # The loop asks for the buffer, fills it and calls `buffer_updated` in one go, so streams can share it.
        self._piece = new_buffer() if buffer is None else buffer

    def get_buffer(self, sizehint: int) -> memoryview:
        """Return the buffer for the next piece."""
        return self._piece

    def piece(self, size_bytes: int) -> bytes:
        """Return a copy of the piece that was just written; the next one overwrites the buffer."""
        return bytes(self._piece[:size_bytes])
