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


@pytest.mark.parametrize(("docker", "code", "is_run"), [("exit 0", 0, True), ("exit 1", 1, False)])
def test_ci_tells_the_testbed_that_it_is_required_and_ends_where_there_is_no_engine(
    tmp_path: Path, docker: str, code: int, is_run: bool
) -> None:
    programs = {"docker": docker, "make": 'echo "P2PDNS_TESTBED=$P2PDNS_TESTBED make $*"', "python3": "exit 0"}
    for name, line in programs.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{line}\n")
        (tmp_path / name).chmod(0o755)
    done = subprocess.run(
        ["bash", ROOT / ".ci" / "run"],
        env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=SECONDS_MAX,
        check=False,
    )
    assert done.returncode == code
    assert ("testbed" in done.stdout) is is_run
    if is_run:
        assert done.stdout.startswith("P2PDNS_TESTBED=required make check test ")
    else:
        assert "no container engine answers" in done.stderr
