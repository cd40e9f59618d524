"""The log: one line an event, and never the reason for which anything else ends."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from p2pdns import log


@pytest.fixture(autouse=True)
def configured() -> Iterator[None]:
    """Log everything, and afterwards what other tests expect."""
    log.configure("debug")
    yield
    log.configure()


def test_a_line_says_room_level_and_fields(capsys: pytest.CaptureFixture[str]) -> None:
    log.get_logger("room").warning("something is odd", size=3, text="two words")
    assert capsys.readouterr().err == "p2pdns: room: warning: something is odd size=3 text='two words'\n"


def test_what_a_stranger_sent_stays_on_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    log.get_logger("room").info("a\nb\x1b[2J", name="c\nd")
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "\x1b" not in said


class FullDisk(io.StringIO):
    """A standard error that takes nothing."""

    def write(self, text: str) -> int:
        """Refuse."""
        raise OSError(28, "No space left on device")

    def flush(self) -> None:
        """Refuse."""
        raise OSError(28, "No space left on device")


@pytest.mark.parametrize("stream", [FullDisk(), None])
def test_a_log_that_takes_no_lines_is_no_error(monkeypatch: pytest.MonkeyPatch, stream: io.StringIO | None) -> None:
    monkeypatch.setattr("sys.stderr", stream)
    log.get_logger("room").error("nobody will read this")


def test_a_trouble_of_the_event_loop_is_a_line_and_no_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    handle = log.loop_trouble(log.get_logger("room"))
    handle(None, {"message": "task broke", "exception": ValueError("odd")})
    handle(None, {})
    assert capsys.readouterr().err.splitlines() == [
        "p2pdns: room: error: task broke reason='ValueError: odd'",
        "p2pdns: room: error: event loop reason=''",
    ]


def test_lines_that_outsiders_cause_are_one_a_second_for_each_reason(capsys: pytest.CaptureFixture[str]) -> None:
    now = [0.0]
    limited = log.get_limited_logger("room", lambda: now[0])
    for number in range(1000):
        limited.error("it broke", by=number)
        limited.warning("it is odd", by=number)
    now[0] = 0.99
    limited.error("it broke", by="late")
    assert capsys.readouterr().err.splitlines() == [
        "p2pdns: room: error: it broke by=0",
        "p2pdns: room: warning: it is odd by=0",
    ]
    now[0] = 1.0
    limited.error("it broke", by="later")
    limited.debug("something else")
    now[0] = 2.0
    limited.error("it broke", by="again")
    assert capsys.readouterr().err.splitlines() == [
        "p2pdns: room: error: it broke by=later left_out=1000",
        "p2pdns: room: something else",
        "p2pdns: room: error: it broke by=again",
    ]


def test_what_asyncio_puts_into_its_texts_makes_no_new_reason(capsys: pytest.CaptureFixture[str]) -> None:
    handle = log.loop_trouble(log.get_limited_logger("room", lambda: 0.0))
    for number in range(50):
        handle(None, {"message": f"Exception in callback <Handle {number}>", "exception": ValueError(number)})
    assert capsys.readouterr().err.count("\n") == 1


def test_the_reasons_remembered_are_bounded() -> None:
    limited = log.LimitedLogger(log.get_logger("room"), lambda: 0.0)

    def is_written(number: int) -> bool:
        with capture_logs() as lines:
            limited.warning(f"reason {number}")
        return bool(lines)

    assert all(is_written(number) for number in range(10 * log.REASONS_MAX))
    newest = range(9 * log.REASONS_MAX, 10 * log.REASONS_MAX)
    assert not any(is_written(number) for number in newest)
    assert is_written(newest.start - 1), "of an older one it is not known any more that it was written just now"


def test_a_command_that_logs_nothing_does_without_the_library() -> None:
    code = (
        "import sys\nfrom p2pdns import log\nlogger = log.get_logger('room')\nlog.configure('warning')\n"
        "assert 'structlog' not in sys.modules\nlogger.info('not wanted')\nlogger.warning('wanted')\n"
        "assert 'structlog' in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "p2pdns: room: warning: wanted\n")


# The journal

SAY = """
import sys
from p2pdns import log
from p2pdns.cli import ui
from structlog.testing import capture_logs
log.configure("debug")
for level in log.LEVELS:
    getattr(log.get_logger("room"), level)("said")
ui.note("said")
ui.warning("said")
"""


def said_to(path: Path, journal_stream: str) -> list[str]:
    """Return the lines of a process whose standard error is a file that JOURNAL_STREAM may name."""
    with path.open("wb") as errors:
        done = subprocess.run(
            [sys.executable, "-c", SAY],
            stderr=errors,
            env={**os.environ, "JOURNAL_STREAM": journal_stream},
            check=False,
        )
    assert done.returncode == 0, path.read_text()
    return path.read_text().splitlines()


def test_lines_for_the_journal_open_with_their_priority(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    path.touch()
    about = path.stat()
    assert said_to(path, f"{about.st_dev}:{about.st_ino}") == [
        "<7>p2pdns: room: said",
        "<6>p2pdns: room: said",
        "<4>p2pdns: room: warning: said",
        "<3>p2pdns: room: error: said",
        "<5>p2pdns: said",
        "<4>p2pdns: warning: said",
    ]


@pytest.mark.parametrize("stream", ["", ":", "1:2:3", "none", "{device}:1", "1:{inode}", "{device}:{inode}0"])
def test_lines_for_anything_else_have_no_priority(tmp_path: Path, stream: str) -> None:
    path = tmp_path / "file"
    path.touch()
    about = path.stat()
    lines = said_to(path, stream.format(device=about.st_dev, inode=about.st_ino))
    assert lines[1] == "p2pdns: room: said"
    assert not any(line.startswith("<") for line in lines)


def test_a_closed_standard_error_is_no_journal() -> None:
    assert not log.is_journal({"JOURNAL_STREAM": "1:1"}, 999_999)
