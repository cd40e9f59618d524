"""A question that is pending, the clients that wait for its answer, and how their wait ends.

Guarantees: what a client is counted under is what it cannot have many of. Does not know how many may wait; `questions`
does.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from enum import Enum

from p2pdns.addresses import LOOPBACK_CLIENT, client_host, client_prefix, unmapped
from p2pdns.front.gate import Client, ClientQuery
from p2pdns.limits import QUESTION_S_MAX
from p2pdns.link import Ask, ClientClass, QuestionFrame
from p2pdns.values import Value

_LISTED = ClientClass.LISTED  # Every waiter passes it (the registry says why it is bound here).


class Ending(Enum):
    """Why waiters are released without an answer of the engine."""

    SLOW = "slow"  # The client timer: give what is stale; the question itself goes on.
    DEADLINE = "deadline"
    NO_ENGINE = "no-engine"
    NO_PLACE = "no-place"  # None became free in time.
    TOO_MANY = "too-many"
    GREEDY = "client-limit"  # Too many of one client, while there is room for others.


class WaitingClient(Value, frozen=True):
    """One client's query that waits, the way back to it, and what it is counted under.

    `host` is a machine or a link, of which nobody has thousands; `seat` tells clients of one host apart: a socket on
    loopback, an address elsewhere; `prefix` is what the engine counts it under while it waits for an upstream. `lane`
    is where it waits for a place among those of its host: over TCP not behind what came over UDP. `identity` is what
    makes it one waiter: a datagram may be the same again (address, ID, question), a query on a stream never is.
    `is_listed`: a forwarder of others is one seat, and has all that a host may have. `is_counted_datagram`: it came
    over UDP from a client that has a share of that.
    """

    asked: ClientQuery
    client: Client
    reply: Callable[[bytes], None]
    host: str
    seat: str
    prefix: str
    lane: str
    identity: Hashable
    is_listed: bool
    is_counted_datagram: bool

    @classmethod
    def of(cls, asked: ClientQuery, client: Client, reply: Callable[[bytes], None]) -> WaitingClient:
        """Return the waiter that a client's query makes."""
        # A socket for IPv6 adds flow and scope to these two.
        address, port = client.address[:2]
        transport = client.transport
        host, seat = client_host(address), unmapped(address)
        if host == LOOPBACK_CLIENT:
            seat = f"{transport.name} {seat} {port}"
        is_listed = client.client_class is _LISTED
        return cls(
            asked=asked,
            client=client,
            reply=reply,
            host=host,
            seat=seat,
            prefix=client_prefix(address),
            lane=f"{transport.name} {seat}",
            identity=object() if transport.is_stream else (client.address, asked.id, asked.question),
            is_listed=is_listed,
            is_counted_datagram=not (transport.is_stream or is_listed),
        )


@dataclass(slots=True)
class OpenQuestion:
    """One question at the engine, on its way there, or (`is_queued`) without a place yet.

    `needs_upstream`: the engine has given it back, to be put again when there is a place at the upstreams.
    """

    id: int
    key: bytes
    asked: ClientQuery
    client: Client
    asked_at: float
    waiters: dict[Hashable, WaitingClient] = field(default_factory=dict)
    is_slow: bool = False
    is_sent: bool = False
    is_put_again: bool = False
    is_forwarded: bool = False
    is_prefetch: bool = False
    is_queued: bool = False
    needs_upstream: bool = False
    is_late: bool = False  # It may wait for no place any more.
    # What it is counted under while it has a place; what is fetched ahead is nobody's.
    host: str = ""
    seat: str = ""
    prefix: str = ""
    is_datagram: bool = False

    def query(self) -> QuestionFrame:
        """Return the frame that puts this question."""
        bits = self.key[-1]
        ask = Ask(
            deadline=self.asked_at + QUESTION_S_MAX,
            rd=bool(bits & 1),
            do=bool(bits & 2),
            cd=bool(bits & 4),
            client_class=self.client.client_class,
            client_prefix=self.prefix or client_prefix(self.client.address[0]),
            client_seat=self.seat,
            is_prefetch=self.is_prefetch,
        )
        return QuestionFrame(self.id, self.key[:-1], ask)

    def release(self) -> list[WaitingClient]:
        """Return the waiters, each for the last time."""
        waiters = list(self.waiters.values())
        self.waiters.clear()
        return waiters
