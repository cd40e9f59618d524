"""The funnel behind all doors: memo, gate, cache, open questions and responses, for UDP and TCP alike.

Guarantees: every message that the gate lets through is answered exactly once, at once or through `reply`, and within
its deadline; the exception is a datagram for which there is no place, which is dropped. The access list comes before
the cache, and no query waits for the engine that the cache can answer. But for the ID, a response of the memo is byte
for byte what the cache would give: its key holds flags, size, letter case and trust, the TTLs are those of the same
second, and no answer was replaced or invalidated meanwhile; one with a cookie goes only to the host that it was made
for. The time is an argument, and queries leave through a function that was given. Does not know sockets.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from p2pdns.addresses import Address
from p2pdns.dns.labels import HEADER_BYTES
from p2pdns.dns.life import CLIENT_TIMER_S
from p2pdns.dns.registry import Ede, Explanations, Rcode
from p2pdns.errors import FormatError
from p2pdns.front.cache import AnswerCache
from p2pdns.front.compose import compose_answer, compose_told
from p2pdns.front.gate import ECHOING_PORTS, AccessList, Client, ClientQuery, Dropped, Gate, Reply, Told
from p2pdns.front.pending import Ending, OpenQuestion, Questions
from p2pdns.front.transport import Transport
from p2pdns.link import Answer, ClientClass, Forwarded, Frame, Hello, Invalidate, Postponed, QuestionFrame

REMEMBERED_MAX = 4096  # Clients with random letter case (0x20) fill the memo with queries that never come again.

_EXPLAINED = {
    Ending.DEADLINE: (Ede.NO_REACHABLE_AUTHORITY, "no answer within the time limit"),
    Ending.SLOW: (Ede.NO_REACHABLE_AUTHORITY, "no answer within the time limit"),
    Ending.NO_ENGINE: (Ede.NOT_READY, "the resolver is starting"),
    Ending.NO_PLACE: (Ede.OTHER, "too many questions are waiting"),
    Ending.TOO_MANY: (Ede.OTHER, "too many questions are waiting"),
    Ending.GREEDY: (Ede.OTHER, "too many questions of this client are waiting"),
}
# A client that gets SERVFAIL takes the name for unavailable; one that gets no response asks again, and there may be a
# place then. Over a stream a client never asks again, so it does get SERVFAIL.
_FOR_WANT_OF_PLACE = frozenset({Ending.NO_PLACE, Ending.TOO_MANY, Ending.GREEDY})


class Memo:
    """The memo of UDP: the same bytes get the same response again, for less than a second."""

    def __init__(self, cache: AnswerCache) -> None:
        self._cache = cache
        self._version = 0
        # By query and trust: the response, its end, and the only host that may have it (None: every host may).
        self._responses: dict[tuple[bytes, bool], tuple[bytes, float, str | None]] = {}

    def clear(self) -> None:
        """Forget every response."""
        self._responses.clear()

    def response(self, data: bytes, address: Address, access: AccessList, now: float) -> bytes | None:
        """Return the response to a datagram that was answered already in this second, or None."""
        if self._version != self._cache.version:
            self._responses.clear()
            self._version = self._cache.version
            return None
        client_class, is_allowed = access.standing(address[0])
        found = self._responses.get((data[2:], client_class is not ClientClass.OTHER))
        if found is None or now >= found[1] or not is_allowed or address[1] in ECHOING_PORTS:
            return None
        if found[2] is not None and found[2] != address[0]:
            return None
        self._cache.counters["hit"] += 1
        return data[:2] + found[0]

    def keep(
        self, data: bytes, response: bytes, answer: Answer, is_trusted: bool, now: float, *, host: str | None
    ) -> None:
        """Keep the response to a datagram until its TTLs change; with `host`, for that host alone."""
        if self._version != self._cache.version or len(self._responses) >= REMEMBERED_MAX:
            self._responses.clear()
            self._version = self._cache.version
        until = min(answer.made_at + int(max(0.0, now - answer.made_at)) + 1, answer.expiry)
        self._responses[(data[2:], is_trusted)] = (response[2:], until, host)


class Funnel:
    """Every query of every client, from bytes to bytes."""

    def __init__(self, gate: Gate, cache: AnswerCache, *, now: float) -> None:
        self.gate = gate
        self.cache = cache
        self.questions = Questions(now)
        self._memo = Memo(cache)
        self.counters: Counter[str] = Counter()
        # The owners of the engine's connection and of the timer set these.
        self.send_query: Callable[[QuestionFrame], None] = lambda _: None
        self.on_timer_changed: Callable[[], None] = lambda: None
        self._armed_for: float | None = None

    def change_responses(self, *, udp_size: int, require_cookies: bool) -> None:
        """Take the size of the longest UDP response, and whether a client must prove its address over UDP."""
        gate = self.gate
        if (udp_size, require_cookies) != (gate.udp_size_max, gate.require_cookies):
            gate.udp_size_max, gate.require_cookies = udp_size, require_cookies
            # A response of before may be too long now, or its client may have to send a cookie.
            self._memo.clear()

    def receive(self, data: bytes, address: Address, reply: Reply, now: float, transport: Transport) -> bytes | None:
        """Return the response to a message; empty when there is none, None when it comes later through `reply`."""
        if not transport.is_stream:
            remembered = self._memo.response(data, address, self.gate.access, now)
            if remembered is not None:
                return remembered
        client = self.gate.access.client(address, transport, reply)
        verdict = self.gate.verdict(data, client, now)
        if isinstance(verdict, Dropped):
            return b""
        if isinstance(verdict, Told):
            return compose_told(verdict, udp_size=self.gate.udp_size_max)
        asked, key = verdict, verdict.key
        answer = self.cache.fresh(key, now)
        if answer is not None:
            response = self._response(asked, answer, now)
            if not transport.is_stream:
                host = address[0] if asked.options else None
                self._memo.keep(data, response, answer, client.is_trusted, now, host=host)
            if self.cache.is_due(key, now):
                self._prefetch(key, client, now)
            return response
        held = self.cache.held_stale(key, now)
        if held is not None:
            return self._stale_response(asked, held[0], now, held[1])
        return self._wait(key, asked, now)

    def _prefetch(self, key: bytes, client: Client, now: float) -> None:
        """Ask the engine for the next answer while the present one is still fresh."""
        query = self.questions.prefetch(key, client, now)
        if query is None:
            self.cache.counters["prefetch-no-room"] += 1
            return
        self.cache.counters["prefetch"] += 1
        self.send_query(query)
        self._hasten_timer(now)

    def _wait(self, key: bytes, asked: ClientQuery, now: float) -> bytes | None:
        pending = self.questions.pending(key)
        # The engine is known to be slow with this question, so a further client need not wait to find that out.
        if pending is not None and pending.is_slow and (stale := self.cache.stale(key, now)) is not None:
            return self._stale_response(asked, stale, now)
        query = self.questions.add(key, asked, now)
        if isinstance(query, Ending):
            return self._response_without_engine(key, asked, query, now)
        if query is not None:
            self.send_query(query)
        if pending is None:
            self._hasten_timer(now)
        return None

    def frame_received(self, frame: Frame, now: float) -> None:
        """Act on a frame of the engine; FormatError for a frame that only a front sends."""
        match frame:
            case Answer():
                self._answer_received(frame, now)
            case Invalidate():
                self.cache.invalidate(frame.tags)
            case Forwarded():
                self.questions.forwarded(frame.id)
            case Postponed():
                pending = self.questions.postponed(frame.id)
                if pending is not None:
                    self._give_up(pending, Ending.NO_PLACE, now)
                self._put_next(has_upstream_place=False)
            case Hello() | QuestionFrame():
                raise FormatError("frame-order", type(frame).__name__)

    def engine_connected(self, epoch: int, now: float) -> None:
        """Put the open questions to an engine that has just said hello."""
        self.cache.new_epoch(epoch)
        queries, given_up = self.questions.engine_connected()
        for query in queries:
            self.send_query(query)
        for pending in given_up:
            self._give_up(pending, Ending.NO_ENGINE, now)
        self._put_next()
        self.on_timer_changed()

    def engine_lost(self, now: float) -> None:
        """Hold the open questions until an engine is back or their time is over."""
        self.questions.engine_lost(now)
        self.on_timer_changed()

    def get_timer(self) -> float | None:
        """Return when `handle_timer` wants to be called."""
        self._armed_for = self.questions.get_timer()
        return self._armed_for

    def _hasten_timer(self, now: float) -> None:
        """Report a changed timer if the one that is set is later than the client timer of a new question."""
        if self._armed_for is None or now + CLIENT_TIMER_S < self._armed_for:
            self.on_timer_changed()

    def handle_timer(self, now: float) -> None:
        """Release the clients whose time has come: with a stale answer if there is one, else with SERVFAIL."""
        for pending, ending in self.questions.due(now):
            if ending is Ending.SLOW and self.cache.stale(pending.key, now) is None:
                continue
            self._give_up(pending, ending, now)
        self._put_next()

    def _put_next(self, *, has_upstream_place: bool = True) -> None:
        """Put the waiting questions for which there is a place now."""
        for query in self.questions.next_queries(has_upstream_place=has_upstream_place):
            self.send_query(query)

    def _answer_received(self, frame: Answer, now: float) -> None:
        pending = self.questions.answered(frame.id)
        if pending is None:
            self.counters["late-answer"] += 1
            return
        self._put_next()
        question = pending.key[:-1]
        if frame.message[HEADER_BYTES : HEADER_BYTES + len(question)] != question:
            self._give_up(pending, Ending.NO_ENGINE, now)
            raise FormatError("answer-question", "the answer is to another question")
        answer = self.cache.accepted(frame, now)
        self.cache.put(pending.key, answer, now)
        stale = self.cache.stale(pending.key, now) if answer.failure else None
        for asked in self.questions.released(pending):
            if stale is not None:
                asked.client.reply(self._stale_response(asked, stale, now, answer))
            else:
                asked.client.reply(self._response(asked, answer, now))

    def _give_up(self, pending: OpenQuestion, ending: Ending, now: float) -> None:
        for asked in self.questions.released(pending):
            if response := self._response_without_engine(pending.key, asked, ending, now):
                asked.client.reply(response)

    def _response(
        self, asked: ClientQuery, answer: Answer, now: float, *, is_stale: bool = False, ede: Explanations = ()
    ) -> bytes:
        return compose_answer(asked, answer, now, is_stale=is_stale, udp_size=self.gate.udp_size_max, ede=ede)

    def _stale_response(self, asked: ClientQuery, answer: Answer, now: float, failure: Answer | None = None) -> bytes:
        """Return a cached answer, stale or not, for a client to which the engine gives none, and count it."""
        self.cache.counters["stale"] += 1
        ede = () if failure is None else failure.ede
        return self._response(asked, answer, now, is_stale=now >= answer.expiry, ede=ede)

    def _response_without_engine(self, key: bytes, asked: ClientQuery, ending: Ending, now: float) -> bytes:
        """Return a cached answer, or else a failure; empty for a client that shall ask again."""
        answer = self.cache.stale(key, now)
        if answer is not None:
            return self._stale_response(asked, answer, now)
        if ending in _FOR_WANT_OF_PLACE and not asked.client.transport.is_stream:
            self.counters[f"dropped-{ending.value}"] += 1
            return b""
        self.counters[f"failed-{ending.value}"] += 1
        failure = Told(asked, Rcode.SERVFAIL, ending.value, (_EXPLAINED[ending],))
        return compose_told(failure, udp_size=self.gate.udp_size_max)
