"""The TCP door (RFC 7766, RFC 9210): pipelined queries, responses in the order in which they are ready.

Guarantees: which connections there are, which has its turn and how much of it waits is decided by `fairness`; a
connection that brings no whole query and takes no response for the idle time is closed, half a query counts for
nothing, and one that waits for answers is not; what waits to be read and to be taken is bounded; a length that no query
can have closes the connection, and so does the first message of a client that may not ask, one that is no query, and
the first two bytes of a protocol that a browser speaks. Does not know what a message says.
"""

from __future__ import annotations

import asyncio
import socket

from p2pdns.addresses import Address, client_host
from p2pdns.clock import boot_now
from p2pdns.dns.labels import HEADER_BYTES, MESSAGE_BYTES_MAX
from p2pdns.front.doors.fairness import QUERIES_PER_TURN_MAX, Account, ConnectionLimits, Fairness
from p2pdns.front.funnel import Funnel
from p2pdns.front.gate import is_query
from p2pdns.front.transport import TCP
from p2pdns.net.pieces import PieceProtocol, new_buffer
from p2pdns.net.sockets import LISTEN_BACKLOG

LENGTH_BYTES = 2
# A page that a browser shows may send to any port of this machine, but not bytes of its own choice at the beginning:
# HTTP begins with a method, which is text, and HTTPS with a handshake record. As lengths, these would be above 8,000 or
# 5,635, so that the body of a request would follow as the next messages. No first query has such a length.
TEXT_BYTE_MIN, TEXT_BYTE_MAX = 0x21, 0x7E
HANDSHAKE_RECORD = b"\x16\x03"  # RFC 8446 §5.1
ACCEPTED_PER_TURN_MAX = 16  # A connection costs a tenth of a millisecond even where it is one too many.
READ_AHEAD_BYTES_MAX = LENGTH_BYTES + MESSAGE_BYTES_MAX  # With so many there is a whole query to work on.
UNTAKEN_BYTES_SOFT_MAX = 256 * 1024  # Responses that a client does not take: no further query of it is read.
UNTAKEN_BYTES_MAX = 1024 * 1024  # And with those to queries that were read before, the connection is closed.


class TcpDoor:
    """All TCP connections of this front, from however many listening sockets."""

    def __init__(self, funnel: Funnel, limits: ConnectionLimits) -> None:
        self.funnel = funnel
        self.fairness: Fairness[Connection] = Fairness(limits)
        self.counters = self.fairness.counters
        self.buffer = new_buffer()  # All connections are read through it, one after another.
        self._servers: list[asyncio.Server] = []
        self._turn: asyncio.Handle | None = None

    async def listen(self, sock: socket.socket) -> None:
        """Accept connections from a listening socket."""
        loop = asyncio.get_running_loop()
        # What asyncio calls a backlog is also how many it accepts before anybody else has a turn.
        server = await loop.create_server(lambda: Connection(self), sock=sock, backlog=ACCEPTED_PER_TURN_MAX)
        sock.listen(LISTEN_BACKLOG)
        self._servers.append(server)

    def close(self) -> None:
        """Accept no more, and close all connections."""
        for server in self._servers:
            server.close()
        for account in list(self.fairness.accounts):
            account.connection.abort("closing")
        if self._turn is not None:
            self._turn.cancel()
            self._turn = None

    def wants_turn(self, account: Account[Connection]) -> None:
        """Give a connection a turn, after those that want one already."""
        self.fairness.wants_turn(account)
        if self._turn is None:
            self._turn = asyncio.get_running_loop().call_soon(self._take_turns)

    def _take_turns(self) -> None:
        left = QUERIES_PER_TURN_MAX
        try:
            while (turn := self.fairness.next_turn(left)) is not None:
                connection, count_max = turn
                left -= max(1, connection.take_turn(count_max))
        finally:
            # What is called soon runs after the loop has looked at all sockets again.
            is_more = self.fairness.has_turns
            self._turn = asyncio.get_running_loop().call_soon(self._take_turns) if is_more else None


class Connection(PieceProtocol):
    """One TCP connection: a buffer, the queries that wait, and a clock that ticks while nothing happens."""

    def __init__(self, door: TcpDoor) -> None:
        super().__init__(door.buffer)
        self._door = door
        self._loop = asyncio.get_running_loop()
        self._buffer = bytearray()
        self._transport: asyncio.Transport | None = None
        self._address: Address = ("", 0)
        self._account: Account[Connection] = Account(self)
        self._idle: asyncio.TimerHandle | None = None
        self._is_reading = True
        self._is_writable = True
        self._is_at_end = False
        self._is_fresh = True

    @property
    def is_idle(self) -> bool:
        """Return whether nothing is owed to the client: no query waits, no response is on its way."""
        return not (self._account.waiting_count or self.untaken_bytes or self._has_query)

    @property
    def unread_bytes(self) -> int:
        """Return how many bytes were read from its socket and not worked on."""
        return len(self._buffer)

    @property
    def untaken_bytes(self) -> int:
        """Return how many bytes of responses its socket has not taken."""
        return 0 if self._transport is None else self._transport.get_write_buffer_size()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection, or close it where there are too many."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        peer = transport.get_extra_info("peername")
        # A client may be gone before it was accepted; then there is no address to ask for.
        if not peer or not self._is_admitted(client_host(str(peer[0]))):
            transport.abort()
            self._transport = None
            return
        self._address = (str(peer[0]), int(peer[1]))
        transport.set_write_buffer_limits(high=UNTAKEN_BYTES_SOFT_MAX)
        self._idle = self._loop.call_later(self._door.fairness.limits.idle_s, self._on_idle)

    def _is_admitted(self, host: str) -> bool:
        self._account = Account(self, host, self._loop.time())
        is_admitted, given_up = self._door.fairness.admit(self._account)
        if given_up is not None:
            given_up.abort("made-room")
        return is_admitted

    def data_received(self, data: bytes) -> None:
        """Collect bytes; what is whole has to wait for its turn."""
        if self._is_at_end:
            return
        self._buffer += data
        if self._is_fresh and _is_of_another_protocol(self._buffer):
            # At once: the rest would be waited for, and would be taken for further messages.
            self.abort("no-dns")
            return
        self.go_on()

    def eof_received(self) -> bool:
        """Send what is owed before closing: a client may close its half after its last query (RFC 7766 §6.2.4)."""
        self._is_at_end = True
        return not self.is_idle

    def pause_writing(self) -> None:
        """Read no further queries while their responses are not taken."""
        self._is_writable = False
        self.go_on()

    def resume_writing(self) -> None:
        """Go on reading."""
        self._is_writable = True
        self._account.active_at = self._loop.time()
        self.go_on()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection; answers that still come are dropped."""
        self._transport = None
        self._door.fairness.close(self._account)
        if self._idle is not None:
            self._idle.cancel()
        self._buffer.clear()

    def abort(self, reason: str) -> None:
        """Close at once, counted by reason."""
        self._door.counters[reason] += 1
        self._door.fairness.close(self._account)
        if self._transport is not None:
            self._transport.abort()
            self._transport = None

    def take_turn(self, count_max: int) -> int:
        """Work on so many queries at most; return on how many."""
        responses: list[bytes] = []
        count = 0
        while count < count_max and self._has_room and self._has_query:
            count += 1
            if (response := self._received(self._next_message())) is not None:
                responses.append(response)
        if count:
            self._door.fairness.brought(self._account, self._loop.time())
        self._write(*responses)
        self.go_on()
        return count

    @property
    def _has_room(self) -> bool:
        return self._is_writable and self._transport is not None and self._door.fairness.has_room(self._account)

    @property
    def _has_query(self) -> bool:
        buffer = self._buffer
        return len(buffer) >= LENGTH_BYTES and len(buffer) >= LENGTH_BYTES + (buffer[0] << 8 | buffer[1])

    def _next_message(self) -> bytes:
        end = LENGTH_BYTES + (self._buffer[0] << 8 | self._buffer[1])
        message = bytes(self._buffer[LENGTH_BYTES:end])
        del self._buffer[:end]
        return message

    def _received(self, message: bytes) -> bytes | None:
        if len(message) < HEADER_BYTES:
            # Nothing that starts so can be DNS, and the next length would be guesswork.
            self._door.counters["length"] += 1
            self._hear_no_more()
            return None
        response = self._door.funnel.receive(message, self._address, self._reply, boot_now(), TCP)
        if response is None:
            self._door.fairness.waits(self._account)
        if not self._door.funnel.gate.access.standing(self._address[0])[1]:
            # It has been told, and its connection is wanted for those who may ask.
            self._hear_no_more()
        elif self._is_fresh and not is_query(message):
            # It has been told as well, where such a message is told anything.
            self._door.counters["no-query"] += 1
            self._hear_no_more()
        self._is_fresh = False
        return response

    def _hear_no_more(self) -> None:
        self._is_at_end = True
        self._buffer.clear()
        if self._transport is not None and self._is_reading:
            self._is_reading = False
            self._transport.pause_reading()

    def _reply(self, response: bytes) -> None:
        have_room = self._door.fairness.answered(self._account, self._loop.time())
        self._write(response)
        for connection in have_room:
            connection.go_on()
        self.go_on()

    def _write(self, *responses: bytes) -> None:
        # Of a connection that broke a moment ago nothing is left but the news of it.
        if self._transport is None or self._transport.is_closing():
            return
        # One write: length and message in one segment, as RFC 7766 §8 asks for.
        data = b"".join(len(one).to_bytes(LENGTH_BYTES, "big") + one for one in responses if one)
        if data:
            self._transport.write(data)
        if self.untaken_bytes > UNTAKEN_BYTES_MAX:
            self.abort("untaken")

    def go_on(self) -> None:
        """Do what is next after anything has happened: a turn, reading or not, or the end."""
        if self._transport is None:
            return
        has_query = self._has_query
        if has_query and self._has_room:
            self._door.wants_turn(self._account)
        if self._is_at_end:
            if not has_query and not self._account.waiting_count:
                self._transport.close()
            return
        wanted = self._has_room and self.unread_bytes < READ_AHEAD_BYTES_MAX
        if wanted and not self._is_reading:
            self._transport.resume_reading()
        elif self._is_reading and not wanted:
            self._transport.pause_reading()
        self._is_reading = wanted

    def _on_idle(self) -> None:
        now = self._loop.time()
        due = self._door.fairness.idle_due(self._account, now)
        if now < due:
            self._idle = self._loop.call_at(due, self._on_idle)
        else:
            self.abort("idle")


def _is_of_another_protocol(begin: bytearray) -> bool:
    """Return whether the first bytes of a connection are the beginning of HTTP or TLS."""
    is_text = len(begin) >= LENGTH_BYTES and all(TEXT_BYTE_MIN <= one <= TEXT_BYTE_MAX for one in begin[:LENGTH_BYTES])
    return is_text or begin.startswith(HANDSHAKE_RECORD)
