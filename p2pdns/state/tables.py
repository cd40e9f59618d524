"""The tables of `reader.sqlite` (items, small marks, petnames), and how items become rows.

Guarantees: a file of an older version keeps what it holds. Does not know when anything is written.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from pathlib import Path

from p2pdns.clock import unix_now
from p2pdns.items.item import MutableItem, Present
from p2pdns.overlay.ports import Held
from p2pdns.state import seen
from p2pdns.state.database import Earlier, Schema

_VERSION_1 = (
    """CREATE TABLE marks (
            key BLOB NOT NULL, salt BLOB NOT NULL, seq INTEGER NOT NULL, value BLOB NOT NULL, signature BLOB NOT NULL,
            confirmed_unix REAL NOT NULL, is_own INTEGER NOT NULL, is_pinned INTEGER NOT NULL,
            PRIMARY KEY (key, salt)
        ) STRICT""",
    "CREATE INDEX marks_by_age ON marks (is_own, is_pinned, confirmed_unix)",
    "CREATE TABLE names (name TEXT PRIMARY KEY, key TEXT NOT NULL) STRICT",
)


def _upgrade(connection: sqlite3.Connection) -> None:
    """Give a file of version 1, whose items were its marks, small marks too."""
    for statement in seen.STATEMENTS:
        connection.execute(statement)
    seen.fill_from_items(connection, unix_now())


SCHEMA = Schema(
    version=2,
    # Version 1 called its items marks, and the table has kept that name.
    statements=(*_VERSION_1, *seen.STATEMENTS),
    earlier=(Earlier(1, _VERSION_1, _upgrade),),
    # A mark that a power cut takes back would let an older item pass for the newest.
    synchronous="FULL",
)

RAISE = """INSERT INTO marks VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (key, salt) DO UPDATE SET seq = excluded.seq,
    value = excluded.value, signature = excluded.signature, confirmed_unix = excluded.confirmed_unix
    WHERE (excluded.seq, excluded.value) > (marks.seq, marks.value)"""
CONFIRM = """UPDATE marks SET confirmed_unix = max(confirmed_unix, ?), is_own = max(is_own, ?),
    is_pinned = max(is_pinned, ?) WHERE key = ? AND salt = ?"""
OLDEST = """SELECT key, salt FROM marks WHERE is_own = 0 AND is_pinned = 0 ORDER BY confirmed_unix LIMIT ?"""
KEPT_ALIVE = "SELECT key, salt FROM marks WHERE is_own = 1 OR is_pinned = 1"
COLUMNS = "key, salt, seq, value, signature, confirmed_unix, is_own, is_pinned"

Slot = tuple[bytes, bytes]


@dataclass(frozen=True)
class Change:
    """A mark to be raised; `is_whole`: its item goes to the disk with it."""

    held: Held
    sighting: seen.Sighting
    is_whole: bool

    @classmethod
    def of(cls, held: Held, present: Present, *, is_whole: bool) -> Change:
        """Return the change that makes the mark of an item."""
        # Without a clock that can be believed, a seq says nothing about the present.
        is_counted = present.is_believable and not present.is_ahead(held.item.seq)
        item = held.item
        return cls(held, seen.Sighting(seen.mark_of_slot(*slot_of(item)), item.seq, is_counted), is_whole)


@dataclass(frozen=True)
class Commits:
    """How many commits there were, how long they took in all, and how many marks they raised."""

    count: int = 0
    seconds: float = 0.0
    mark_count: int = 0


def slot_of(item: MutableItem) -> Slot:
    """Return the key and the salt of an item."""
    return item.key.raw, item.salt


def loss_of(path: Path) -> str | None:
    """Return in words why a missing or empty file is a loss; None where there never was one.

    It is made before the store beside it, so a store with content shows that this file was there.
    """
    if path.exists() and path.stat().st_size > 0:
        return None
    store = path.with_name("store.sqlite")
    has_store = store.exists() and store.stat().st_size > 0
    has_log = path.with_name(f"{path.name}-wal").exists()
    if not (has_store or has_log or any(path.parent.glob(f"{path.name}.corrupt-*"))):
        return None
    return "reader.sqlite was empty" if path.exists() else "reader.sqlite was missing"


def count_of(connection: sqlite3.Connection) -> int:
    """Return how many items there are."""
    return int(connection.execute("SELECT count(*) FROM marks").fetchone()[0])


def row_of(held: Held) -> tuple[object, ...]:
    """Return the parameters of `RAISE`."""
    item = held.item
    flags = (int(held.is_own), int(held.is_pinned))
    return item.key.raw, item.salt, item.seq, item.value, item.signature, held.confirmed_unix, *flags


def flags_of(held: Held) -> tuple[object, ...]:
    """Return the parameters of `CONFIRM` that add why an item is kept."""
    # Minus infinity leaves the time alone: the row may hold a newer item than the one that was confirmed.
    return float("-inf"), int(held.is_own), int(held.is_pinned), *slot_of(held.item)
