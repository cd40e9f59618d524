"""The engine's end of the link: frames in, answers and invalidations out.

Guarantees: only its owner can open the socket; each connection opens with our `Hello`; at most `QUESTIONS_MAX`
questions of a connection are worked on or wait for that; a few begin in one turn of the loop, from one prefix after
another and within it from one client after another, so that no client waits for all questions of another; a connection
that sends anything but frames of a front, or does not read, is closed, and no other notices. Does not know how a
question is answered.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections import Counter, OrderedDict, deque
from pathlib import Path

from p2pdns import link
from p2pdns.clock import boot_now
from p2pdns.directory import peer_user_of, shown
from p2pdns.dns.message import Message, Question
from p2pdns.dns.message.wire import compose, compose_for_cache
from p2pdns.dns.registry import Ede, Flag, Rcode
from p2pdns.errors import FormatError, Unavailable, words_of
from p2pdns.limits import QUESTIONS_MAX
from p2pdns.log import get_limited_logger
from p2pdns.net.pieces import PieceProtocol
from p2pdns.net.sockets import listen_unix
from p2pdns.resolver.service import NoPlace, Service
from p2pdns.resolver.steps import Resolved
from p2pdns.timing import Clock

CONNECTIONS_MAX = 4  # One front, and its successor while the old connection dies.
UNREAD_BYTES_MAX = 8_388_608  # Answers that a front has not read: a hundred of the longest; then it is closed.
TAGS_PER_FRAME_MAX = 4_096  # 32 kB; a frame has room for 8,000.
# A question about a zone in memory takes a third of a millisecond. One for an upstream comes back to the loop a few
# times, and each time waits for the questions that were begun meanwhile.
BEGUN_PER_TURN_MAX = 4
# Pause between two yields of the processor: a program that computes takes a few milliseconds each time.
LET_GO_S = 0.01
OVERLOAD_S = 1.0  # How long a question refused for want of room is not asked again.

log = get_limited_logger("link", boot_now)


def compose_answer(number: int, resolved: Resolved, generation: int) -> link.Answer:
    """Return the frame of an answer, without the additional section where that does not fit."""
    flags = Flag.QR | (Flag.AA if resolved.is_authoritative else 0) | resolved.rcode
    for additional in (resolved.additional, ()):
        with contextlib.suppress(FormatError):
            message = Message(0, flags, resolved.question, resolved.answer, resolved.authority, additional)
            wire, ttl_offsets = compose_for_cache(message)
            return link.Answer(
                id=number,
                message=wire,
                ttl_offsets=ttl_offsets,
                made_at=resolved.made_at,
                expiry=resolved.expiry,
                stale_until=resolved.stale_until,
                ede=resolved.ede,
                ad_eligible=resolved.ad_eligible,
                provisional=resolved.provisional,
                cacheable=resolved.cacheable,
                failure=resolved.failure,
                tags=resolved.tags,
                generation=generation,
            )
    text = "the answer is too large for a message"
    return _failed(number, resolved.question, resolved.made_at, generation, text)


class LinkServer:
    """Listens on `link.sock` of the state directory and answers the front."""

    def __init__(self, state_dir: Path, service: Service, *, epoch: int, clock: Clock) -> None:
        self.counters: Counter[str] = Counter()
        # The last counters of a front outlive it: its successor has counted nothing yet.
        self.front_counters: dict[str, int] = {}
        # In the order of arrival, in which they get each invalidation.
        self.connections: dict[_Connection, None] = {}
        self.service = service
        self.hello = link.Hello(link.VERSION, epoch)
        self.clock = clock
        self._path = state_dir / link.SOCKET_NAME
        self._server: asyncio.Server | None = None

    async def open(self) -> None:
        """Listen. The caller holds the lock of the state directory, so a socket that is there already is a leftover."""
        try:
            sock = listen_unix(self._path, backlog=CONNECTIONS_MAX)
        except OSError as error:
            what, hint = f"cannot listen there: {words_of(error)}", "is the state directory yours and writable?"
            raise Unavailable(what, place=shown(self._path), hint=hint) from None
        self._server = await asyncio.get_running_loop().create_unix_server(lambda: _Connection(self), sock=sock)
        self.service.on_invalidate = self._push

    async def close(self) -> None:
        """Close every connection and take the socket away."""
        if self._server is None:
            return
        self.service.on_invalidate = lambda tags: None
        self._server.close()
        for connection in list(self.connections):
            connection.close("closing")
        await self._server.wait_closed()
        self._server = None
        with contextlib.suppress(OSError):
            self._path.unlink()

    def _push(self, tags: tuple[bytes, ...] | None) -> None:
        frames = [link.Invalidate(None)]
        if tags is not None:
            steps = range(0, len(tags), TAGS_PER_FRAME_MAX)
            frames = [link.Invalidate(tags[i : i + TAGS_PER_FRAME_MAX]) for i in steps]
        for connection in list(self.connections):
            for frame in frames:
                connection.send(frame)


class _Connection(PieceProtocol):
    """One front."""

    def __init__(self, server: LinkServer) -> None:
        super().__init__()
        # By the order in which they began. Each takes itself out: a callback of the loop costs as much as beginning it.
        self.tasks: dict[int, asyncio.Task[None]] = {}
        self._begun_count = 0
        self._server = server
        self._service = server.service
        self._counters = server.counters
        self._reader = link.FrameReader()
        self._transport: asyncio.Transport | None = None
        self._loop = asyncio.get_running_loop()
        # Questions that have not begun, by the prefix and the seat of the client, both in the order of their turns.
        self._waiting: OrderedDict[str, OrderedDict[str, deque[tuple[link.QuestionFrame, Question]]]] = OrderedDict()
        self._waiting_count = 0
        self._let_go_at = float("-inf")
        self._unsent: list[bytes] = []
        self._has_unsent_answer = False
        self._sending: asyncio.Handle | None = None
        self._turn: asyncio.Handle | None = None

    @property
    def in_flight_count(self) -> int:
        """How many questions are being worked on, or wait for that."""
        return len(self.tasks) + self._waiting_count

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greet, if there is room."""
        assert isinstance(transport, asyncio.Transport), "a stream has a transport"
        self._transport = transport
        self._server.connections[self] = None
        if peer_user_of(transport.get_extra_info("socket")) != os.geteuid():
            self.close("foreign-user")
            return
        if len(self._server.connections) > CONNECTIONS_MAX:
            self.close("too-many-connections")
            return
        self._counters["connections"] += 1
        self.send(self._server.hello)

    def buffer_updated(self, nbytes: int) -> None:
        """Read questions; the first other frame ends the connection."""
        try:
            for frame in self._reader.feed(self.piece(nbytes)):
                if self._transport is None or self._transport.is_closing():
                    return
                self._frame_received(frame)
            if self._waiting and self._turn is None:
                # Now: in the next round of the loop, replies of the overlay would come first.
                self._take_turn()
        except FormatError as trouble:
            log.warning("a front sends what is no question, its connection is closed", reason=str(trouble))
            self.close(trouble.reason)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop working for a front that is gone; look-ups go on and are kept for its successor."""
        self._server.connections.pop(self, None)
        self._waiting.clear()
        self._waiting_count = 0
        # A task that is cancelled before its first step does not take itself out.
        tasks, self.tasks = self.tasks, {}
        for task in tasks.values():
            task.cancel()

    def close(self, reason: str) -> None:
        """End the connection, counted by reason."""
        self._counters[reason] += 1
        if self._transport is not None:
            self._transport.abort()

    def send(self, frame: link.Frame, *, is_patient: bool = False) -> None:
        """Send a frame, unless the front has stopped reading; a patient one together with those of the same turn.

        Each write wakes the front, which costs both processes more than the frame: so frames that have waited for an
        upstream go together. The order of frames stays.
        """
        self._unsent.append(link.compose(frame))
        self._has_unsent_answer |= isinstance(frame, link.Answer)
        if not is_patient:
            self._send_all()
        elif self._sending is None:
            self._sending = self._loop.call_soon(self._send_all)

    def _send_all(self) -> None:
        frames, self._unsent = self._unsent, []
        has_answer, self._has_unsent_answer = self._has_unsent_answer, False
        if self._sending is not None:
            self._sending.cancel()
            self._sending = None
        transport = self._transport
        if not frames or transport is None or transport.is_closing():
            return
        if transport.get_write_buffer_size() > UNREAD_BYTES_MAX:
            self.close("unread")
            return
        transport.write(frames[0] if len(frames) == 1 else b"".join(frames))
        now = self._server.clock()
        if has_answer and now >= self._let_go_at + LET_GO_S:
            # Look-ups keep the processor for milliseconds. A front on the same processor would wait that long before
            # it can pass the answer on.
            self._let_go_at = now
            os.sched_yield()

    def _frame_received(self, frame: link.Frame) -> None:
        if isinstance(frame, link.Counters):
            self._server.front_counters = dict(frame.counts)
            return
        if not isinstance(frame, link.QuestionFrame):
            raise FormatError("frame-order", f"a front does not send {type(frame).__name__}")
        self._counters["queries"] += 1
        question = Question.parse(frame.question)
        if self.in_flight_count >= QUESTIONS_MAX:
            self._counters["overload"] += 1
            text = "too many questions are being worked on"
            self.send(_failed(frame.id, question, self._server.clock(), self._service.generation, text))
            return
        seats = self._waiting.setdefault(frame.ask.client_prefix, OrderedDict())
        seats.setdefault(frame.ask.client_seat, deque()).append((frame, question))
        self._waiting_count += 1

    def _take_turn(self) -> None:
        for _ in range(min(BEGUN_PER_TURN_MAX, self._waiting_count)):
            prefix, seats = self._waiting.popitem(last=False)
            seat, waiting = seats.popitem(last=False)
            query, question = waiting.popleft()
            self._waiting_count -= 1
            if waiting:
                seats[seat] = waiting
            if seats:
                self._waiting[prefix] = seats
            self._begun_count += 1
            self.tasks[self._begun_count] = self._loop.create_task(self._answer(self._begun_count, query, question))
        # The loop looks at all sockets before it runs this.
        self._turn = self._loop.call_soon(self._take_turn) if self._waiting else None

    async def _answer(self, number: int, query: link.QuestionFrame, question: Question) -> None:
        frame: link.Frame
        is_forwarded = False

        def forwarded() -> None:
            nonlocal is_forwarded
            is_forwarded = True
            self.send(link.Forwarded(query.id), is_patient=True)

        try:
            resolved = await self._service.resolve(question, query.ask, forwarded)
            # Nothing is awaited between composing and sending, so an invalidation comes either before or after both.
            frame = compose_answer(query.id, resolved, self._service.generation)
        except NoPlace:
            frame = link.Postponed(query.id)
        except Exception as error:
            # One question must neither take the engine down nor leave a client without a reply.
            log.error("a question broke off", question=question, reason=repr(error))
            self._counters["questions-broken-off"] += 1
            frame = _failed(query.id, question, self._server.clock(), self._service.generation, "internal error")
        finally:
            self.tasks.pop(number, None)
        self.send(frame, is_patient=is_forwarded)


def _failed(number: int, question: Question, now: float, generation: int, text: str) -> link.Answer:
    return link.Answer(
        id=number,
        message=compose(Message(0, Flag.QR | Rcode.SERVFAIL, question)),
        ttl_offsets=(),
        made_at=now,
        expiry=now + OVERLOAD_S,
        stale_until=now + OVERLOAD_S,
        ede=((Ede.OTHER, text),),
        cacheable=False,
        failure=True,
        generation=generation,
    )
