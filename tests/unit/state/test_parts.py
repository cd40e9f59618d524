"""`parts.sqlite`: what was saved is there after a kill, and what was tampered with is not taken for an item."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

import pytest

from p2pdns.errors import Unavailable
from p2pdns.items.item import MutableItem
from p2pdns.items.keys import SecretKey
from p2pdns.publishing.partkeeping import KeptPart
from p2pdns.state.parts import Parts
from tests.waiting import at_rest

SECRET = SecretKey.generate(b"\x05" * 32)


def part(number: int, unpinned_unix: float | None = None, seq: int = 7) -> KeptPart:
    """Return an item with a salt."""
    return KeptPart(MutableItem.signed(SECRET, seq, b"v%d" % number, b"s%015d" % number), unpinned_unix)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return the path of a file."""
    return tmp_path / "parts.sqlite"


def test_what_was_saved_is_there_for_the_next_process_without_a_close(path: Path) -> None:
    asyncio.run(Parts(path).save([part(1), part(2, 5.0)]))
    assert Parts(path).load() == [part(1), part(2, 5.0)]


def test_a_newer_item_of_one_salt_takes_the_place_of_the_older(path: Path) -> None:
    parts = Parts(path)
    asyncio.run(parts.save([part(1), part(2)]))
    asyncio.run(parts.save([part(1, 9.0, seq=8)]))
    assert parts.load() == [part(1, 9.0, seq=8), part(2)]


def test_what_was_dropped_is_gone(path: Path) -> None:
    parts = Parts(path)
    asyncio.run(parts.save([part(1), part(2)]))
    asyncio.run(parts.drop([part(1).item]))
    assert parts.load() == [part(2)]


def test_without_a_path_it_is_kept_in_memory() -> None:
    parts = Parts(None)
    asyncio.run(parts.save([part(1)]))
    assert parts.load() == [part(1)]


def test_a_row_that_does_not_verify_is_dropped_with_a_warning(path: Path) -> None:
    parts = Parts(path)
    asyncio.run(parts.save([part(1), part(2)]))
    parts.close()
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE parts SET value = ? WHERE salt = ?", (b"forged", part(1).item.salt))
    connection.close()
    again = Parts(path)
    assert again.load() == [part(2)]
    assert again.warnings == ["parts.sqlite: 1 items do not verify; they are looked for again"]
    assert Parts(path).load() == [part(2)]


def test_a_disk_that_refuses_is_an_error_in_words(path: Path) -> None:
    parts = Parts(path)
    lock = sqlite3.connect(path, isolation_level=None)
    lock.execute("DROP TABLE parts")
    lock.close()
    with pytest.raises(Unavailable, match="cannot be written") as caught:
        asyncio.run(parts.save([part(1)]))
    assert caught.value.hint == "is the disk full?"
    with pytest.raises(Unavailable, match="cannot be read"):
        parts.load()


def test_a_cancelled_save_ends_with_its_transaction_and_the_next_one_waits_for_it(path: Path) -> None:
    parts, other = Parts(path), sqlite3.connect(path, isolation_level=None)

    async def story() -> None:
        # Another writer holds the first save up.
        other.execute("BEGIN IMMEDIATE")
        first = asyncio.create_task(parts.save([part(1)]))
        await at_rest()
        first.cancel()
        await at_rest()
        assert not first.done()
        second = asyncio.create_task(parts.save([part(2)]))
        other.execute("COMMIT")
        with pytest.raises(asyncio.CancelledError):
            await first
        await second

    asyncio.run(story())
    other.close()
    assert parts.load() == [part(1), part(2)]
