"""`publish --watch`: what it does with saves, mistakes, a daemon that is away, addresses, and hooks."""

from __future__ import annotations

import json
import os
import select
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from p2pdns.cli import ui, watching
from p2pdns.cli.hook import Hook
from p2pdns.cli.watching import LOOK_S, Edition, NotAgreed, Watching
from p2pdns.errors import P2pdnsError, Unavailable, UsageError, ZoneFileError
from p2pdns.publishing.watching import ASK_S, RETRY_S

KEY = "k" * 52
V4, OTHER = "93.184.216.34", "93.184.216.99"
AWAY = Unavailable("no daemon runs here", place="/state", hint="start one")


def broken(path: Path) -> ZoneFileError:
    """Return the mistake of a zone file."""
    return ZoneFileError("A: the address is missing", path=str(path), line=2, hint="as A 192.0.2.1")


class Overlay:
    """What a watch publishes through: it notes each edition, and refuses where it is told to."""

    def __init__(self) -> None:
        self.trouble: P2pdnsError | None = None
        self.troubles_by_text: dict[str, P2pdnsError] = {}
        self.known: dict[str, str | None] | None = {}
        self.put: list[tuple[str, dict[str, str]]] = []
        self.seq = 1

    def publish(self, text: str, addresses: Mapping[str, str]) -> Edition:
        """Publish, or refuse."""
        trouble = self.troubles_by_text.get(text) or self.trouble
        if trouble is not None:
            raise trouble
        if ";" not in text:
            self.seq += 1
            self.put.append((text, dict(addresses)))
        return Edition(KEY, self.seq, text, dict(addresses))

    def addresses(self) -> Mapping[str, str | None]:
        """Return what is known; Unavailable where nothing answers."""
        if self.known is None:
            raise AWAY
        return self.known


class Watched:
    """A file, its watch, and a clock."""

    def __init__(self, folder: Path, public: Mapping[str, str] | None = None, hook: Hook | None = None) -> None:
        self.path = folder / "a.zone"
        self.path.write_text("one")
        self.now = 1_000.0
        self.overlay = Overlay()
        first = Edition(KEY, 1, "one", public or {})
        self.commitment: str | None = None
        self.watching = Watching(
            str(self.path), self.overlay, first, hook, beside=lambda: self.commitment, clock=lambda: self.now
        )

    def save(self, text: str) -> None:
        """Put a file in the place of the old one, as editors do, and tell the watch."""
        beside = self.path.with_suffix(".new")
        beside.write_text(text)
        beside.replace(self.path)
        self.watching.wake(True)

    def live(self, seconds: float) -> None:
        """Let time pass; nothing happens in the folder."""
        until = self.now + seconds
        while self.now < until:
            self.now += 1.0
            self.watching.wake(False)


@pytest.fixture
def watched(tmp_path: Path) -> Watched:
    """Return a watched file whose first publication was a while ago."""
    found = Watched(tmp_path)
    found.live(60.0)
    return found


def said(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """Return the lines on standard error since the last time."""
    return [line.removeprefix("p2pdns: ") for line in capsys.readouterr().err.splitlines()]


def test_several_saves_are_published_once(watched: Watched) -> None:
    for number in range(5):
        watched.save(f"edition {number}")
        watched.now += 0.1
    watched.live(30.0)
    assert watched.overlay.put == [("edition 4", {})]


def test_a_touched_file_is_not_published(watched: Watched) -> None:
    watched.save("one")
    watched.live(30.0)
    assert watched.overlay.put == []


def test_a_change_that_no_event_tells_of_is_found_within_a_minute(watched: Watched) -> None:
    watched.path.write_text("two")
    watched.live(LOOK_S + 5.0)
    assert watched.overlay.put == [("two", {})]


def test_a_new_commitment_beside_the_key_is_published_without_a_save(watched: Watched) -> None:
    watched.commitment = "to a next key"
    watched.live(LOOK_S + 5.0)
    assert watched.overlay.put == [("one", {})]
    watched.live(3 * LOOK_S)
    assert len(watched.overlay.put) == 1


def test_a_broken_file_keeps_the_old_zone_and_says_why(watched: Watched, capsys: pytest.CaptureFixture[str]) -> None:
    watched.overlay.troubles_by_text["broken"] = broken(watched.path)
    watched.save("broken")
    watched.live(200.0)
    assert watched.overlay.put == []
    assert said(capsys) == [
        f"warning: {watched.path}:2: A: the address is missing",
        "hint: as A 192.0.2.1",
        f"{watched.path}: seq 1 stays",
    ]
    watched.save("mended")
    watched.live(5.0)
    assert watched.overlay.put == [("mended", {})]


def test_a_file_that_is_gone_keeps_the_old_zone(watched: Watched, capsys: pytest.CaptureFixture[str]) -> None:
    watched.path.unlink()
    watched.watching.wake(True)
    watched.live(100.0)
    assert watched.overlay.put == []
    assert "no such file" in said(capsys)[0]
    watched.save("back")
    watched.live(5.0)
    assert watched.overlay.put == [("back", {})]


def test_a_comment_is_no_publication(watched: Watched, capsys: pytest.CaptureFixture[str]) -> None:
    watched.save("one ; a comment")
    watched.live(100.0)
    assert watched.overlay.put == []
    assert said(capsys) == [f"{watched.path}: nothing changes for readers, seq 1 stays"]


def test_where_most_of_a_zone_would_go_it_stays_until_the_next_save(
    watched: Watched, capsys: pytest.CaptureFixture[str]
) -> None:
    watched.overlay.troubles_by_text["little"] = NotAgreed("3 of 4 RRsets would go", place="a.zone", hint="--yes")
    watched.save("little")
    watched.live(500.0)
    assert said(capsys)[0] == "warning: a.zone: 3 of 4 RRsets would go"
    assert watched.overlay.put == []


def test_a_daemon_that_is_away_is_told_once_and_tried_until_it_is_back(
    watched: Watched, capsys: pytest.CaptureFixture[str]
) -> None:
    watched.overlay.trouble = AWAY
    watched.save("two")
    watched.live(600.0)
    assert [line for line in said(capsys) if "no daemon" in line] == ["warning: /state: no daemon runs here"]
    watched.overlay.trouble = None
    watched.live(61.0)
    assert watched.overlay.put == [("two", {})]


def test_another_address_is_published_when_it_was_reported_twice(tmp_path: Path) -> None:
    watched = Watched(tmp_path, {"public_ipv4": V4})
    watched.overlay.known = {"public_ipv4": OTHER}
    watched.live(ASK_S + 1.0)
    assert watched.overlay.put == []
    watched.live(ASK_S)
    assert watched.overlay.put == [("one", {"public_ipv4": OTHER})]
    watched.live(10 * ASK_S)
    assert len(watched.overlay.put) == 1


def test_a_mistake_in_the_file_does_not_hide_another_address(tmp_path: Path) -> None:
    watched = Watched(tmp_path, {"public_ipv4": V4})
    watched.live(20.0)
    watched.overlay.troubles_by_text["broken"] = broken(watched.path)
    watched.save("broken")
    watched.live(20.0)
    watched.overlay.known = {"public_ipv4": OTHER}
    watched.live(3 * ASK_S)
    assert watched.overlay.put == [("one", {"public_ipv4": OTHER})]


def test_a_daemon_that_does_not_answer_changes_no_address(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    watched = Watched(tmp_path, {"public_ipv4": V4})
    watched.overlay.known = None
    watched.live(20 * ASK_S)
    assert watched.overlay.put == []
    assert [line for line in said(capsys) if line.startswith("warning:")] == ["warning: /state: no daemon runs here"]
    watched.overlay.known = {"public_ipv4": OTHER}
    watched.live(2 * ASK_S + 2.0)
    assert watched.overlay.put == [("one", {"public_ipv4": OTHER})]


def test_a_new_placeholder_is_tried_until_its_address_is_known(watched: Watched) -> None:
    text = "home A {public_ipv4}"
    watched.overlay.troubles_by_text[text] = broken(watched.path)
    watched.save(text)
    watched.live(5.0)
    del watched.overlay.troubles_by_text[text]
    watched.live(2 * RETRY_S)
    assert watched.overlay.put == [(text, {})]


# The hook


def hook_that(code: str, *, seconds_max: float = 30.0) -> Hook:
    """Return a hook that runs some Python."""
    return Hook([sys.executable, "-c", code], seconds_max=seconds_max)


WRITES = "import os, sys; open('{path}', 'a').write(' '.join(os.environ[n] for n in {names}) + '\\n')"
NAMES = ["P2PDNS_ZONE", "P2PDNS_SEQ", "P2PDNS_PUBLIC_IPV4", "P2PDNS_PUBLIC_IPV6"]


def test_a_hook_runs_after_each_publication_with_zone_seq_and_addresses(tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    hook = hook_that(WRITES.format(path=notes, names=NAMES))
    watched = Watched(tmp_path, {"public_ipv4": V4}, hook)
    watched.watching.run(iter([False]))
    watched.live(20.0)
    watched.save("two")
    watched.live(20.0)
    assert notes.read_text() == f"{KEY} 1 {V4} \n{KEY} 2 {V4} \n"


@pytest.mark.parametrize(
    ("code", "trouble"),
    [
        ("raise SystemExit(3)", "the hook failed: exit status 3"),
        ("import os; os.kill(os.getpid(), 9)", "the hook failed: signal 9"),
    ],
)
def test_a_hook_that_fails_is_a_warning_and_the_watch_goes_on(
    tmp_path: Path, code: str, trouble: str, capsys: pytest.CaptureFixture[str]
) -> None:
    watched = Watched(tmp_path, hook=hook_that(code))
    for text in ("two", "three"):
        watched.live(60.0)
        watched.save(text)
    watched.live(60.0)
    assert [text for text, _ in watched.overlay.put] == ["two", "three"]
    assert said(capsys) == [f"warning: {trouble}"] * 2


def test_a_hook_that_hangs_is_killed_with_what_it_has_started(tmp_path: Path) -> None:
    # The pipe has an end when the last process that writes to it is gone.
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reading = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    hook = Hook(["sh", "-c", f"exec 3>{pipe}; echo x >&3; sleep 15 & wait"], seconds_max=2.0)
    try:
        assert hook.run({}) == "the hook was ended: it had not ended in 2 s"
        assert os.read(reading, 10) == b"x\n"
        assert select.select([reading], [], [], 10.0)[0]
        assert os.read(reading, 10) == b""
    finally:
        os.close(reading)


def test_a_hook_that_cannot_start_is_a_warning(tmp_path: Path) -> None:
    assert Hook([str(tmp_path / "none")]).run({}) == "the hook did not start: no such file or directory"


@pytest.mark.parametrize(
    ("text", "what"),
    [("", "no command"), ("  ", "no command"), ("no-such-program x", "no such program"), ("sh 'x", "cannot be split")],
)
def test_a_hook_that_is_no_command_is_refused_at_once(text: str, what: str) -> None:
    with pytest.raises(UsageError, match=what):
        Hook.read(text)


def test_the_words_of_a_hook_are_read_without_a_shell(tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    code = f"import sys; open({str(notes)!r}, 'w').write(repr(sys.argv[1:]))"
    hook = Hook.read(f"{sys.executable} -c {json.dumps(code)} 'two words' $HOME ; x")
    assert hook.run({}) is None
    assert notes.read_text() == repr(["two words", "$HOME", ";", "x"])


# Lines of JSON, and the end


def test_with_json_each_event_is_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with ui.one_call(as_json=True):
        ui.json_lines()
        watched = Watched(tmp_path, hook=hook_that("raise SystemExit(3)"))
        watched.live(20.0)
        watched.overlay.troubles_by_text["broken"] = broken(watched.path)
        for text in ("broken", "two"):
            watched.save(text)
            watched.live(20.0)
        watched.overlay.trouble = AWAY
        watched.save("three")
        watched.live(20.0)
        ui.end_json(0)
    lines: list[dict[str, Any]] = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["event"] for line in lines] == ["kept", "hook", "failed"]
    assert lines[0] == {
        "event": "kept",
        "seq": 1,
        "error": f"{watched.path}:2: A: the address is missing",
        "hint": "as A 192.0.2.1",
    }
    assert lines[1] == {"event": "hook", "seq": 2, "trouble": "the hook failed: exit status 3"}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_watch_and_nothing_else_is_left_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    watched = Watched(tmp_path)
    before = signal.getsignal(signal.SIGTERM)

    def waking(path: str) -> Any:
        yield False
        signal.raise_signal(number)
        yield False
        raise AssertionError("it was ended")

    monkeypatch.setattr(watching, "wakes_of", waking)
    watching.watch(watched.watching, str(watched.path))
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_folder_wakes_the_watch_when_its_file_is_replaced_and_not_for_others(tmp_path: Path) -> None:
    path = tmp_path / "a.zone"
    path.write_text("one")
    woken = watching.wakes_of(str(path))
    assert next(woken) is False
    (tmp_path / "b.zone").write_text("another")
    assert next(woken) is False
    (tmp_path / "new").write_text("two")
    (tmp_path / "new").replace(path)
    assert any(next(woken) for _ in range(30))
