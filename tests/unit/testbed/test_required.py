"""Tests that a machine cannot run are left out with a reason, and fail where they are required: in CI."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.house.rules import ROOT
from tests.testbed.conftest import leave_out
from tests.unit.testbed import stand_ins

SECONDS_MAX = 60


@pytest.mark.parametrize(
    ("word", "kind", "why"),
    [
        ("", pytest.skip.Exception, "; these tests are left out"),
        ("required", pytest.fail.Exception, ", and P2PDNS_TEST"),
    ],
)
def test_what_is_left_out_says_why_and_what_is_required_is_not_left_out(
    monkeypatch: pytest.MonkeyPatch, word: str, kind: type[BaseException], why: str
) -> None:
    monkeypatch.setenv("P2PDNS_TESTBED", word)
    with pytest.raises((pytest.fail.Exception, pytest.skip.Exception)) as ended:
        leave_out("network namespaces need root")
    assert ended.type is kind
    assert f"network namespaces need root{why}" in str(ended.value)


def run_ci(folder: Path, docker: str, make: str) -> subprocess.CompletedProcess[str]:
    stand_ins(folder, docker=docker, make=make, python3="exit 0")
    environ = {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"}
    command = ["bash", str(ROOT / ".ci" / "run")]
    return subprocess.run(command, env=environ, capture_output=True, text=True, timeout=SECONDS_MAX, check=False)


def test_ci_says_why_the_images_could_not_be_made_and_runs_no_testbed_on_none(tmp_path: Path) -> None:
    make = 'case "$*" in *images*) echo no packages today; exit 3;; *) echo "make $*";; esac'
    done = run_ci(tmp_path, "exit 0", make)
    assert (done.returncode, "no packages today" in done.stderr, "testbed" in done.stdout) == (1, True, False)


def test_ci_tells_the_testbed_that_it_is_required(tmp_path: Path) -> None:
    done = run_ci(tmp_path, "exit 0", 'echo "P2PDNS_TESTBED=$P2PDNS_TESTBED make $*"')
    lines = done.stdout.splitlines()
    assert all(line.startswith("P2PDNS_TESTBED=required make ") for line in lines)
    words = [line.partition(" make ")[2] for line in lines]
    # What is prepared in the background comes at any time, and so does the testbed beside the sabotages.
    assert [each for each in words if each in ("style", "test smoke", "mutants")] == ["style", "test smoke", "mutants"]
    assert words.index("testbed") > words.index("test smoke")
    assert done.returncode == 0


def test_ci_ends_where_there_is_no_engine(tmp_path: Path) -> None:
    done = run_ci(tmp_path, "exit 1", 'echo "make $*"')
    assert (done.returncode, "testbed" in done.stdout) == (1, False)
    assert "no container engine answers" in done.stderr
