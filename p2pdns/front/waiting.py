"""A question that is pending, the clients that wait for its answer, and how their wait ends.

Guarantees: what a client is counted under is what it cannot have many of. Does not know how many may wait; `questions`
does.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from enum import Enum

from p2pdns.addresses import LOOPBACK_CLIENT, client_host, client_prefix, unmapped
from p2pdns.front.gate import Asked, Client
from p2pdns.limits import QUESTION_S_MAX
from p2pdns.link import Ask, ClientClass, Query


class Ending(Enum):
    """Why waiters are released without an answer of the engine."""

    SLOW = "slow"  # The client timer: give what is stale; the question itself goes on.
    DEADLINE = "deadline"
    NO_ENGINE = "no-engine"
    NO_PLACE = "no-place"  # None became free in time.
    TOO_MANY = "too-many"
    GREEDY = "client-limit"  # Too many of one client, while there is room for others.


@dataclass(frozen=True, slots=True)
class Waiter:
    """One client's query that waits, and the way back to it."""

    asked: Asked
    client: Client
    reply: Callable[[bytes], None]

    # What it is counted under: a machine or a link, which nobody has thousands of; among those of its host a socket on
    # loopback, an address elsewhere; and in the engine, where it waits for an upstream. Each is asked for several times
    # a query.
    host: str = field(init=False, compare=False)
    seat: str = field(init=False, compare=False)
    prefix: str = field(init=False, compare=False)
    # A forwarder of others is one seat, and has all that a host may have.
    is_listed: bool = field(init=False, compare=False)
    # Whether it came over UDP from somebody who has a share of that.
    is_counted_datagram: bool = field(init=False, compare=False)

    def __post_init__(self) -> None:
        # A socket for IPv6 adds flow and scope to these two.
        address, port = self.client.address[:2]
        host, seat = client_host(address), unmapped(address)
        if host == LOOPBACK_CLIENT:
            seat = f"{self.client.transport.name} {seat} {port}"
        object.__setattr__(self, "host", host)
        object.__setattr__(self, "seat", seat)
        object.__setattr__(self, "prefix", client_prefix(address))
        is_listed = self.client.client_class is ClientClass.LISTED
        object.__setattr__(self, "is_listed", is_listed)
        object.__setattr__(self, "is_counted_datagram", not (self.client.transport.is_stream or is_listed))

    @property
    def lane(self) -> str:
        """Return in which lane of its host it waits for a place: over TCP not behind what came over UDP."""
        return f"{self.client.transport.name} {self.seat}"

    @property
    def identity(self) -> Hashable:
        """Return what makes it one waiter: a datagram may be the same again (address, ID), a query on a stream not."""
        client = self.client
        return id(self) if client.transport.is_stream else (client.address, self.asked.id, self.asked.question)


@dataclass(slots=True)
class Pending:
    """One question at the engine, on its way there, or (`is_queued`) without a place yet.

    `needs_upstream`: the engine has given it back, to be put again when there is a place at the upstreams.
    """

    id: int
    key: bytes
    asked: Asked
    client: Client
    asked_at: float
    waiters: dict[Hashable, Waiter] = field(default_factory=dict)
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

    def query(self) -> Query:
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
        return Query(self.id, self.key[:-1], ask)

    def release(self) -> list[Waiter]:
        """Return the waiters, each for the last time."""
        waiters = list(self.waiters.values())
        self.waiters.clear()
        return waiters
