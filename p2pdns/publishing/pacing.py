"""The pace at which this node puts items, so that other nodes can keep them.

A node takes few new keys of one prefix at a time (64 at once and one a second, if it is one of ours), and refuses the
rest. So puts go out as they come until the first of them is rationed; from then on they go at a rate that rises while
everything is taken and falls when too much is refused.

Guarantees: at most `PUTS_AT_ONCE_MAX` puts are under way; earlier ones go first, and publications before re-puts;
every wait ends, and `standing` estimates when. Does not know the items, nor how a put finds its nodes.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from p2pdns.dht.node.values import PutOutcome
from p2pdns.dht.storage import NEW_KEYS_PER_SECOND
from p2pdns.timing import Clock

PUTS_AT_ONCE_MAX = 16  # A put costs some 60 datagrams; more puts at once only delay each other.
RATE_FIRST = NEW_KEYS_PER_SECOND  # Puts a second after the first rationed put: every node of ours takes so many.
RATE_STEP = 0.05  # Added to the rate by each put that no node rationed.
RATE_CUT = 0.7  # Factor of the rate after a put that too many nodes refused.
RATE_MIN = 0.1
IDLE_S = 60.0  # After so long without a waiting put, the rations of the others are whole again.
LATER = 1 << 48  # Added to the turn of a re-put.


class Standing(NamedTuple):
    """How far a rationed publication is: `done` of the `of` zones published together, and an estimate of the rest."""

    done: int
    of: int
    seconds_left: float


class Pacer:
    """The gate through which puts go."""

    def __init__(self, clock: Clock, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        self._clock = clock
        self._sleep = sleep
        self._rate: float | None = None
        self._next_at = 0.0
        self._cut_at = float("-inf")
        self._busy_at = float("-inf")
        self._count = 0
        self._open: dict[int, None] = {}
        self._batch_count = 0
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []
        self._under_way = 0
        self._timer: asyncio.Task[None] | None = None

    @property
    def is_rationed(self) -> bool:
        return self._rate is not None

    @property
    def waiting_count(self) -> int:
        return len(self._open)

    def close(self) -> None:
        """Let no put through any more."""
        if self._timer is not None:
            self._timer.cancel()
        for _, _, gate in self._waiting:
            gate.cancel()

    def begin(self) -> int:
        """Return the turn of a publication, which the caller gives back with `end`."""
        self._count += 1
        if not self._open:
            self._batch_count = 0
        self._batch_count += 1
        self._open[self._count] = None
        return self._count

    def end(self, turn: int) -> None:
        """Note that a publication is done, or given up."""
        self._open.pop(turn, None)

    def standing(self, turn: int) -> Standing:
        """Return how far the publication with this turn is."""
        ahead = sum(other <= turn for other in self._open)
        seconds = ahead / self._rate if self._rate is not None else 0.0
        return Standing(self._batch_count - len(self._open), self._batch_count, seconds)

    async def put(self, turn: int | None, put: Callable[[], Awaitable[PutOutcome]]) -> PutOutcome:
        """Put when it is time, and learn from the outcome; a put without a turn goes behind all publications."""
        self._count += 1
        gate: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (self._count + LATER if turn is None else turn, self._count, gate))
        self._let_through()
        try:
            await gate
        except asyncio.CancelledError:
            if gate.done() and not gate.cancelled():
                self._put_over()
            raise
        try:
            outcome = await put()
            self._learn(outcome)
            return outcome
        finally:
            self._put_over()

    def _put_over(self) -> None:
        self._under_way -= 1
        self._let_through()

    def _let_through(self) -> None:
        now = self._clock()
        while self._waiting and self._under_way < PUTS_AT_ONCE_MAX:
            if self._waiting[0][2].done():
                # The waiting put was cancelled.
                heapq.heappop(self._waiting)
                continue
            if self._rate is not None and now - self._busy_at >= IDLE_S:
                self._rate = None
            self._busy_at = now
            if self._rate is not None:
                if now < self._next_at:
                    if self._timer is None or self._timer.done():
                        self._timer = asyncio.get_running_loop().create_task(self._woken(self._next_at - now))
                    return
                self._next_at = max(now, self._next_at + 1 / self._rate)
            heapq.heappop(self._waiting)[2].set_result(None)
            self._under_way += 1

    async def _woken(self, seconds: float) -> None:
        await self._sleep(seconds)
        self._timer = None
        self._let_through()

    def _learn(self, outcome: PutOutcome) -> None:
        now = self._clock()
        if not outcome.rationed_count:
            if self._rate is not None:
                self._rate += RATE_STEP
        elif self._rate is None:
            self._rate, self._cut_at, self._next_at = RATE_FIRST, now, now + 1 / RATE_FIRST
        elif not outcome.others.is_enough and now - self._cut_at >= 1 / self._rate:
            # The rate is cut once for all puts that were under way together: they met the same rations.
            self._rate = max(RATE_MIN, RATE_CUT * self._rate)
            self._cut_at = now
