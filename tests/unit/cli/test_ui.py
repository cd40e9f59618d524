"""What reaches the terminal: results and words apart, strangers' text escaped, colour only where it is wanted."""

from __future__ import annotations

import io
import json
import os
import pty
import select
import subprocess
import sys
from pathlib import Path

import pytest

from p2pdns.cli import ui
from p2pdns.cli.ui import Column
from p2pdns.errors import ConfigError, KeyFileError, P2pdnsError, Unavailable, UsageError, ZoneFileError

SECONDS_MAX = 30.0


class FakeTerminal:
    """Standard input that says it is a terminal."""

    def isatty(self) -> bool:
        """Say so."""
        return True

    def write(self, text: str) -> int:
        """Take the text."""
        return len(text)

    def flush(self) -> None:
        """Do nothing."""


def test_results_and_words_go_different_ways(capsys: pytest.CaptureFixture[str]) -> None:
    ui.result("192.0.2.1")
    ui.note("on the way")
    ui.warning("odd")
    assert capsys.readouterr() == ("192.0.2.1\n", "p2pdns: on the way\np2pdns: warning: odd\n")


def test_an_error_is_one_line_and_its_hint_another(capsys: pytest.CaptureFixture[str]) -> None:
    ui.error(KeyFileError("no such file", place='"a.key"', hint='did you mean "b.key"?'))
    assert capsys.readouterr().err == ('p2pdns: error: "a.key": no such file\np2pdns: hint: did you mean "b.key"?\n')


@pytest.mark.parametrize(
    ("trouble", "hint"),
    [
        (UsageError("no"), "p2pdns --help"),
        (ZoneFileError("no", path="a.zone"), "zones/example.zone shows how the lines of a zone file are written"),
        (ConfigError("no"), "deploy/p2pdns.example.toml shows every setting"),
        (UsageError("no", place="serve"), "p2pdns serve --help"),
        (UsageError("no", place="--dns"), "p2pdns --help"),
    ],
)
def test_an_error_without_a_hint_gets_that_of_its_kind(
    capsys: pytest.CaptureFixture[str], trouble: P2pdnsError, hint: str
) -> None:
    ui.error(trouble)
    assert capsys.readouterr().err == f"p2pdns: error: {trouble}\np2pdns: hint: {hint}\n"


def test_an_error_that_nobody_can_mend_has_no_empty_line(capsys: pytest.CaptureFixture[str]) -> None:
    ui.error(Unavailable("no such name"))
    assert capsys.readouterr().err == "p2pdns: error: no such name\n"


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("plain", "plain"),
        ("µ → …", "µ → …"),
        ("a\x1b[2Jb", "a\\x1b[2Jb"),
        ("two\nlines", "two\\nlines"),
        ("bell\x07", "bell\\x07"),
        ("right\u202eleft", "right\\u202eleft"),
    ],
)
def test_control_characters_are_spelled_out(text: str, seen: str, capsys: pytest.CaptureFixture[str]) -> None:
    ui.result(text)
    ui.note(text)
    assert capsys.readouterr() == (f"{seen}\n", f"p2pdns: {seen}\n")
    assert ui.table_lines([Column("a")], [[text]])[1] == seen


def test_json_is_ascii_whatever_was_sent(capsys: pytest.CaptureFixture[str]) -> None:
    ui.json_result({"text": "\x1b[2J…"})
    out = capsys.readouterr().out
    assert out.isascii()
    assert "\x1b" not in out
    assert json.loads(out) == {"text": "\x1b[2J…"}


def test_a_table_has_aligned_columns_and_no_trailing_blanks() -> None:
    lines = ui.table_lines(
        [Column("name"), Column("ms", "right"), Column("x")], [["a", "10.5", ""], ["long", "3", "y"]]
    )
    assert lines == ["name    ms  x", "a     10.5", "long     3  y"]


class Screen(io.StringIO):
    """Standard output that says it is a terminal, and keeps what it shows."""

    def isatty(self) -> bool:
        """Say so."""
        return True


COLUMNS = [Column("zone key"), Column("ms", "right"), Column("note")]
ROWS = [["k" * 52, "3", ""], ["\x1b[2J", "12", "late"]]


@pytest.mark.parametrize("has_colour", [True, False])
@pytest.mark.parametrize(("width", "is_blocks"), [(40, True), (89, True), (90, False), (200, False)])
def test_a_narrow_terminal_gets_blocks_and_folds_nothing(
    width: int, is_blocks: bool, has_colour: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    screen = Screen()
    monkeypatch.setattr(sys, "stdout", screen)
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    if not has_colour:
        monkeypatch.setenv("NO_COLOR", "1")
    ui.table(COLUMNS, ROWS)
    lines = screen.getvalue().splitlines()
    blocks = [f"zone key  {'k' * 52}", "ms        3", "", "zone key  \\x1b[2J", "ms        12", "note      late"]
    assert (lines == blocks) is is_blocks
    assert any("k" * 52 in line for line in lines)


def test_a_pipe_gets_lines_however_narrow(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    ui.table(COLUMNS, ROWS)
    assert capsys.readouterr().out.splitlines() == ui.table_lines(COLUMNS, ROWS)


def test_no_colour_in_a_pipe_nor_where_the_user_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not ui.is_terminal(io.StringIO())
    terminal = FakeTerminal()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert ui.is_terminal(terminal)  # type: ignore[arg-type]
    monkeypatch.setenv("NO_COLOR", "1")
    assert not ui.is_terminal(terminal)  # type: ignore[arg-type]
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("TERM", "dumb")
    assert not ui.is_terminal(terminal)  # type: ignore[arg-type]


def test_progress_says_nothing_into_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    with ui.progress() as line:
        line.update("stored at 1 of 8 nodes so far")
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(("encoding", "full"), [("utf-8", "━"), ("ascii", "-")])
def test_progress_draws_a_bar_where_the_share_is_known_and_leaves_an_empty_line(
    encoding: str, full: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Terminal(io.TextIOWrapper):
        """Standard error that says it is a terminal."""

        def isatty(self) -> bool:
            """Say so."""
            return True

    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    screen = Terminal(io.BytesIO(), encoding=encoding, newline="")
    monkeypatch.setattr(sys, "stderr", screen)
    with ui.progress() as line:
        line.update("looking up")
        line.update("at 5 of 20", 0.25)
    screen.seek(0)
    shown = screen.read().split("\r")
    assert shown[1:3] == ["p2pdns: looking up", f"p2pdns: {full * 5}{' ' * 15} at 5 of 20"]
    assert shown[-2:] == [" " * len(shown[2]), ""]


class Talk:
    """A command on a terminal: what it shows, and what is typed."""

    def __init__(self, folder: Path, *words: str) -> None:
        self.master, slave = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "p2pdns", *words],
            cwd=folder,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env={**{k: v for k, v in os.environ.items() if k != "NO_COLOR"}, "TERM": "xterm"},
            start_new_session=True,
        )
        os.close(slave)
        self.seen = ""
        self._read_to = 0

    def wait_for(self, text: str) -> None:
        """Read until the text is shown after what was waited for last."""
        while (found := self.seen.find(text, self._read_to)) < 0:
            ready, _, _ = select.select([self.master], [], [], SECONDS_MAX)
            assert ready, self.seen
            self.seen += os.read(self.master, 4096).decode()
        self._read_to = found + len(text)

    def type(self, text: str) -> None:
        """Type a line."""
        os.write(self.master, text.encode() + b"\n")

    def end(self) -> int:
        """Return the exit status, with everything shown in `seen`."""
        while True:
            ready, _, _ = select.select([self.master], [], [], SECONDS_MAX)
            assert ready, f"no end after {SECONDS_MAX} s: {self.seen}"
            try:
                more = os.read(self.master, 4096)
            except OSError:
                # Linux says EIO where the other end of a terminal is closed.
                break
            if not more:
                break
            self.seen += more.decode()
        os.close(self.master)
        return self.process.wait(SECONDS_MAX)


def test_a_passphrase_is_asked_for_twice_never_shown_and_asked_again_to_read(tmp_path: Path) -> None:
    made = Talk(tmp_path, "keygen", "-p", "-o", "a.key")
    made.wait_for("passphrase for ")
    made.type("one horse")
    made.wait_for("once more")
    made.type("another horse")
    made.wait_for("not the same")
    made.wait_for("passphrase for ")
    made.type("one horse")
    made.wait_for("once more")
    made.type("one horse")
    assert made.end() == 0, made.seen
    assert "horse" not in made.seen
    assert "zone key: " in made.seen
    assert (tmp_path / "a.key").read_text().splitlines()[1] == "-----BEGIN ENCRYPTED PRIVATE KEY-----"
    asked = Talk(tmp_path, "pubkey", "a.key")
    asked.wait_for('passphrase for "a.key"')
    asked.type("one horse")
    assert asked.end() == 0, asked.seen
    assert "horse" not in asked.seen
    assert asked.seen.split()[-1] == made.seen.split()[-1]


def test_errors_have_colour_on_a_terminal(tmp_path: Path) -> None:
    talk = Talk(tmp_path, "pubkey", "nosuch.key")
    assert talk.end() == 1
    assert "\x1b[" in talk.seen
    assert "no such file" in talk.seen


def test_ctrl_c_at_the_prompt_is_no_traceback(tmp_path: Path) -> None:
    talk = Talk(tmp_path, "keygen", "-p", "-o", "a.key")
    talk.wait_for("passphrase for ")
    talk.process.send_signal(2)
    assert talk.end() == 130
    assert "Traceback" not in talk.seen
    assert not (tmp_path / "a.key").exists()
