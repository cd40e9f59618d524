"""The TCP door (RFC 7766, RFC 9210): pipelined queries, responses in the order in which they are ready.

Guarantees: at most so many connections in all and for one client; a connection that brings no whole query for
the idle time, or takes no response for as long, is closed, one that waits for answers is not; what one
connection sends is handled in small pieces, so that other clients keep their turn; a length that no query can
have closes the connection. Does not know what a message says.
"""

from __future__ import annotations

import asyncio
import socket
from collections import Counter, OrderedDict
from dataclasses import dataclass

from p2pdns.addresses import Address, unmapped
from p2pdns.clock import boot_now
from p2pdns.front.funnel import Funnel
from p2pdns.link import HEADER_BYTES

LENGTH_BYTES = 2
QUERIES_PER_TURN_MAX = 16  # About a millisecond of work before others have their turn.
QUERIES_WAITING_MAX = 100  # Of one connection; further ones wait in its socket.
WRITE_BUFFER_BYTES_MAX = 256 * 1024  # Responses that a client does not read; a few of the largest.


@dataclass(frozen=True, slots=True)
class TcpLimits:
    """What connections may take."""

    connections_max: int = 150
    connections_per_client_max: int = 20
    idle_s: float = 10.0


class TcpDoor:
    """All TCP connections of this front, from however many listening sockets."""

    def __init__(self, funnel: Funnel, limits: TcpLimits) -> None:
        self.counters: Counter[str] = Counter()
        self.limits = limits
        self.funnel = funnel
        self._servers: list[asyncio.Server] = []
        # In the order of their last query, so that the longest idle one comes first.
        self._connections: OrderedDict[Connection, str] = OrderedDict()
        self._per_client: Counter[str] = Counter()

    async def listen(self, sock: socket.socket) -> None:
        """Accept connections from a listening socket."""
        loop = asyncio.get_running_loop()
        self._servers.append(await loop.create_server(lambda: Connection(self), sock=sock))

    def close(self) -> None:
        """Accept no more, and close all connections."""
        for server in self._servers:
            server.close()
        for connection in list(self._connections):
            connection.abort("closing")

    def admit(self, connection: Connection, host: str) -> bool:
        """Return whether one more connection of that host is taken; a busy door gives up its longest idle one."""
        if self._per_client[host] >= self.limits.connections_per_client_max:
            self.counters["client-limit"] += 1
            return False
        if len(self._connections) >= self.limits.connections_max:
            # RFC 7766 §6.2.3: a server may close idle connections early when it runs short of them.
            idle = next((c for c in self._connections if c.is_idle), None)
            if idle is None:
                self.counters["limit"] += 1
                return False
            idle.abort("made-room")
        self._connections[connection] = host
        self._per_client[host] += 1
        self.counters["accepted"] += 1
        return True

    def active(self, connection: Connection) -> None:
        """Note that a connection brought a query."""
        if connection in self._connections:
            self._connections.move_to_end(connection)

    def gone(self, connection: Connection) -> None:
        """Forget a connection; twice does no harm."""
        host = self._connections.pop(connection, None)
        if host is not None:
            self._per_client[host] -= 1
            if not self._per_client[host]:
                del self._per_client[host]


class Connection(asyncio.Protocol):
    """One TCP connection: a buffer, the queries that wait, and a clock that ticks while nothing happens."""

    def __init__(self, door: TcpDoor) -> None:
        self._door = door
        self._buffer = bytearray()
        self._waiting_count = 0
        self._transport: asyncio.Transport | None = None
        self._address: Address = ("", 0)
        self._turn: asyncio.Handle | None = None
        self._idle: asyncio.TimerHandle | None = None
        self._is_reading = True
        self._is_writable = True
        self._is_at_end = False

    @property
    def is_idle(self) -> bool:
        """Return whether nothing is owed to the client: no query waits, no response is on its way."""
        sending = self._transport is not None and self._transport.get_write_buffer_size() > 0
        return not self._waiting_count and not sending

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection, or close it where there are too many."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        peer = transport.get_extra_info("peername")
        # A client may be gone before it was accepted; then there is no address to ask for.
        if not peer or not self._door.admit(self, unmapped(str(peer[0]))):
            transport.abort()
            self._transport = None
            return
        self._address = (str(peer[0]), int(peer[1]))
        transport.set_write_buffer_limits(high=WRITE_BUFFER_BYTES_MAX)
        self._restart_idle()

    def data_received(self, data: bytes) -> None:
        """Collect bytes and handle what is whole."""
        self._buffer += data
        if self._turn is None:
            self._take_turn()

    def eof_received(self) -> bool:
        """Send what is owed before closing: a client may close its half after its last query (RFC 7766 §6.2.4)."""
        self._is_at_end = True
        return self._turn is not None or not self.is_idle

    def pause_writing(self) -> None:
        """Read no further queries while their responses are not taken."""
        self._is_writable = False
        self._adjust_reading()

    def resume_writing(self) -> None:
        """Go on reading."""
        self._is_writable = True
        self._adjust_reading()
        self._schedule_turn()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection; answers that still come are dropped."""
        self._transport = None
        self._door.gone(self)
        for handle in (self._turn, self._idle):
            if handle is not None:
                handle.cancel()
        self._buffer.clear()

    def abort(self, reason: str) -> None:
        """Close at once, counted by reason."""
        self._door.counters[reason] += 1
        self._door.gone(self)
        if self._transport is not None:
            self._transport.abort()
            self._transport = None

    def _take_turn(self) -> None:
        self._turn = None
        for _ in range(QUERIES_PER_TURN_MAX):
            if self._transport is None or not self._has_room:
                break
            message = self._next_message()
            if message is None:
                break
            self._restart_idle()
            self._door.active(self)
            self._received(message)
        else:
            self._schedule_turn()
        self._adjust_reading()
        self._close_when_done()

    @property
    def _has_room(self) -> bool:
        return self._is_writable and self._waiting_count < QUERIES_WAITING_MAX

    def _next_message(self) -> bytes | None:
        buffer = self._buffer
        if len(buffer) < LENGTH_BYTES:
            return None
        size = int.from_bytes(buffer[:LENGTH_BYTES], "big")
        if size < HEADER_BYTES:
            # Nothing that starts so can be DNS, and the next length would be guesswork.
            self.abort("length")
            return None
        if len(buffer) < LENGTH_BYTES + size:
            return None
        message = bytes(buffer[LENGTH_BYTES : LENGTH_BYTES + size])
        del buffer[: LENGTH_BYTES + size]
        return message

    def _received(self, message: bytes) -> None:
        self._waiting_count += 1
        response = self._door.funnel.receive(message, self._address, self._reply, boot_now(), is_stream=True)
        if response is not None:
            self._waiting_count -= 1
            self._write(response)

    def _reply(self, response: bytes) -> None:
        self._waiting_count -= 1
        self._write(response)
        self._schedule_turn()
        self._close_when_done()

    def _write(self, response: bytes) -> None:
        if response and self._transport is not None:
            # One write: length and message in one segment, as RFC 7766 §8 asks for.
            self._transport.write(len(response).to_bytes(LENGTH_BYTES, "big") + response)

    def _schedule_turn(self) -> None:
        if self._turn is None and self._transport is not None and self._buffer and self._has_room:
            self._turn = asyncio.get_running_loop().call_soon(self._take_turn)

    def _adjust_reading(self) -> None:
        if self._transport is None or self._is_at_end:
            return
        wanted = self._has_room and self._turn is None
        if wanted and not self._is_reading:
            self._transport.resume_reading()
        elif self._is_reading and not wanted:
            self._transport.pause_reading()
        self._is_reading = wanted

    def _close_when_done(self) -> None:
        if self._is_at_end and self._turn is None and not self._waiting_count and self._transport is not None:
            self._transport.close()

    def _restart_idle(self) -> None:
        if self._idle is not None:
            self._idle.cancel()
        self._idle = asyncio.get_running_loop().call_later(self._door.limits.idle_s, self._on_idle)

    def _on_idle(self) -> None:
        if self._waiting_count:
            # The engine is at work on its behalf; that has a deadline of its own.
            self._restart_idle()
        else:
            self.abort("idle")
