"""The scenario `partition`: the network falls into two halves, both read and publish, and then it heals.

Guarantees: the verdict is bad if a rule was broken or if the halves do not grow together again. Does not know how it is
shown.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass

from p2pdns.dht.routing.table import K
from p2pdns.publishing.cycle import CYCLE_S_MAX
from p2pdns.sim import liveness
from p2pdns.sim.churn import MINUTE_S
from p2pdns.sim.engine import VirtualEngine
from p2pdns.sim.report import Report, Scale
from p2pdns.sim.rules import Partition
from p2pdns.sim.scenarios.story import drawn_weather, told
from p2pdns.sim.world import Owner, Progress, World

SETTLE_S = 1_800.0  # Until read-only nodes were visited, and tables are full.
READERS = 5  # Of each half: the same ones all the time, so that they have marks.
LOOK_S = 30.0  # Between two looks at whether the halves have grown together.
# Publishers put again every eight hours, and then the newest edition of the other half meets the older ones. Readers
# find it before: a complete look-up asks nodes of both halves.
HEAL_S_MAX = CYCLE_S_MAX + 900.0
KNOWN_AGAIN = 0.95  # Of the neighbours that a machine knew before: the last few come with the next refresh.


@dataclass(frozen=True)
class PartitionRow:
    """The questions of one phase, and after how many seconds the halves had grown together (None: not in this phase).

    `fresh` answers had the newest edition that was to be had; `zones_s`: each zone's newest edition is at the nodes
    nearest to it; `contacts_s`: machines know their neighbours as before.
    """

    phase: str
    asked: int
    answered: int
    fresh: int
    zones_s: float | None = None
    contacts_s: float | None = None

    def cells(self) -> dict[str, str]:
        """Return the texts of the line by the title of their column."""
        return {
            "phase": self.phase,
            "answered": f"{self.answered} of {self.asked}",
            "fresh": f"{self.fresh} of {self.asked}",
            "zones healed": "" if self.zones_s is None else f"{self.zones_s / 60:.1f} min",
            "contacts merged": "" if self.contacts_s is None else f"{self.contacts_s / 60:.1f} min",
        }


def partition(scale: Scale, progress: Progress) -> Report:
    """Publish, part the network, publish and ask on both sides, heal it, and wait for it to be one again."""
    _, weather, draw = drawn_weather(scale.seed)

    async def story(world: World, report: Report) -> None:
        await world.grow(scale.nodes)
        await asyncio.sleep(SETTLE_S)
        await world.publish(scale.zones)
        halves = _Halves(world, scale, progress)
        known_before = halves.known_share
        report.rows.append(await halves.asked("together", scale.gets // 2, same_side=None, seconds=scale.gets / 4))
        parted = Partition([engine.address[0] for engine in halves.left])
        world.network.rules.append(parted)
        world.is_calm = False
        await asyncio.sleep(scale.minutes * MINUTE_S / 2)
        report.findings += world.findings()
        for owner in list(world.owners):
            await world.publish_next(owner)
        for half in (halves.left, halves.right):
            await world.publish(max(1, scale.zones // 4), at=half)
        rest_s = scale.minutes * MINUTE_S / 4
        report.rows.append(await halves.asked("parted, own side", scale.gets, same_side=True, seconds=rest_s))
        report.rows.append(await halves.asked("parted, other side", scale.gets, same_side=False, seconds=rest_s))
        report.findings += world.findings()
        world.network.rules.remove(parted)
        world.healing.append(parted)
        zones_s, contacts_s = await halves.healed(known_before, report)
        report.rows.append(
            await halves.asked("healed", scale.gets, None, scale.gets / 2, zones_s=zones_s, contacts_s=contacts_s)
        )
        _, unfound = await liveness.looks_of_all(world)
        report.findings += [*unfound, *world.findings()]
        judge(report)

    return told(Report("partition", scale, draw), weather, progress, story)


class _Halves:
    """The machines of a world in two halves, by lot, and the readers of each."""

    def __init__(self, world: World, scale: Scale, progress: Progress) -> None:
        engines = world.living
        chosen = {engine.address: None for engine in world.random.sample(engines, len(engines) // 2)}
        self.left = [engine for engine in engines if engine.address in chosen]
        self.right = [engine for engine in engines if engine.address not in chosen]
        self._world = world
        self._progress = progress
        publishers = {owner.engine.address: None for owner in world.owners}
        # Publishers know their own zones without the network.
        able = [[one for one in half if one.address not in publishers] or half for half in (self.left, self.right)]
        self._readers = [half[-READERS:] for half in able]
        self._drawn = random.Random(f"{scale.seed}/questions")

    def _side(self, engine: VirtualEngine) -> int:
        return int(any(engine is one for one in self.right))

    async def asked(
        self,
        phase: str,
        count: int,
        same_side: bool | None,
        seconds: float,
        zones_s: float | None = None,
        contacts_s: float | None = None,
    ) -> PartitionRow:
        """Have readers ask for zones of their own side, of the other one, or of any, over some time."""
        answered = fresh = 0
        for number in range(count):
            await asyncio.sleep(seconds / count)
            side = number % 2
            reader = self._drawn.choice(self._readers[side])
            owners = [
                one
                for one in self._world.owners
                if same_side is None
                or (
                    (self._side(one.engine) == side) is same_side
                    # A zone that is new on the other side cannot be known here.
                    and (same_side or one.edition > 1)
                )
            ]
            owner = self._drawn.choice(owners)
            shown = await self._edition(reader, owner)
            answered += shown is not None
            fresh += shown == owner.edition
            self._progress(f"{phase}: asking", number + 1, count)
        return PartitionRow(phase, count, answered, fresh, zones_s, contacts_s)

    async def _edition(self, reader: VirtualEngine, owner: Owner) -> int | None:
        resolved = await reader.ask(owner.question)
        self._world.network.note("answer", str(owner.key), resolved.rcode, resolved.answer)
        return resolved.answer[0].rdata[1] if resolved.answer else None

    @property
    def known_share(self) -> float:
        """How many of the machines nearest to its own id a machine knows, on average."""
        shares = []
        for engine in self._world.living:
            known = {peer.address: None for peer in engine.node.peers(self._world.loop.time())}
            nearest = self._world.nearest(engine.node.node_id, K + 1)
            others = [one for one in nearest if one is not engine][:K]
            shares.append(sum(one.address in known for one in others) / max(1, len(others)))
        return sum(shares) / len(shares)

    async def healed(self, known_before: float, report: Report) -> tuple[float | None, float | None]:
        """Wait until the halves have grown together; return when the zones had, and when the contacts had."""
        world = self._world
        began = world.loop.time()
        zones_s = contacts_s = None
        while (zones_s is None or contacts_s is None) and world.loop.time() - began < HEAL_S_MAX:
            await asyncio.sleep(LOOK_S)
            after_s = world.loop.time() - began
            if contacts_s is None and self.known_share >= KNOWN_AGAIN * known_before:
                contacts_s = after_s
                world.healing.clear()
            if zones_s is None and not self._behind():
                zones_s = after_s
            self._progress("healing, seconds,", round(after_s), round(HEAL_S_MAX))
        report.findings += self._behind()
        if contacts_s is None:
            share = self.known_share
            report.findings.append(f"machines know {share:.0%} of their neighbours, {known_before:.0%} before")
        return zones_s, contacts_s

    def _behind(self) -> Sequence[str]:
        world = self._world
        return [
            text
            for owner in world.owners
            for text in liveness.near_findings(str(owner.key), liveness.near(world, owner))
        ]


def judge(report: Report) -> None:
    """Note the missed goals: in each phase every question has an answer, and at the end each the newest one."""
    for row in report.rows:
        assert isinstance(row, PartitionRow)
        report.must_reach(f"answered questions, {row.phase}", row.answered, row.asked)
        if row.phase == "healed":
            report.must_reach("answers with the newest edition, healed", row.fresh, row.asked)
