"""Streams read through one buffer."""

from __future__ import annotations

import asyncio
import os
import socket

from p2pdns.net.pieces import PIECE_BYTES_MAX, PieceProtocol, new_buffer


class _Kept(PieceProtocol):
    def __init__(self, buffer: memoryview | None = None) -> None:
        super().__init__(buffer)
        self.pieces: list[bytes] = []
        self.is_over = asyncio.Event()

    def buffer_updated(self, nbytes: int) -> None:
        self.pieces.append(self.piece(nbytes))

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_over.set()


def test_a_stream_is_handed_on_whole_in_pieces_that_stay_as_they_are() -> None:
    async def story() -> None:
        ours, theirs = socket.socketpair()
        kept = _Kept()
        await asyncio.get_running_loop().create_connection(lambda: kept, sock=ours)
        _, writer = await asyncio.open_connection(sock=theirs)
        sent = os.urandom(5 * PIECE_BYTES_MAX)
        writer.write(sent)
        writer.close()
        await kept.is_over.wait()
        assert b"".join(kept.pieces) == sent
        assert max(map(len, kept.pieces)) <= PIECE_BYTES_MAX

    asyncio.run(story())


def test_streams_that_share_a_buffer_keep_apart() -> None:
    async def story() -> None:
        loop = asyncio.get_running_loop()
        buffer = new_buffer()
        streams = []
        for _ in range(3):
            ours, theirs = socket.socketpair()
            kept = _Kept(buffer)
            await loop.create_connection(lambda kept=kept: kept, sock=ours)  # type: ignore[misc]
            _, writer = await asyncio.open_connection(sock=theirs)
            streams.append((kept, writer, os.urandom(3 * PIECE_BYTES_MAX)))
        for _, writer, sent in streams:
            writer.write(sent)
            writer.close()
        for kept, _, sent in streams:
            await kept.is_over.wait()
            assert b"".join(kept.pieces) == sent

    asyncio.run(story())
