"""The scenario `lookup`: zones are looked up from machines that never saw them, while ever more machines are dead.

Guarantees: the verdict is bad if a figure misses its goal or a rule was broken. Does not know how it is shown.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from p2pdns.dht.lookup.verdict import Verdict
from p2pdns.items.item import mutable_target
from p2pdns.sim.hops import Watch
from p2pdns.sim.network import RTT_S_MEDIAN
from p2pdns.sim.report import Report, Ring, Scale, ms_text, quantiles
from p2pdns.sim.scenarios.story import drawn_weather, peopled, told
from p2pdns.sim.world import Look, Progress, World

QUIET_S = 60.0  # After the last machine has joined and the last zone is published.
DEAD_SHARES = (0.0, 0.1, 0.3, 0.5)
P50_RTTS_MAX, P95_RTTS_MAX = 2.0, 4.0  # Of the first valid item, with all machines alive.
P95_S_MAX_HALF_DEAD = 0.5
SHARE_ON_RING = 0.3  # The figure shows a look-up among so many dead machines, where one sees it go round them.


@dataclass(frozen=True)
class LookupRow:
    """The look-ups of one share of dead machines; times in seconds, to the first valid item and to the end."""

    dead: float
    gets: int
    found: int
    newest: int
    complete: int
    first_s: tuple[float, float, float]
    done_s: tuple[float, float, float]
    rpcs: float
    rpcs_to_first: float
    bytes: float

    def cells(self) -> dict[str, str]:
        """Return the texts of the line by the title of their column."""
        return {
            "dead": f"{self.dead:.0%}",
            "found": f"{self.found} of {self.gets}",
            "newest": f"{self.newest} of {self.gets}",
            "first p50/p95/p98 ms": ms_text(self.first_s),
            "complete": f"{self.complete} of {self.gets}",
            "end p50/p95/p98 ms": ms_text(self.done_s),
            "RPCs": f"{self.rpcs:.1f}",
            "to first": f"{self.rpcs_to_first:.1f}",
            "bytes": f"{self.bytes:.0f}",
        }


def lookup(scale: Scale, progress: Progress) -> Report:
    """Grow a world, publish, and look up while ever more of its machines are dead."""
    _, weather, draw = drawn_weather(scale.seed)

    async def story(world: World, report: Report) -> None:
        await peopled(world, report, scale.nodes)
        await world.publish(scale.zones)
        await asyncio.sleep(QUIET_S)
        dead, rows = 0.0, []
        for share in DEAD_SHARES:
            await world.silence(1 - (1 - share) / (1 - dead))
            dead = share
            looks = []
            for number in range(scale.gets):
                looks.append(await world.look_up(world.owners[number % scale.zones]))
                progress(f"looking up, {share:.0%} dead,", number + 1, scale.gets)
            rows.append(_row(share, looks))
            label = f"{share:.0%} dead"
            report.picture.first_s[label] = [look.first_s for look in looks if look.first_s is not None]
            report.picture.done_s[label] = [look.outcome.done_s for look in looks]
            if share == SHARE_ON_RING:
                report.picture.ring = await _one_way(world)
            report.findings += world.findings()
        report.rows += rows
        judge(report, rows)

    return told(Report("lookup", scale, draw), weather, progress, story)


async def _one_way(world: World) -> Ring | None:
    owner = world.owners[0]
    watch = Watch(mutable_target(owner.key.raw))
    world.network.rules.insert(0, watch)
    look = await world.look_up(owner)
    world.network.rules.remove(watch)
    return watch.ring(world.engines, look.first_s)


def _row(dead: float, looks: Sequence[Look]) -> LookupRow:
    outcomes = [look.outcome for look in looks]
    firsts = [look.first_s for look in looks if look.first_s is not None]
    to_first = [outcome.rpcs_to_first for outcome in outcomes if outcome.rpcs_to_first is not None]
    return LookupRow(
        dead=dead,
        gets=len(looks),
        found=len(firsts),
        newest=sum(look.shown_seq == look.wanted_seq for look in looks),
        complete=sum(outcome.verdict is Verdict.COMPLETE for outcome in outcomes),
        first_s=quantiles(firsts),
        done_s=quantiles([outcome.done_s for outcome in outcomes]),
        rpcs=sum(outcome.rpc_count for outcome in outcomes) / len(looks),
        rpcs_to_first=sum(to_first) / max(1, len(to_first)),
        bytes=sum(outcome.bytes_sent + outcome.bytes_received for outcome in outcomes) / len(looks),
    )


def judge(report: Report, rows: Sequence[LookupRow]) -> None:
    """Note the missed goals; the rows go from all alive to half dead."""
    alive, half = rows[0], rows[-1]
    median, tail = (most * RTT_S_MEDIAN for most in (P50_RTTS_MAX, P95_RTTS_MAX))
    report.must_not_exceed("p50 of the first answer", alive.first_s[0], median, " s")
    report.must_not_exceed("p95 of the first answer", alive.first_s[1], tail, " s")
    report.must_not_exceed("p95 of the first answer at half dead", half.first_s[1], P95_S_MAX_HALF_DEAD, " s")
    report.must_reach("look-ups that found the newest edition with all alive", alive.newest, alive.gets)
