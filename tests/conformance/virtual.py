"""The funnel behind both doors, in this process: bytes in, bytes out, an engine that the test plays, a told time."""

from __future__ import annotations

import struct

from p2pdns.front.transport import TCP, UDP
from p2pdns.link import Answer, QuestionFrame
from p2pdns.values import replace
from tests.conformance import wire
from tests.conformance.wire import Response
from tests.front_messages import answer, failure, funnel

CLIENT = ("127.0.0.1", 4000)


class VirtualFront:
    """A front without sockets. An engine is connected; `asked` is what it was asked."""

    def __init__(self, *, is_stream: bool) -> None:
        self.funnel = funnel()
        self.asked: list[QuestionFrame] = []
        self.late: list[bytes] = []
        self.transport = TCP if is_stream else UDP
        self.funnel.send_query = self.asked.append
        self.funnel.engine_connected(1, 0.0)

    def ask(
        self, qname: str, *, now: float, with_opt: bool = True, number: int = 7, host: str = CLIENT[0]
    ) -> Response | None:
        """Ask for an address; None while nothing is answered."""
        data = wire.query(qname, number=number, additional=[wire.opt()] if with_opt else [])
        client = (host, CLIENT[1])
        response = self.funnel.receive(data, client, self.late.append, now, self.transport)
        assert response is None or response, "the query was dropped"
        return None if response is None else Response(response)

    def send(self, data: bytes, *, now: float = 0.0) -> Response:
        """Return the response to a message, which comes at once."""
        response = self.funnel.receive(data, CLIENT, self.late.append, now, self.transport)
        assert response, "nothing was answered"
        return Response(response)

    def pass_on(self, data: bytes, *, now: float = 0.0) -> None:
        """Send a message that waits for the engine."""
        assert self.funnel.receive(data, CLIENT, self.late.append, now, self.transport) is None

    def tell(self, qname: str, *, ttl: int, now: float, stale_s: float = 86_400.0) -> None:
        """Answer the last question as the engine, with one address."""
        self._told(answer(qname, ttl=ttl, made_at=now, stale_until=now + ttl + stale_s), now)

    def deny(self, qname: str, *, ttl: int, now: float) -> None:
        """Answer the last question as the engine: no such name."""
        soa = b"\x00" * 2 + struct.pack("!IIIII", 1, 2, 3, 4, ttl)
        head = struct.pack("!HHHHHH", 0, 0x8003, 1, 0, 1, 0) + wire.question(qname)
        message = head + wire.record(b"\x00", wire.SOA, soa, ttl)
        made = answer(qname, rdatas=(), rcode=3, made_at=now, expiry=now + ttl)
        self._told(replace(made, message=message, ttl_offsets=(len(head) + 5,)), now)

    def fail(self, qname: str, *, now: float, lasts_s: float = 5.0) -> None:
        """Answer the last question as the engine: it failed."""
        self._told(failure(qname, now=now, lasts_s=lasts_s), now)

    def last(self) -> Response:
        """Return the last response that came later."""
        return Response(self.late[-1])

    def _told(self, given: Answer, now: float) -> None:
        self.funnel.frame_received(replace(given, id=self.asked[-1].id), now)
