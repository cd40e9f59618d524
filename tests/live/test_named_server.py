"""`resolve NAME @ADDR`: a question to a server that is named, whatever has become of this machine's own state."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from tests.live.served import KEY, WWW_ADDRESS, Served, p2pdns


def test_a_named_server_is_asked_without_any_state(tmp_path: Path) -> None:
    served = Served(tmp_path / "state")
    served.publish_here(tmp_path)
    words = ("resolve", "--short", f"www.{KEY}", f"@127.0.0.1:{served.port}")
    file = tmp_path / "file"
    file.touch()
    for flags in ((), ("--state", tmp_path / "missing"), ("--state", file), ("--state", file / "below")):
        done = p2pdns(*words, *map(str, flags), extra={"HOME": ""})
        assert (done.returncode, done.stdout, done.stderr) == (0, f"{WWW_ADDRESS}\n", "")
    assert served.end() == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_named_server_is_asked_by_somebody_who_may_not_read_the_state(tmp_path: Path) -> None:
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(0o755)
    served = Served(tmp_path / "state")
    served.publish_here(tmp_path)
    done = p2pdns("resolve", "--short", f"www.{KEY}", f"@127.0.0.1:{served.port}", "--state", served.state, user=True)
    assert (done.returncode, done.stdout) == (0, f"{WWW_ADDRESS}\n"), done.stderr
    assert served.end() == 0


def test_a_daemon_that_hangs_keeps_no_question_to_another_server_back(tmp_path: Path) -> None:
    hung = tmp_path / "hung"
    hung.mkdir(mode=0o700)
    served = Served(tmp_path / "state")
    served.publish_here(tmp_path)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(hung / "control.sock"))
        listener.listen()
        done = p2pdns("resolve", "--short", f"www.{KEY}", f"@127.0.0.1:{served.port}", "--state", hung)
    assert (done.returncode, done.stdout) == (0, f"{WWW_ADDRESS}\n"), done.stderr
    assert served.end() == 0
