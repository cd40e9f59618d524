"""Streams read through one buffer."""

from __future__ import annotations

import asyncio
import os
import socket

from p2pdns.net.pieces import PIECE_BYTES_MAX, PieceProtocol


class _Kept(PieceProtocol):
    def __init__(self) -> None:
        super().__init__()
        self.pieces: list[bytes] = []
        self.is_over = asyncio.Event()

    def data_received(self, data: bytes) -> None:
        self.pieces.append(data)

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
