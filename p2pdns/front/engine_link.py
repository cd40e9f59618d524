"""The connection to the engine: kept open, opened again when it breaks, distrusted when it talks nonsense.

Guarantees: exactly one connection at a time; the engine's `Hello` comes first and has our version, else the
connection is closed; bytes that are no frames, or frames that an engine does not send, close it as well; an
engine that does not read is let go before it fills our memory. Does not know what the frames are about.
"""

from __future__ import annotations

import asyncio
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

RETRY_S_MIN = 0.02  # A restarted engine is found at once; a look costs a system call.
RETRY_S_MAX = 0.32
HELLO_S_MAX = 2.0  # An engine that accepts and says nothing is no engine.
# Queries to an engine that reads nothing: four times what 1024 questions of the longest names take.
UNREAD_BYTES_MAX = 1_500_000
# Queries of one wakeup that leave together. Each write wakes the engine, which then takes the processor from us while
# the rest of a burst still waits in the socket; and the engine shares its time out better when it knows of all.
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
        self._reported: Counters | None = None
        self._unsent: list[QuestionFrame] = []
        funnel.send_query = self.send

    async def run(self) -> None:
        """Connect, and connect again, for ever."""
        delay_s = RETRY_S_MIN
        while True:
            self._closed.clear()
            if await self._connect():
                greeted = await self._wait_for_hello()
                if not greeted:
                    self._distrust("no-hello")
                await self._closed.wait()
                # What was an engine is likely to be one again soon; what talked nonsense may go on with it.
                is_trusted = greeted and not self._distrusted
                delay_s = RETRY_S_MIN if is_trusted else min(delay_s * 2, RETRY_S_MAX)
            else:
                delay_s = min(delay_s * 2, RETRY_S_MAX)
            await asyncio.sleep(delay_s)

    async def _connect(self) -> bool:
        loop = asyncio.get_running_loop()
        try:
            with reachable(self._state_dir / SOCKET_NAME) as path:
                await loop.create_unix_connection(lambda: self, path)
        except OSError:
            self.counters["connect-refused"] += 1
            return False
        return True

    async def _wait_for_hello(self) -> bool:
        waiting = [asyncio.ensure_future(event.wait()) for event in (self.connected, self._closed)]
        await asyncio.wait(waiting, timeout=HELLO_S_MAX, return_when=asyncio.FIRST_COMPLETED)
        for task in waiting:
            task.cancel()
        return self.connected.is_set() or (self._closed.is_set() and self._greeted)

    def send(self, query: QuestionFrame) -> None:
        """Send one query with those that come in the same wakeup; without a connection the table has them all."""
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
        """Tell the engine what the front has counted, unless it knows."""
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
            # The answers of another user's process would be shown as ours.
            self._distrust("foreign-user")
            return
        self._reader = FrameReader()
        self._reported = None
        self._greeted = self._distrusted = False

    def data_received(self, data: bytes) -> None:
        """Read frames and act on them; close the connection over the first that is none."""
        transport = self._transport
        try:
            for frame in self._reader.feed(data):
                # An earlier frame of the same piece may have closed the connection.
                if transport is None or transport.is_closing():
                    return
                self._frame_received(frame)
        except FormatError as trouble:
            self._distrust(trouble.reason)

    def connection_lost(self, exc: Exception | None) -> None:
        """Hold what waits, and look for an engine again."""
        self._transport = None
        self.connected.clear()
        self._closed.set()
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
        self.counters["connected"] += 1
        self._funnel.engine_connected(frame.epoch, boot_now())

    def _distrust(self, reason: str) -> None:
        self.counters[reason] += 1
        self._distrusted = True
        _log.warning("the engine's frames cannot be read, connecting again", reason=reason)
        if self._transport is not None:
            self._transport.abort()
