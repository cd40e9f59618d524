"""What a machine cannot do is left out with a reason for a user, and is a failure where it is required: in CI."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.house.rules import ROOT
from tests.testbed.conftest import leave_out

SECONDS_MAX = 60


def test_what_is_left_out_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("P2PDNS_TESTBED", raising=False)
    with pytest.raises(pytest.skip.Exception, match="network namespaces need root; these tests are left out"):
        leave_out("network namespaces need root")


def test_what_is_required_is_not_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("P2PDNS_TESTBED", "required")
    with pytest.raises((pytest.fail.Exception, pytest.skip.Exception)) as ended:
        leave_out("network namespaces need root")
    assert ended.type is pytest.fail.Exception
    assert "network namespaces need root, and P2PDNS_TESTBED=required" in str(ended.value)


def run_ci(folder: Path, docker: str, make: str) -> subprocess.CompletedProcess[str]:
    """Run the CI's script with stand-ins for what it calls."""
    for name, line in {"docker": docker, "make": make, "python3": "exit 0"}.items():
        (folder / name).write_text(f"#!/bin/sh\n{line}\n")
        (folder / name).chmod(0o755)
    return subprocess.run(
        ["bash", ROOT / ".ci" / "run"],
        env={**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=SECONDS_MAX,
        check=False,
    )


def test_ci_says_why_the_images_could_not_be_made_and_runs_no_testbed_on_none(tmp_path: Path) -> None:
    make = 'case "$*" in *images*) echo no packages today; exit 3;; *) echo "make $*";; esac'
    done = run_ci(tmp_path, "exit 0", make)
    assert (done.returncode, "no packages today" in done.stderr, "testbed" in done.stdout) == (1, True, False)


@pytest.mark.parametrize(("docker", "code", "is_run"), [("exit 0", 0, True), ("exit 1", 1, False)])
def test_ci_tells_the_testbed_that_it_is_required_and_ends_where_there_is_no_engine(
    tmp_path: Path, docker: str, code: int, is_run: bool
) -> None:
    done = run_ci(tmp_path, docker, 'echo "P2PDNS_TESTBED=$P2PDNS_TESTBED make $*"')
    assert done.returncode == code
    assert ("testbed" in done.stdout) is is_run
    if is_run:
        told = [line.partition(" make ")[::2] for line in done.stdout.splitlines()]
        assert {place for place, _ in told} == {"P2PDNS_TESTBED=required"}
        assert [words for _, words in told] == ["check", "test mutants", "testbed"]
    else:
        assert "no container engine answers" in done.stderr
