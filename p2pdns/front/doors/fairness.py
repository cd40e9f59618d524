"""Fairness among connections: which are admitted, which is closed for a new one, how many queries of a client may
wait, and which connection has its turn.

Guarantees: the connections of one client and of all clients are bounded. When a client that
has its maximum opens another connection, its longest idle one is closed. When the door is full, the longest idle
connection of all is closed, or, if none is idle, one of the client with the most, if it has at least two more. No other
connection that waits for an answer is closed. The waiting queries of a connection and of a client are bounded, and each
connection may have a few whatever the others have. Turns are short and go around. Does not know sockets, clocks, nor
what a query says.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from p2pdns.addresses import give_back
from p2pdns.config import LimitsTable
from p2pdns.front.pending import DATAGRAMS_PER_CLIENT_MAX

QUERIES_PER_TURN_MAX = 16  # Of all connections: a millisecond of work, before the other doors have their turn.
QUERIES_IN_A_ROW_MAX = 4  # Of one connection, before the next one has its turn.
QUERIES_WAITING_MAX = 100  # Of one connection; further ones wait in its socket.
QUERIES_WAITING_OWN_MAX = 2  # Each connection may have these, whatever the other programs at its address do.
# Of all connections of a client, beyond two for each: with these, twenty connections have as many as a UDP client.
QUERIES_WAITING_PER_CLIENT_MAX = DATAGRAMS_PER_CLIENT_MAX - 20 * QUERIES_WAITING_OWN_MAX


class Connected(Protocol):
    """A connection, as fairness sees it; it is idle while nothing is owed to the client."""

    @property
    def is_idle(self) -> bool: ...


C = TypeVar("C", bound=Connected)


@dataclass(slots=True, eq=False)
class Account(Generic[C]):
    """What one connection has used. It outlives the connection while answers to its queries are still to come."""

    connection: C
    host: str = ""  # The client: one machine or one link.
    active_at: float = 0.0  # The time of the last whole query, or of the last response given or taken.
    waiting_count: int = 0  # The count of its queries that wait for the engine.


class Fairness(Generic[C]):
    """The accounts of all connections of one door."""

    def __init__(self, limits: LimitsTable) -> None:
        self.limits = limits
        self.counters: Counter[str] = Counter()
        # In the order of their last query: the connection that was idle for longest comes first.
        self.accounts: OrderedDict[Account[C], None] = OrderedDict()
        # The queries of each client that wait for the engine, also those of connections that are gone.
        self.waiting: Counter[str] = Counter()
        self._per_client: Counter[str] = Counter()
        # By client: its connections whose next query would be one too many.
        self._stalled: dict[str, dict[Account[C], None]] = {}
        # Connections with a query to work on, in the order of their turns.
        self._ready: OrderedDict[Account[C], None] = OrderedDict()

    def admit(self, account: Account[C]) -> tuple[bool, C | None]:
        """Return whether a new connection is admitted, and the connection to close for it, if any."""
        # RFC 7766 §6.2.3: a server may close idle connections early when it runs short of them.
        given_up: Account[C] | None = None
        if self._per_client[account.host] >= self.limits.tcp_connections_per_client_max:
            # The programs of a machine share its connections, so a connection with nothing to ask must not keep
            # another program out: the one whose last message is oldest is closed, but none that waits for an answer.
            own = (one for one in self.accounts if one.host == account.host)
            given_up = next((one for one in own if one.connection.is_idle), None)
            if given_up is None:
                self.counters["client-limit"] += 1
                return False, None
        elif len(self.accounts) >= self.limits.tcp_connections_max:
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
        """Return a connection of the client that has most, if this client has at least two fewer."""
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
            give_back(self._per_client, account.host)

    def brought(self, account: Account[C], now: float) -> None:
        """Note that a whole query came over a connection."""
        account.active_at = now
        if account in self.accounts:
            self.accounts.move_to_end(account)

    def idle_due(self, account: Account[C], now: float) -> float:
        """Return when a connection will have been idle for too long, if nothing happens until then."""
        # A connection that waits for the engine is not idle; its question has a deadline of its own.
        return (now if account.waiting_count else account.active_at) + self.limits.tcp_idle_ms / 1000

    def has_room(self, account: Account[C]) -> bool:
        """Return whether one more query of a connection may wait; if not, `answered` returns it when that changes."""
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
        """Note that a waiting query has its response; return the connections that may have room now."""
        account.active_at = now
        account.waiting_count -= 1
        give_back(self.waiting, account.host)
        return [stalled.connection for stalled in self._stalled.pop(account.host, ())]

    @property
    def has_turns(self) -> bool:
        return bool(self._ready)

    def wants_turn(self, account: Account[C]) -> None:
        """Give a connection a turn, after those that want one already."""
        self._ready[account] = None

    def next_turn(self, left_count: int) -> tuple[C, int] | None:
        """Return the connection that has its turn, and its share of the `left_count` queries; None without either."""
        if left_count <= 0 or not self._ready:
            return None
        account, _ = self._ready.popitem(last=False)
        return account.connection, min(left_count, QUERIES_IN_A_ROW_MAX)
