"""The connection to the engine: it is opened again whenever it breaks.

Guarantees: there is one connection at a time. It is closed when the first frame is not a `Hello` of our version, when
bytes are no frames, when a frame is of a kind that only a front sends, and when the engine leaves too much unread.
Does not know what the frames mean.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections import Counter
from pathlib import Path

from p2pdns.clock import boot_now
from p2pdns.directory import peer_user_of
from p2pdns.errors import FormatError
from p2pdns.front.funnel import Funnel
from p2pdns.link import SOCKET_NAME, VERSION, Counters, Frame, FrameReader, Hello, QuestionFrame, compose
from p2pdns.log import get_limited_logger
from p2pdns.net.pieces import PieceProtocol
from p2pdns.net.sockets import reachable

RETRY_S_MIN = 0.02  # A restarted engine is found at once; an attempt costs a system call.
RETRY_S_MAX = 0.32
HELLO_S_MAX = 2.0  # After this silence, a process that accepted the connection is no engine.
UNREAD_BYTES_MAX = 1_500_000  # Four times the size of 1024 questions with the longest names.
# Queries of one wakeup that leave together. Each write wakes the engine, which takes the processor from us while the
# rest of a burst still waits in the socket; and the engine divides its time better when it knows of all.
QUERIES_PER_WRITE_MAX = 8

_log = get_limited_logger("front", boot_now)


class EngineLink(PieceProtocol):
    """One front's side of the link; `run` keeps it connected until it is cancelled."""

    def __init__(self, state_dir: Path, funnel: Funnel) -> None:
        super().__init__()
        self.counters: Counter[str] = Counter()
        self.connected = asyncio.Event()
        self._state_dir = state_dir
        self._funnel = funnel
        self._transport: asyncio.Transport | None = None
        self._reader = FrameReader()
        self._greeted = False
        self._distrusted = False
        self._closed = asyncio.Event()
        self._greeted_or_closed = asyncio.Event()
        self._reported: Counters | None = None
        self._unsent: list[QuestionFrame] = []
        funnel.send_query = self.send

    async def run(self) -> None:
        """Connect, and connect again, for ever."""
        delay_s = RETRY_S_MIN
        while True:
            # An engine that restarts is back soon; a process that sent nonsense may well send more.
            was_engine = await self._connect_once()
            delay_s = RETRY_S_MIN if was_engine else min(delay_s * 2, RETRY_S_MAX)
            await asyncio.sleep(delay_s)

    async def _connect_once(self) -> bool:
        """Connect and wait until the connection ends; return whether the other end was an engine."""
        self._closed.clear()
        self._greeted_or_closed.clear()
        try:
            with reachable(self._state_dir / SOCKET_NAME) as path:
                await asyncio.get_running_loop().create_unix_connection(lambda: self, path)
        except OSError:
            self.counters["connect-refused"] += 1
            return False
        # Not `wait_for`: in Python 3.11 that loses a cancellation that comes together with the event.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(HELLO_S_MAX):
                await self._greeted_or_closed.wait()
        if not self._greeted:
            self._distrust("no-hello")
        await self._closed.wait()
        return not self._distrusted

    def send(self, query: QuestionFrame) -> None:
        """Send a query together with those of the same wakeup; without a connection it stays in `Questions`."""
        self._unsent.append(query)
        if len(self._unsent) >= QUERIES_PER_WRITE_MAX:
            self._send_all()
        elif len(self._unsent) == 1:
            asyncio.get_running_loop().call_soon(self._send_all)

    def _send_all(self) -> None:
        queries, self._unsent = self._unsent, []
        if queries:
            self._write(*queries)

    def report(self, counters: Counters) -> None:
        """Tell the engine the counters of the front, unless it has them."""
        if counters != self._reported and self._write(counters):
            self._reported = counters

    def _write(self, *frames: Frame) -> bool:
        transport = self._transport
        if transport is None or transport.is_closing() or not self._greeted:
            return False
        if transport.get_write_buffer_size() > UNREAD_BYTES_MAX:
            self._distrust("unread")
            return False
        transport.write(b"".join([compose(frame) for frame in frames]))
        return True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to read."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        if peer_user_of(transport.get_extra_info("socket")) != os.geteuid():
            # Otherwise the answers of another user's process would be served as ours.
            self._distrust("foreign-user")
            return
        self._reader = FrameReader()
        self._reported = None
        self._greeted = self._distrusted = False

    def buffer_updated(self, nbytes: int) -> None:
        """Read frames and act on them; close the connection at the first bytes that are no frame."""
        transport = self._transport
        try:
            for frame in self._reader.feed(self.piece(nbytes)):
                # An earlier frame of this piece may have closed the connection.
                if transport is None or transport.is_closing():
                    return
                self._frame_received(frame)
        except FormatError as trouble:
            self._distrust(trouble.reason)

    def connection_lost(self, exc: Exception | None) -> None:
        """Hold the open questions, and let `run` connect again."""
        self._transport = None
        self.connected.clear()
        self._closed.set()
        self._greeted_or_closed.set()
        self._funnel.engine_lost(boot_now())

    def _frame_received(self, frame: Frame) -> None:
        if self._greeted:
            self._funnel.frame_received(frame, boot_now())
            return
        if not isinstance(frame, Hello):
            raise FormatError("frame-order", "the first frame is no hello")
        if frame.version != VERSION:
            raise FormatError("link-version", f"{frame.version}, {VERSION} expected")
        self._greeted = True
        self.connected.set()
        self._greeted_or_closed.set()
        self.counters["connected"] += 1
        self._funnel.engine_connected(frame.epoch, boot_now())

    def _distrust(self, reason: str) -> None:
        self.counters[reason] += 1
        self._distrusted = True
        _log.warning("the engine's frames cannot be read, connecting again", reason=reason)
        if self._transport is not None:
            self._transport.abort()
