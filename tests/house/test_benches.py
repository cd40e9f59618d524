"""Every bench starts as its own first lines say, from wherever somebody stands."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.house.rules import ROOT

# Beside those that others import, and `swarm.py`, which speaks JSON with the bench that starts it.
BENCHES = sorted(path for path in (ROOT / "bench").glob("*.py") if "ArgumentParser" in path.read_text("utf-8"))
SECONDS_MAX = 60  # A guard only.


@pytest.mark.parametrize("path", BENCHES, ids=lambda path: path.name)
def test_a_bench_finds_what_it_is_made_of_from_any_directory(path: Path, tmp_path: Path) -> None:
    words = [sys.executable, str(path), "--help"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=SECONDS_MAX)
    assert done.returncode == 0, done.stderr
    assert f"bench/{path.name}" in done.stdout


def test_there_are_benches() -> None:
    assert len(BENCHES) >= 8
