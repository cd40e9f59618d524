"""Fairness among connections: which are taken, which one makes room, how much of a client may wait, whose turn it is.

Guarantees: at most so many connections in all and of one client. A client that has all its connections gives up the one
that was idle for longest, and a full door gives up the longest idle connection, or else one of the client that has
most, for a client that has at least two fewer; no other connection that waits for an answer is given up. What waits of
one connection and of one client is bounded, with a little for each connection that no other can take. Turns are short
and go around. Told the time. Does not know sockets, nor what a query says.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from p2pdns.front.pending import DATAGRAMS_PER_CLIENT_MAX

QUERIES_PER_TURN_MAX = 16  # Of all connections: about a millisecond of work before the other doors have their turn.
QUERIES_IN_A_ROW_MAX = 4  # Of one connection, before the next one has its turn.
QUERIES_WAITING_MAX = 100  # Of one connection; further ones wait in its socket.
QUERIES_WAITING_OWN_MAX = 2  # Of each connection, whatever others do: all programs of a machine ask from one address.
# Of all connections of a client but for those; with them, twenty connections have as many as it may have over UDP.
QUERIES_WAITING_PER_CLIENT_MAX = DATAGRAMS_PER_CLIENT_MAX - 20 * QUERIES_WAITING_OWN_MAX


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """What connections may take."""

    connections_max: int = 150
    connections_per_client_max: int = 20
    idle_s: float = 10.0


class Connected(Protocol):
    """A connection, as far as fairness asks it anything."""

    @property
    def is_idle(self) -> bool:
        """Return whether nothing is owed to the client."""


C = TypeVar("C", bound=Connected)


@dataclass(slots=True, eq=False)
class Account(Generic[C]):
    """What one connection has had; while answers to its queries are to come, it outlives the connection."""

    connection: C
    host: str = ""  # The client: one machine or one link.
    active_at: float = 0.0  # When it last brought a whole query, or was given or took a response.
    waiting_count: int = 0  # How many of its queries wait for the engine.


class Fairness(Generic[C]):
    """The accounts of all connections of one door."""

    def __init__(self, limits: ConnectionLimits) -> None:
        self.limits = limits
        self.counters: Counter[str] = Counter()
        # In the order of their last query, so that the longest idle one comes first.
        self.accounts: OrderedDict[Account[C], None] = OrderedDict()
        # How many queries of each client wait for the engine, those of connections that are gone among them.
        self.waiting: Counter[str] = Counter()
        self._per_client: Counter[str] = Counter()
        # Connections that have a query for which their client has no room.
        self._stalled: dict[str, dict[Account[C], None]] = {}
        # Connections with a query to work on, in the order of their turns.
        self._ready: OrderedDict[Account[C], None] = OrderedDict()

    def admit(self, account: Account[C]) -> tuple[bool, C | None]:
        """Return whether one more connection is taken, and the connection that has to go for it."""
        # RFC 7766 §6.2.3: a server may close idle connections early when it runs short of them.
        given_up: Account[C] | None = None
        if self._per_client[account.host] >= self.limits.connections_per_client_max:
            # Programs of a machine share its connections, and none may hold them with nothing to ask: the one whose
            # last message is oldest goes, but none that waits for an answer.
            own = (one for one in self.accounts if one.host == account.host)
            given_up = next((one for one in own if one.connection.is_idle), None)
            if given_up is None:
                self.counters["client-limit"] += 1
                return False, None
        elif len(self.accounts) >= self.limits.connections_max:
            idle = (one for one in self.accounts if one.connection.is_idle)
            given_up = next(idle, None) or self._surplus(account.host)
            if given_up is None:
                self.counters["limit"] += 1
                return False, None
        if given_up is not None:
            self.close(given_up)
        self.accounts[account] = None
        self._per_client[account.host] += 1
        self.counters["accepted"] += 1
        return True, None if given_up is None else given_up.connection

    def _surplus(self, host: str) -> Account[C] | None:
        """Return a connection of the client that has most, where that is at least two more than this one has."""
        greediest, count = max(self._per_client.items(), key=lambda one: one[1])
        if count < self._per_client[host] + 2:
            return None
        return next(account for account in self.accounts if account.host == greediest)

    def close(self, account: Account[C]) -> None:
        """Forget a connection; twice does no harm."""
        self._ready.pop(account, None)
        if account in self.accounts:
            del self.accounts[account]
            self._stalled.get(account.host, {}).pop(account, None)
            self._per_client[account.host] -= 1
            if not self._per_client[account.host]:
                del self._per_client[account.host]

    def brought(self, account: Account[C], now: float) -> None:
        """Note that a connection brought a query."""
        account.active_at = now
        if account in self.accounts:
            self.accounts.move_to_end(account)

    def idle_due(self, account: Account[C], now: float) -> float:
        """Return when a connection has been idle for too long, if nothing happens until then."""
        # While it waits the engine is at work on its behalf; that has a deadline of its own.
        return (now if account.waiting_count else account.active_at) + self.limits.idle_s

    def has_room(self, account: Account[C]) -> bool:
        """Return whether one more query of a connection may wait.

        If its client has too many, `answered` names the connection when that changes.
        """
        if account.waiting_count >= QUERIES_WAITING_MAX:
            return False
        if account.waiting_count < QUERIES_WAITING_OWN_MAX:
            return True
        if self.waiting[account.host] < QUERIES_WAITING_PER_CLIENT_MAX:
            return True
        self._stalled.setdefault(account.host, {})[account] = None
        return False

    def waits(self, account: Account[C]) -> None:
        """Note that a query waits for the engine."""
        account.waiting_count += 1
        self.waiting[account.host] += 1

    def answered(self, account: Account[C], now: float) -> list[C]:
        """Note that a query that waited has its response; return the connections that may have room now."""
        account.active_at = now
        account.waiting_count -= 1
        self.waiting[account.host] -= 1
        if not self.waiting[account.host]:
            del self.waiting[account.host]
        return [stalled.connection for stalled in self._stalled.pop(account.host, ())]

    @property
    def has_turns(self) -> bool:
        """Return whether a connection wants a turn."""
        return bool(self._ready)

    def wants_turn(self, account: Account[C]) -> None:
        """Give a connection a turn, after those that want one already."""
        self._ready[account] = None

    def next_turn(self, left_count: int) -> tuple[C, int] | None:
        """Return whose turn it is and for how many queries, when `left_count` may be worked on before others' turn."""
        if left_count <= 0 or not self._ready:
            return None
        account, _ = self._ready.popitem(last=False)
        return account.connection, min(left_count, QUERIES_IN_A_ROW_MAX)
