"""The signer of a server: how it reads the files of a table, and what it publishes again."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from p2pdns.cli.publisher import ZoneOfTable
from p2pdns.config import Config
from p2pdns.config.published import PublishTable
from p2pdns.errors import P2pdnsError
from p2pdns.items.keys import SecretKey

SECRET = SecretKey.generate(bytes([1]) * 32)


@pytest.fixture
def table(tmp_path: Path) -> PublishTable:
    """Return a table whose key file and zone file are in a folder of the test."""
    (tmp_path / "alice.key").write_bytes(SECRET.key_file(None))
    (tmp_path / "alice.zone").write_text("www A 192.0.2.1\n")
    return PublishTable(str(tmp_path / "alice.zone"), str(tmp_path / "alice.key"))


def publisher_of(table: PublishTable, state: Path) -> ZoneOfTable:
    """Return what publishes the zone of a table."""
    return ZoneOfTable(table, SECRET, Config(), state, asyncio.Semaphore(1))


@pytest.mark.parametrize(("kind", "words"), [("pipe", "not a regular file"), ("folder", "is a directory")])
def test_what_is_no_file_in_the_place_of_a_zone_file_is_refused_and_not_waited_for(
    table: PublishTable, tmp_path: Path, kind: str, words: str
) -> None:
    path = Path(table.zone)
    path.unlink()
    if kind == "folder":
        path.mkdir()
    else:
        os.mkfifo(path)
    with pytest.raises(P2pdnsError, match=words) as caught:
        publisher_of(table, tmp_path).read()
    assert len(caught.value.mistakes) == 1
    assert caught.value.hint
