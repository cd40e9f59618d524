"""Streams read through one buffer.

Guarantees: what arrives is handed on in order, in pieces of a bounded size. Does not know what a piece says.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod

PIECE_BYTES_MAX = 65_536


def new_buffer() -> memoryview:
    """Return a buffer that any number of streams of one event loop may be read through."""
    return memoryview(bytearray(PIECE_BYTES_MAX))


class PieceProtocol(asyncio.BufferedProtocol, ABC):
    """A protocol for one stream whose `data_received` gets what arrives.

    asyncio's own makes 256 KiB of new memory for every piece, which the system has to give and to take back: that costs
    many times what the reading does.
    """

    def __init__(self, buffer: memoryview | None = None) -> None:
        # The loop asks for the buffer, fills it and says so in one go: between two streams nothing stays in it.
        self._piece = new_buffer() if buffer is None else buffer

    def get_buffer(self, sizehint: int) -> memoryview:
        """Return where the next piece is written."""
        return self._piece

    def buffer_updated(self, nbytes: int) -> None:
        """Hand on the piece that was written."""
        self.data_received(bytes(self._piece[:nbytes]))

    @abstractmethod
    def data_received(self, data: bytes) -> None:
        """Take a piece of the stream."""
