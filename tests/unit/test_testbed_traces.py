"""What is left of a testbed is found by its own marks, and what belongs to others is not taken for it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.testbed import traces
from tests.testbed.signals import ending_by_signals
from tests.testbed.traces import Traces, temporary_files

OURS, OTHER = "ab" * 32, "cd" * 32
NETWORK = "0123456789ab" + "0" * 52
PORT = 5399
TRACES = Traces(frozenset({OURS}), frozenset({NETWORK}), PORT)


def processes(folder: Path, *each: tuple[str, str]) -> Path:
    """Make a /proc with these processes, each by its words and its cgroup."""
    for number, (words, group) in enumerate(each, start=7):
        (folder / str(number)).mkdir()
        (folder / str(number) / "cmdline").write_text(words.replace(" ", "\0"))
        (folder / str(number) / "cgroup").write_text(f"0::{group}\n")
    # One that ended while we were looking.
    (folder / "99").mkdir()
    return folder


def test_processes_are_found_by_their_container_by_what_they_speak_of_and_by_our_port(tmp_path: Path) -> None:
    proc = processes(
        tmp_path,
        ("p2pdns serve", f"/docker/{OURS}"),
        (f"docker exec -i {OURS}", "/"),
        (f"/usr/bin/containerd-shim-runc-v2 -id {OURS}", "/"),
        (f"/usr/sbin/docker-proxy -host-port {PORT}", "/"),
        ("p2pdns serve", f"/docker/{OTHER}"),
        (f"docker exec -i {OTHER}", "/"),
        ("/usr/sbin/docker-proxy -host-port 80", "/"),
        (f"dig -p {PORT}", "/"),
    )
    assert [line.split()[1] for line in TRACES.processes(proc)] == ["7", "8", "9", "10"]


def test_a_real_process_is_found_until_it_ends() -> None:
    words = [sys.executable, "-c", "print(flush=True); input()", OURS]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert [line.split()[1] for line in TRACES.processes()] == [str(process.pid)]
        process.kill()
    assert TRACES.processes() == []


def test_bridges_and_rules_of_our_networks_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("lo", "docker0", "br-0123456789ab", "br-ffffffffffff"):
        (tmp_path / name).mkdir()
    assert TRACES.interfaces(tmp_path) == ["interface br-0123456789ab"]
    rules = (
        "-A DOCKER ! -i br-0123456789ab -p udp -j DNAT\n-A FORWARD -o docker0 -j DOCKER\n  ip daddr 10.91.2.20 drop\n"
    )
    (tmp_path / "iptables-save").write_text(f"#!/bin/sh\necho '{rules}'\n")
    (tmp_path / "iptables-save").chmod(0o755)
    monkeypatch.setattr(traces, "FILTERS", (("iptables-save",), ("no-such-command",)))
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert TRACES.rules() == ["rule -A DOCKER ! -i br-0123456789ab -p udp -j DNAT", "rule ip daddr 10.91.2.20 drop"]


def test_only_files_that_were_not_there_before_are_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    (tmp_path / "p2pdns-images.old").touch()
    before = temporary_files()
    for name in ("p2pdns-images.new", "p2pdns-base.new", "somebody-elses"):
        (tmp_path / name).touch()
    traces = Traces(frozenset(), frozenset(), PORT, before)
    left = [line for line in traces.left() if line.startswith("file ")]
    assert left == [f"file {tmp_path}/p2pdns-base.new", f"file {tmp_path}/p2pdns-images.new"]


def test_the_first_signal_is_ctrl_c_and_at_the_end_none_is_heard() -> None:
    with ending_by_signals() as ignore_signals:
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            with pytest.raises(KeyboardInterrupt):
                os.kill(os.getpid(), number)
        ignore_signals()
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            try:
                os.kill(os.getpid(), number)
            except KeyboardInterrupt:
                pytest.fail(f"{number!r} was heard")
            # What is started then does not hear it either.
            said = subprocess.run(["sh", "-c", f"kill -{number:d} $$; echo alive"], stdout=subprocess.PIPE, check=False)
            assert said.stdout == b"alive\n"
    assert signal.getsignal(signal.SIGTERM) is not signal.SIG_IGN
