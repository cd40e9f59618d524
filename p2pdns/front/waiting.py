"""An open question, the clients that wait for its answer, and the ways in which their wait ends.

Guarantees: a client is counted under names of which it cannot have many. Does not know how many clients may wait.
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
    """Why clients are released without an answer of the engine."""

    SLOW = "slow"  # The client timer: a client gets a stale answer, and the question goes on.
    DEADLINE = "deadline"
    NO_ENGINE = "no-engine"
    NO_PLACE = "no-place"  # None became free in time.
    TOO_MANY = "too-many"
    GREEDY = "client-limit"  # This client has too many, and there is room for others.


class WaitingClient(Value, frozen=True):
    """A client whose query waits: the way back to it, and the names that it is counted under.

    `host` is a machine or a link, of which no client has thousands; `seat` tells the clients of a host apart: a socket
    on loopback, an address elsewhere; the engine counts by `prefix` while the query waits for an upstream. `lane` is
    its line among those of its host: over TCP it is not behind queries over UDP. Two datagrams with the same `identity`
    (address, ID, question) are one query; on a stream each query has its own. `is_listed`: a forwarder of others is one
    seat and may have all that a host may have. `is_counted_datagram`: the limits for datagrams apply.
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
        """Return the waiting client that a query makes."""
        # An IPv6 socket adds flow and scope to address and port.
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

    `owner` is the client that the place is counted under; a prefetch has none. `is_late`: it may wait for no place any
    more. `needs_upstream`: the engine has given it back, and it is put again when there is a place at the upstreams.
    """

    id: int
    key: bytes
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
    is_late: bool = False
    owner: WaitingClient | None = None

    def query(self) -> QuestionFrame:
        """Return the frame that puts this question."""
        bits, owner = self.key[-1], self.owner
        ask = Ask(
            deadline=self.asked_at + QUESTION_S_MAX,
            rd=bool(bits & 1),
            do=bool(bits & 2),
            cd=bool(bits & 4),
            client_class=self.client.client_class,
            client_prefix=client_prefix(self.client.address[0]) if owner is None else owner.prefix,
            client_seat="" if owner is None else owner.seat,
            is_prefetch=self.is_prefetch,
        )
        return QuestionFrame(self.id, self.key[:-1], ask)
