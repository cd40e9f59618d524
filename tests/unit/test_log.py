"""The log: one line an event, and never the reason for which anything else ends."""

from __future__ import annotations

import io
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
