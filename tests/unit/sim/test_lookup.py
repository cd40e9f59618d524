"""Whole worlds: a seed is a history, and what is broken or missed is told."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from p2pdns.cli import sim as verb
from p2pdns.cli.main import main
from p2pdns.sim.report import Report, Scale
from p2pdns.sim.scenarios import SCENARIOS
from p2pdns.sim.scenarios.lookup import LookupRow, judge

ROOT = Path(__file__).resolve().parents[3]
GUARD_S = 600.0
SMALL = (
    "import json\n"
    "from dataclasses import asdict\n"
    "from p2pdns.sim.report import Scale\n"
    "from p2pdns.sim.scenarios.lookup import lookup\n"
    "print(json.dumps(asdict(lookup(Scale(SEED, nodes=30, zones=4, gets=8), lambda *_: None))))\n"
)
GOOD = LookupRow(
    dead=0.0,
    gets=10,
    found=10,
    newest=10,
    complete=10,
    first_s=(0.05, 0.1, 0.2),
    done_s=(1.0, 1.0, 1.0),
    rpcs=20.0,
    rpcs_to_first=4.0,
    bytes=17_000.0,
)


def worlds(*seeds_and_hashes: tuple[int, str]) -> list[dict[str, object]]:
    """Return what comes of small worlds, each in a process in which sets have an order of their own."""
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", SMALL.replace("SEED", str(seed))],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            stdout=subprocess.PIPE,
        )
        for seed, hash_seed in seeds_and_hashes
    ]
    try:
        return [json.loads(process.communicate(timeout=GUARD_S)[0]) for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()


def test_the_same_seed_is_the_same_history_whatever_order_sets_have_and_another_seed_is_another() -> None:
    *same, other = worlds((1, "0"), (1, "1"), (1, "4242"), (2, "0"))
    traces = [world["trace_sha256"] for world in (*same, other)]
    assert len({*traces}) == 2
    assert traces[0] != other["trace_sha256"]
    assert same[0]["findings"] == []
    rows = same[0]["rows"]
    assert isinstance(rows, list)
    assert [row["dead"] for row in rows] == [0.0, 0.1, 0.3, 0.5]
    assert rows[0]["newest"] == rows[0]["gets"] == 8


@pytest.mark.parametrize(
    ("alive", "half", "count"),
    [
        (GOOD, GOOD, 0),
        (replace(GOOD, first_s=(0.17, 0.1, 0.2)), GOOD, 1),
        (replace(GOOD, first_s=(0.05, 0.34, 0.4)), GOOD, 1),
        (GOOD, replace(GOOD, first_s=(0.05, 0.51, 0.6)), 1),
        (replace(GOOD, newest=9), GOOD, 1),
    ],
    ids=["good", "median", "tail", "half dead", "not the newest"],
)
def test_a_figure_beyond_its_goal_is_missed(alive: LookupRow, half: LookupRow, count: int) -> None:
    report = Report("lookup", Scale(1))
    judge(report, [alive, half])
    assert len(report.missed) == count


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--scenario", "eclips"], "no scenario is called"),
        (["--nodes", "0"], "0 machines, 30 to 20000 are possible"),
        (["--nodes", "1000000"], "1000000 machines"),
        (["--seed", "-1"], "--seed"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_world_that_cannot_be_is_a_usage_error(
    words: list[str], text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["sim", *words]) == 2
    assert text in capsys.readouterr().err


def test_the_verb_knows_each_scenario_that_there_is() -> None:
    assert tuple(SCENARIOS) == verb.SCENARIOS


def test_a_world_with_a_fault_ends_in_1_and_the_line_that_repeats_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    report = Report("lookup", Scale(7, 40, 3), {"loss": 0.01}, rows=[GOOD], findings=["a rule"], missed=["a goal"])
    monkeypatch.setitem(SCENARIOS, "lookup", lambda *_, **__: report)
    assert main(["sim", "--seed", "7", "--nodes", "40", "--gets", "3"]) == 1
    printed = capsys.readouterr()
    assert "BROKEN  a rule\nMISSED  a goal\n" in printed.out
    assert "2 rules broken or goals missed, first: a rule" in printed.err
    assert "hint: to repeat it: p2pdns sim --scenario lookup --seed 7 --nodes 40 --gets 3" in printed.err
