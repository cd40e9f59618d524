"""The log: one line an event, and never the reason for which anything else ends."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Iterator

import pytest

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
    for number in range(10 * log.REASONS_MAX):
        limited.debug(f"reason {number}")
    assert len(limited._last) == log.REASONS_MAX


def test_a_command_that_logs_nothing_does_without_the_library() -> None:
    code = (
        "import sys\nfrom p2pdns import log\nlogger = log.get_logger('room')\nlog.configure('warning')\n"
        "assert 'structlog' not in sys.modules\nlogger.info('not wanted')\nlogger.warning('wanted')\n"
        "assert 'structlog' in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "p2pdns: room: warning: wanted\n")
