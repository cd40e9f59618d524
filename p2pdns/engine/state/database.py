"""One SQLite file of the state directory: opened, checked, rebuilt where it is broken.

Guarantees: what `open_database` returns has the schema that was asked for and passed SQLite's own check; a file that
does not is set aside under another name, never deleted, and a new one takes its place, with a message that says so.
Does not know what the tables mean.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from p2pdns.errors import Unavailable, hint_of

APPLICATION_ID = 0x70327064  # "p2pd", so that file(1) and we can tell our files from others.
BUSY_TIMEOUT_S = 5.0  # Only our own two connections meet here; a commit takes milliseconds, on a card some hundred.
SET_ASIDE_MAX = 1_000  # Numbers tried for the name of a broken file.
FILE_MODE = 0o600
_COMPANIONS = ("", "-wal", "-shm", "-journal")


@dataclass(frozen=True)
class Schema:
    """The tables of a file: their SQL, a number that changes with them, and how durable a commit is."""

    version: int
    statements: tuple[str, ...]
    synchronous: str


@dataclass(frozen=True)
class Database:
    """Two connections to one file (one connection where it is in memory), and what was noticed when it was opened."""

    reading: sqlite3.Connection
    writing: sqlite3.Connection
    warnings: tuple[str, ...] = ()

    def close(self) -> None:
        """Close the file. What was not committed is gone."""
        self.reading.close()
        self.writing.close()


def open_database(path: Path | None, schema: Schema) -> Database:
    """Return the open database; None is one in memory. A file that cannot be used is set aside and made anew."""
    if path is None:
        memory = _connect(":memory:", schema)
        _create(memory, schema)
        return Database(memory, memory)
    warnings: tuple[str, ...] = ()
    trouble = _fault_of(path, schema)
    if trouble is not None:
        aside = _set_aside(path)
        warnings = (f"{path}: {trouble}; set aside as {aside.name}, a new file takes its place",)
    try:
        return _opened(path, schema, warnings)
    except (sqlite3.Error, OSError) as error:
        hint = hint_of(error) if isinstance(error, OSError) else "is the disk full, or not writable?"
        raise Unavailable(f"cannot be opened: {_words(error)}", place=str(path), hint=hint) from None


def _words(error: Exception) -> str:
    return (getattr(error, "strerror", None) or str(error)).lower()


def _connect(path: str, schema: Schema) -> sqlite3.Connection:
    # Transactions are ours to begin and end; the writing connection works in a thread of its own, one at a time.
    connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)
    connection.execute(f"PRAGMA synchronous={schema.synchronous}")
    return connection


def _opened(path: Path, schema: Schema, warnings: tuple[str, ...]) -> Database:
    # The file exists with its mode before SQLite writes a byte of it, and SQLite gives its companions the same mode.
    path.touch(FILE_MODE)
    writing = _connect(str(path), schema)
    try:
        # With a write-ahead log a commit is one sync instead of three, and reading never waits for it.
        writing.execute("PRAGMA journal_mode=WAL")
        _create(writing, schema)
        return Database(_connect(str(path), schema), writing, warnings)
    except BaseException:
        writing.close()
        raise


def _create(connection: sqlite3.Connection, schema: Schema) -> None:
    if connection.execute("PRAGMA user_version").fetchone()[0] == schema.version:
        return
    connection.execute("BEGIN IMMEDIATE")
    for statement in schema.statements:
        connection.execute(statement)
    connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version={schema.version}")
    connection.execute("COMMIT")


def _fault_of(path: Path, schema: Schema) -> str | None:
    """Return why a file cannot be used, in words; None for a good or a missing one."""
    if not path.exists() or path.stat().st_size == 0:
        return None
    try:
        with contextlib.closing(_connect(str(path), schema)) as connection:
            checked = connection.execute("PRAGMA quick_check(1)").fetchone()
            if checked is None or checked[0] != "ok":
                return "damaged"
            if connection.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
                return "not a file of p2pdns"
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            if version != schema.version:
                return f"version {version}, this program writes {schema.version}"
            found = {_shape(row[0]) for row in connection.execute("SELECT sql FROM sqlite_master WHERE sql NOT NULL")}
            return None if found == {_shape(text) for text in schema.statements} else "other tables than expected"
    except sqlite3.OperationalError as error:
        # A locked or unreadable file is not a broken one: moving it away would lose what it holds.
        hint = "is it a file, yours, and used by nobody else?"
        raise Unavailable(f"cannot be read: {_words(error)}", place=str(path), hint=hint) from None
    except sqlite3.DatabaseError as error:
        return _words(error)


def _shape(sql: str) -> str:
    return " ".join(sql.split())


def _set_aside(path: Path) -> Path:
    for number in range(1, SET_ASIDE_MAX):
        aside = path.with_name(f"{path.name}.corrupt-{number}")
        if aside.exists():
            continue
        for companion in _COMPANIONS:
            with contextlib.suppress(FileNotFoundError):
                path.with_name(path.name + companion).rename(path.with_name(aside.name + companion))
        return aside
    raise Unavailable(f"damaged, and {SET_ASIDE_MAX} older ones lie beside it", place=str(path), hint="remove them")


@contextlib.contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    """Commit what happens inside as one, or none of it."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield connection
        connection.execute("COMMIT")
    except BaseException:
        with contextlib.suppress(sqlite3.Error):
            connection.execute("ROLLBACK")
        raise
