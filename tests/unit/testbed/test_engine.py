"""The commands of the testbed: neither one nor a process that it has started outlives its limit or an interruption."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest

from deploy.testbed import engine
from p2pdns.errors import Unavailable

# A command like a build: it starts another, and that one does not care for signals that can be ignored.
PROGRAM = """
(trap '' TERM INT; exec 3>"$1/held"; read -r forever < "$1/pipe") &
wait
"""
SECONDS_MAX, END_S_MAX = 30.0, 5.0  # Guards only.


def test_what_a_command_has_started_ends_with_an_interruption(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "END_S_MAX", 0.1)
    main_thread = threading.get_ident()
    for name in ("held", "pipe"):
        os.mkfifo(tmp_path / name)
    held = os.open(tmp_path / "held", os.O_RDONLY | os.O_NONBLOCK)
    is_waiting = threading.Event()

    class Watched(subprocess.Popen[str]):
        def communicate(self, *arguments: Any, **named: Any) -> tuple[str, str]:
            is_waiting.set()
            return super().communicate(*arguments, **named)

    monkeypatch.setattr(subprocess, "Popen", Watched)

    def interrupt() -> None:
        # The child is up once it reads: until then this waits.
        os.open(tmp_path / "pipe", os.O_WRONLY)
        is_waiting.wait(SECONDS_MAX)
        signal.pthread_kill(main_thread, signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        engine.run(["sh", "-c", PROGRAM, "sh", str(tmp_path)], seconds_max=SECONDS_MAX)
    # The end of the pipe: the last process that had it open for writing is gone.
    assert select.select([held], [], [], END_S_MAX)[0]
    assert os.read(held, 1) == b""
    os.close(held)


def test_a_command_that_does_not_end_is_ended() -> None:
    with pytest.raises(Unavailable, match=r"^sleep 600: no end within 0.1 s$"):
        engine.run(["sleep", "600"], seconds_max=0.1)


def test_a_command_says_what_it_printed_and_why_it_failed() -> None:
    assert engine.run(["sh", "-c", "echo fine; echo noise >&2"]) == "fine\n"
    with pytest.raises(Unavailable, match=r"false alarm: it did not work$"):
        engine.run(["sh", "-c", "echo progress >&2; echo 'false alarm: it did not work.' >&2; exit 3"])
    assert engine.run(["sh", "-c", "echo fine; exit 3"], check=False) == "fine\n"
