"""The scenario `scale`: the world grows, and at each size look-ups and puts are measured.

Guarantees: the verdict is bad if a rule was broken or a goal was missed at any size. Does not know how it is shown.
"""

from __future__ import annotations

import asyncio
import math
import resource
import time
from dataclasses import dataclass

from p2pdns.dht.lookup.verdict import Verdict
from p2pdns.dht.routing.table import K
from p2pdns.sim.report import Report, Scale, ms_text, quantiles
from p2pdns.sim.scenarios.story import drawn_weather, peopled, told
from p2pdns.sim.world import Look, Owner, Progress, World

SIZE_MIN = 30
SIZES = 4  # The last is the whole world, each other one half of the next.
# Until read-only nodes were visited, and tables are full: a new node takes part in a network of its own after eleven
# minutes at the earliest.
SETTLE_S = 1_800.0
DEAD_SHARE = 0.3
RPCS_FACTOR, RPCS_SPARE = 1.5, 4.0  # Of the look-ups' depth, which is the logarithm of the size to the base 20.
OVERLAP_MIN, OVERLAP_MIN_DEAD = 0.99, 0.95
MIB = 1_024  # In the KiB of `ru_maxrss`.


@dataclass(frozen=True)
class ScaleRow:
    """A size: `overlap` is the share of the truly nearest twenty that new items were put to.

    `rss_mib` and `cpu_s` are those of the whole process so far, and differ from machine to machine.
    """

    nodes: int
    dead: float
    gets: int
    newest: int
    complete: int
    rpcs_to_first: float
    rpcs_to_first_max: float
    rpcs: float
    first_s: tuple[float, float, float]
    overlap: float
    contacts: float
    read_only: int
    rss_mib: float
    cpu_s: float

    def cells(self) -> dict[str, str]:
        """Return the texts of the line by the title of their column."""
        return {
            "machines": f"{self.nodes}",
            "dead": f"{self.dead:.0%}",
            "newest": f"{self.newest} of {self.gets}",
            "complete": f"{self.complete}",
            "to first": f"{self.rpcs_to_first:.1f}",
            "allowed": f"{self.rpcs_to_first_max:.1f}",
            "RPCs": f"{self.rpcs:.1f}",
            "first p50/p95/p98 ms": ms_text(self.first_s),
            "overlap": f"{self.overlap:.1%}",
            "contacts": f"{self.contacts:.0f}",
            "MiB": f"{self.rss_mib:.0f}",
            "CPU s": f"{self.cpu_s:.0f}",
        }


def rpcs_to_first_max(nodes: int) -> float:
    """Return how many RPCs a look-up may send before its first valid item.

    >>> rpcs_to_first_max(400)
    7.0
    """
    return RPCS_FACTOR * math.log(nodes, K) + RPCS_SPARE


def sizes_of(nodes: int) -> list[int]:
    """Return the sizes that are measured.

    >>> sizes_of(1_000), sizes_of(70)
    ([125, 250, 500, 1000], [35, 70])
    """
    sizes = [nodes]
    while len(sizes) < SIZES and sizes[0] // 2 >= SIZE_MIN:
        sizes.insert(0, sizes[0] // 2)
    return sizes


def scale(scale: Scale, progress: Progress) -> Report:
    """Grow a world, and at each size publish and look up; at the last size once more with many dead."""
    _, weather, draw = drawn_weather(scale.seed)

    async def story(world: World, report: Report) -> None:
        for nodes in sizes_of(scale.nodes):
            await peopled(world, report, nodes)
            await asyncio.sleep(SETTLE_S)
            report.rows.append(await _row(world, scale, 0.0, progress))
            report.findings += world.findings()
        await world.silence(DEAD_SHARE)
        report.rows.append(await _row(world, scale, DEAD_SHARE, progress))
        report.findings += world.findings()
        judge(report)

    return told(Report("scale", scale, draw), weather, progress, story)


async def _row(world: World, scale: Scale, dead: float, progress: Progress) -> ScaleRow:
    before = len(world.owners)
    await world.publish(scale.zones)
    owners = world.owners[before:]
    overlap = sum(overlap_of(world, owner) for owner in owners) / len(owners)
    looks: list[Look] = []
    for number in range(scale.gets):
        looks.append(await world.look_up(owners[number % len(owners)]))
        progress(f"looking up among {len(world.engines)},", number + 1, scale.gets)
    to_first = [look.outcome.rpcs_to_first for look in looks if look.outcome.rpcs_to_first is not None]
    living = world.living
    return ScaleRow(
        nodes=len(world.engines),
        dead=dead,
        gets=len(looks),
        newest=sum(look.shown_seq == look.wanted_seq for look in looks),
        complete=sum(look.outcome.verdict is Verdict.COMPLETE for look in looks),
        rpcs_to_first=sum(to_first) / max(1, len(to_first)),
        rpcs_to_first_max=rpcs_to_first_max(len(world.engines)),
        rpcs=sum(look.outcome.rpc_count for look in looks) / len(looks),
        first_s=quantiles([look.first_s for look in looks if look.first_s is not None]),
        overlap=overlap,
        contacts=sum(engine.node.contact_count for engine in living) / len(living),
        read_only=sum(engine.node.is_read_only for engine in living),
        rss_mib=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / MIB,
        cpu_s=time.process_time(),
    )


def overlap_of(world: World, owner: Owner) -> float:
    """Return the share of the nodes truly nearest to a zone that hold its newest edition."""
    # The publisher keeps a copy beside the others, and in the place of none.
    nearest = world.nearest(owner.target, among=[one for one in world.living if one is not owner.engine])
    return sum(world.seq_held(engine, owner.target) == owner.seq for engine in nearest) / max(1, len(nearest))


def judge(report: Report) -> None:
    """Note the missed goals of each size."""
    for row in report.rows:
        assert isinstance(row, ScaleRow)
        size = f"{row.nodes} machines, {row.dead:.0%} dead"
        report.must_not_exceed(f"RPCs to the first item, {size}", row.rpcs_to_first, row.rpcs_to_first_max)
        report.must_reach(f"overlap, {size}", row.overlap, OVERLAP_MIN_DEAD if row.dead else OVERLAP_MIN)
