"""The TCP door (RFC 7766, RFC 9210): pipelined queries, responses in the order in which they are ready.

Guarantees: `fairness` decides which connections are open, which has its turn and how many of its queries wait. A
connection is closed when, for the idle time, no whole query came (half a query does not count), no response was taken
and no answer was due. The bytes that wait to be read and to be taken are bounded. A connection is also closed after a
length that no query can have, after the first message of a client that may not ask, after a first message that is no
query, and after the first two bytes of a protocol that a browser speaks. Does not know what a message says.
"""

from __future__ import annotations

import asyncio
import socket

from p2pdns.addresses import Address, client_host
from p2pdns.clock import boot_now
from p2pdns.config import LimitsTable
from p2pdns.dns.labels import HEADER_BYTES, MESSAGE_BYTES_MAX
from p2pdns.front.doors.fairness import QUERIES_PER_TURN_MAX, Account, Fairness
from p2pdns.front.funnel import Funnel
from p2pdns.front.gate import is_query
from p2pdns.front.transport import TCP
from p2pdns.net.pieces import PieceProtocol, new_buffer
from p2pdns.net.sockets import LISTEN_BACKLOG

LENGTH_BYTES = 2
# A web page can make a browser send to any port of this machine, but it cannot choose the first bytes: HTTP begins with
# a method, which is text, and HTTPS with a handshake record. Read as lengths these are above 8,000 or are 5,635; then
# the body of the request, which the page chooses, would be read as further messages. No first query is so long.
TEXT_BYTE_MIN, TEXT_BYTE_MAX = 0x21, 0x7E
HANDSHAKE_RECORD = b"\x16\x03"  # RFC 8446 §5.1
ACCEPTED_PER_TURN_MAX = 16  # Each costs a tenth of a millisecond, even one that is refused.
READ_AHEAD_BYTES_MAX = LENGTH_BYTES + MESSAGE_BYTES_MAX  # So many bytes hold at least one whole query.
UNTAKEN_BYTES_SOFT_MAX = 256 * 1024  # Of responses that a client does not take: above it, no query of it is read.
UNTAKEN_BYTES_MAX = 1024 * 1024  # Queries read before can lead to more; above this, the connection is closed.


class TcpDoor:
    """All TCP connections of this front, from however many listening sockets."""

    def __init__(self, funnel: Funnel, limits: LimitsTable) -> None:
        self.funnel = funnel
        self.fairness: Fairness[Connection] = Fairness(limits)
        self.counters = self.fairness.counters
        self.buffer = new_buffer()  # All connections are read through it, one after the other.
        self._servers: list[asyncio.Server] = []
        self._turn: asyncio.Handle | None = None

    async def listen(self, sock: socket.socket) -> None:
        """Accept connections from a listening socket."""
        loop = asyncio.get_running_loop()
        # asyncio accepts as many connections in one turn of the loop as its `backlog` says.
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
            # A call of `call_soon` runs after the loop has looked at all sockets again.
            is_more = self.fairness.has_turns
            self._turn = asyncio.get_running_loop().call_soon(self._take_turns) if is_more else None


class Connection(PieceProtocol):
    """One TCP connection: a buffer, the queries that wait, and a timer for idleness."""

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
        return not (self._account.waiting_count or self.untaken_bytes or self._has_query)

    @property
    def unread_bytes(self) -> int:
        return len(self._buffer)

    @property
    def untaken_bytes(self) -> int:
        return 0 if self._transport is None else self._transport.get_write_buffer_size()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection, or close it where there are too many."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        peer = transport.get_extra_info("peername")
        # A client may be gone before it was accepted; then the socket has no peer address.
        host = client_host(str(peer[0])) if peer else ""
        self._account = Account(self, host, self._loop.time())
        is_admitted, given_up = self._door.fairness.admit(self._account) if peer else (False, None)
        if given_up is not None:
            given_up.abort("made-room")
        if not is_admitted:
            transport.abort()
            self._transport = None
            return
        self._address = (str(peer[0]), int(peer[1]))
        transport.set_write_buffer_limits(high=UNTAKEN_BYTES_SOFT_MAX)
        self._on_idle()

    def buffer_updated(self, nbytes: int) -> None:
        """Collect bytes; a whole query waits for its turn."""
        if self._is_at_end:
            return
        self._buffer += self.piece(nbytes)
        if self._is_fresh and _is_of_another_protocol(self._buffer):
            # At once: the bytes that follow would be read as further messages.
            self.abort("no-dns")
            return
        self.go_on()

    def eof_received(self) -> bool:
        """Close after the last response: a client may close its half after its last query (RFC 7766 §6.2.4)."""
        self._is_at_end = True
        return not self.is_idle

    def pause_writing(self) -> None:
        """Read no further queries while the client does not take its responses."""
        self._is_writable = False
        self.go_on()

    def resume_writing(self) -> None:
        """Go on reading."""
        self._is_writable = True
        self._account.active_at = self._loop.time()
        self.go_on()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection; later responses to it are dropped."""
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
        """Work on at most so many queries; return their count."""
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
            # The stream is not DNS, so the place of the next length is unknown.
            self._door.counters["length"] += 1
            self._hear_no_more()
            return None
        response = self._door.funnel.receive(message, self._address, self._reply, boot_now(), TCP)
        if response is None:
            self._door.fairness.waits(self._account)
        if not self._door.funnel.gate.access.standing(self._address[0])[1]:
            # The client was told REFUSED; its connection is needed for clients that may ask.
            self._hear_no_more()
        elif self._is_fresh and not is_query(message):
            # The gate has answered it, if such a message gets an answer at all.
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
        # A connection that broke a moment ago still has a transport, which is closing.
        if self._transport is None or self._transport.is_closing():
            return
        # RFC 7766 §8: length and message in one segment, so in one write.
        data = b"".join(len(one).to_bytes(LENGTH_BYTES, "big") + one for one in responses if one)
        if data:
            self._transport.write(data)
        if self.untaken_bytes > UNTAKEN_BYTES_MAX:
            self.abort("untaken")

    def go_on(self) -> None:
        """Take the next step after any event: ask for a turn, start or stop reading, or close."""
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
