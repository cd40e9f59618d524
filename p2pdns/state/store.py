"""What a node remembers of others: their items, its contacts, its node id and port in each network.

Guarantees: a restart loses at most what came since the last save, and nothing else depends on it; rows come back with
the types they had, and who takes them verifies the items anew. Does not know which items are kept (`dht.storage`
decides) nor which contacts are good.
"""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from p2pdns.addresses import class_of
from p2pdns.dht.routing.contact import SavedContact
from p2pdns.dht.stored import StoredChange, StoredRow
from p2pdns.errors import StrangerError
from p2pdns.state.database import Earlier, Schema, open_database, transaction

CONTACTS_MAX = (
    256  # A network and address family: 12 buckets' worth; a boot asks the best few, a later one finds the rest again.
)
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
    # It did not know who else had put an item, nor since when there was one: since the value came, at least.
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
    """Who this node was in a network, and at which port: others remember both."""

    node_id: bytes
    port: int


class Store:
    """The items kept for others, the contacts and the nodes this was: `store.sqlite`, or memory."""

    def __init__(self, path: Path | None) -> None:
        self._database = open_database(path, SCHEMA)
        self.warnings: list[str] = list(self._database.warnings)

    def rows(self) -> list[StoredRow]:
        """Return every kept item as it was saved."""
        columns = ", ".join(StoredRow._fields)
        return [StoredRow(*row) for row in self._database.reading.execute(f"SELECT {columns} FROM items")]

    def save(self, changes: Sequence[StoredChange]) -> None:
        """Write or delete one row a change, all in one commit. May be called from another thread, one at a time."""
        rows = [change.row for change in changes if change.row is not None]
        gone = [(change.target,) for change in changes if change.row is None]
        marks = ", ".join("?" * len(StoredRow._fields))
        with transaction(self._database.writing) as connection:
            connection.executemany("DELETE FROM items WHERE target = ?", gone)
            connection.executemany(f"INSERT OR REPLACE INTO items VALUES ({marks})", rows)

    def contacts(self, network: str) -> list[SavedContact]:
        """Return the contacts saved for a network, best first."""
        query = "SELECT node_id, host, port, rtt_ms, known_s FROM contacts WHERE network = ? ORDER BY place LIMIT ?"
        rows = self._database.reading.execute(query, (network, 2 * CONTACTS_MAX)).fetchall()
        return [
            SavedContact(node_id, (host, port), rtt_ms, known_s)
            for node_id, host, port, rtt_ms, known_s in rows
            if _is_sane(node_id, host, port, rtt_ms, known_s)
        ]

    def save_contacts(self, network: str, contacts: Iterable[SavedContact]) -> None:
        """Replace the contacts of a network by these, best first. May be called from another thread, one at a time."""
        kept: list[SavedContact] = []
        counts = {False: 0, True: 0}
        for contact in contacts:
            # Each family by itself: those of the second would find no place behind a full table of the first.
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

    def node(self, network: str) -> SavedNode | None:
        """Return what this node was in a network, or None."""
        query = "SELECT node_id, port FROM nodes WHERE network = ?"
        row = self._database.reading.execute(query, (network,)).fetchone()
        if row is None or len(row[0]) != NODE_ID_BYTES or not 0 < row[1] < 65536:
            return None
        return SavedNode(*row)

    def save_node(self, network: str, node: SavedNode) -> None:
        """Keep the id and the port for the next start."""
        assert len(node.node_id) == NODE_ID_BYTES
        with transaction(self._database.writing) as connection:
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
