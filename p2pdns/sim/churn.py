"""Machines that come and go: for how long they stay, what they have when they come back, how wrong their clocks are.

Guarantees: each machine's draws come from the seed and its address alone, so that one machine more changes no other.
Does not know what the machines do while they are up.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from p2pdns.addresses import Address
from p2pdns.sim.engine import VirtualEngine

# Sessions follow a Weibull law, not an exponential one: those that are long already last longest. Stutzbach and Rejaie,
# "Understanding churn in peer-to-peer networks" (IMC 2006), fit shapes of 0.34 to 0.59 to Gnutella, Kad and BitTorrent.
WEIBULL_SHAPE = 0.5
MINUTE_S, HOUR_S, YEAR_S = 60.0, 3_600.0, 365.25 * 86_400.0
# Shares of the machines, and how far off their clocks are at most: two of three have the time from the network.
CLOCKS = ((0.70, 0.0), (0.20, 5 * MINUTE_S), (0.08, 12 * HOUR_S), (0.02, 5 * YEAR_S))


def scale_of(median_s: float) -> float:
    """Return the scale of the Weibull law with a median: it is median / ln(2)^(1/shape).

    >>> round(scale_of(3_600.0))
    7493
    """
    return median_s / math.pow(math.log(2), 1 / WEIBULL_SHAPE)


def clock_off_s(drawn: random.Random) -> float:
    """Return how many seconds a machine's clock is ahead; below 0: behind."""
    lot = drawn.random()
    for share, most_s in CLOCKS:
        if lot < share:
            return drawn.uniform(-most_s, most_s)
        lot -= share
    return 0.0


@dataclass(frozen=True)
class Sessions:
    """The law of coming and going. Machines are away for as long as they are up, so half of them are up.

    `state_lost` is the share of returns at which the disk is new: then the machine has another id, no item, no mark.
    """

    median_s: float
    state_lost: float

    def length_s(self, drawn: random.Random) -> float:
        """Draw the length of a session, or of an absence."""
        return drawn.weibullvariate(scale_of(self.median_s), WEIBULL_SHAPE)


class Churn:
    """The coming and going of some machines, until `stop`; `known` returns addresses that a new node begins with."""

    def __init__(self, seed: str, sessions: Sessions, known: Callable[[random.Random], Sequence[Address]]) -> None:
        self.departures = 0
        self.returns_without_state = 0
        self._seed = seed
        self._sessions = sessions
        self._known = known
        self._over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._tasks: list[asyncio.Task[None]] = []

    def begin(self, engines: Sequence[VirtualEngine]) -> None:
        """Let these machines come and go."""
        for engine in engines:
            drawn = random.Random(f"{self._seed}/{engine.address[0]}")
            self._tasks.append(asyncio.get_running_loop().create_task(self._life(engine, drawn)))

    async def _life(self, engine: VirtualEngine, drawn: random.Random) -> None:
        while await self._goes_on(self._sessions.length_s(drawn)):
            if engine.is_up:
                self.departures += 1
                await engine.stop()
                continue
            is_new = not engine.was_up
            if engine.was_up and drawn.random() < self._sessions.state_lost:
                self.returns_without_state += 1
                engine.lose_state()
                is_new = True
            # A machine that comes back has its old contacts; a new node has addresses of a friend.
            engine.begin(self._known(drawn) if is_new else ())

    async def _goes_on(self, seconds: float) -> bool:
        await asyncio.wait({self._over}, timeout=seconds)
        return not self._over.done()

    async def stop(self) -> None:
        """Let each machine stay as it is; what has begun is ended first, so that no machine is half down."""
        self._over.set_result(None)
        await asyncio.gather(*self._tasks)
