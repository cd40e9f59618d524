"""The measurements in a world, and their goals.

Guarantees: the same scenario, seed and scale give the same figures and the same trace, whatever order sets have; the
verdict is bad if a figure misses its goal or a rule was broken. Does not know how it is shown.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from p2pdns.dht.lookup.verdict import Verdict
from p2pdns.sim import loop as virtual
from p2pdns.sim.checkers import look_findings, world_findings
from p2pdns.sim.loop import VirtualLoop
from p2pdns.sim.network import RTT_S_MEDIAN, Weather
from p2pdns.sim.world import Look, Progress, World

LOSS_MAX = 0.02  # The most that a seed can draw; home lines lose less.
ZONES = 20
QUIET_S = 60.0  # After the last machine has joined and the last zone is published.
DEAD_SHARES = (0.0, 0.1, 0.3, 0.5)
P50_RTTS_MAX, P95_RTTS_MAX = 2.0, 4.0  # Of the first valid item, with all machines alive.
P95_S_MAX_HALF_DEAD = 0.5
FINDINGS_SHOWN_MAX = 20


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


@dataclass
class Report:
    """What came of a world."""

    scenario: str
    seed: int
    nodes: int
    draw: dict[str, float]
    rows: list[LookupRow] = field(default_factory=list)
    findings: list[str] = field(default_factory=list)
    missed: list[str] = field(default_factory=list)
    trace_sha256: str = ""
    virtual_s: float = 0.0
    cpu_s: float = 0.0
    datagrams: int = 0

    @property
    def is_good(self) -> bool:
        """Whether every rule held and every goal was met."""
        return not (self.findings or self.missed)

    @property
    def node_hours_per_cpu_minute(self) -> float:
        """Simulated node hours per CPU minute."""
        return self.nodes * self.virtual_s / 60 / max(self.cpu_s, 1e-9)


def quantiles(values: Sequence[float]) -> tuple[float, float, float]:
    """Return the median, the 95th and the 98th percentile; zeros where there is nothing.

    >>> quantiles([3.0, 1.0, 2.0])
    (2.0, 3.0, 3.0)
    """
    ordered = sorted(values) or [0.0]
    half, most, nearly_all = (ordered[min(len(ordered) - 1, int(q * len(ordered)))] for q in (0.5, 0.95, 0.98))
    return half, most, nearly_all


def lookup(seed: int, nodes: int, progress: Progress, *, gets: int, zones: int = ZONES) -> Report:
    """Grow a world, publish, and look up while ever more of its machines are dead."""
    drawn = random.Random(f"{seed}/draw")
    weather = Weather(loss=round(drawn.uniform(0.0, LOSS_MAX), 4), duplication=round(drawn.uniform(0.0, 0.01), 4))
    draw = {"loss": weather.loss, "duplication": weather.duplication, "rtt_ms_median": weather.rtt_s_median * 1000}
    report = Report("lookup", seed, nodes, draw)

    async def story(loop: VirtualLoop) -> None:
        world = World(loop, seed, weather, progress)
        began = loop.time()
        await world.grow(nodes)
        await world.publish(zones)
        await asyncio.sleep(QUIET_S)
        dead = 0.0
        for share in DEAD_SHARES:
            await world.silence(1 - (1 - share) / (1 - dead))
            dead = share
            looks = []
            for number in range(gets):
                looks.append(await world.look_up(world.owners[number % zones]))
                progress(f"looking up, {share:.0%} dead,", number + 1, gets)
            report.rows.append(_row(share, looks))
            report.findings += [text for look in looks for text in look_findings(look)]
            report.findings += world_findings(world)
            world.troubles.clear()
        await world.close()
        report.trace_sha256 = world.network.trace.hexdigest()
        report.virtual_s = loop.time() - began
        report.datagrams = world.network.counters["sent"]

    cpu_at = time.process_time()
    virtual.run(story)
    report.cpu_s = time.process_time() - cpu_at
    report.missed += missed_goals(report.rows)
    del report.findings[FINDINGS_SHOWN_MAX:]
    return report


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


def missed_goals(rows: Sequence[LookupRow]) -> Iterator[str]:
    """Yield the missed goals; the rows go from all alive to half dead."""
    alive, half = rows[0], rows[-1]
    for name, value, most in (
        ("p50 of the first answer", alive.first_s[0], P50_RTTS_MAX * RTT_S_MEDIAN),
        ("p95 of the first answer", alive.first_s[1], P95_RTTS_MAX * RTT_S_MEDIAN),
        ("p95 of the first answer at half dead", half.first_s[1], P95_S_MAX_HALF_DEAD),
    ):
        if value > most:
            yield f"{name}: {value * 1000:.0f} ms, {most * 1000:.0f} allowed"
    if alive.newest < alive.gets:
        yield f"{alive.gets - alive.newest} of {alive.gets} look-ups did not find the newest edition with all alive"


SCENARIOS = {"lookup": lookup}
