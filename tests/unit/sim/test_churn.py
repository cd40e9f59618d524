"""Machines that come and go: the law of their sessions, their clocks, and what a run of churn is judged by."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace
from statistics import median

import pytest

from p2pdns.sim.churn import CLOCKS, YEAR_S, Churn, Sessions, clock_off_s
from p2pdns.sim.loop import VirtualLoop, run
from p2pdns.sim.network import Weather
from p2pdns.sim.report import Report, Scale
from p2pdns.sim.scenarios.churn import GOAL_MINUTES_MIN, ChurnRow, judge
from p2pdns.sim.world import World

GOOD = ChurnRow(
    session_minutes=60.0,
    living=60.0,
    departures=100,
    gets=1_000,
    found=1_000,
    availability=1.0,
    slices=(1.0,),
    first_s=(0.1, 0.1, 0.1),
    datagrams_s=0.2,
    bytes_s=60.0,
    near=1.0,
    stranded=0,
)


def test_half_of_the_sessions_are_shorter_than_the_median_and_a_few_are_very_long() -> None:
    sessions, drawn = Sessions(3_600.0, 0.1), random.Random(1)
    lengths = [sessions.length_s(drawn) for _ in range(4_000)]
    assert abs(median(lengths) / 3_600.0 - 1) < 0.1
    # Of an exponential law with this median, one in 10⁵ is as long.
    assert sum(length > 16 * 3_600.0 for length in lengths) > 100


def test_most_clocks_are_right_and_a_few_are_years_off_in_either_direction() -> None:
    drawn = random.Random(1)
    offs = [clock_off_s(drawn) for _ in range(4_000)]
    assert sum(share for share, _ in CLOCKS) == pytest.approx(1.0)
    assert 0.65 < offs.count(0.0) / len(offs) < 0.75
    assert min(offs) < -YEAR_S < YEAR_S < max(offs)
    assert sum(abs(off) > 86_400.0 for off in offs) < 0.03 * len(offs)


def test_machines_leave_and_come_back_some_of_them_without_their_disk_and_stop_in_one_piece() -> None:
    async def story(loop: VirtualLoop) -> tuple[int, int, int]:
        world = World(loop, 1, Weather())
        await world.grow(12)
        away = [world.new_engine() for _ in range(8)]
        coming = Churn("1/churn", Sessions(60.0, 0.5), lambda lot: world.addresses_of_some(drawn=lot))
        coming.begin(world.engines[3:])
        await asyncio.sleep(1_800.0)
        await coming.stop()
        assert all(engine.was_up for engine in away)
        assert coming.departures > 10
        assert 0 < coming.returns_without_state < coming.departures
        living = len(world.living)
        await asyncio.sleep(1_800.0)
        assert len(world.living) == living, "nobody comes or goes any more"
        assert list(world.findings()) == []
        await world.close()
        return coming.departures, coming.returns_without_state, living

    assert run(story) == run(story)


@pytest.mark.parametrize(
    ("minutes", "availability", "missed", "notes"),
    [
        (GOAL_MINUTES_MIN, 0.9991, 0, 0),
        (GOAL_MINUTES_MIN, 0.998, 1, 0),
        (700.0, 0.5, 0, 1),
        (60.0, 0.5, 0, 2),
    ],
)
def test_a_day_has_a_goal_and_a_shorter_run_says_what_it_does_not_judge(
    minutes: float, availability: float, missed: int, notes: int
) -> None:
    report = Report("churn", Scale(1, minutes=minutes))
    report.rows += [replace(GOOD, availability=availability), replace(GOOD, session_minutes=5.0, availability=0.1)]
    judge(report)
    assert (len(report.missed), len(report.notes)) == (missed, notes)
