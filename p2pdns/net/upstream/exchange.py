"""One query to one server: its bytes, its socket, and the choice of its reply among the datagrams that come back.

Guarantees: each query has a connected socket, so a port that the system drew for it, and an ID of its own (RFC 5452
§9.2); it goes to the named server and to no other. A datagram that is no response, has another ID or another question
(byte by byte) is counted by reason and passed over; after too many of them the socket is closed. The truncation bit of
a reply is read first, and a reply that was cut is asked for over TCP; any other is read once, by `p2pdns.dns.message`.
Does not know which server is asked next, nor how long a reply is waited for.
"""

from __future__ import annotations

import asyncio
import errno
import os
import select
import socket
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from p2pdns.addresses import Address
from p2pdns.dns.labels import HEADER_BYTES
from p2pdns.dns.message import Message, Question
from p2pdns.dns.message.wire import parse
from p2pdns.dns.registry import DO_FLAG, OPCODE_MASK, RCODE_MASK, UDP_SIZE_BYTES, Flag, Rcode
from p2pdns.errors import FormatError
from p2pdns.values import Value, replace

DATAGRAM_BYTES_MAX = 65_535  # A server may send more than the size in our OPT; such a reply is read too.
REPLY_RECORDS_MAX = 512  # Real answers have tens; reading, filtering and writing 512 takes some 20 ms.
# Datagrams passed over on one socket: one guess in 65,536 hits the ID, and the next socket has another port.
STRAY_DATAGRAMS_MAX = 64
# Sockets at a time, of the 1,024 files that a process may open by default: one for each of the 512 questions that may
# wait for an upstream, and one more for half of them, whose first try is still listened to.
SOCKETS_MAX = 768
READABLE_PER_TURN_MAX = 32  # Replies read in one turn of the loop, some 3 ms of work.
DATAGRAMS = socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
OPT_BYTES = 11  # Without options.
QR, OPCODE, TC = Flag.QR >> 8, OPCODE_MASK >> 8, Flag.TC >> 8  # In the third byte of a message.
# A reply with one of these may leave the question out (RFC 6891 §7: the server could not read the query).
SERVER_FAULTS = frozenset([Rcode.FORMERR, Rcode.SERVFAIL, Rcode.NOTIMP, Rcode.REFUSED])


class Asking(Value, frozen=True):
    """One question as it is sent; `has_opt`: with EDNS (RFC 6891), which a few servers do not know."""

    question: Question
    rd: bool
    do: bool
    cd: bool
    ad: bool
    has_opt: bool = True

    @property
    def key(self) -> bytes:
        """Return the key that equal questions share."""
        # The length of a label is at most 63, so `lower` does not take it for a letter.
        wire = self.question.wire()
        return wire[:-4].lower() + wire[-4:] + bytes((self.rd, self.do, self.cd))

    def without_opt(self) -> Asking:
        """Return the same question without EDNS."""
        return replace(self, has_opt=False)


class Trouble(Enum):
    """The ends of a query without a usable reply; the value is the text for people."""

    GONE = "no upstream answered in time"  # No process listens there.
    CROWDED = "too many queries to upstreams are under way"  # There is no free socket, or a newer query took this one.
    STRAY = "too many datagrams came that were no reply"
    UNREADABLE = "the upstream's reply cannot be read"
    CUT = "the upstream cut its reply over TCP too"
    NO_TCP = "the upstream cut its reply and does not give the whole over TCP"


class Sign(Enum):
    """News of a query before its reply."""

    CUT = "cut"  # The reply is truncated; it is asked for over TCP now.


Heard = Message | Trouble | Sign
Listener = Callable[[Heard], None]
Close = Callable[[], None]
Exchange = Callable[[Address, Asking, Listener], Close]
"""Asks a server. The listener is called until the returned function is called, which may happen more than once."""


def compose_query(asking: Asking, number: bytes) -> bytes:
    """Return a query with this ID."""
    flags = Flag.RD * asking.rd | Flag.CD * asking.cd | Flag.AD * asking.ad
    head = number + flags.to_bytes(2) + (b"\0\1\0\0\0\0\0\1" if asking.has_opt else b"\0\1\0\0\0\0\0\0")
    question = asking.question.wire()
    if not asking.has_opt:
        return head + question
    opt = b"\0\0\x29" + UDP_SIZE_BYTES.to_bytes(2) + b"\0\0" + (DO_FLAG if asking.do else 0).to_bytes(2) + b"\0\0"
    return head + question + opt


def stray_reason(data: bytes, query: bytes, question_end: int) -> str:
    """Return why a message is no reply to this query, whose question ends at `question_end`; empty if it is one.

    >>> stray_reason(bytes(12), b"\\1" * 12 + bytes(5), 17)
    'wrong-id'
    """
    if len(data) < HEADER_BYTES:
        return "short"
    if data[:2] != query[:2]:
        return "wrong-id"
    if not data[2] & QR or data[2] & OPCODE:
        return "not-a-response"
    if data[4:6] == b"\0\1" and data[HEADER_BYTES:question_end] == query[HEADER_BYTES:question_end]:
        return ""
    # A forged reply without a question can only report a failure.
    if data[4:6] == b"\0\0" and data[3] & RCODE_MASK in SERVER_FAULTS:
        return ""
    return "other-question"


def read_reply(data: bytes, asked: Question | None = None, counters: Counter[str] | None = None) -> Message | Trouble:
    """Return the message of a reply without records whose RDATA is malformed; bytes behind the message are ignored.

    RDATA of an unknown type passes as it is (RFC 3597). `asked` is the question, if it was compared already. Records
    that are left out are counted by reason.
    """
    left_out: dict[str, int] = {}
    asked = asked if data[4:6] == b"\0\1" else None
    try:
        message = parse(data, bad_rdata=left_out, records_max=REPLY_RECORDS_MAX, allows_tail=True, asked=asked)
    except FormatError:
        return Trouble.UNREADABLE
    if left_out and counters is not None:
        counters.update({f"record-{reason}": count for reason, count in left_out.items()})
    # An answer section that lost all its records must not read as a negative answer.
    if left_out and not message.answer and data[6:8] != b"\0\0":
        return Trouble.UNREADABLE
    return message


class Exchanges:
    """The queries under way over sockets of the system.

    An epoll set of its own watches the sockets, and the loop watches only that set: adding a socket to the loop and
    removing it costs more than sending and receiving.
    """

    def __init__(self, counters: Counter[str]) -> None:
        self.counters = counters
        # All queries under way, oldest first; and those that wait for a datagram, by their socket.
        self._open: dict[_QueryUnderWay, None] = {}
        self._listening: dict[int, _QueryUnderWay] = {}
        self._watched: select.epoll | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_closing = False

    def begin(self, server: Address, asking: Asking, listener: Listener) -> Close:
        """Ask a server; `listener` is never called before this returns."""
        if len(self._open) >= SOCKETS_MAX:
            next(iter(self._open)).give_way()
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
        query = _QueryUnderWay(server, asking, compose_query(asking, os.urandom(2)), listener, self, self._loop)
        self._open[query] = None
        query.send()
        return query.close

    def close(self) -> None:
        """Detach from the loop, now or when the last query under way has ended."""
        self._is_closing = True
        self._let_go()

    def watch(self, sock: socket.socket, query: _QueryUnderWay) -> None:
        """Call `query.on_readable` whenever its socket has something to read."""
        if self._watched is None:
            assert self._loop is not None, "a query has begun"
            self._watched = select.epoll()
            self._loop.add_reader(self._watched.fileno(), self._on_readable)
        number = sock.fileno()
        self._listening[number] = query
        self._watched.register(number, select.EPOLLIN)

    def unwatch(self, sock: socket.socket) -> None:
        """Forget a socket that is about to be closed, which takes it out of the set."""
        self._listening.pop(sock.fileno(), None)

    def ended(self, query: _QueryUnderWay) -> None:
        """Forget a query."""
        self._open.pop(query, None)
        if self._is_closing:
            self._let_go()

    def _let_go(self) -> None:
        if self._watched is not None and self._loop is not None and not self._open:
            self._loop.remove_reader(self._watched.fileno())
            self._watched.close()
            self._watched = None

    def _on_readable(self) -> None:
        assert self._watched is not None, "only the set calls this"
        for number, _ in self._watched.poll(0, READABLE_PER_TURN_MAX):
            query = self._listening.get(number)
            if query is not None:
                query.on_readable()


@dataclass(slots=True, eq=False)
class _QueryUnderWay:
    """One query under way; without a listener it has ended."""

    server: Address
    asking: Asking
    wire: bytes
    listener: Listener | None
    exchanges: Exchanges
    loop: asyncio.AbstractEventLoop
    stray_count: int = 0
    sock: socket.socket | None = None
    task: asyncio.Task[None] | None = None

    def send(self) -> None:
        """Send it over UDP."""
        try:
            family = socket.AF_INET6 if ":" in self.server[0] else socket.AF_INET
            sock = self.sock = socket.socket(family, DATAGRAMS)
            # A connected socket takes datagrams from the server only, and reports at once when no process listens
            # there. The system draws its port at random from some 28,000 (RFC 6056).
            sock.connect(self.server)
            sock.send(self.wire)
            self.exchanges.watch(sock, self)
        except OSError as error:
            self._close_socket()
            # A lack of sockets in this process is not the server's fault.
            trouble = Trouble.CROWDED if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS) else Trouble.GONE
            self.loop.call_soon(self._tell, trouble)

    def give_way(self) -> None:
        """End it for want of sockets, and tell the listener."""
        self.exchanges.counters["crowded"] += 1
        listener = self.listener
        self.close()
        if listener is not None:
            self.loop.call_soon(listener, Trouble.CROWDED)

    def close(self) -> None:
        """End it; the listener is not called any more."""
        self.listener = None
        self._close_socket()
        task, self.task = self.task, None
        if task is not None:
            task.cancel()
        self.exchanges.ended(self)

    def _close_socket(self) -> None:
        sock, self.sock = self.sock, None
        if sock is not None:
            self.exchanges.unwatch(sock)
            sock.close()

    def _tell(self, heard: Heard) -> None:
        if self.listener is not None:
            self.listener(heard)

    def on_readable(self) -> None:
        """Read the datagrams that have come, and tell the listener of the first that is a reply."""
        trouble: Trouble | None = None
        # All of them, because forged datagrams may stand before the reply.
        while self.sock is not None:
            try:
                data = self.sock.recv(DATAGRAM_BYTES_MAX)
            except BlockingIOError:
                break
            except OSError:
                trouble = trouble or Trouble.GONE
                break
            heard = self._judged(data)
            if isinstance(heard, Trouble):
                trouble = heard
            elif heard is not None:
                self._tell(heard)
                return
        if trouble is not None:
            self._close_socket()
            self._tell(trouble)

    def _judged(self, data: bytes) -> Heard | None:
        """Return what a datagram says, or None for one that is passed over."""
        reason = stray_reason(data, self.wire, len(self.wire) - OPT_BYTES * self.asking.has_opt)
        if reason:
            self.exchanges.counters[f"passed-over-{reason}"] += 1
            self.stray_count += 1
            if self.stray_count < STRAY_DATAGRAMS_MAX:
                return None
            self._close_socket()
            return Trouble.STRAY
        if data[2] & TC:
            self.exchanges.counters["cut"] += 1
            self._close_socket()
            self.task = self.loop.create_task(self._ask_over_tcp())
            return Sign.CUT
        return read_reply(data, self.asking.question, self.exchanges.counters)

    async def _ask_over_tcp(self) -> None:
        try:
            heard = await self._reply_over_tcp()
        except (OSError, EOFError):
            heard = Trouble.NO_TCP
        self.task = None
        self._tell(heard)

    async def _reply_over_tcp(self) -> Message | Trouble:
        reader, writer = await asyncio.open_connection(*self.server)
        try:
            writer.write(len(self.wire).to_bytes(2) + self.wire)
            size = int.from_bytes(await reader.readexactly(2))
            data = await reader.readexactly(size)
        finally:
            writer.transport.abort()
        reason = stray_reason(data, self.wire, len(self.wire) - OPT_BYTES * self.asking.has_opt)
        if reason:
            self.exchanges.counters[f"passed-over-{reason}"] += 1
            return Trouble.NO_TCP
        # A reply that was cut over TCP too cannot be had in any other way.
        return Trouble.CUT if data[2] & TC else read_reply(data, self.asking.question, self.exchanges.counters)
