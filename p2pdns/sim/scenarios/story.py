"""How a scenario runs: a world in virtual time, a story in it, and a report of both.

Guarantees: the same story and scale give the same figures and the same trace, whatever order sets have; the machines
are stopped at the end. Does not know what happens in a story.
"""

from __future__ import annotations

import hashlib
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace

from p2pdns.sim import loop as virtual
from p2pdns.sim.engine import Habits
from p2pdns.sim.loop import VirtualLoop
from p2pdns.sim.network import Weather
from p2pdns.sim.placing import GROWN_MAX, place
from p2pdns.sim.report import FINDINGS_KEPT_MAX, Report
from p2pdns.sim.world import HabitsOf, Progress, World

PLACED_NOTE = "the machines were placed with the contacts that joining would bring, and did not join"
# The most that a seed can draw where a scenario wants no more; home lines lose less.
LOSS_MAX, DUPLICATION_MAX = 0.02, 0.01

Story = Callable[[World, Report], Awaitable[None]]


def drawn_weather(
    seed: int, loss_max: float = LOSS_MAX, duplication_max: float = DUPLICATION_MAX
) -> tuple[random.Random, Weather, dict[str, float]]:
    """Return the generator of a seed's draw, the weather that it has drawn, and what a report says of it."""
    drawn = random.Random(f"{seed}/draw")
    loss, duplication = drawn.uniform(0.0, loss_max), drawn.uniform(0.0, duplication_max)
    weather = Weather(loss=round(loss, 4), duplication=round(duplication, 4))
    facts = {"loss": weather.loss, "duplication": weather.duplication, "rtt_ms_median": weather.rtt_s_median * 1000}
    return drawn, weather, facts


async def peopled(world: World, report: Report, nodes: int) -> None:
    """Add machines until there are so many: a small world grows, a large one is placed, and the report says so."""
    count = nodes - len(world.engines)
    if not (report.scale.is_placed or report.scale.nodes > GROWN_MAX):
        await world.grow(count)
        return
    if PLACED_NOTE not in report.notes:
        report.notes.append(PLACED_NOTE)
    await place(world, count)


def told(
    report: Report,
    weather: Weather,
    progress: Progress,
    story: Story,
    habits_of: HabitsOf = lambda number, drawn: Habits(),
) -> Report:
    """Let a story happen in a new world; return the report, to which the story has added its rows."""

    async def happening(loop: VirtualLoop) -> None:
        world = World(loop, report.scale.seed, weather, progress, habits_of)
        began = loop.time()
        await story(world, report)
        report.lived_s = world.lived_s
        report.checked = dict(sorted(world.checkers.counters.items()))
        await world.close()
        report.trace_sha256 = world.network.trace.hexdigest()
        report.virtual_s = loop.time() - began
        report.datagrams = world.network.counters["sent"]

    cpu_at = time.process_time()
    virtual.run(happening)
    report.cpu_s = time.process_time() - cpu_at
    del report.findings[FINDINGS_KEPT_MAX:]
    return report


def one_after_another(report: Report, weather: Weather, progress: Progress, stories: Iterable[Story]) -> Report:
    """Let each story happen in a world of its own, all by the same seed; return a report of them all."""
    traces = hashlib.sha256()
    for story in stories:
        part = told(Report(report.scenario, report.scale, report.draw), weather, progress, story)
        traces.update(bytes.fromhex(part.trace_sha256))
        report.picture.first_s.update(part.picture.first_s)
        report.picture.done_s.update(part.picture.done_s)
        report = replace(
            report,
            rows=report.rows + part.rows,
            findings=(report.findings + part.findings)[:FINDINGS_KEPT_MAX],
            missed=report.missed + part.missed,
            virtual_s=report.virtual_s + part.virtual_s,
            cpu_s=report.cpu_s + part.cpu_s,
            datagrams=report.datagrams + part.datagrams,
            notes=report.notes + part.notes,
            lived_s=report.lived_s + part.lived_s,
            checked=dict(sorted((Counter(report.checked) + Counter(part.checked)).items())),
        )
    return replace(report, trace_sha256=traces.hexdigest())
