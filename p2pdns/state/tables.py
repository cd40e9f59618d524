"""The tables of `reader.sqlite`: items, petnames, commitments, and the small marks with facts about all of them.

A small mark is the hash of a key and the highest seq of its items that was ever shown. Guarantees: a file of an older
version keeps what it holds; only `forget` lowers a mark; there are `SEEN_MAX` at most, and no protected one is evicted;
the facts count how many were evicted and how many forgotten. Does not know when to commit: each function works inside a
transaction of the caller's.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
from collections.abc import Collection, Iterable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import NamedTuple

from p2pdns.clock import unix_now
from p2pdns.errors import StrangerError
from p2pdns.items.item import SEQ_PER_SECOND, SEQ_RESERVED, MutableItem, Present
from p2pdns.items.keys import ZoneId
from p2pdns.overlay.parts import key_of, raw_id_of
from p2pdns.overlay.ports import Held
from p2pdns.state.database import Earlier, Schema

SEEN_MAX = 2_097_152  # 28 bytes each and the tree round them: 80 MB of file, and at a mark every five seconds 121 days.
EVICTED_AT_ONCE = 512  # One pass makes room for many.
MARK_BYTES = 20  # Nobody makes two keys whose hashes agree in 160 bits, and the table stays small.
# A mark of an older file that lies farther ahead of the clock was adopted without one, and does not bound the time.
AHEAD_OF_UPGRADE_S_MAX = 366 * 86_400

_SEEN = (
    "CREATE TABLE seen (mark BLOB PRIMARY KEY, seq INTEGER NOT NULL) STRICT, WITHOUT ROWID",
    "CREATE TABLE facts (name TEXT PRIMARY KEY, value ANY NOT NULL) STRICT",
)
_VERSION_1 = (
    """CREATE TABLE marks (
            key BLOB NOT NULL, salt BLOB NOT NULL, seq INTEGER NOT NULL, value BLOB NOT NULL, signature BLOB NOT NULL,
            confirmed_unix REAL NOT NULL, is_own INTEGER NOT NULL, is_pinned INTEGER NOT NULL,
            PRIMARY KEY (key, salt)
        ) STRICT""",
    "CREATE INDEX marks_by_age ON marks (is_own, is_pinned, confirmed_unix)",
    "CREATE TABLE names (name TEXT PRIMARY KEY, key TEXT NOT NULL) STRICT",
)
_SUCCESSIONS = """CREATE TABLE successions (
        mark BLOB PRIMARY KEY, commitment BLOB NOT NULL, next BLOB, seen_unix REAL NOT NULL
    ) STRICT, WITHOUT ROWID"""
_REVEALED = """CREATE TABLE revealed (
        old BLOB PRIMARY KEY, first BLOB NOT NULL, second BLOB NOT NULL, item BLOB
    ) STRICT, WITHOUT ROWID"""


def _upgrade_1(connection: sqlite3.Connection) -> None:
    """Give a file of version 1, whose items were its marks, small marks too, and the rest of version 3."""
    for statement in _SEEN:
        connection.execute(statement)
    fill_from_items(connection, unix_now())
    _upgrade_2(connection)


def _upgrade_2(connection: sqlite3.Connection) -> None:
    """Give a file of version 2 the tables of commitments and of the next keys that are revealed."""
    connection.execute(_SUCCESSIONS)
    connection.execute(_REVEALED)


SCHEMA = Schema(
    version=3,
    # Version 1 called its items marks, and the table has kept that name.
    statements=(*_VERSION_1, *_SEEN, _SUCCESSIONS, _REVEALED),
    earlier=(Earlier(1, _VERSION_1, _upgrade_1), Earlier(2, (*_VERSION_1, *_SEEN), _upgrade_2)),
    # A mark that a power cut takes back would let an older item pass for the newest.
    synchronous="FULL",
)

RAISE = """INSERT INTO marks VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (key, salt) DO UPDATE SET seq = excluded.seq,
    value = excluded.value, signature = excluded.signature, confirmed_unix = excluded.confirmed_unix
    WHERE (excluded.seq, excluded.value) > (marks.seq, marks.value)"""
CONFIRM = """UPDATE marks SET confirmed_unix = max(confirmed_unix, ?), is_own = max(is_own, ?),
    is_pinned = max(is_pinned, ?) WHERE key = ? AND salt = ?"""
RELEASE = "UPDATE marks SET is_own = 0, is_pinned = 0 WHERE key = ?"
OLDEST = """SELECT key, salt FROM marks WHERE is_own = 0 AND is_pinned = 0 ORDER BY confirmed_unix LIMIT ?"""
KEPT_ALIVE = "SELECT key, salt FROM marks WHERE is_own = 1 OR is_pinned = 1"
COLUMNS = "key, salt, seq, value, signature, confirmed_unix, is_own, is_pinned"

Slot = tuple[bytes, bytes]


@dataclass(frozen=True)
class Change:
    """A mark to be raised; `is_whole`: its item goes to the disk with it."""

    held: Held
    sighting: Sighting
    is_whole: bool

    @classmethod
    def of(cls, held: Held, mark: bytes, present: Present, *, is_whole: bool) -> Change:
        """Return the change that raises the mark of an item to it."""
        # Without a clock that can be believed, a seq says nothing about the present.
        is_counted = present.is_believable and not present.is_ahead(held.item.seq)
        return cls(held, Sighting(mark, held.item.seq, is_counted), is_whole)


@dataclass(frozen=True)
class Commits:
    """How many commits there were, how long they took in all, and how many marks they raised."""

    count: int = 0
    seconds: float = 0.0
    mark_count: int = 0


def slot_of(item: MutableItem) -> Slot:
    """Return the key and the salt of an item."""
    return item.key.raw, item.salt


def slot_for(zone_id: ZoneId, salt: bytes = b"") -> Slot:
    """Return the key and the salt of the items of a zone."""
    return key_of(zone_id).raw, salt


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


class Sighting(NamedTuple):
    """A mark to be raised. `is_counted`: the clock of its adoption could be believed, so the seq bounds the time."""

    mark: bytes
    seq: int
    is_counted: bool = True


@dataclass(frozen=True)
class Facts:
    """Facts about all marks and commitments together. Times are Unix seconds; 0 where it never happened."""

    seen_count: int = 0
    newest_seq: int = 0
    evicted_count: int = 0
    evicted_unix: int = 0
    forgotten_count: int = 0
    forgotten_unix: int = 0
    commitment_count: int = 0
    commitments_evicted_count: int = 0
    commitments_evicted_unix: int = 0


def mark_of(zone_raw: bytes, salt: bytes = b"") -> bytes:
    """Return the hash that stands for a zone (the bytes of its id) and a salt in the table.

    It is SHA-256 and not the target of the overlay: two keys of one SHA-1 can be made, and would share their mark.
    """
    return hashlib.sha256(zone_raw + salt).digest()[:MARK_BYTES]


def mark_of_slot(key_raw: bytes, salt: bytes) -> bytes:
    """Return the mark that an item under a key and a salt has made."""
    return mark_of(raw_id_of(key_raw), salt)


def marks_kept_alive(connection: sqlite3.Connection) -> set[bytes]:
    """Return the marks of the items that this node publishes or has pinned."""
    return {mark_of_slot(*slot) for slot in connection.execute(KEPT_ALIVE)}


def read_facts(connection: sqlite3.Connection) -> Facts:
    """Return the facts; one that was tampered with counts as never written."""
    names = {field.name for field in fields(Facts)}
    rows = connection.execute("SELECT name, value FROM facts").fetchall()
    sane = {name: value for name, value in rows if name in names and isinstance(value, int) and value >= 0}
    if sane.get("newest_seq", 0) >= SEQ_RESERVED:
        del sane["newest_seq"]
    return Facts(**sane)


def write_facts(connection: sqlite3.Connection, facts: Facts) -> None:
    """Keep the facts for the next process."""
    rows = [(field.name, getattr(facts, field.name)) for field in fields(Facts)]
    connection.executemany("INSERT OR REPLACE INTO facts VALUES (?, ?)", rows)


def seq_of(connection: sqlite3.Connection, mark: bytes) -> int | None:
    """Return the highest seq that was committed of a mark."""
    row = connection.execute("SELECT seq FROM seen WHERE mark = ?", (mark,)).fetchone()
    return None if row is None else int(row[0])


def raise_marks(
    connection: sqlite3.Connection, sightings: Collection[Sighting], protected: Collection[bytes], unix_now: float
) -> None:
    """Raise marks, and make room where there are too many."""
    if not sightings:
        return
    rows = [(sighting.mark, sighting.seq) for sighting in sightings]
    new_count = connection.executemany("INSERT OR IGNORE INTO seen VALUES (?, ?)", rows).rowcount
    connection.executemany("UPDATE seen SET seq = ?2 WHERE mark = ?1 AND seq < ?2", rows)
    before = facts = read_facts(connection)
    newest = max((sighting.seq for sighting in sightings if sighting.is_counted), default=0)
    facts = replace(facts, seen_count=facts.seen_count + new_count, newest_seq=max(facts.newest_seq, newest))
    if facts.seen_count > SEEN_MAX:
        kept = {*protected, *(sighting.mark for sighting in sightings)}
        gone = evict(connection, "seen", kept)
        facts = replace(
            facts,
            seen_count=facts.seen_count - gone,
            evicted_count=facts.evicted_count + gone,
            evicted_unix=int(unix_now) if gone else facts.evicted_unix,
        )
    if facts != before:
        write_facts(connection, facts)


def evict(connection: sqlite3.Connection, table: str, kept: Collection[bytes]) -> int:
    """Delete some rows of a table of marks from a random place on; return how many.

    A client that fills the table cannot choose whose mark goes: the place is random, and so is the order of hashes.
    """
    start, gone = os.urandom(MARK_BYTES), 0
    wanted = EVICTED_AT_ONCE + len(kept)
    for comparison in (">=", "<"):
        query = f"SELECT mark FROM {table} WHERE mark {comparison} ? LIMIT ?"
        found = [row for row in connection.execute(query, (start, wanted)).fetchall() if row[0] not in kept]
        chosen = found[: EVICTED_AT_ONCE - gone]
        connection.executemany(f"DELETE FROM {table} WHERE mark = ?", chosen)
        gone += len(chosen)
        if gone >= EVICTED_AT_ONCE:
            break
    return gone


def evict_items(connection: sqlite3.Connection, protected: Collection[bytes]) -> int:
    """Delete the items that were not confirmed for the longest time; return how many. Their marks stay."""
    oldest = connection.execute(OLDEST, (EVICTED_AT_ONCE + len(protected),)).fetchall()
    gone = [slot for slot in oldest if mark_of_slot(*slot) not in protected][:EVICTED_AT_ONCE]
    connection.executemany("DELETE FROM marks WHERE key = ? AND salt = ?", gone)
    return len(gone)


def forget(connection: sqlite3.Connection, marks: Iterable[bytes], unix_now: float) -> int:
    """Delete marks because a person wants it; return how many there were."""
    gone, highest = 0, 0
    for mark in marks:
        seq = seq_of(connection, mark)
        if seq is not None:
            connection.execute("DELETE FROM seen WHERE mark = ?", (mark,))
            gone, highest = gone + 1, max(highest, seq)
    _note_forgotten(connection, gone, highest, unix_now)
    return gone


def forget_above(connection: sqlite3.Connection, seq: int, unix_now: float) -> int:
    """Delete every mark above a seq because a person wants it; return how many there were."""
    gone = connection.execute("DELETE FROM seen WHERE seq > ?", (seq,)).rowcount
    _note_forgotten(connection, gone, SEQ_RESERVED, unix_now)
    return gone


def _note_forgotten(connection: sqlite3.Connection, gone: int, highest: int, unix_now: float) -> None:
    if not gone:
        return
    facts = read_facts(connection)
    if highest >= facts.newest_seq:
        # The forgotten mark bounded the time, so the next lower one does now. This reads all marks; a person waits.
        query = "SELECT max(seq) FROM seen WHERE seq <= ?"
        newest = connection.execute(query, (facts.newest_seq,)).fetchone()[0]
        facts = replace(facts, newest_seq=newest or 0)
    facts = replace(
        facts,
        seen_count=max(0, facts.seen_count - gone),
        forgotten_count=facts.forgotten_count + gone,
        forgotten_unix=int(unix_now),
    )
    write_facts(connection, facts)


def fill_from_items(connection: sqlite3.Connection, unix_now: float) -> None:
    """Make small marks from the items of a file that had no small marks yet."""
    items = connection.execute("SELECT key, salt, seq, value, signature FROM marks").fetchall()
    # An item that does not verify is dropped when it is read; its mark would keep every honest item of its key out.
    items = [item for item in items if _is_verified(*item)]
    latest = int((Present(unix_now).unix + AHEAD_OF_UPGRADE_S_MAX) * SEQ_PER_SECOND)
    connection.executemany(
        "INSERT OR IGNORE INTO seen VALUES (?, ?)",
        [(mark_of_slot(key, salt), seq) for key, salt, seq, _, _ in items],
    )
    newest = max((seq for _, _, seq, _, _ in items if seq <= latest), default=0)
    write_facts(connection, Facts(seen_count=len(items), newest_seq=newest))


def _is_verified(key: bytes, salt: bytes, seq: int, value: bytes, signature: bytes) -> bool:
    try:
        MutableItem.verified(key, seq, value, signature, salt)
    except StrangerError:
        return False
    return True
