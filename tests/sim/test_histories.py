"""`make sim`: every rule holds in the worlds that once failed, and in twenty that are drawn by fixed seeds."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from p2pdns.sim.report import Scale
from p2pdns.sim.scenarios import SCENARIOS
from tests.sim.kept import FAILING_SEEDS, HERE, Run, kept_runs, read_line

SEEDS = range(1, 21)
# A world of a hundred machines, with troubles for nine minutes.
RUNS = [*kept_runs(), *(Run("history", Scale(seed, nodes=100, gets=100, zones=10, minutes=9)) for seed in SEEDS)]


@pytest.mark.sim
@pytest.mark.parametrize("run", RUNS, ids=str)
def test_every_rule_holds_in_a_history(run: Run) -> None:
    if run.is_of_another_version:
        sys.stdout.write(
            f"seed {run.scale.seed} failed under {run.found_by}; this is {HERE}, another history perhaps\n"
        )
    report = SCENARIOS[run.scenario](run.scale, lambda *_: None)
    assert report.findings == [], f"repeat it: {run.command}\nkeep it: echo '{run}' >> {FAILING_SEEDS.name}"


def test_a_line_of_the_file_names_a_world_and_is_what_the_next_one_is_written_like() -> None:
    run = Run("history", Scale(7, 100, 50, minutes=15.5), "0.0.9/3.10")
    assert read_line(f"{run}  # a reader was shown less", 1) == run
    assert run.is_of_another_version
    assert not read_line(str(Run("churn", Scale(1))), 1).is_of_another_version
    assert run.command == "p2pdns sim --scenario history --seed 7 --nodes 100 --gets 50 --minutes 15.5"


@pytest.mark.parametrize("line", ["history 7", "histori 7 100 50 15 0.1.0/3.11", "history x 100 50 15 0.1.0/3.11"])
def test_a_line_that_names_no_world_is_told_with_its_number(line: str, tmp_path: Path) -> None:
    path = tmp_path / "seeds.txt"
    path.write_text(f"# Worlds.\n\n{line}\n", "utf-8")
    with pytest.raises(ValueError, match="line 3: "):
        kept_runs(path)
