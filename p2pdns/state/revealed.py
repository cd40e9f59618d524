"""The next keys that this node reveals: a table of `reader.sqlite`.

Guarantees: when `save` has returned, a crash of the machine loses nothing of it; what comes back from the disk is
verified again. Does not know when it is put.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable

from p2pdns.errors import StrangerError, Unavailable, words_of
from p2pdns.items.item import MutableItem
from p2pdns.items.keys import ZoneKey
from p2pdns.publishing.revealing import REVEALED_MAX, Revealed
from p2pdns.state.database import transaction


class RevealedKeys:
    """The next keys that are revealed; `RevealedMemory` of their upkeep."""

    def __init__(self, connection: sqlite3.Connection, warn: Callable[[str], None]) -> None:
        self._connection = connection
        self._warn = warn

    def load(self) -> list[Revealed]:
        """Return all that verifies, in the order of the old keys; a row that does not is dropped with a warning."""
        found = []
        query = "SELECT old, first, second, item FROM revealed ORDER BY old LIMIT ?"
        try:
            rows = self._connection.execute(query, (REVEALED_MAX,)).fetchall()
        except sqlite3.Error as error:
            raise Unavailable(f"cannot be read: {words_of(error)}", place="reader.sqlite") from None
        for old, first, second, item in rows:
            try:
                last = None if item is None else MutableItem.read_file(item)
                found.append(Revealed.verified(old, (first, second), last))
            except StrangerError as error:
                self._warn(f"reader.sqlite: a next key that is revealed does not verify ({error}): p2pdns rotate again")
                self._connection.execute("DELETE FROM revealed WHERE old = ?", (old,))
        return found

    def save(self, revealed: Revealed) -> None:
        """Keep this, in the place of what was kept of the old key; return once it is on the disk."""
        item = None if revealed.item is None else revealed.item.to_bytes()
        row = (revealed.old_key.raw, *(value.value for value in revealed.values), item)
        try:
            with transaction(self._connection) as connection:
                connection.execute("INSERT OR REPLACE INTO revealed VALUES (?, ?, ?, ?)", row)
        except sqlite3.Error as error:
            what = f"cannot be written: {words_of(error)}"
            raise Unavailable(what, place="reader.sqlite", hint="is the disk full?") from None

    def drop(self, old_key: ZoneKey) -> bool:
        """Keep nothing of an old key any more; return whether there was anything."""
        try:
            return self._connection.execute("DELETE FROM revealed WHERE old = ?", (old_key.raw,)).rowcount > 0
        except sqlite3.Error as error:
            raise Unavailable(f"cannot be written: {words_of(error)}", place="reader.sqlite") from None
