"""The journal: what was acknowledged is there after a crash at any byte."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from p2pdns.errors import Unavailable
from p2pdns.signer import journal as room
from p2pdns.signer.journal import Entry, Journal

ENTRIES: list[Entry] = [{"number": number, "text": "x" * number} for number in range(5)]


def written(path: Path, entries: list[Entry]) -> bytes:
    """Write a journal and return its bytes."""
    journal = Journal(path, "zone.")
    for entry in entries:
        journal.append(entry)
    journal.close()
    return path.read_bytes()


def read(path: Path) -> list[Entry]:
    """Return the entries of a journal."""
    journal = Journal(path, "zone.")
    journal.close()
    return journal.entries


def test_a_journal_torn_at_any_byte_has_every_whole_entry_and_takes_more(tmp_path: Path) -> None:
    path = tmp_path / "j"
    data = written(path, ENTRIES)
    ends = [index + 1 for index, byte in enumerate(data) if byte == 10]
    for cut in range(len(data) + 1):
        path.write_bytes(data[:cut])
        whole = max(0, sum(end <= cut for end in ends) - 1)
        journal = Journal(path, "zone.")
        assert journal.entries == ENTRIES[:whole]
        journal.append({"more": True})
        journal.close()
        assert read(path) == [*ENTRIES[:whole], {"more": True}]


def test_a_tail_of_zeros_is_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "j"
    data = written(path, ENTRIES)
    path.write_bytes(data + bytes(4096))
    journal = Journal(path, "zone.")
    journal.close()
    assert (journal.entries, journal.cut_bytes) == (ENTRIES, 4096)
    assert path.read_bytes() == data


def test_damage_above_good_lines_is_an_error_and_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "j"
    data = written(path, ENTRIES)
    last_line = data.rindex(b"\n", 0, len(data) - 1) + 1
    # Without the end of its line, the line before the last would be part of the last.
    for at in range(last_line - 1):
        damaged = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
        path.write_bytes(damaged)
        with pytest.raises(Unavailable) as trouble:
            Journal(path, "zone.")
        assert trouble.value.hint is not None
        assert path.read_bytes() == damaged


def test_a_line_that_is_missing_in_the_middle_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "j"
    lines = written(path, ENTRIES).splitlines(True)
    path.write_bytes(b"".join([*lines[:2], *lines[3:]]))
    with pytest.raises(Unavailable, match="damaged in line 3"):
        Journal(path, "zone.")


def test_a_file_of_another_kind_or_zone_is_refused_and_stays(tmp_path: Path) -> None:
    path = tmp_path / "j"
    for content in (b"some text of a user", b"two\nlines\n"):
        path.write_bytes(content)
        with pytest.raises(Unavailable):
            Journal(path, "zone.")
        assert path.read_bytes() == content
    path.unlink()
    written(path, [])
    with pytest.raises(Unavailable, match="another zone"):
        Journal(path, "other.")


def test_one_process_at_a_time_has_a_journal_even_after_a_compaction(tmp_path: Path) -> None:
    path = tmp_path / "j"
    journal = Journal(path, "zone.")
    for _ in range(2):
        with pytest.raises(Unavailable, match="another signer"):
            Journal(path, "zone.")
        journal.compact([])
    journal.close()
    assert read(path) == []


def test_a_compaction_has_its_entries_and_takes_more(tmp_path: Path) -> None:
    path = tmp_path / "j"
    journal = Journal(path, "zone.")
    for entry in ENTRIES:
        journal.append(entry)
    journal.compact(ENTRIES[3:])
    journal.append({"more": True})
    journal.close()
    assert read(path) == [*ENTRIES[3:], {"more": True}]
    assert [entry.name for entry in tmp_path.iterdir()] == ["j"]


def test_after_a_compaction_whose_folder_is_not_synced_what_comes_is_in_the_new_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_descriptor(folder: Path) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE), str(folder))

    path = tmp_path / "j"
    journal = Journal(path, "zone.")
    with monkeypatch.context() as patch, pytest.raises(Unavailable):
        patch.setattr(room, "sync_folder", no_descriptor)
        journal.compact(ENTRIES[3:])
    journal.append({"more": True})
    journal.close()
    assert read(path) == [*ENTRIES[3:], {"more": True}]


@pytest.mark.parametrize("fails", ["write", "fsync"])
def test_an_entry_that_the_disk_does_not_take_leaves_no_trace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    path = tmp_path / "j"
    journal = Journal(path, "zone.")
    journal.append(ENTRIES[0])
    before = path.read_bytes()
    true_write = os.write

    def write(descriptor: int, data: Any) -> int:
        if fails == "write":
            true_write(descriptor, bytes(data)[:10])
            raise OSError(errno.ENOSPC, "No space left on device")
        return true_write(descriptor, data)

    def fsync(_descriptor: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", write)
        if fails == "fsync":
            patched.setattr(os, "fsync", fsync)
        with pytest.raises(Unavailable):
            journal.append(ENTRIES[1])
    assert path.read_bytes() == before
    journal.append(ENTRIES[2])
    journal.close()
    assert read(path) == [ENTRIES[0], ENTRIES[2]]


def test_an_entry_is_on_the_disk_when_append_returns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(tmp_path / "j", "zone.")
    sizes: list[int] = []
    true_fsync = os.fsync

    def fsync(descriptor: int) -> None:
        sizes.append(os.fstat(descriptor).st_size)
        true_fsync(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    journal.append(ENTRIES[3])
    assert sizes == [journal.size_bytes]
    journal.close()


@pytest.mark.parametrize("trouble", ["writable", "two names", "another user", "no file"])
def test_a_journal_that_others_could_have_written_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trouble: str
) -> None:
    path = tmp_path / "j"
    if trouble == "no file":
        os.mkfifo(path, 0o600)
    else:
        written(path, ENTRIES)
    if trouble == "writable":
        path.chmod(0o620)
    if trouble == "two names":
        (tmp_path / "other").hardlink_to(path)
    if trouble == "another user":
        os.chown(path, 12_345, -1) if os.geteuid() == 0 else monkeypatch.setattr(os, "geteuid", lambda: 12_345)
    with pytest.raises(Unavailable, match="other users can write this journal"):
        Journal(path, "zone.")


def test_a_file_that_a_crash_has_left_beside_the_journal_is_replaced_and_a_link_there_not_followed(
    tmp_path: Path,
) -> None:
    target = tmp_path / "target"
    target.write_text("mine")
    (tmp_path / "j.new").symlink_to(target)
    journal = Journal(tmp_path / "j", "zone.")
    journal.compact(ENTRIES)
    journal.close()
    assert (target.read_text(), read(tmp_path / "j")) == ("mine", ENTRIES)


def test_a_link_in_the_place_of_a_journal_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "target").write_text("")
    (tmp_path / "j").symlink_to(tmp_path / "target")
    with pytest.raises(Unavailable):
        Journal(tmp_path / "j", "zone.")
