"""The publish command: what is remembered beside the key, the rationed line, the question."""

from __future__ import annotations

import fcntl
import os
import pty
import shutil
import sys
from pathlib import Path

import pytest

from p2pdns.cli import made, publish, ui
from p2pdns.cli.made import KeyMemory, memory_of
from p2pdns.cli.stages import Rations
from p2pdns.errors import Unavailable
from p2pdns.items.item import MutableItem
from p2pdns.items.keys import SecretKey
from p2pdns.publishing.changes import Changes
from p2pdns.publishing.memory import NoMemory, Origin
from p2pdns.publishing.publication import Plan

SECRET = SecretKey.generate(b"\x01" * 32)
SEQ = 1_790_000_000_000_000


def item(number: int, value: bytes = b"value") -> MutableItem:
    """Return an item of the key."""
    return MutableItem.signed(SECRET, SEQ + number, value)


def test_a_publication_that_waits_says_so_at_once_and_then_every_ten_seconds(
    capsys: pytest.CaptureFixture[str],
) -> None:
    now = 0.0
    with ui.progress() as line:
        rations = Rations(line, clock=lambda: now)
        for second in range(21):
            now = float(second)
            rations.told({"done": second, "of": 300, "seconds_left": 100.0 - second})
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "p2pdns: rationed by the other nodes: 0 of 300 zones through, about 100 s left; the daemon goes on if you do "
        "not wait",
        "p2pdns: rationed by the other nodes: 10 of 300 zones through, about 90 s left",
        "p2pdns: rationed by the other nodes: 20 of 300 zones through, about 80 s left",
    ]


# Beside the key


def test_what_was_signed_with_a_key_file_is_known_to_the_next_command(tmp_path: Path) -> None:
    path = tmp_path / "alice.key.published"
    memory = KeyMemory(path)
    assert memory.origin_of(item(1)) is Origin.ELSEWHERE
    memory.signed(item(1))
    assert KeyMemory(path).origin_of(item(1)) is Origin.HERE
    assert KeyMemory(path).origin_of(item(1, b"another value under the same seq")) is Origin.ELSEWHERE
    # Signed alone says nothing about what is older.
    assert KeyMemory(path).origin_of(item(0)) is Origin.ELSEWHERE
    memory.stored(item(1))
    assert KeyMemory(path).origin_of(item(0)) is Origin.HERE
    assert KeyMemory(path).origin_of(item(2)) is Origin.ELSEWHERE


def test_nothing_secret_is_in_it_and_it_does_not_grow_without_end(tmp_path: Path) -> None:
    memory = KeyMemory(tmp_path / "alice.key.published")
    for number in range(3 * made.LINES_MAX):
        memory.signed(item(number))
        memory.stored(item(number))
    text = memory.path.read_text()
    assert len(text.splitlines()) <= made.LINES_MAX + 2
    assert text.startswith("# p2pdns")
    assert SECRET.write(None).decode() not in text
    assert memory.origin_of(item(3 * made.LINES_MAX - 1)) is Origin.HERE
    assert sorted(path.name for path in tmp_path.iterdir()) == ["alice.key.published"]


@pytest.mark.parametrize(
    "broken",
    [
        b"",
        b"\xff\x00 junk\n",
        b"stored x y\n",
        b"stored 1790000000000005 abc",
        b"# only\n",
        b"stored " + b"9" * 5_000 + b" " + b"a" * 64,
    ],
)
def test_a_broken_file_counts_as_none_and_is_written_on(tmp_path: Path, broken: bytes) -> None:
    path = tmp_path / "alice.key.published"
    path.write_bytes(broken)
    memory = KeyMemory(path)
    assert memory.origin_of(item(1)) is Origin.ELSEWHERE
    memory.signed(item(1))
    memory.stored(item(2))
    assert KeyMemory(path).origin_of(item(2)) is Origin.HERE


def test_publications_that_always_fail_make_it_no_longer_than_a_bound_and_the_newest_stay_known(tmp_path: Path) -> None:
    memory = KeyMemory(tmp_path / "alice.key.published")
    memory.stored(item(0))
    for number in range(1, 3 * made.SIGNED_MAX):
        memory.signed(item(number))
    assert len(memory.path.read_text().splitlines()) <= made.SIGNED_MAX + 2
    assert memory.origin_of(item(0)) is Origin.HERE
    assert memory.origin_of(item(3 * made.SIGNED_MAX - 1)) is Origin.HERE


def test_a_folder_that_takes_no_file_is_told_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    memory = KeyMemory(tmp_path / "none" / "alice.key.published")
    memory.signed(item(1))
    memory.stored(item(1))
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert "no such file" in lines[0]
    assert "will ask for --force" in lines[0]


def test_where_no_file_can_be_written_one_process_still_knows_what_it_made(tmp_path: Path) -> None:
    path = tmp_path / "alice.key.published"
    path.mkdir()
    memory = KeyMemory(path)
    memory.signed(item(1))
    memory.signed(item(2), is_merged=True)
    assert memory.origin_of(item(1)) is Origin.HERE
    assert memory.origin_of(item(2)) is Origin.MERGED
    # The first line that the disk takes brings the earlier ones along.
    path.rmdir()
    memory.stored(item(3))
    assert KeyMemory(path).origin_of(item(2)) is Origin.MERGED
    assert [line.split()[0] for line in path.read_text().splitlines()[1:]] == ["signed", "merged", "stored"]


def test_what_no_file_takes_is_remembered_up_to_a_bound(tmp_path: Path) -> None:
    path = tmp_path / "alice.key.published"
    path.mkdir()
    memory = KeyMemory(path)
    for number in range(2 * made.SIGNED_MAX):
        memory.signed(item(number))
    assert memory.origin_of(item(2 * made.SIGNED_MAX - 1)) is Origin.HERE
    assert memory.origin_of(item(0)) is Origin.ELSEWHERE
    path.rmdir()
    memory.signed(item(2 * made.SIGNED_MAX))
    assert len(path.read_text().splitlines()) <= made.SIGNED_MAX + 2


def test_a_line_that_comes_while_another_process_shortens_the_file_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "alice.key.published"
    memory, other = KeyMemory(path), KeyMemory(path)
    for number in range(made.LINES_MAX):
        memory.signed(item(number))
    replaced = Path.replace

    def written_before(beside: Path, target: Path) -> Path:
        other.signed(item(made.LINES_MAX + 7))
        return replaced(beside, target)

    monkeypatch.setattr(Path, "replace", written_before)
    memory.stored(item(made.LINES_MAX + 5))
    assert len(path.read_text().splitlines()) < made.LINES_MAX
    assert KeyMemory(path).origin_of(item(made.LINES_MAX + 7)) is Origin.HERE


def test_a_line_that_was_written_into_a_file_that_has_been_replaced_is_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "alice.key.published"
    memory = KeyMemory(path)
    memory.signed(item(1))
    shortened = tmp_path / "shortened"
    shutil.copy(path, shortened)
    written = os.write

    def replaced_before(descriptor: int, text: bytes) -> int:
        if shortened.exists():
            shortened.replace(path)
        return written(descriptor, text)

    monkeypatch.setattr(os, "write", replaced_before)
    memory.signed(item(2))
    assert KeyMemory(path).origin_of(item(2)) is Origin.HERE


def test_while_one_process_shortens_the_file_no_other_waits_to_do_it_too(tmp_path: Path) -> None:
    path = tmp_path / "alice.key.published"
    memory = KeyMemory(path)
    for number in range(made.LINES_MAX):
        memory.signed(item(number))
    with path.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        memory.stored(item(made.LINES_MAX))
        assert len(path.read_text().splitlines()) == made.LINES_MAX + 2
    memory.stored(item(made.LINES_MAX + 1))
    assert len(path.read_text().splitlines()) == 2


def test_a_key_that_is_in_no_file_has_no_memory(tmp_path: Path) -> None:
    assert isinstance(memory_of("-"), NoMemory)
    assert isinstance(memory_of(str(tmp_path / "none.key")), NoMemory)
    (tmp_path / "a.key").touch()
    assert isinstance(memory_of(str(tmp_path / "a.key")), KeyMemory)


# The question

MOSTLY_GONE = Plan(item(1), Changes(removed=("ftp A", "mail A"), changed=("www A",), before_count=3), True)


def approval(*, is_dry: bool = False, is_agreed: bool = False) -> publish._Approval:
    """Return what shows a plan and asks."""
    return publish._Approval(ui.Progress(sys.stderr), "a.zone", is_dry=is_dry, is_agreed=is_agreed)


def test_without_a_terminal_most_of_a_zone_goes_only_with_yes(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(Unavailable, match="2 of 3 RRsets of the published zone would go") as caught:
        approval()(MOSTLY_GONE)
    assert "--yes" in str(caught.value.hint)
    assert capsys.readouterr().err.splitlines() == [
        f"p2pdns: a.zone: 2 RRsets removed, 1 RRset changed, compared with seq {SEQ + 1} of 2026-09-21 14:13:20 UTC",
        "p2pdns: - ftp A",
        "p2pdns: - mail A",
        "p2pdns: ~ www A",
    ]
    approval(is_agreed=True)(MOSTLY_GONE)
    half = Changes(removed=("ftp A",), before_count=2)
    approval()(Plan(item(1), half, True))
    approval()(Plan(None, Changes(added=("www A",)), True))


@pytest.mark.parametrize(
    ("typed", "is_agreed"), [("y", True), ("yes", True), ("YES", True), ("n", False), ("", False), ("what", False)]
)
def test_a_person_at_a_terminal_is_asked_and_only_a_yes_is_one(
    monkeypatch: pytest.MonkeyPatch, typed: str, is_agreed: bool
) -> None:
    ours, theirs = pty.openpty()
    try:
        with os.fdopen(theirs, "r+b", buffering=0, closefd=False) as raw:
            os.write(ours, typed.encode() + b"\n")
            with open(raw.fileno(), closefd=False) as stdin, open(raw.fileno(), "w", closefd=False) as stderr:
                monkeypatch.setattr(sys, "stdin", stdin)
                monkeypatch.setattr(sys, "stderr", stderr)
                if is_agreed:
                    approval()(MOSTLY_GONE)
                else:
                    with pytest.raises(Unavailable, match="not published"):
                        approval()(MOSTLY_GONE)
                monkeypatch.undo()
        shown = b""
        while b"would go; publish? [y/N]" not in shown:
            shown += os.read(ours, 4_096)
    finally:
        os.close(ours)
        os.close(theirs)


def test_many_changes_are_counted_and_not_all_named(capsys: pytest.CaptureFixture[str]) -> None:
    changes = Changes(added=tuple(f"h{number} A" for number in range(50)), before_count=9)
    approval()(Plan(item(1), changes, True))
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == publish.CHANGES_SHOWN_MAX + 2
    assert lines[-1] == "p2pdns: and 30 more; --dry-run shows all"
