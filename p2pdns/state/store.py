"""The memory of a node: other publishers' items, its contacts, its node id and port in each network.

Guarantees: a restart loses at most the changes since the last save, and nothing else depends on them; rows come back
with the types they had, and `dht.storage` verifies the items anew. Does not know which items are kept (`dht.storage`
decides) nor which contacts are good.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from p2pdns import log
from p2pdns.addresses import class_of
from p2pdns.dht.routing.contact import SavedContact
from p2pdns.dht.stored import StoredChange, StoredRow
from p2pdns.errors import StrangerError, Unavailable, words_of
from p2pdns.state.database import Earlier, Schema, open_database, transaction

CONTACTS_MAX = 256  # Of each network and address family: 12 buckets' worth; a boot asks the best few of them.
NODE_ID_BYTES = 20

_ITEMS = """CREATE TABLE items (
    target BLOB PRIMARY KEY, key BLOB NOT NULL, salt BLOB NOT NULL, seq INTEGER NOT NULL, value BLOB NOT NULL,
    signature BLOB NOT NULL, prefix TEXT NOT NULL, put_unix REAL NOT NULL, got_unix REAL NOT NULL,
    new_unix REAL NOT NULL, other_prefix TEXT NOT NULL, first_unix REAL NOT NULL
) STRICT"""

_OTHERS = (
    """CREATE TABLE contacts (
        network TEXT NOT NULL, place INTEGER NOT NULL, node_id BLOB NOT NULL, host TEXT NOT NULL,
        port INTEGER NOT NULL, rtt_ms REAL, known_s REAL NOT NULL, PRIMARY KEY (network, place)
    ) STRICT""",
    "CREATE TABLE nodes (network TEXT PRIMARY KEY, node_id BLOB NOT NULL, port INTEGER NOT NULL) STRICT",
)

_ITEMS_OF_VERSION_1 = """CREATE TABLE items (
    target BLOB PRIMARY KEY, key BLOB NOT NULL, salt BLOB NOT NULL, seq INTEGER NOT NULL, value BLOB NOT NULL,
    signature BLOB NOT NULL, prefix TEXT NOT NULL, put_unix REAL NOT NULL, got_unix REAL NOT NULL,
    new_unix REAL NOT NULL
) STRICT"""


def _from_version_1(connection: sqlite3.Connection) -> None:
    # Version 1 recorded no second prefix that had put an item, and no time of the first item of its target: that
    # item came no later than the value.
    connection.execute("ALTER TABLE items RENAME TO items_1")
    connection.execute(_ITEMS)
    connection.execute("INSERT INTO items SELECT *, '', new_unix FROM items_1")
    connection.execute("DROP TABLE items_1")


SCHEMA = Schema(
    version=2,
    statements=(_ITEMS, *_OTHERS),
    # Losing the last seconds costs the others nothing: nineteen more nodes hold each item.
    synchronous="NORMAL",
    earlier=(Earlier(1, (_ITEMS_OF_VERSION_1, *_OTHERS), _from_version_1),),
)


class SavedNode(NamedTuple):
    """The id and the port that this node had in a network: other nodes remember both."""

    node_id: bytes
    port: int


class Store:
    """The items kept for others, the contacts, and this node's own ids: `store.sqlite`, or memory."""

    def __init__(self, path: Path | None) -> None:
        self._database = open_database(path, SCHEMA)
        self._trouble: str | None = None
        self._saving = asyncio.Lock()

    @property
    def warnings(self) -> list[str]:
        """What went wrong with the file, in words for `status`."""
        return [*self._database.warnings, *filter(None, [self._trouble])]

    def rows(self) -> list[StoredRow]:
        """Return every kept item as it was saved, not verified; Unavailable where the file cannot be read."""
        columns = ", ".join(StoredRow._fields)
        try:
            return [StoredRow(*row) for row in self._database.reading.execute(f"SELECT {columns} FROM items")]
        except sqlite3.Error as error:
            raise Unavailable(f"cannot be read: {words_of(error)}", place="store.sqlite") from None

    async def save_changes(self, changes: Sequence[StoredChange]) -> None:
        """Write what `Storage.take_changes` returned; the loop runs on meanwhile."""
        if changes:
            await self._save(self._write_changes, changes)

    async def save_contacts(self, network: str, contacts: Iterable[SavedContact]) -> None:
        """Replace the contacts of a network by these, best first; the loop runs on meanwhile."""
        await self._save(self._write_contacts, network, list(contacts))

    async def _save(self, write: Callable[..., None], *args: object) -> None:
        async with self._saving:
            try:
                # There is one connection, so one save at a time; in memory a thread would only cost.
                if self._database.is_kept:
                    await asyncio.to_thread(write, *args)
                else:
                    write(*args)
                self._trouble = None
            except sqlite3.Error as error:
                text = f"store.sqlite: cannot be written: {words_of(error)}"
                # Others' items are not worth the daemon; the next save tries again, and the log says it once.
                if text != self._trouble:
                    self._trouble = text
                    log.get_logger("state").warning(text)

    def save_now(self, network: str, changes: Sequence[StoredChange], contacts: Iterable[SavedContact]) -> None:
        """Write the last changes at the end of a process; the loop stands still meanwhile."""
        with contextlib.suppress(sqlite3.Error):
            self._write_changes(changes)
            self._write_contacts(network, contacts)

    def _write_changes(self, changes: Sequence[StoredChange]) -> None:
        rows = [change.row for change in changes if change.row is not None]
        gone = [(change.target,) for change in changes if change.row is None]
        marks = ", ".join("?" * len(StoredRow._fields))
        with transaction(self._database.writing) as connection:
            connection.executemany("DELETE FROM items WHERE target = ?", gone)
            connection.executemany(f"INSERT OR REPLACE INTO items VALUES ({marks})", rows)

    def load_contacts(self, network: str) -> list[SavedContact]:
        """Return the contacts saved for a network, best first."""
        query = "SELECT node_id, host, port, rtt_ms, known_s FROM contacts WHERE network = ? ORDER BY place LIMIT ?"
        rows = self._database.reading.execute(query, (network, 2 * CONTACTS_MAX)).fetchall()
        return [
            SavedContact(node_id, (host, port), rtt_ms, known_s)
            for node_id, host, port, rtt_ms, known_s in rows
            if _is_sane(node_id, host, port, rtt_ms, known_s)
        ]

    def _write_contacts(self, network: str, contacts: Iterable[SavedContact]) -> None:
        kept: list[SavedContact] = []
        counts = {False: 0, True: 0}
        for contact in contacts:
            # Each family is counted by itself: else a full table of one would leave no place for the other.
            is_ipv6 = ":" in contact.address[0]
            counts[is_ipv6] += 1
            if counts[is_ipv6] <= CONTACTS_MAX:
                kept.append(contact)
        rows = [
            (network, place, contact.node_id, *contact.address, contact.rtt_ms, contact.known_s)
            for place, contact in enumerate(kept)
        ]
        with transaction(self._database.writing) as connection:
            connection.execute("DELETE FROM contacts WHERE network = ?", (network,))
            connection.executemany("INSERT INTO contacts VALUES (?, ?, ?, ?, ?, ?, ?)", rows)

    def load_node(self, network: str) -> SavedNode | None:
        """Return the id and the port that this node had in a network, or None."""
        query = "SELECT node_id, port FROM nodes WHERE network = ?"
        row = self._database.reading.execute(query, (network,)).fetchone()
        if row is None or len(row[0]) != NODE_ID_BYTES or not 0 < row[1] < 65536:
            return None
        return SavedNode(*row)

    def save_node(self, network: str, node: SavedNode) -> None:
        """Keep the id and the port for the next start, where the disk takes them."""
        assert len(node.node_id) == NODE_ID_BYTES
        with contextlib.suppress(sqlite3.Error), transaction(self._database.writing) as connection:
            connection.execute("INSERT OR REPLACE INTO nodes VALUES (?, ?, ?)", (network, *node))

    def close(self) -> None:
        """Close the file."""
        self._database.close()


def _is_sane(node_id: bytes, host: str, port: int, rtt_ms: float | None, known_s: float) -> bool:
    try:
        class_of(host)
    except StrangerError:
        return False
    is_finite = math.isfinite(known_s) and (rtt_ms is None or math.isfinite(rtt_ms))
    return len(node_id) == NODE_ID_BYTES and 0 < port < 65536 and is_finite
