"""Traces of a testbed are found by its own marks, and those of other programs are not taken for them."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from tests.testbed.traces import Traces, on_this_machine, temporary_files
from tests.unit.testbed import stand_ins

OURS, OTHER = "ab" * 32, "cd" * 32
NETWORK = "0123456789ab" + "0" * 52
PORT = 5399
TRACES = Traces(frozenset({OURS}), frozenset({NETWORK}), PORT)


@pytest.mark.parametrize(
    "line",
    [
        f"process 7 p2pdns serve 0::/docker/{OURS}",
        f"process 8 docker exec -i {OURS} 0::/",
        f"process 9 /usr/bin/containerd-shim-runc-v2 -id {OURS} 0::/",
        f"process 10 /usr/sbin/docker-proxy -host-port {PORT} -container-ip 172.19.0.2 0::/",
        "interface br-0123456789ab",
        "rule -A DOCKER ! -i br-0123456789ab -p udp -j DNAT",
        "rule ip daddr 10.91.2.20 drop",
    ],
)
def test_what_bears_a_mark_of_ours_is_left_and_nothing_of_others(line: str) -> None:
    others = [
        f"process 11 p2pdns serve 0::/docker/{OTHER}",
        f"process 12 docker exec -i {OTHER} 0::/",
        "process 13 /usr/sbin/docker-proxy -host-port 80 -container-ip 172.19.0.2 0::/",
        f"process 14 dig -p {PORT} 0::/",
        "interface br-ffffffffffff",
        "rule -A FORWARD -o docker0 -j DOCKER",
    ]
    assert TRACES.among([*others, line]) == [line]


def test_processes_interfaces_and_rules_of_the_machine_are_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_ins(tmp_path, nft="echo '  ip daddr 10.91.2.20 drop'")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    found = list(on_this_machine())
    # This process is one.
    assert any(line.startswith(f"process {os.getpid()} ") and "python" in line for line in found)
    assert {"interface lo", "rule ip daddr 10.91.2.20 drop"} <= set(found)


def test_only_files_that_were_not_there_before_are_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    (tmp_path / "p2pdns-images.old").touch()
    before = temporary_files()
    for name in ("p2pdns-images.new", "p2pdns-base.new", "somebody-elses"):
        (tmp_path / name).touch()
    left = Traces(frozenset(), frozenset(), PORT, before).left()
    expected = [f"file {tmp_path}/p2pdns-base.new", f"file {tmp_path}/p2pdns-images.new"]
    assert sorted(line for line in left if line.startswith("file ")) == expected
