"""One SQLite file of the state directory: opened, checked, rebuilt where it is broken.

Guarantees: a file that `open_database` uses has the schema that was asked for and passed SQLite's own check; any other
one is set aside under another name, never deleted, and a new one takes its place; where the disk takes no more,
and where a newer version of this program made the file, the file is left alone and a database in memory is used. A
message says which of these it was. Does not know what the tables mean.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from p2pdns.directory import FILE_MODE, shown
from p2pdns.errors import Unavailable, hint_of, words_of

APPLICATION_ID = 0x70327064  # "p2pd", so that file(1) and we can tell our files from others.
BUSY_TIMEOUT_S = 5.0  # Only our own two connections meet here; a commit takes milliseconds, on a card some hundred.
SET_ASIDE_MAX = 1_000  # Numbers tried for the name of a broken file.
PROBE_NAME = "store.probe"  # Written and removed to learn whether the disk takes anything.
PROBE_BYTES = 65_536  # More than SQLite needs to open a file: its shared memory has 32 KiB.
_COMPANIONS = ("", "-wal", "-shm", "-journal")


@dataclass(frozen=True)
class Earlier:
    """The tables that an older program made, and how their content is brought to the present form."""

    version: int
    statements: tuple[str, ...]
    upgrade: Callable[[sqlite3.Connection], None]


@dataclass(frozen=True)
class Schema:
    """The tables of a file: their SQL, a number that changes with them, and how durable a commit is."""

    version: int
    statements: tuple[str, ...]
    synchronous: str
    earlier: tuple[Earlier, ...] = ()

    def before(self, version: int) -> Earlier | None:
        """Return the tables of an older version; None where there is no upgrade from it."""
        return next((earlier for earlier in self.earlier if earlier.version == version), None)


@dataclass(frozen=True)
class Database:
    """Two connections to one file (one where it is in memory), and what was noticed when it was opened.

    `is_kept`: commits go to a disk. `is_new`: the old file was set aside, so its content is forgotten.
    """

    reading: sqlite3.Connection
    writing: sqlite3.Connection
    warnings: tuple[str, ...] = ()
    is_kept: bool = True
    is_new: bool = False

    def close(self) -> None:
        """Close the file, without a commit."""
        self.reading.close()
        self.writing.close()


def open_database(path: Path | None, schema: Schema) -> Database:
    """Return the open database; None is one in memory. A file that cannot be used is set aside and made anew."""
    if path is None:
        return _in_memory(schema, None)
    warnings: tuple[str, ...] = ()
    try:
        trouble = _fault_of(path, schema)
        if trouble is not None:
            aside = _set_aside(path)
            warnings = (f"{shown(path)}: {trouble}; set aside as {aside.name}, a new file takes its place",)
        return _opened(path, schema, warnings)
    except _NewerVersionError as newer:
        text = f"{shown(path)}: version {newer} of a newer p2pdns, this one writes {schema.version}"
        return _in_memory(schema, None, f"{text}; the file is left alone, and nothing is kept beyond this run")
    except (sqlite3.Error, OSError) as error:
        why = _refusal_of_disk(path.parent)
        if why is not None:
            text = f"{shown(path)}: {why}; what is new is not kept beyond this run"
            return _in_memory(schema, path, text, *warnings)
        if isinstance(error, sqlite3.Error):
            # A locked or unreadable file is not a broken one: moving it away would lose what it holds.
            hint = "is it a file, yours, and used by nobody else?"
            raise Unavailable(f"cannot be read: {words_of(error)}", place=shown(path), hint=hint) from None
        raise Unavailable(f"cannot be opened: {words_of(error)}", place=shown(path), hint=hint_of(error)) from None


def _connect(path: str, schema: Schema) -> sqlite3.Connection:
    # Transactions are ours to begin and end; the writing connection works in a thread of its own, one at a time.
    connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)
    connection.execute(f"PRAGMA synchronous={schema.synchronous}")
    return connection


def _opened(path: Path, schema: Schema, warnings: tuple[str, ...]) -> Database:
    # The file has its mode before SQLite writes to it, and SQLite gives its companions the same mode.
    path.touch(FILE_MODE)
    writing = _connect(str(path), schema)
    try:
        # With a write-ahead log a commit is one sync instead of three, and reading never waits for it.
        writing.execute("PRAGMA journal_mode=WAL")
        _create(writing, schema)
        return Database(_connect(str(path), schema), writing, warnings, is_new=bool(warnings))
    except BaseException:
        writing.close()
        raise


def _create(connection: sqlite3.Connection, schema: Schema) -> None:
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version == schema.version:
        return
    earlier = schema.before(version)
    # All or nothing: a file between two versions would be taken for a broken one.
    with transaction(connection):
        if earlier is not None:
            earlier.upgrade(connection)
        else:
            for statement in schema.statements:
                connection.execute(statement)
        connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version={schema.version}")


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
            if version > schema.version:
                raise _NewerVersionError(version)
            earlier = schema.before(version)
            if version != schema.version and earlier is None:
                return f"version {version}, this program writes {schema.version}"
            found = {_shape(row[0]) for row in connection.execute("SELECT sql FROM sqlite_master WHERE sql NOT NULL")}
            statements = schema.statements if earlier is None else earlier.statements
            return None if found == {_shape(text) for text in statements} else "other tables than expected"
    except sqlite3.OperationalError:
        raise
    except sqlite3.DatabaseError as error:
        return words_of(error)


class _NewerVersionError(Exception):
    """A newer program made the file; the argument is its version."""


def _refusal_of_disk(directory: Path) -> str | None:
    """Return why nothing can be written in a directory, in words; None where something can."""
    probe = directory / PROBE_NAME
    try:
        descriptor = os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, FILE_MODE)
        try:
            os.write(descriptor, bytes(PROBE_BYTES))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        return "no space" if error.errno in (errno.ENOSPC, errno.EDQUOT) else words_of(error)
    finally:
        with contextlib.suppress(OSError):
            probe.unlink()
    return None


def _in_memory(schema: Schema, path: Path | None, *warnings: str) -> Database:
    """Return a database in memory, with the content of the file at `path` as far as it can be read."""
    memory = _connect(":memory:", schema)
    for mode in ("mode=ro", "mode=ro&immutable=1"):
        # An exclusive reader needs no shared memory beside the file. Where even the log beside it cannot be opened, the
        # file alone is read, without the commits that a crash has left in the log.
        if path is None or not path.exists() or not path.stat().st_size:
            break
        with contextlib.suppress(sqlite3.Error):
            uri = f"file:{quote(str(path))}?{mode}"
            with contextlib.closing(sqlite3.connect(uri, uri=True, timeout=BUSY_TIMEOUT_S)) as file:
                file.execute("PRAGMA locking_mode=EXCLUSIVE")
                file.backup(memory)
                break
    _create(memory, schema)
    return Database(memory, memory, warnings, is_kept=False)


def unreadable(error: sqlite3.Error, name: str) -> Unavailable:
    """Return the error for a file of this name that cannot be read while it is in use."""
    return Unavailable(f"cannot be read: {words_of(error)}", place=name, hint="restart: it is checked and rebuilt")


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
    raise Unavailable(f"damaged, and {SET_ASIDE_MAX} older ones lie beside it", place=shown(path), hint="remove them")


@contextlib.contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    """Commit all statements inside, or none of them."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield connection
        connection.execute("COMMIT")
    except BaseException:
        with contextlib.suppress(sqlite3.Error):
            connection.execute("ROLLBACK")
        raise


async def in_thread(write: Callable[[], None]) -> None:
    """Run a write in a thread; where the caller is cancelled, return only once the thread has ended.

    A thread cannot be stopped, and uses the connection until its end; so the caller's lock is held as long.
    """
    work = asyncio.get_running_loop().run_in_executor(None, write)
    cancelled: asyncio.CancelledError | None = None
    while not work.done():
        try:
            await asyncio.wait([work])
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is None:
        return work.result()
    # The error of a write without a caller is retrieved, so that asyncio does not log it.
    work.exception()
    raise cancelled
