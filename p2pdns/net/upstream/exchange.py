"""One query to one server: its bytes, its socket, and which of the datagrams that come back is the reply.

Guarantees: each query leaves from a connected socket of its own, so with a port that the system drew for it, and with
an ID of its own (RFC 5452 §9.2), and goes to the server named and to no other; a datagram with another ID, with another
question (byte by byte), or that is no response is counted by reason and passed over, and after too many of them the
socket is given up; the truncation bit of a reply is read first, and a reply that was cut is asked for over TCP; the
rest is read once, behind the wall of `p2pdns.dns.message`. Does not know which server is asked next, nor how long a
reply is waited for.
"""

from __future__ import annotations

import asyncio
import errno
import os
import select
import socket
from collections import Counter
from collections.abc import Callable
from enum import Enum

from p2pdns.addresses import Address
from p2pdns.dns.labels import HEADER_BYTES
from p2pdns.dns.message import Message, Question
from p2pdns.dns.message.wire import parse
from p2pdns.dns.registry import DO_FLAG, OPCODE_MASK, RCODE_MASK, UDP_SIZE_BYTES, Flag, Rcode
from p2pdns.errors import FormatError
from p2pdns.values import Value, replace

DATAGRAM_BYTES_MAX = 65_535  # What a server sends beyond the size above is read all the same.
REPLY_RECORDS_MAX = 512  # Real answers have tens; to read, withhold and write so many takes some 20 ms.
# Datagrams passed over on one socket: a guess of the ID hits one time in 65,536, and the next socket has another port.
STRAY_DATAGRAMS_MAX = 64
# Sockets at a time, of the 1,024 files that a process has by default: one for each of the 512 questions that may wait
# for an upstream, and one more for every second of them, whose first try is still listened to.
SOCKETS_MAX = 768
READABLE_PER_TURN_MAX = 32  # Replies read in one turn of the loop, some 3 ms of work.
DATAGRAMS = socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
OPT_BYTES = 11  # Without options.
QR, OPCODE, TC = Flag.QR >> 8, OPCODE_MASK >> 8, Flag.TC >> 8  # In the third byte of a message.
# A server that says these may be one that leaves the question out (RFC 6891 §7: it could not read the query).
SERVER_FAULTS = frozenset([Rcode.FORMERR, Rcode.SERVFAIL, Rcode.NOTIMP, Rcode.REFUSED])


class Asking(Value, frozen=True):
    """One question as it goes out; `has_opt`: with EDNS (RFC 6891), which a few servers do not know."""

    question: Question
    rd: bool
    do: bool
    cd: bool
    ad: bool
    has_opt: bool = True

    @property
    def key(self) -> bytes:
        """Return what equal questions have in common."""
        # Lengths of labels are at most 63, so that no letter is among them.
        wire = self.question.wire()
        return wire[:-4].lower() + wire[-4:] + bytes((self.rd, self.do, self.cd))

    def without_opt(self) -> Asking:
        """Return the same question as servers were asked before EDNS."""
        return replace(self, has_opt=False)


class Trouble(Enum):
    """How a query ended without a usable reply; the value is what a person is told."""

    GONE = "no upstream answered in time"  # Nobody listens there.
    CROWDED = "too many queries to upstreams are under way"  # No socket is to be had, or a newer query has taken it.
    STRAY = "too many datagrams came that were no reply"
    UNREADABLE = "the upstream's reply cannot be read"
    CUT = "the upstream cut its reply over TCP too"
    NO_TCP = "the upstream cut its reply and does not give the whole over TCP"


class Sign(Enum):
    """What is heard of a server before its reply."""

    CUT = "cut"  # The reply is truncated; it is asked for over TCP now.


Heard = Message | Trouble | Sign
Listener = Callable[[Heard], None]
Close = Callable[[], None]
Exchange = Callable[[Address, Asking, Listener], Close]
"""Asks a server; the listener is called until what was returned is called, which ends it and may be called again."""


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
    """Return why a message is no reply to this query, of which the question ends there; empty where it is one.

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
    # Without a question nothing can be answered, so nothing can be forged but a failure.
    if data[4:6] == b"\0\0" and data[3] & RCODE_MASK in SERVER_FAULTS:
        return ""
    return "other-question"


def read_reply(data: bytes, asked: Question | None = None, counters: Counter[str] | None = None) -> Message | Trouble:
    """Return the message that a reply is, without records whose RDATA does not hold; what is behind it is passed over.

    What we know no layout of passes as it is (RFC 3597). `asked` is its question, where that was compared; what is left
    out is counted by reason.
    """
    left_out: dict[str, int] = {}
    asked = asked if data[4:6] == b"\0\1" else None
    try:
        message = parse(data, bad_rdata=left_out, records_max=REPLY_RECORDS_MAX, allows_tail=True, asked=asked)
    except FormatError:
        return Trouble.UNREADABLE
    if left_out and counters is not None:
        counters.update({f"record-{reason}": count for reason, count in left_out.items()})
    # An answer of which nothing holds is not the absence of one.
    if left_out and not message.answer and data[6:8] != b"\0\0":
        return Trouble.UNREADABLE
    return message


class Exchanges:
    """The queries on their way over sockets of the system.

    Their sockets are watched in a set of their own, of which the loop watches one descriptor: to make a socket known
    to the loop and to take it away again costs more than to send and to receive.
    """

    def __init__(self, counters: Counter[str]) -> None:
        self.counters = counters
        # All that are under way, oldest first, and those that listen for a datagram, by their socket.
        self._open: dict[_QueryUnderWay, None] = {}
        self._listening: dict[int, _QueryUnderWay] = {}
        self._watched: select.epoll | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_closing = False

    def begin(self, server: Address, asking: Asking, listener: Listener) -> Close:
        """Ask a server; `listener` hears of it, but never before this has returned."""
        if len(self._open) >= SOCKETS_MAX:
            next(iter(self._open)).give_way()
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
        query = _QueryUnderWay(server, asking, listener, self, self._loop)
        self._open[query] = None
        query.send()
        return query.close

    def close(self) -> None:
        """Let go of the loop, now or when the last query that is under way has ended."""
        self._is_closing = True
        self._let_go()

    def watch(self, sock: socket.socket, query: _QueryUnderWay) -> None:
        """Let a query know when its socket has something to read."""
        if self._watched is None:
            assert self._loop is not None, "a query has begun"
            self._watched = select.epoll()
            self._loop.add_reader(self._watched.fileno(), self._on_readable)
        number = sock.fileno()
        self._listening[number] = query
        self._watched.register(number, select.EPOLLIN)

    def unwatch(self, sock: socket.socket) -> None:
        """Let go of a socket that is about to be closed, and so leaves the set by itself."""
        self._listening.pop(sock.fileno(), None)

    def ended(self, query: _QueryUnderWay) -> None:
        """Let go of a query."""
        self._open.pop(query, None)
        if self._is_closing:
            self._let_go()

    def _let_go(self) -> None:
        if self._watched is not None and self._loop is not None and not self._open:
            self._loop.remove_reader(self._watched.fileno())
            self._watched.close()
            self._watched = None

    def _on_readable(self) -> None:
        assert self._watched is not None, "nothing else has called this"
        for number, _ in self._watched.poll(0, READABLE_PER_TURN_MAX):
            query = self._listening.get(number)
            if query is not None:
                query.on_readable()


class _QueryUnderWay:
    """One query under way."""

    __slots__ = (
        "_counters",
        "_exchanges",
        "_listener",
        "_loop",
        "_question",
        "_question_end",
        "_server",
        "_sock",
        "_stray_count",
        "_task",
        "_wire",
    )

    def __init__(
        self,
        server: Address,
        asking: Asking,
        listener: Listener,
        exchanges: Exchanges,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._server = server
        self._question = asking.question
        self._listener: Listener | None = listener
        self._exchanges = exchanges
        self._counters = exchanges.counters
        self._loop = loop
        self._wire = compose_query(asking, os.urandom(2))
        self._question_end = len(self._wire) - (OPT_BYTES if asking.has_opt else 0)
        self._stray_count = 0
        self._sock: socket.socket | None = None
        self._task: asyncio.Task[None] | None = None

    def send(self) -> None:
        """Send it over UDP."""
        try:
            family = socket.AF_INET6 if ":" in self._server[0] else socket.AF_INET
            sock = self._sock = socket.socket(family, DATAGRAMS)
            # Connected, it takes datagrams from the server only, and hears at once that nobody listens there. The
            # system draws its port at random from some 28,000 (RFC 6056).
            sock.connect(self._server)
            sock.send(self._wire)
            self._exchanges.watch(sock, self)
        except OSError as error:
            self._close_socket()
            # What this process has too little of is no server's fault.
            trouble = Trouble.CROWDED if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS) else Trouble.GONE
            self._loop.call_soon(self._tell, trouble)

    def give_way(self) -> None:
        """End it for want of sockets, and say so."""
        self._counters["crowded"] += 1
        listener = self._listener
        self.close()
        if listener is not None:
            self._loop.call_soon(listener, Trouble.CROWDED)

    def close(self) -> None:
        """End it, whatever is still to come."""
        self._listener = None
        self._close_socket()
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
        self._exchanges.ended(self)

    def _close_socket(self) -> None:
        sock, self._sock = self._sock, None
        if sock is not None:
            self._exchanges.unwatch(sock)
            sock.close()

    def _tell(self, heard: Heard) -> None:
        if self._listener is not None:
            self._listener(heard)

    def on_readable(self) -> None:
        """Read what has come, and tell of the first of it that is a reply."""
        trouble: Trouble | None = None
        # All that is there, for what a forger sent may stand before the reply.
        while self._sock is not None:
            try:
                data = self._sock.recv(DATAGRAM_BYTES_MAX)
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
        """Return what a datagram says, or None where it is none of ours."""
        reason = stray_reason(data, self._wire, self._question_end)
        if reason:
            self._counters[f"passed-over-{reason}"] += 1
            self._stray_count += 1
            if self._stray_count < STRAY_DATAGRAMS_MAX:
                return None
            self._close_socket()
            return Trouble.STRAY
        if data[2] & TC:
            self._counters["cut"] += 1
            self._close_socket()
            self._task = self._loop.create_task(self._ask_over_tcp())
            return Sign.CUT
        return read_reply(data, self._question, self._counters)

    async def _ask_over_tcp(self) -> None:
        try:
            heard = await self._reply_over_tcp()
        except (OSError, EOFError):
            heard = Trouble.NO_TCP
        self._task = None
        self._tell(heard)

    async def _reply_over_tcp(self) -> Message | Trouble:
        reader, writer = await asyncio.open_connection(*self._server)
        try:
            writer.write(len(self._wire).to_bytes(2) + self._wire)
            size = int.from_bytes(await reader.readexactly(2))
            data = await reader.readexactly(size)
        finally:
            writer.transport.abort()
        reason = stray_reason(data, self._wire, self._question_end)
        if reason:
            self._counters[f"passed-over-{reason}"] += 1
            return Trouble.NO_TCP
        # Whatever it holds: the rest of it is missing, and there is no third way to ask.
        return Trouble.CUT if data[2] & TC else read_reply(data, self._question, self._counters)
