"""What is known of each key, the look-ups under way, and the questions that wait for one.

Guarantees: look-ups on questions' accounts stay within the node's and each client prefix's share; who waits is
served in order of arrival, and one whose prefix is busy holds nobody up. Does not know what a look-up brings.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field

from p2pdns.dns.zone import Zone
from p2pdns.engine.overlay.ports import Budget, Timer
from p2pdns.items.item import MutableItem
from p2pdns.items.keys import ZoneKey
from p2pdns.resolver import Missing

NEVER = float("-inf")


@dataclass(slots=True, eq=False)
class Lookup:
    """A look-up under way. `first` is done at the first valid item or at the end, `done` at the end."""

    number: int
    rpc_max: int
    prefix: str | None
    first: asyncio.Future[None]
    done: asyncio.Future[None]
    item: MutableItem | None = None
    zone: Zone | None = None
    rpc_count: int = 0
    started_at: float = 0.0
    first_s: float | None = None

    @property
    def is_refresh(self) -> bool:
        """Whether the node asks on its own account."""
        return self.prefix is None


@dataclass(slots=True, eq=False)
class Entry:
    """What is known of one key. `was_settled`: some complete look-up ended at this item or at an older one."""

    key: ZoneKey
    item: MutableItem | None = None
    zone: Zone | None = None
    was_settled: bool = False
    confirmed_at: float = NEVER
    asked_at: float = NEVER
    lookup: Lookup | None = None
    failure: Missing | None = None
    retry_at: float = NEVER
    backoff_s: float = 0.0
    refresh: Timer | None = None

    def forgive(self) -> None:
        """Forget failures."""
        self.failure, self.retry_at, self.backoff_s = None, NEVER, 0.0

    def fail(self, reason: Missing, now: float, seconds_min: float, seconds_max: float) -> None:
        """Remember a failure, for twice as long as the last one."""
        self.backoff_s = min(max(seconds_min, self.backoff_s * 2), seconds_max)
        self.failure, self.retry_at = reason, now + self.backoff_s

    def stop_refresh(self) -> None:
        """Cancel the next refresh."""
        if self.refresh is not None:
            self.refresh.cancel()
            self.refresh = None


@dataclass(slots=True, eq=False)
class _Waiter:
    entry: Entry
    budget: Budget
    started: asyncio.Future[None]


@dataclass(slots=True)
class Slots:
    """Room for cold look-ups. `start` begins one and takes its room with `take`."""

    count_max: int
    per_prefix_max: int
    start: Callable[[Entry, Budget], None]
    count: int = 0
    by_prefix: Counter[str] = field(default_factory=Counter)
    queue: deque[_Waiter] = field(default_factory=deque)
    is_serving: bool = False

    async def started(self, entry: Entry, budget: Budget, timeout_s: float) -> bool:
        """Return whether a look-up of the key is under way, after waiting for room."""
        if self._has_room(budget):
            self.start(entry, budget)
            return True
        waiter = _Waiter(entry, budget, asyncio.get_running_loop().create_future())
        self.queue.append(waiter)
        try:
            await asyncio.wait({waiter.started}, timeout=max(0.0, timeout_s))
        finally:
            if not waiter.started.done():
                self.queue.remove(waiter)
        return waiter.started.done()

    def take(self, prefix: str) -> None:
        """Count a look-up in."""
        self.count += 1
        self.by_prefix[prefix] += 1

    def release_prefix(self, prefix: str) -> None:
        """Give a client's share back: what is still asked only refines its answer, and is the node's own interest."""
        self._give_back(prefix)
        self.serve()

    def release(self, prefix: str | None) -> None:
        """Count a look-up out, with the share of the client that still holds one."""
        self.count -= 1
        if prefix is not None:
            self._give_back(prefix)
        self.serve()

    def _give_back(self, prefix: str) -> None:
        self.by_prefix[prefix] -= 1
        if self.by_prefix[prefix] <= 0:
            del self.by_prefix[prefix]

    def serve(self) -> None:
        """Let waiting questions go on that have room now, or whose key is being looked up."""
        if self.is_serving:
            # A look-up that finds its item in our own storage gives room back as it begins. Who waits for that goes on
            # in the next round: a long queue would be a deep stack.
            asyncio.get_running_loop().call_soon(self.serve)
            return
        self.is_serving = True
        try:
            for waiter in list(self.queue):
                if waiter.entry.lookup is None and not self._has_room(waiter.budget):
                    continue
                self.queue.remove(waiter)
                if not waiter.started.done():
                    waiter.started.set_result(None)
                if waiter.entry.lookup is None:
                    self.start(waiter.entry, waiter.budget)
        finally:
            self.is_serving = False

    def _has_room(self, budget: Budget) -> bool:
        if self.count >= self.count_max:
            return False
        return budget.is_privileged or self.by_prefix[budget.client_prefix] < self.per_prefix_max
