"""The daemons of the other tests: none is left by a test that failed."""

from __future__ import annotations

from pathlib import Path

from tests.live.front_process import wait_until
from tests.live.served import RUNNING, Served, end_since
from tests.live.test_supervisor import children_of, is_alive


def test_a_daemon_that_nobody_ended_is_killed_and_its_children_end(tmp_path: Path) -> None:
    before = len(RUNNING)
    left = Served(tmp_path / "state")
    pids = list(children_of(left.process.pid).values())
    assert pids
    end_since(before)
    assert left.process.poll() is not None
    assert len(RUNNING) == before
    wait_until(lambda: not any(map(is_alive, pids)), "the end of the children")
