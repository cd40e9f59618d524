"""The signer of a server: how it reads the files of a table, and what it publishes again."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from p2pdns.cli import committed, publisher
from p2pdns.cli.publisher import ZoneOfTable
from p2pdns.cli.zones import read_zone
from p2pdns.config import Config
from p2pdns.config.published import PublishTable
from p2pdns.errors import P2pdnsError
from p2pdns.items.item import MutableItem
from p2pdns.items.keys import SecretKey
from p2pdns.items.succession import Commitment, commitment_of, commitment_to, with_commitment
from p2pdns.publishing.stored import Stored

SECRET, NEXT, OTHER = (SecretKey.generate(bytes([number]) * 32) for number in (1, 2, 3))
KEY = SECRET.zone_key
FIRST, SECOND = (commitment_to(KEY, secret) for secret in (NEXT, OTHER))
TEXT = "www A 192.0.2.1\n"


@pytest.fixture
def table(tmp_path: Path) -> PublishTable:
    """Return a table whose key file and zone file are in a folder of the test."""
    (tmp_path / "alice.key").write_bytes(SECRET.key_file(None))
    (tmp_path / "alice.zone").write_text(TEXT)
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


class Daemon:
    """A daemon that keeps one item alive, or none, and notes what is put through it."""

    def __init__(self, item: MutableItem | None) -> None:
        self.item = item
        self.put: list[bytes] = []

    def call(self, command: str, **_words: Any) -> dict[str, Any]:
        """Answer on the control socket."""
        own = [] if self.item is None else [{"key": str(KEY), "kind": "own"}]
        item = "" if self.item is None else self.item.to_bytes().hex()
        answers: dict[str, dict[str, Any]] = {
            "status": {"status": {"contacts": 9}},
            "zones": {"zones": own},
            "item": {"item": item},
        }
        return answers[command]

    def publish(self, _client: object, _secret: SecretKey, value: bytes, **_rules: Any) -> Stored:
        """Put a value."""
        self.put.append(value)
        return Stored(99, 4, 4)


@pytest.fixture
def keeping(monkeypatch: pytest.MonkeyPatch) -> Callable[[MutableItem | None], Daemon]:
    """Return a function that stands a daemon in for the one of the state directory."""

    def stands_in(item: MutableItem | None) -> Daemon:
        daemon = Daemon(item)
        client = SimpleNamespace(session=nullcontext, call=daemon.call)
        monkeypatch.setattr(publisher, "ControlClient", lambda _state: client)
        here = SimpleNamespace(book=None, addresses=None)
        monkeypatch.setattr(publisher, "Daemon", lambda _config, _given: nullcontext(here))
        monkeypatch.setattr(publisher, "publish_through", daemon.publish)
        return daemon

    return stands_in


def item_with(commitment: Commitment | None, text: str = TEXT, seq: int = 7) -> MutableItem:
    """Return the item of a zone, with a commitment."""
    value = read_zone("a.zone", KEY, origin=None, size_bytes_max=900, text=text).value
    assert isinstance(value, bytes)
    return MutableItem.signed(SECRET, seq, value if commitment is None else with_commitment(value, KEY, commitment))


@pytest.mark.parametrize(
    ("published", "own", "text", "puts"),
    [
        (None, None, TEXT, 0),
        (FIRST, None, TEXT, 0),
        (FIRST, FIRST, TEXT, 0),
        (None, FIRST, TEXT, 1),
        (FIRST, SECOND, TEXT, 1),
        (FIRST, None, "www A 192.0.2.2\n", 1),
    ],
    ids=["none", "zone alone", "both", "file alone", "another one", "another text"],
)
def test_a_start_signs_a_zone_again_only_if_the_zone_or_its_own_commitment_has_changed(
    table: PublishTable,
    tmp_path: Path,
    keeping: Callable[[MutableItem | None], Daemon],
    published: Commitment | None,
    own: Commitment | None,
    text: str,
    puts: int,
) -> None:
    if own is not None:
        committed.write(table.key, KEY, own)
    daemon = keeping(item_with(published, text))
    edition = asyncio.run(publisher_of(table, tmp_path).publish(TEXT, {}, is_first=True))
    assert (len(daemon.put), edition.seq) == (puts, 99 if puts else 7)


def test_a_commitment_that_comes_or_goes_beside_the_key_is_seen_and_published(
    table: PublishTable, tmp_path: Path, keeping: Callable[[MutableItem | None], Daemon]
) -> None:
    daemon = keeping(None)
    zone = publisher_of(table, tmp_path)
    asyncio.run(zone.publish(TEXT, {}, is_first=True))
    before = zone.beside()
    committed.write(table.key, KEY, FIRST)
    assert before is None
    assert zone.beside() not in (None, zone.stamp())
    asyncio.run(zone.publish(TEXT, {}, is_first=False))
    assert [commitment_of(MutableItem.signed(SECRET, 1, value)) for value in daemon.put] == [None, FIRST]
    asyncio.run(zone.publish(TEXT, {}, is_first=False))
    assert len(daemon.put) == 2
