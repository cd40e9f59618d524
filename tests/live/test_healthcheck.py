"""deploy/healthcheck.py, run as a container runs it, against a real daemon and against none."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

from tests.live.served import ROOT, Served

HEALTHCHECK = ROOT / "deploy" / "healthcheck.py"
GUARD_S = 30.0


def check(state: Path, *words: str) -> tuple[int, str]:
    """Return exit status and line of a health check; it never says anything on standard error."""
    done = subprocess.run(
        [sys.executable, "-I", "-S", HEALTHCHECK, *words],
        env={**os.environ, "STATE_DIRECTORY": str(state)},
        capture_output=True,
        text=True,
        timeout=GUARD_S,
        check=False,
    )
    assert done.stderr == ""
    assert done.stdout.count("\n") == 1
    return done.returncode, done.stdout.strip()


def test_a_daemon_is_healthy_while_it_runs_and_unhealthy_when_it_is_gone(tmp_path: Path) -> None:
    daemon = Served(tmp_path / "state", "--no-dns")
    try:
        code, line = check(tmp_path / "state")
        assert code == 0
        assert line.startswith(f"healthy: 0 contacts in {daemon.status()['network']}, up ")
        code, line = check(tmp_path / "state", "--contacts", "1")
        assert code == 1
        assert line.startswith("unhealthy: 0 contacts in ")
        assert line.endswith("at least 1 contacts are wanted")
    finally:
        assert daemon.end() == 0
    code, line = check(tmp_path / "state")
    assert code == 1
    assert line.startswith("unhealthy: ")
    assert "No such file or directory" in line


def test_wrong_words_are_unhealthy_and_not_a_traceback(tmp_path: Path) -> None:
    for words in (("--contacts",), ("--contacts", "many"), ("--loud", "1")):
        code, line = check(tmp_path, *words)
        assert code == 1
        assert line.startswith("unhealthy: ")


def test_a_socket_that_talks_nonsense_is_unhealthy(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server:
        server.bind(str(tmp_path / "control.sock"))
        server.listen()

        def talk() -> None:
            for nonsense in (
                b"",
                b"hello\n",
                b"[]\n",
                b'{"ok": false, "error": "not today"}\n',
                b"[" * 100_000 + b"\n",
            ):
                peer, _ = server.accept()
                with peer:
                    peer.recv(64)
                    peer.sendall(nonsense)

        talker = threading.Thread(target=talk, daemon=True)
        talker.start()
        lines = [check(tmp_path) for _ in range(5)]
        talker.join(GUARD_S)
    assert [code for code, _ in lines] == [1] * 5
    assert any("not today" in line for _, line in lines)
