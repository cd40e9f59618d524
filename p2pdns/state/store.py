"""The memory of a node: other publishers' items, its contacts, its id and port in each network, its storers.

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
from functools import partial
from pathlib import Path
from typing import NamedTuple

from p2pdns import log
from p2pdns.addresses import class_of
from p2pdns.dht.krpc import NodeInfo
from p2pdns.dht.routing.contact import SavedContact
from p2pdns.dht.stored import StoredChange, StoredRow
from p2pdns.errors import StrangerError, Unavailable, words_of
from p2pdns.publishing.cycle import CYCLE_S_MAX, STORERS_MAX, KeptCycle
from p2pdns.state.database import Earlier, Schema, in_thread, open_database, transaction

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

_CYCLES = (
    """CREATE TABLE cycles (
        target BLOB PRIMARY KEY, seq INTEGER NOT NULL, put_unix REAL NOT NULL, is_keeping INTEGER NOT NULL,
        is_forgetful INTEGER NOT NULL
    ) STRICT""",
    """CREATE TABLE storers (
        target BLOB NOT NULL, place INTEGER NOT NULL, node_id BLOB NOT NULL, host TEXT NOT NULL,
        port INTEGER NOT NULL, PRIMARY KEY (target, place)
    ) STRICT""",
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
    _from_version_2(connection)


def _from_version_2(connection: sqlite3.Connection) -> None:
    # Version 2 put each item again every hour, and knew no storers.
    for statement in _CYCLES:
        connection.execute(statement)


SCHEMA = Schema(
    version=3,
    statements=(_ITEMS, *_OTHERS, *_CYCLES),
    # Losing the last seconds costs the others nothing: nineteen more nodes hold each item.
    synchronous="NORMAL",
    earlier=(
        Earlier(1, (_ITEMS_OF_VERSION_1, *_OTHERS), _from_version_1),
        Earlier(2, (_ITEMS, *_OTHERS), _from_version_2),
    ),
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
        """Return every kept item as it was saved, not verified; Unavailable where the file cannot be read.

        They come in the order of their last puts, which is that in which items of one key go.
        """
        query = f"SELECT {', '.join(StoredRow._fields)} FROM items ORDER BY put_unix, target"
        try:
            return [StoredRow(*row) for row in self._database.reading.execute(query)]
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
                    await in_thread(partial(write, *args))
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

    def load_cycle(self, target: bytes) -> KeptCycle | None:
        """Return what was kept of the upkeep of an own item; None where there is nothing, or the file is unreadable."""
        try:
            found = self._database.reading.execute(
                "SELECT seq, put_unix, is_keeping, is_forgetful FROM cycles WHERE target = ?", (target,)
            ).fetchone()
            query = "SELECT node_id, host, port FROM storers WHERE target = ? ORDER BY place LIMIT ?"
            rows = self._database.reading.execute(query, (target, STORERS_MAX)).fetchall()
        except sqlite3.Error:
            return None
        if found is None or not math.isfinite(found[1]):
            return None
        storers = [NodeInfo(row[0], (row[1], row[2])) for row in rows if _is_sane(row[0], row[1], row[2], None, 0.0)]
        return KeptCycle(found[0], found[1], tuple(storers), bool(found[2]), bool(found[3]))

    async def save_cycle(self, target: bytes, kept: KeptCycle) -> None:
        """Keep the upkeep of an own item for the next process, where the disk takes it."""
        await self._save(self._write_cycle, target, kept)

    def _write_cycle(self, target: bytes, kept: KeptCycle) -> None:
        rows = [(target, place, one.node_id, *one.address) for place, one in enumerate(kept.storers[:STORERS_MAX])]
        # A cycle that is over says nothing; so items that are kept alive no more leave no rows for long.
        over = (kept.put_unix - CYCLE_S_MAX,)
        with transaction(self._database.writing) as connection:
            connection.execute(
                "DELETE FROM storers WHERE target = ?1 OR target IN (SELECT target FROM cycles WHERE put_unix < ?2)",
                (target, *over),
            )
            connection.execute("DELETE FROM cycles WHERE put_unix < ?", over)
            facts = (target, kept.seq, kept.put_unix, int(kept.is_keeping), int(kept.is_forgetful))
            connection.execute("INSERT OR REPLACE INTO cycles VALUES (?, ?, ?, ?, ?)", facts)
            connection.executemany("INSERT INTO storers VALUES (?, ?, ?, ?, ?)", rows)

    def drop_cycle(self, target: bytes) -> None:
        """Keep nothing of the upkeep of an item any more."""
        with contextlib.suppress(sqlite3.Error), transaction(self._database.writing) as connection:
            for table in ("storers", "cycles"):
                connection.execute(f"DELETE FROM {table} WHERE target = ?", (target,))

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
