"""The simulated hour: fifty nodes, twenty zones, two publishers, a resolver, 10 % loss, a power cut.

Everything but the sockets, the system's clocks and the database is the production's: nodes, endpoints, overlay,
publishers, service. `python -m tests.sim_smoke.world --seed N` prints what came of it as JSON, with the trace's hash;
`--trace FILE` writes the trace itself, `--short` is five minutes of a smaller world.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import TextIO

from p2pdns.dns.registry import Rcode
from p2pdns.items.keys import SecretKey, ZoneId
from p2pdns.sim import loop as virtual
from p2pdns.sim.engine import VirtualEngine
from p2pdns.sim.loop import VirtualLoop
from p2pdns.sim.network import Weather
from p2pdns.sim.world import Owner, World

LOSS = 0.10
WEATHER = Weather(loss=LOSS, duplication=0.01)
QUESTION_TRIES_MAX = 3  # As a stub resolver asks: a question may meet more loss than its time allows for.
UPDATES_AT_S = (1_200.0, 2_700.0)  # One before the restart, one after it.
POWER_CUT_AT_S = 1_800.0  # Of the resolver and of one publisher.
POWER_CUT_S = 60.0
ROUND_S = 300.0  # All zones are asked for so often.


@dataclass(frozen=True)
class Scale:
    """How large the world is, and how long it is watched."""

    nodes: int = 50
    zones: int = 20
    seconds: float = 3_600.0


HOUR = Scale()
SHORT = Scale(nodes=16, zones=4, seconds=300.0)


@dataclass
class Outcome:
    """What came of a run."""

    trace: str = ""
    datagrams: int = 0
    lost: int = 0
    answers: int = 0
    unresolved: list[str] = field(default_factory=list)
    went_back: list[str] = field(default_factory=list)
    missed_updates: list[str] = field(default_factory=list)
    stored_at_few: list[str] = field(default_factory=list)
    told: list[str] = field(default_factory=list)
    newest_after_restart: int = 0
    kept_after_restart: int = 0
    cpu_s: float = 0.0


@dataclass
class WatchedOwner(Owner):
    """A zone, and which of its editions the reader was shown."""

    shown: int = 0
    seen: int = 0


class Hour:
    """What is to happen in a world, and what came of it."""

    def __init__(self, loop: VirtualLoop, seed: int, scale: Scale) -> None:
        self.world = World(loop, seed, WEATHER)
        self.outcome = Outcome()
        self._scale = scale

    async def passed(self) -> Outcome:
        """Let the time pass."""
        world, loop = self.world, self.world.loop
        start = loop.time()
        await world.grow(self._scale.nodes)
        publishers, reader = world.engines[1:3], world.engines[-1]
        owners = [
            WatchedOwner(SecretKey.generate(world.random.randbytes(32)), publishers[number % 2])
            for number in range(self._scale.zones)
        ]
        await self._publish(owners)
        plan = [(at_s, partial(self._publish, owners)) for at_s in UPDATES_AT_S]
        plan.append((POWER_CUT_AT_S, partial(self._cut_power, reader, publishers[1], owners)))
        plan.sort(key=lambda part: part[0])
        while loop.time() < start + self._scale.seconds:
            await self._ask_all(reader, owners)
            await asyncio.sleep(ROUND_S)
            self.outcome.told += world.findings()
            while plan and loop.time() >= start + plan[0][0]:
                await plan.pop(0)[1]()
        await self._ask_all(reader, owners)
        self._look_at(owners)
        self.outcome.told += world.findings()
        await world.close()
        self.outcome.trace = world.network.trace.hexdigest()
        self.outcome.datagrams, self.outcome.lost = world.network.counters["sent"], world.network.counters["lost"]
        return self.outcome

    async def _publish(self, owners: Sequence[WatchedOwner]) -> None:
        outcomes = await asyncio.gather(*(self.world.publish_next(owner) for owner in owners))
        for owner, put in zip(owners, outcomes, strict=True):
            if not put.others.is_enough:
                self.outcome.stored_at_few.append(f"{owner.key} edition {owner.edition}: {put.others}")

    async def _cut_power(self, reader: VirtualEngine, publisher: VirtualEngine, owners: Sequence[WatchedOwner]) -> None:
        for engine in (reader, publisher):
            await engine.stop()
        self.world.network.note("power cut")
        await asyncio.sleep(POWER_CUT_S)
        for engine in (reader, publisher):
            await engine.start()
        self.outcome.kept_after_restart = len(publisher.publisher.kept)
        await self._ask_all(reader, owners)
        self.outcome.newest_after_restart = sum(owner.shown == owner.edition for owner in owners)

    async def _ask_all(self, reader: VirtualEngine, owners: Sequence[WatchedOwner]) -> None:
        await asyncio.gather(*(self._ask(reader, owner) for owner in owners))

    async def _ask(self, reader: VirtualEngine, owner: WatchedOwner) -> None:
        for _ in range(QUESTION_TRIES_MAX):
            resolved = await reader.ask(owner.question)
            self.world.network.note("answer", str(owner.key), resolved.rcode, resolved.answer, resolved.provisional)
            self.outcome.answers += 1
            if resolved.rcode == Rcode.NOERROR and resolved.answer:
                shown = resolved.answer[0].rdata[1]
                if shown < owner.seen:
                    self.outcome.went_back.append(f"{owner.key}: {shown} after {owner.seen}")
                owner.shown, owner.seen = shown, max(owner.seen, shown)
                return
        self.outcome.unresolved.append(f"{owner.key} at {self.world.loop.time():.0f} s: rcode {resolved.rcode}")

    def _look_at(self, owners: Sequence[WatchedOwner]) -> None:
        for owner in owners:
            if owner.seen != owner.edition:
                self.outcome.missed_updates.append(f"{owner.key}: {owner.seen} of {owner.edition}")
            copies = owner.engine.publisher.copies(ZoneId.of_key(owner.key))
            if copies is None or not copies.best.is_enough:
                self.outcome.stored_at_few.append(f"{owner.key} at the end: {copies}")


def simulated(seed: int, scale: Scale = HOUR, lines: TextIO | None = None) -> Outcome:
    """Return what came of a run."""

    async def story(loop: VirtualLoop) -> Outcome:
        hour = Hour(loop, seed, scale)
        hour.world.network.lines = lines
        return await hour.passed()

    outcome = virtual.run(story)
    outcome.cpu_s = time.process_time()
    return outcome


def main() -> None:
    """Print what came of a run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--trace", type=argparse.FileType("w"), help="where the trace is written, a line an event")
    parser.add_argument("--short", action="store_true", help="five minutes of a smaller world")
    words = parser.parse_args()
    outcome = simulated(words.seed, SHORT if words.short else HOUR, words.trace)
    json.dump(asdict(outcome), sys.stdout)


if __name__ == "__main__":
    main()
