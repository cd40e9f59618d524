"""What has to hold before a change lands: .ci/run leaves nothing out, beside an engine and a `make` that only note."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.house.rules import ROOT
from tests.unit.testbed import stand_ins

SECONDS_MAX = 60


def run_ci(folder: Path, docker: str, make: str) -> subprocess.CompletedProcess[str]:
    environ = stand_ins(folder, docker=docker, make=make, python3="exit 0")
    command = ["bash", str(ROOT / ".ci" / "run")]
    return subprocess.run(command, env=environ, capture_output=True, text=True, timeout=SECONDS_MAX, check=False)


@pytest.mark.parametrize(
    ("docker", "make", "why"),
    [
        ("exit 0", 'case "$*" in *images*) echo no packages; exit 3;; *) echo "make $*";; esac', "no packages"),
        ("exit 1", 'echo "make $*"', "no container engine answers"),
    ],
)
def test_ci_says_why_there_can_be_no_testbed_and_fails(tmp_path: Path, docker: str, make: str, why: str) -> None:
    done = run_ci(tmp_path, docker, make)
    assert (done.returncode, why in done.stderr, "testbed" in done.stdout) == (1, True, False)


def test_ci_tells_the_testbed_that_it_is_required(tmp_path: Path) -> None:
    done = run_ci(tmp_path, "exit 0", 'echo "P2PDNS_TESTBED=$P2PDNS_TESTBED make $*"')
    lines = done.stdout.splitlines()
    assert all(line.startswith("P2PDNS_TESTBED=required make ") for line in lines)
    words = [line.partition(" make ")[2] for line in lines]
    # What is prepared in the background comes at any time, and so do the worlds and the testbed.
    assert [each for each in words if each in ("style", "test smoke", "mutants SHARE=8")] == [
        "style",
        "test smoke",
        "mutants SHARE=8",
    ]
    assert words.index("testbed") > words.index("test smoke")
    assert words.index("sim") > words.index("style")
    assert done.returncode == 0
