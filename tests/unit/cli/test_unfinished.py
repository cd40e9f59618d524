"""The file with an unfinished edit: whole or absent, never taken for another, and no end where the disk is full."""

from __future__ import annotations

from pathlib import Path

import pytest

from p2pdns.cli.unfinished import FileJournal, journal_of, journal_of_table
from p2pdns.publishing.edits import EditsInMemory


def test_an_edit_is_there_until_it_ends_and_is_the_owners_alone(tmp_path: Path) -> None:
    (tmp_path / "a.key").write_text("key")
    journal = journal_of(str(tmp_path / "a.key"))
    assert journal.begun() is None
    journal.begin(b"first")
    journal.begin(b"second")
    assert journal_of(str(tmp_path / "a.key")).begun() == b"second"
    assert (tmp_path / "a.key.edit").stat().st_mode & 0o777 == 0o600
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.key", "a.key.edit"]
    journal.end()
    assert (journal.begun(), (tmp_path / "a.key.edit").exists()) == (None, False)


def test_a_key_in_no_file_has_a_journal_in_memory(tmp_path: Path) -> None:
    assert isinstance(journal_of("-"), EditsInMemory)
    assert isinstance(journal_of(str(tmp_path / "none.key")), EditsInMemory)


def test_links_to_one_key_share_the_edit(tmp_path: Path) -> None:
    (tmp_path / "a.key").write_text("key")
    (tmp_path / "b.key").symlink_to(tmp_path / "a.key")
    journal_of(str(tmp_path / "a.key")).begin(b"edit")
    assert journal_of(str(tmp_path / "b.key")).begun() == b"edit"


def test_a_folder_that_takes_nothing_is_told_and_the_process_remembers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    journal = FileJournal(tmp_path / "gone" / "a.key.edit")
    journal.begin(b"edit")
    assert journal.begun() == b"edit"
    assert "if this publication is interrupted, the next one puts all of its items again" in capsys.readouterr().err
    journal.end()
    assert journal.begun() is None


def test_a_pipe_or_a_link_in_the_place_of_the_file_is_no_edit(tmp_path: Path) -> None:
    (tmp_path / "other").write_bytes(b"other")
    (tmp_path / "a.key.edit").symlink_to(tmp_path / "other")
    assert FileJournal(tmp_path / "a.key.edit").begun() is None


def test_a_server_that_may_not_write_beside_the_key_keeps_it_in_its_state(tmp_path: Path) -> None:
    journal = journal_of_table(str(tmp_path / "gone" / "a.key"), "KEY", tmp_path)
    journal.begin(b"edit")
    assert (tmp_path / "edit.KEY").read_bytes() == b"edit"
    assert isinstance(journal_of_table(str(tmp_path / "a.key"), "KEY", tmp_path), FileJournal)
