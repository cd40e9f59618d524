"""Each scenario in a small world: the same seed is the same history, no rule is broken, and what is missed is told."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from p2pdns.sim.report import Report, Scale
from p2pdns.sim.scenarios.flash import FlashRow
from p2pdns.sim.scenarios.flash import judge as judge_flash
from p2pdns.sim.scenarios.partition import PartitionRow
from p2pdns.sim.scenarios.partition import judge as judge_partition
from p2pdns.sim.scenarios.scale import ScaleRow
from p2pdns.sim.scenarios.scale import judge as judge_scale

ROOT = Path(__file__).resolve().parents[3]
GUARD_S = 600.0
SMALL = (
    "import json, sys\n"
    "from dataclasses import asdict\n"
    "from p2pdns.sim.report import Scale\n"
    "from p2pdns.sim.scenarios import SCENARIOS\n"
    "scale = Scale(1, nodes=30, zones=4, gets=12, minutes=8.0)\n"
    "print(json.dumps(asdict(SCENARIOS[sys.argv[1]](scale, lambda *_: None))))\n"
)


def in_two_processes(scenario: str) -> list[dict[str, Any]]:
    """Return what comes of a small world, twice, in processes in which sets have orders of their own."""
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", SMALL, scenario],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            stdout=subprocess.PIPE,
        )
        for hash_seed in ("0", "4242")
    ]
    try:
        return [json.loads(process.communicate(timeout=GUARD_S)[0]) for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()


@pytest.mark.parametrize("scenario", ["churn", "partition", "flash", "scale"])
def test_a_small_world_breaks_no_rule_and_is_the_same_whatever_order_sets_have(scenario: str) -> None:
    one, other = in_two_processes(scenario)
    assert one["findings"] == []
    assert one["missed"] == []
    assert one["trace_sha256"] == other["trace_sha256"]
    assert one["virtual_s"] > 0
    assert one["checked"]["gets"] > one["scale"]["gets"]
    assert one["checked"]["items"] > 0
    assert one["checked"].get("answers", 0) > 0 or scenario == "scale"
    assert one["checked"].get("negative", 0) > 0 or scenario != "churn"
    assert 0 < one["lived_s"] <= 60 * one["virtual_s"], "no more than twice as many machines as are up at a time"


FLASH = FlashRow("cold", 1_000, 1_000, (0.1, 0.1, 0.1), 20.0, 40, 100.0, 120, 40_000, 50.0)
PARTITION = PartitionRow("healed", 10, 10, 10, 60.0, 60.0)
SIZE = ScaleRow(400, 0.0, 10, 10, 10, 4.0, 7.0, 20.0, (0.1, 0.1, 0.1), 1.0, 50.0, 0, 60.0, 10.0)


@pytest.mark.parametrize(("row", "count"), [(FLASH, 0), (replace(FLASH, answered=998), 1)])
def test_a_question_of_a_crowd_that_gets_no_answer_is_a_missed_goal(row: FlashRow, count: int) -> None:
    report = Report("flash", Scale(1), rows=[row])
    judge_flash(report)
    assert len(report.missed) == count


@pytest.mark.parametrize(
    ("row", "count"),
    [
        (PARTITION, 0),
        (replace(PARTITION, answered=9), 1),
        (replace(PARTITION, fresh=9), 1),
        (replace(PARTITION, phase="parted, other side", fresh=0), 0),
    ],
    ids=["healed", "not answered", "old", "parted"],
)
def test_a_world_that_has_healed_answers_everything_with_the_newest(row: PartitionRow, count: int) -> None:
    report = Report("partition", Scale(1), rows=[row])
    judge_partition(report)
    assert len(report.missed) == count


@pytest.mark.parametrize(
    ("row", "count"),
    [
        (SIZE, 0),
        (replace(SIZE, rpcs_to_first=7.1), 1),
        (replace(SIZE, overlap=0.98), 1),
        (replace(SIZE, overlap=0.96, dead=0.3), 0),
        (replace(SIZE, overlap=0.94, dead=0.3), 1),
    ],
    ids=["good", "dear", "overlap", "dead", "dead overlap"],
)
def test_each_size_has_its_goals(row: ScaleRow, count: int) -> None:
    report = Report("scale", Scale(1), rows=[row])
    judge_scale(report)
    assert len(report.missed) == count
