"""The scenario `flash`: every machine asks for one name at the same moment.

Guarantees: the verdict is bad if a rule was broken or if a question got no answer. Does not know how it is shown.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from p2pdns.clock import boot_now
from p2pdns.limits import QUESTION_S_MAX
from p2pdns.sim.engine import VirtualEngine
from p2pdns.sim.report import Report, Scale, ms_text, quantiles
from p2pdns.sim.rules import Tap
from p2pdns.sim.scenarios.story import drawn_weather, told
from p2pdns.sim.world import TTL_S, Owner, Progress, World

SETTLE_S = 1_800.0  # Until read-only nodes were visited, and tables are full.
# The waves, and how long after the one before: while answers are kept, and when they have to be confirmed.
WAVES = (("cold", 0.0), ("a second later", 1.0), ("after a TTL", TTL_S + 1.0))
ANSWERED_MIN = 0.999  # Of the questions: with 2 % loss one in some thousands finds no holder in its four seconds.


@dataclass(frozen=True)
class FlashRow:
    """One wave of questions, and the pause before it.

    The load is what came to each of the twenty holders, and to each other machine, upkeep included; RPCs are those of a
    machine's look-ups.
    """

    wave: str
    asked: int
    answered: int
    took_s: tuple[float, float, float]
    rpcs: float
    rpcs_most: int
    holder_datagrams: float
    holder_datagrams_most: int
    holder_bytes_most: int
    other_datagrams: float

    def cells(self) -> dict[str, str]:
        """Return the texts of the line by the title of their column."""
        return {
            "wave": self.wave,
            "answered": f"{self.answered} of {self.asked}",
            "p50/p95/p98 ms": ms_text(self.took_s),
            "RPCs": f"{self.rpcs:.1f}",
            "most": f"{self.rpcs_most}",
            "datagrams a holder": f"{self.holder_datagrams:.0f}",
            "most loaded": f"{self.holder_datagrams_most}",
            "its bytes": f"{self.holder_bytes_most}",
            "a machine else": f"{self.other_datagrams:.0f}",
        }


def flash(scale: Scale, progress: Progress) -> Report:
    """Publish one zone, and have every machine ask for it at once, three times."""
    _, weather, draw = drawn_weather(scale.seed)

    async def story(world: World, report: Report) -> None:
        await world.grow(scale.nodes)
        await asyncio.sleep(SETTLE_S)
        await world.publish(1)
        (owner,) = world.owners
        await asyncio.sleep(60.0)
        world.is_calm = False
        for number, (wave, pause_s) in enumerate(WAVES):
            report.rows.append(await _wave(world, owner, wave, pause_s))
            report.findings += world.findings()
            progress("waves", number + 1, len(WAVES))
        judge(report)

    return told(Report("flash", scale, draw), weather, progress, story)


async def _wave(world: World, owner: Owner, wave: str, pause_s: float) -> FlashRow:
    machines = [engine for engine in world.living if engine is not owner.engine]
    before = [_rpcs(engine) for engine in machines]
    # What was asked for lately is looked up again when its TTL is over, before anybody asks: that is load too.
    tap = Tap()
    world.network.rules.insert(0, tap)
    await asyncio.sleep(pause_s)
    done = await asyncio.gather(*(_question(world, engine, owner) for engine in machines))
    # The look-ups go on behind the first answers.
    await asyncio.sleep(QUESTION_S_MAX)
    world.network.rules.remove(tap)
    holders = [engine.address[0] for engine in world.nearest(owner.target)]
    others = [engine.address[0] for engine in machines if engine.address[0] not in holders]
    counts = [tap.datagrams[host] for host in holders]
    answered = [took_s for took_s in done if took_s is not None]
    rpcs = [_rpcs(engine) - earlier for engine, earlier in zip(machines, before, strict=True)]
    return FlashRow(
        wave=wave,
        asked=len(done),
        answered=len(answered),
        took_s=quantiles(answered),
        rpcs=sum(rpcs) / len(rpcs),
        rpcs_most=max(rpcs),
        holder_datagrams=sum(counts) / len(counts),
        holder_datagrams_most=max(counts),
        holder_bytes_most=max(tap.size_bytes[host] for host in holders),
        other_datagrams=sum(tap.datagrams[host] for host in others) / max(1, len(others)),
    )


async def _question(world: World, engine: VirtualEngine, owner: Owner) -> float | None:
    began = boot_now()
    resolved = await engine.ask(owner.question)
    world.network.note("answer", engine.address[0], resolved.rcode, resolved.answer)
    return boot_now() - began if resolved.answer else None


def _rpcs(engine: VirtualEngine) -> int:
    return sum(report.rpcs for report in engine.overlay.reports)


def judge(report: Report) -> None:
    """Note the missed goal: questions have answers."""
    for row in report.rows:
        assert isinstance(row, FlashRow)
        report.must_reach(f"share of answered questions, {row.wave}", row.answered / row.asked, ANSWERED_MIN)
