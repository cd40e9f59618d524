"""Streams that are read through one buffer.

Guarantees: a stream is handed on in order, in pieces of a bounded size. Does not know what a piece says.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod

PIECE_BYTES_MAX = 65_536


def new_buffer() -> memoryview:
    """Return a buffer for any number of streams of one event loop."""
    return memoryview(bytearray(PIECE_BYTES_MAX))


class PieceProtocol(asyncio.BufferedProtocol, ABC):
    """A protocol for one stream; `data_received` gets the pieces.

    asyncio's own protocol allocates 256 KiB for every piece, and the system gives and takes back this memory each time:
    that costs many times as much as the reading.
    """

    def __init__(self, buffer: memoryview | None = None) -> None:
        # The loop asks for the buffer, fills it and calls `buffer_updated` in one go, so streams can share it.
        self._piece = new_buffer() if buffer is None else buffer

    def get_buffer(self, sizehint: int) -> memoryview:
        """Return the buffer for the next piece."""
        return self._piece

    def buffer_updated(self, nbytes: int) -> None:
        """Hand on the piece that was written."""
        self.data_received(bytes(self._piece[:nbytes]))

    @abstractmethod
    def data_received(self, data: bytes) -> None:
        """Take a piece of the stream."""
