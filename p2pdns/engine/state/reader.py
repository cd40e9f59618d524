"""What this reader has seen: per zone key the newest item, which is the mark that no answer falls below.

Guarantees: an item that `adopt` has returned for survives a crash of the machine; a mark never goes down, whatever is
adopted in whatever order; what comes back from the disk is verified again before anyone sees it. Commits that are
asked for while another is under way share the next one. Does not know whether an item is fresh, settled, or from the
future: who adopts has decided that.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from p2pdns import log
from p2pdns.clock import unix_now
from p2pdns.config import read_petname
from p2pdns.engine.state.database import Database, Schema, open_database, transaction
from p2pdns.engine.state.protection import Protection
from p2pdns.errors import ConfigError, StrangerError, Unavailable
from p2pdns.items.item import MutableItem
from p2pdns.items.keys import ZoneKey

MARKS_MAX = 65_536  # About 80 MB of file: every zone a busy site asks for in years. The longest unconfirmed go first.
CACHED_MAX = 4_096  # About 6 MB of memory; the rest is read and verified again when it is asked for (0.3 ms).
CONFIRMED_LONG_AGO = 1.0  # Unix time of a confirmation that nobody knows the time of: any look-up is newer.
EVICTED_AT_ONCE = 512  # Looking for the oldest costs a pass over an index; one pass makes room for many.

SCHEMA = Schema(
    version=1,
    statements=(
        """CREATE TABLE marks (
            key BLOB NOT NULL, salt BLOB NOT NULL, seq INTEGER NOT NULL, value BLOB NOT NULL, signature BLOB NOT NULL,
            confirmed_unix REAL NOT NULL, is_own INTEGER NOT NULL, is_pinned INTEGER NOT NULL,
            PRIMARY KEY (key, salt)
        ) STRICT""",
        "CREATE INDEX marks_by_age ON marks (is_own, is_pinned, confirmed_unix)",
        "CREATE TABLE names (name TEXT PRIMARY KEY, key TEXT NOT NULL) STRICT",
    ),
    # A mark that a power cut takes back would let an older item pass for the newest.
    synchronous="FULL",
)

_RAISE = """INSERT INTO marks VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (key, salt) DO UPDATE SET seq = excluded.seq,
    value = excluded.value, signature = excluded.signature, confirmed_unix = excluded.confirmed_unix
    WHERE (excluded.seq, excluded.value) > (marks.seq, marks.value)"""
_CONFIRM = """UPDATE marks SET confirmed_unix = max(confirmed_unix, ?), is_own = max(is_own, ?),
    is_pinned = max(is_pinned, ?) WHERE key = ? AND salt = ?"""
_EVICT = """DELETE FROM marks WHERE (key, salt) IN (SELECT key, salt FROM marks WHERE is_own = 0 AND is_pinned = 0
    ORDER BY confirmed_unix LIMIT ?)"""
_COLUMNS = "key, salt, seq, value, signature, confirmed_unix, is_own, is_pinned"

_Slot = tuple[bytes, bytes]


@dataclass(frozen=True)
class Held:
    """An item this reader holds, when the overlay last confirmed that there is nothing newer, and why it is kept."""

    item: MutableItem
    confirmed_unix: float
    is_own: bool = False
    is_pinned: bool = False


@dataclass(frozen=True)
class _Wish:
    held: Held
    done: asyncio.Future[None]
    # How many marks had gone from memory or disk when there was none for the key; None when there was one.
    absent_since: int | None = None


def _slot_of(item: MutableItem) -> _Slot:
    return item.key.raw, item.salt


class Reader:
    """The marks, the items with them, and the petnames: `reader.sqlite`, or memory."""

    def __init__(self, path: Path | None) -> None:
        self._database: Database = open_database(path, SCHEMA)
        self.warnings: list[str] = list(self._database.warnings)
        self.protection = Protection(None if path is None else path.parent)
        if self._database.is_new:
            self.protection.starts_anew("reader.sqlite was broken")
            self.warnings.append("roll-back protection starts anew: what was the newest item of each key is forgotten")
        self._log = log.get_logger("state")
        self._cached: OrderedDict[_Slot, Held] = OrderedDict()
        self._confirmed: dict[_Slot, float] = {}
        self._gone_count = 0
        self._wishes: list[_Wish] = []
        self._writer: asyncio.Task[None] | None = None
        # SQLite waits for the disk with the interpreter lock released; in a thread that costs the engine nothing.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="reader") if self._database.is_kept else None
        self._count = _count_of(self._database.reading)

    def __len__(self) -> int:
        """Return how many marks there are."""
        return self._count

    def held(self, key: ZoneKey, salt: bytes = b"") -> Held | None:
        """Return the newest item that was ever adopted for the key."""
        slot = (key.raw, salt)
        held = self._cached.get(slot)
        if held is None:
            held = self._read(slot)
        if held is not None:
            self._remember(slot, held)
        return held

    def _read(self, slot: _Slot) -> Held | None:
        query = f"SELECT {_COLUMNS} FROM marks WHERE key = ? AND salt = ?"
        try:
            row = self._database.reading.execute(query, slot).fetchone()
        except sqlite3.Error as error:
            # Without the mark an older item could pass for the newest, so this is no "not held".
            raise Unavailable(
                f"cannot be read: {str(error).lower()}",
                place="reader.sqlite",
                hint="restart: it is checked and rebuilt",
            ) from None
        return None if row is None else self._verified(row)

    def kept_alive(self) -> list[Held]:
        """Return the items that this node publishes or has pinned, in the order of their keys."""
        rows = self._database.reading.execute(
            f"SELECT {_COLUMNS} FROM marks WHERE is_own = 1 OR is_pinned = 1 ORDER BY key, salt"
        ).fetchall()
        return [held for held in map(self._verified, rows) if held is not None]

    def _verified(self, row: Sequence[Any]) -> Held | None:
        # The table is STRICT: SQLite lets no other type into these columns.
        key, salt, seq, value, signature, confirmed_unix, is_own, is_pinned = row
        cached = self._cached.get((key, salt))
        if cached is not None:
            return cached
        try:
            item = MutableItem.verified(key, seq, value, signature, salt)
        except StrangerError as error:
            self._drop_broken((key, salt), str(error))
            return None
        if not 0.0 <= confirmed_unix <= unix_now():
            confirmed_unix = self._mend_time((key, salt), confirmed_unix)
        return Held(item, confirmed_unix, bool(is_own), bool(is_pinned))

    def _mend_time(self, slot: _Slot, confirmed_unix: float) -> float:
        """Replace a time of confirmation that cannot be by one that says nothing, and return it.

        It was forged, or written while the clock was ahead: left in place it would come true one day, or never end.
        """
        mended = CONFIRMED_LONG_AGO if confirmed_unix > 0 else 0.0
        with contextlib.suppress(sqlite3.Error):
            self._database.reading.execute(
                "UPDATE marks SET confirmed_unix = ? WHERE key = ? AND salt = ?", (mended, *slot)
            )
        return mended

    def _drop_broken(self, slot: _Slot, trouble: str) -> None:
        # Left in place, a forged seq would keep every honest item of the key out.
        self._database.reading.execute("DELETE FROM marks WHERE key = ? AND salt = ?", slot)
        self._count -= 1
        self.protection.starts_anew("the row of a key did not verify")
        self._warn(
            f"reader.sqlite: the row of a key does not verify ({trouble}); roll-back protection starts anew for it"
        )

    def _warn(self, text: str) -> None:
        self.warnings.append(text)
        self._log.warning(text)

    def _remember(self, slot: _Slot, held: Held) -> None:
        self._cached[slot] = held
        self._cached.move_to_end(slot)
        if len(self._cached) > CACHED_MAX:
            self._cached.popitem(last=False)
            self._gone_count += 1

    async def adopt(self, item: MutableItem, confirmed_unix: float, *, own: bool = False, pinned: bool = False) -> None:
        """Make the item the mark of its key where it supersedes the one held, and return when that is on the disk.

        An item held already is confirmed, which waits for no disk. Unavailable when the disk refuses.
        """
        held = self.held(item.key, item.salt)
        if held is not None and not item.supersedes(held.item):
            if own <= held.is_own and pinned <= held.is_pinned:
                if not held.item.supersedes(item):
                    self._confirm(_slot_of(item), held, confirmed_unix)
                return
            # The wish is to keep the key alive; the item to keep is the newest one.
            item, confirmed_unix = held.item, max(held.confirmed_unix, confirmed_unix)
        wish = Held(item, confirmed_unix, own, pinned)
        if self._thread is None:
            self._write([wish], {})
            self._adopted(wish, was_absent=held is None)
            return
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._wishes.append(_Wish(wish, done, self._gone_count if held is None else None))
        if self._writer is None or self._writer.done():
            self._writer = asyncio.create_task(self._write_wishes(self._thread))
        await done

    def _confirm(self, slot: _Slot, held: Held, confirmed_unix: float) -> None:
        if confirmed_unix > held.confirmed_unix:
            self._remember(slot, replace(held, confirmed_unix=confirmed_unix))
            self._confirmed[slot] = confirmed_unix

    async def _write_wishes(self, thread: ThreadPoolExecutor) -> None:
        loop = asyncio.get_running_loop()
        while self._wishes:
            # The task starts after everything else of this tick has run, so all its wishes are here.
            wishes, self._wishes = self._wishes, []
            confirmed, self._confirmed = self._confirmed, {}
            try:
                await loop.run_in_executor(thread, self._write, [wish.held for wish in wishes], confirmed)
                for wish in wishes:
                    self._adopted(wish.held, was_absent=wish.absent_since == self._gone_count)
                    if not wish.done.done():
                        wish.done.set_result(None)
            except Exception as error:
                # Whatever it was: a wish without an end is a question without an answer.
                hint = "is the disk full?" if isinstance(error, sqlite3.Error) else None
                trouble = Unavailable(f"cannot be written: {str(error).lower()}", place="reader.sqlite", hint=hint)
                self._log.error(str(trouble), reason=repr(error))
                self._confirmed = {**confirmed, **self._confirmed}
                for wish in wishes:
                    if not wish.done.done():
                        wish.done.set_exception(trouble)

    def _write(self, wishes: Sequence[Held], confirmed: Mapping[_Slot, float]) -> None:
        with transaction(self._database.writing) as connection:
            connection.executemany(_RAISE, [_row(wish) for wish in wishes])
            connection.executemany(_CONFIRM, [_flags(wish) for wish in wishes])
            connection.executemany(_CONFIRM, [(unix, 0, 0, *slot) for slot, unix in confirmed.items()])
            count = _count_of(connection)
            if count > MARKS_MAX:
                count -= connection.execute(_EVICT, (EVICTED_AT_ONCE,)).rowcount
        self._count = count

    def _adopted(self, wish: Held, *, was_absent: bool) -> None:
        slot = _slot_of(wish.item)
        held = self._cached.get(slot)
        if held is None and was_absent:
            # The first mark of its key is what was written; to read and verify it again costs as much as finding it.
            self._remember(slot, wish)
            return
        if held is None:
            # Not in memory any more, or never: what the disk has is the outcome of all wishes.
            self.held(wish.item.key, wish.item.salt)
            return
        newest = wish if wish.item.supersedes(held.item) else held
        is_own, is_pinned = held.is_own or wish.is_own, held.is_pinned or wish.is_pinned
        self._remember(slot, replace(newest, is_own=is_own, is_pinned=is_pinned))

    def forget(self, key: ZoneKey) -> bool:
        """Clear the marks of a key, and with them the wish to keep it alive; return whether there was one."""
        with transaction(self._database.reading) as connection:
            count = connection.execute("DELETE FROM marks WHERE key = ?", (key.raw,)).rowcount
        self._count -= count
        self._gone_count += 1
        for slot in [slot for slot in self._cached if slot[0] == key.raw]:
            del self._cached[slot]
        return count > 0

    def flush(self) -> None:
        """Write the confirmations that waited for the next commit; blocks for one."""
        confirmed, self._confirmed = self._confirmed, {}
        if confirmed:
            self._write([], confirmed)

    def names(self) -> dict[str, str]:
        """Return the petnames: name to text of a zone key."""
        names = {}
        for name, key in self._database.reading.execute("SELECT name, key FROM names ORDER BY name").fetchall():
            try:
                names[read_petname(name)] = str(ZoneKey.read(key))
            except (ConfigError, StrangerError) as error:
                self._warn(f"reader.sqlite: a petname is dropped: {error}")
                self.remove_name(name)
        return names

    def set_names(self, names: Mapping[str, ZoneKey]) -> None:
        """Keep petnames, all or none; older ones of the same names are replaced."""
        rows = [(name, str(key)) for name, key in names.items()]
        with transaction(self._database.reading) as connection:
            connection.executemany("INSERT OR REPLACE INTO names VALUES (?, ?)", rows)

    def remove_name(self, name: str) -> bool:
        """Remove a petname; return whether it was there."""
        return self._database.reading.execute("DELETE FROM names WHERE name = ?", (name,)).rowcount > 0

    def close(self) -> None:
        """Commit what is waiting, and close the file."""
        if self._thread is not None:
            self._thread.shutdown(wait=True)
        with contextlib.suppress(sqlite3.Error):
            if self._wishes or self._confirmed:
                self._write([wish.held for wish in self._wishes], self._confirmed)
        self._wishes.clear()
        self._database.close()


def _count_of(connection: sqlite3.Connection) -> int:
    return int(connection.execute("SELECT count(*) FROM marks").fetchone()[0])


def _row(held: Held) -> tuple[object, ...]:
    item = held.item
    flags = (int(held.is_own), int(held.is_pinned))
    return item.key.raw, item.salt, item.seq, item.value, item.signature, held.confirmed_unix, *flags


def _flags(held: Held) -> tuple[object, ...]:
    # Minus infinity leaves the time alone: what was confirmed is the item of the wish, which may not be the newest.
    return float("-inf"), int(held.is_own), int(held.is_pinned), *_slot_of(held.item)
