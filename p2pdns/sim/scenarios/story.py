"""How a scenario runs: a world in virtual time, a story in it, and a report of both.

Guarantees: the same story and scale give the same figures and the same trace, whatever order sets have; the machines
are stopped at the end. Does not know what happens in a story.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

from p2pdns.sim import loop as virtual
from p2pdns.sim.engine import Habits
from p2pdns.sim.loop import VirtualLoop
from p2pdns.sim.network import Weather
from p2pdns.sim.report import FINDINGS_KEPT_MAX, Report
from p2pdns.sim.world import HabitsOf, Progress, World

Story = Callable[[World, Report], Awaitable[None]]


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
