"""The items with a salt that this node keeps alive: `parts.sqlite`, or memory.

A file of its own: a zone may have some thousand items, and what protects this reader must not wait for them.
Guarantees: when `save` has returned, a crash of the machine loses nothing of it; what comes back is verified again.
Does not know which head pins an item.
"""

from __future__ import annotations

import asyncio
import math
import sqlite3
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from p2pdns import log
from p2pdns.errors import StrangerError, Unavailable, words_of
from p2pdns.items.item import MutableItem
from p2pdns.publishing.partkeeping import PARTS_KEPT_MAX, KeptPart
from p2pdns.state.database import Schema, in_thread, open_database, transaction

SCHEMA = Schema(
    version=1,
    statements=(
        """CREATE TABLE parts (
            key BLOB NOT NULL, salt BLOB NOT NULL, seq INTEGER NOT NULL, value BLOB NOT NULL, signature BLOB NOT NULL,
            unpinned_unix REAL, PRIMARY KEY (key, salt)
        ) STRICT""",
    ),
    # A publication is reported once its items are here, and a power cut must not take them back.
    synchronous="FULL",
)


class Parts:
    """The items; `PartState` of their upkeep."""

    def __init__(self, path: Path | None) -> None:
        self._database = open_database(path, SCHEMA)
        self.warnings: list[str] = list(self._database.warnings)
        self._saving = asyncio.Lock()

    def load(self) -> list[KeptPart]:
        """Return the items that verify; those that do not are dropped with a warning."""
        query = "SELECT key, salt, seq, value, signature, unpinned_unix FROM parts ORDER BY key, salt LIMIT ?"
        try:
            rows = self._database.reading.execute(query, (PARTS_KEPT_MAX,)).fetchall()
        except sqlite3.Error as error:
            raise Unavailable(f"cannot be read: {words_of(error)}", place="parts.sqlite") from None
        found, broken = [], list[tuple[bytes, bytes]]()
        for key, salt, seq, value, signature, unpinned_unix in rows:
            try:
                item = MutableItem.verified(key, seq, value, signature, salt)
            except StrangerError:
                broken.append((key, salt))
                continue
            is_sane = unpinned_unix is not None and math.isfinite(unpinned_unix)
            found.append(KeptPart(item, unpinned_unix if is_sane else None))
        if broken:
            text = f"parts.sqlite: {len(broken)} items do not verify; they are looked for again"
            self.warnings.append(text)
            log.get_logger("state").warning(text)
            self._write(lambda connection: _delete(connection, broken))
        return found

    async def save(self, parts: Sequence[KeptPart]) -> None:
        """Keep items, in the place of those with their keys and salts; Unavailable when the disk refuses."""
        rows = [
            (one.item.key.raw, one.item.salt, one.item.seq, one.item.value, one.item.signature, one.unpinned_unix)
            for one in parts
        ]
        await self._written(
            lambda connection: connection.executemany("INSERT OR REPLACE INTO parts VALUES (?, ?, ?, ?, ?, ?)", rows)
        )

    async def drop(self, items: Sequence[MutableItem]) -> None:
        """Keep items no longer; Unavailable when the disk refuses."""
        slots = [(one.key.raw, one.salt) for one in items]
        await self._written(lambda connection: _delete(connection, slots))

    async def _written(self, write: Callable[[sqlite3.Connection], object]) -> None:
        async with self._saving:
            if self._database.is_kept:
                await in_thread(partial(self._write, write))
            else:
                self._write(write)

    def _write(self, write: Callable[[sqlite3.Connection], object]) -> None:
        try:
            with transaction(self._database.writing) as connection:
                write(connection)
        except sqlite3.Error as error:
            what = f"cannot be written: {words_of(error)}"
            raise Unavailable(what, place="parts.sqlite", hint="is the disk full?") from None

    def close(self) -> None:
        """Close the file."""
        self._database.close()


def _delete(connection: sqlite3.Connection, slots: Sequence[tuple[bytes, bytes]]) -> None:
    connection.executemany("DELETE FROM parts WHERE key = ? AND salt = ?", slots)
