"""The memory of this reader: the highest seq of each zone key (its mark), and the items of the zones in use.

Guarantees: when `adopt` has returned, the mark survives a crash of the machine; a mark never goes down, whatever the
order of adoption; an item from the disk is verified again before it is returned. Commits that are asked for while
another is under way share the next one, those of `commitments` too. The first item of a key waits in memory until
`keep` or the next `save`; its mark does not wait. Does not know whether an item is fresh, settled, or from the future:
the caller of `adopt` does.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from p2pdns import log
from p2pdns.clock import boot_now, unix_now
from p2pdns.errors import StrangerError, Unavailable, words_of
from p2pdns.items.item import MutableItem, Present
from p2pdns.items.keys import ZoneId
from p2pdns.overlay.ports import Held, Mark
from p2pdns.state import successions, tables
from p2pdns.state.database import Database, open_database, transaction, unreadable
from p2pdns.state.names import Petnames
from p2pdns.state.protection import Protection
from p2pdns.state.revealed import RevealedKeys
from p2pdns.state.successions import CommitmentRow, CommitmentTable, write_rows
from p2pdns.state.tables import Change, Sighting, Slot

ITEMS_MAX = 65_536  # About 80 MB of file: every zone a busy site uses. The longest unconfirmed go; their marks stay.
CACHED_MAX = 4_096  # About 6 MB of memory; the rest is read and verified again when it is asked for (0.3 ms).
PENDING_MAX = 4_096  # Items in memory alone, their marks being on the disk; about 6 MB. The oldest go first.
OWED_MAX = 65_536  # Marks that the disk has refused, held in memory until it takes them; about 8 MB.
CONFIRMED_LONG_AGO = 1.0  # Unix time of a confirmation at an unknown time: any look-up is newer.


@dataclass(frozen=True)
class _Wish:
    change: Change
    done: asyncio.Future[None]
    # `_gone_count` at the time of the wish, where no item of the key was held; None where one was.
    absent_since: int | None
    # `_forgotten_count` at the time of the wish.
    forgotten_before: int


class Reader:
    """The marks, the items with them, and the petnames: `reader.sqlite`, or memory."""

    def __init__(self, path: Path | None) -> None:
        loss = None if path is None else tables.loss_of(path)
        self._database: Database = open_database(path, tables.SCHEMA)
        self.warnings: list[str] = list(self._database.warnings)
        self._protection = Protection(None if path is None else path.parent)
        self.names = Petnames(self._database.reading, self._warn)
        if self._database.is_new:
            loss = "reader.sqlite was broken"
        elif loss is not None:
            self.warnings.append(loss)
        if loss is not None:
            self._protection.starts_anew(loss)
            self.warnings.append("roll-back protection starts anew: what was the newest item of each key is forgotten")
        self._log = log.get_logger("state")
        self._cached: OrderedDict[Slot, Held] = OrderedDict()
        self._confirmed: dict[Slot, float] = {}
        self._pending: OrderedDict[Slot, Held] = OrderedDict()
        self._owed: OrderedDict[bytes, Sighting] = OrderedDict()
        self._protected: frozenset[bytes] = frozenset()
        self._gone_count = 0
        self._forgotten_count = 0
        # Why the disk takes no marks at present, in words; None where it does.
        self.trouble: str | None = None
        self._wishes: list[_Wish] = []
        self._writer: asyncio.Task[None] | None = None
        # SQLite waits for the disk with the interpreter lock released; in a thread that costs the engine nothing.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="reader") if self._database.is_kept else None
        # Marks that a disk should hold and cannot are owed to it; a reader without a path owes nothing.
        self._owes = path is not None and not self._database.is_kept
        self.item_count = tables.count_of(self._database.reading)
        self.facts = tables.read_facts(self._database.reading)
        self.commits = tables.Commits()
        self.revealed = RevealedKeys(self._database.reading, self._warn)
        self.commitments = CommitmentTable(
            self._database.reading, self._commit, on_succeeded=self._protect_next, warn=self._warn
        )
        self._protection.begin(self.facts)

    @property
    def mark_count(self) -> int:
        return self.facts.seen_count

    @property
    def newest_seq(self) -> int | None:
        """The highest seq that was adopted by a clock that could be believed; it bounds the time from below."""
        return self.facts.newest_seq or None

    @property
    def roll_back_protection(self) -> str:
        """In words: since when no answer falls below the newest item seen, and for which keys it may."""
        return self._protection.told(self.facts, len(self._owed))

    def protect(self, zone_ids: Iterable[ZoneId]) -> None:
        """Say which keys' marks and items never make room for others', beside those that this node keeps alive."""
        named = [following for zone_id in zone_ids for following in self.commitments.chain(zone_id)]
        kept_alive = tables.marks_kept_alive(self._database.reading)
        self._protected = frozenset(tables.mark_of(zone_id.raw) for zone_id in named)
        self._protected |= successions.followers(self._database.reading, kept_alive)

    def _protect_next(self, zone_id: ZoneId, following: ZoneId) -> None:
        held = self.held(zone_id)
        if self.is_protected(zone_id) or (held is not None and (held.is_own or held.is_pinned)):
            self._protected |= {tables.mark_of(each.raw) for each in self.commitments.chain(following)}

    def is_protected(self, zone_id: ZoneId) -> bool:
        """Return whether the marks of a key never make room for others'."""
        return tables.mark_of(zone_id.raw) in self._protected

    def mark(self, zone_id: ZoneId, salt: bytes = b"") -> Mark | None:
        """Return the highest seq of the key that was ever adopted, whether its item is held or not."""
        return self._mark(tables.mark_of(zone_id.raw, salt))

    def _mark(self, mark: bytes) -> Mark | None:
        owed = self._owed.get(mark)
        on_disk = self._seq_on_disk(mark)
        if owed is not None and (on_disk is None or on_disk <= owed.seq):
            return Mark(owed.seq, is_on_disk=False)
        return None if on_disk is None else Mark(on_disk)

    def _seq_on_disk(self, mark: bytes) -> int | None:
        try:
            return tables.seq_of(self._database.reading, mark)
        except sqlite3.Error as error:
            raise unreadable(error, "reader.sqlite") from None

    def held(self, zone_id: ZoneId, salt: bytes = b"") -> Held | None:
        """Return the newest item that was ever adopted for the key; None where only its mark is known."""
        return self._held(tables.slot_for(zone_id, salt))

    def _held(self, slot: Slot) -> Held | None:
        held = self._cached.get(slot) or self._pending.get(slot)
        if held is None:
            query = f"SELECT {tables.COLUMNS} FROM marks WHERE key = ? AND salt = ?"
            try:
                row = self._database.reading.execute(query, slot).fetchone()
            except sqlite3.Error as error:
                # This is not the same as "not held": without the mark an older item could pass for the newest.
                raise unreadable(error, "reader.sqlite") from None
            held = None if row is None else self._verified(row)
            mark = None if held is None else self._mark(tables.mark_of_slot(*slot))
            if held is not None and mark is not None and held.item.seq < mark.seq:
                # A newer item than the one on the disk was shown.
                return None
        if held is not None:
            self._remember(slot, held)
        return held

    def kept_alive(self) -> list[Held]:
        """Return the items that this node publishes or has pinned, in the order of their keys."""
        rows = self._database.reading.execute(
            f"SELECT {tables.COLUMNS} FROM marks WHERE is_own = 1 OR is_pinned = 1 ORDER BY key, salt"
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

    def _mend_time(self, slot: Slot, confirmed_unix: float) -> float:
        """Replace an impossible time of confirmation by one that says nothing, and return that.

        It was forged, or written while the clock was ahead. Left in place, the item would count as confirmed one day.
        """
        mended = CONFIRMED_LONG_AGO if confirmed_unix > 0 else 0.0
        with contextlib.suppress(sqlite3.Error):
            self._database.reading.execute(
                "UPDATE marks SET confirmed_unix = ? WHERE key = ? AND salt = ?", (mended, *slot)
            )
        return mended

    def _drop_broken(self, slot: Slot, trouble: str) -> None:
        # Left in place, a forged seq would keep every honest item of the key out.
        self._database.reading.execute("DELETE FROM marks WHERE key = ? AND salt = ?", slot)
        self.item_count -= 1
        text = f"reader.sqlite: the row of a key does not verify ({trouble})"
        if self._seq_on_disk(tables.mark_of_slot(*slot)) is None:
            self._protection.starts_anew("the row of a key did not verify")
            self._warn(f"{text}; roll-back protection starts anew for it")
        else:
            self._warn(f"{text}; its mark stays, and what was kept alive under it is to be published or pinned again")

    def _warn(self, text: str) -> None:
        self.warnings.append(text)
        self._log.warning(text)

    def _remember(self, slot: Slot, held: Held) -> None:
        self._cached[slot] = held
        self._cached.move_to_end(slot)
        if len(self._cached) > CACHED_MAX:
            self._cached.popitem(last=False)
            self._gone_count += 1

    async def adopt(self, item: MutableItem, confirmed_unix: float, *, own: bool = False, pinned: bool = False) -> None:
        """Raise the mark of the item's key to the item, never lower it; return when the mark is on the disk.

        An item that is held already is only confirmed, which waits for no disk. Unavailable when the disk refuses.
        """
        slot = tables.slot_of(item)
        mark = tables.mark_of_slot(*slot)
        held = self._held(slot)
        if held is not None and not item.supersedes(held.item):
            if own <= held.is_own and pinned <= held.is_pinned:
                if not held.item.supersedes(item):
                    self._confirm(slot, held, confirmed_unix)
                return
            # The wish is to keep the key alive; the item to keep is the newest one.
            item, confirmed_unix = held.item, max(held.confirmed_unix, confirmed_unix)
        on_disk = self._seq_on_disk(mark)
        if held is None and on_disk is not None and item.seq < on_disk:
            return
        wish = Held(item, confirmed_unix, own, pinned)
        # The successor of an item on the disk goes to the disk too. In memory nothing is gained by keeping less.
        is_whole = own or pinned or self._thread is None or (held is not None and slot not in self._pending)
        if not is_whole and on_disk == item.seq:
            self._adopted_in_memory(slot, wish)
            return
        await self._wish(wish, is_whole=is_whole, is_absent=held is None)

    def keep(self, zone_id: ZoneId, salt: bytes = b"") -> None:
        """Write the item of a key, and not its mark alone, with the next commit; do not wait for that."""
        held = self._pending.get(tables.slot_for(zone_id, salt))
        if held is not None:
            self._wish(held, is_whole=True, is_absent=False)

    async def save(self) -> None:
        """Write everything that waits in memory: items, and times of confirmation."""
        if self._thread is None:
            self._write([], self._confirmed, [])
            self._confirmed = {}
            return
        for held in list(self._pending.values()):
            self._wish(held, is_whole=True, is_absent=False)
        if self._wishes or self._confirmed or self._owed or self.commitments.waiting():
            self._start_writer(self._thread)
        if self._writer is not None:
            await asyncio.wait({self._writer})

    async def _commit(self) -> None:
        """Write the commitments that wait, with all else that does; return once the disk has taken or refused them."""
        if self._thread is None:
            rows = self.commitments.waiting()
            self._write([], {}, [], rows)
            self.commitments.written(rows)
            self.facts = tables.read_facts(self._database.reading)
            return
        self._start_writer(self._thread)
        if self._writer is not None:
            await asyncio.wait({self._writer})

    def _wish(self, held: Held, *, is_whole: bool, is_absent: bool) -> asyncio.Future[None]:
        """Put a wish on the list of the next commit, and return a future of its end."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        # The exception of a wish without a waiter is retrieved, so that asyncio does not log it; our log has it.
        done.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
        absent_since = self._gone_count if is_absent else None
        wish = _Wish(self._change(held, is_whole), done, absent_since, self._forgotten_count)
        if self._thread is None:
            self._write([wish.change], {}, [])
            self._done([wish], [])
            if self._owes:
                self._owe(wish.change.sighting)
        else:
            self._wishes.append(wish)
            self._start_writer(self._thread)
        return done

    def _change(self, held: Held, is_whole: bool) -> Change:
        mark = tables.mark_of_slot(*tables.slot_of(held.item))
        return Change.of(held, mark, Present(unix_now(), self.newest_seq), is_whole=is_whole)

    def _start_writer(self, thread: ThreadPoolExecutor) -> None:
        if self._writer is None or self._writer.done():
            self._writer = asyncio.create_task(self._write_wishes(thread))

    def _confirm(self, slot: Slot, held: Held, confirmed_unix: float) -> None:
        if confirmed_unix <= held.confirmed_unix:
            return
        confirmed = replace(held, confirmed_unix=confirmed_unix)
        self._remember(slot, confirmed)
        if slot in self._pending:
            self._pending[slot] = confirmed
        else:
            self._confirmed[slot] = confirmed_unix

    async def _write_wishes(self, thread: ThreadPoolExecutor) -> None:
        loop = asyncio.get_running_loop()
        while True:
            # The task starts after everything else of this tick has run, so all its wishes are here.
            wishes, self._wishes = self._wishes, []
            confirmed, self._confirmed = self._confirmed, {}
            owed, rows = list(self._owed.values()), self.commitments.waiting()
            changes = [wish.change for wish in wishes]
            try:
                await loop.run_in_executor(thread, self._write, changes, confirmed, owed, rows)
                self.commitments.written(rows)
                self._done(wishes, owed)
                if not (self._wishes or self.commitments.waiting()):
                    return
            except Exception as error:
                # Every kind of error ends the wishes: a wish without an end is a question without an answer.
                self._refused(wishes, confirmed, error)
                return

    def _done(self, wishes: Sequence[_Wish], owed: Sequence[Sighting]) -> None:
        """Take note that a commit is on the disk."""
        self.facts = tables.read_facts(self._database.reading)
        for sighting in owed:
            if self._owed.get(sighting.mark) == sighting:
                del self._owed[sighting.mark]
        if self.trouble is not None:
            self.trouble = None
            self._log.info("reader.sqlite can be written again")
        for wish in wishes:
            self._adopted(wish)
            if not wish.done.done():
                wish.done.set_result(None)
        self._protection.tell_evicted(self.facts, self._log.warning)

    def _refused(self, wishes: Sequence[_Wish], confirmed: Mapping[Slot, float], error: Exception) -> None:
        """Take note that the disk has refused a commit: its marks hold for this process alone."""
        hint = "is the disk full?" if isinstance(error, sqlite3.Error) else None
        trouble = Unavailable(f"cannot be written: {words_of(error)}", place="reader.sqlite", hint=hint)
        if self.trouble != str(trouble):
            # A full disk refuses every question's commit; that is said once.
            self.trouble = str(trouble)
            self._log.error(str(trouble), reason=repr(error))
        self._confirmed = {**confirmed, **self._confirmed}
        # The wishes that came meanwhile would meet the same disk.
        everybody, self._wishes = [*wishes, *self._wishes], []
        for wish in everybody:
            if wish.forgotten_before == self._forgotten_count and not self._is_on_disk(wish.change.sighting):
                self._owe(wish.change.sighting)
            if not wish.done.done():
                wish.done.set_exception(trouble)

    def _is_on_disk(self, sighting: Sighting) -> bool:
        with contextlib.suppress(Unavailable):
            seq = self._seq_on_disk(sighting.mark)
            return seq is not None and seq >= sighting.seq
        return False

    def _owe(self, sighting: Sighting) -> None:
        before = self._owed.get(sighting.mark)
        if before is None or before.seq < sighting.seq:
            self._owed[sighting.mark] = sighting
        if len(self._owed) > OWED_MAX:
            self._owed.popitem(last=False)

    def _write(
        self,
        changes: Sequence[Change],
        confirmed: Mapping[Slot, float],
        owed: Sequence[Sighting],
        rows: Sequence[CommitmentRow] = (),
    ) -> None:
        began = boot_now()
        whole = [change.held for change in changes if change.is_whole]
        sightings = [*owed, *(change.sighting for change in changes)]
        with transaction(self._database.writing) as connection:
            protected = {*self._protected}
            is_full = self.facts.seen_count + len(sightings) > tables.SEEN_MAX
            if is_full or self.facts.commitment_count + len(rows) > successions.COMMITMENTS_MAX:
                protected |= tables.marks_kept_alive(connection)
                protected |= successions.followers(connection, protected, rows)
            tables.raise_marks(connection, sightings, protected, unix_now())
            write_rows(connection, rows, protected)
            connection.executemany(tables.RAISE, [tables.row_of(held) for held in whole])
            connection.executemany(tables.CONFIRM, [tables.flags_of(held) for held in whole])
            connection.executemany(tables.CONFIRM, [(unix, 0, 0, *slot) for slot, unix in confirmed.items()])
            item_count = tables.count_of(connection) if whole else self.item_count
            if item_count > ITEMS_MAX:
                item_count -= tables.evict_items(connection, self._protected)
        self.item_count = item_count
        before, seconds = self.commits, boot_now() - began
        self.commits = tables.Commits(before.count + 1, before.seconds + seconds, before.mark_count + len(sightings))

    def _adopted(self, wish: _Wish) -> None:
        held = wish.change.held
        slot = tables.slot_of(held.item)
        if not wish.change.is_whole:
            if wish.forgotten_before == self._forgotten_count:
                self._adopted_in_memory(slot, held)
            return
        pending = self._pending.get(slot)
        if pending is not None and not pending.item.supersedes(held.item):
            del self._pending[slot]
        cached = self._cached.get(slot)
        if cached is None and wish.absent_since == self._gone_count:
            # No other item of the key came between. Reading it back would verify its signature once more.
            self._remember(slot, held)
            return
        if cached is None:
            # The key's item is not in memory: the disk has the outcome of all wishes.
            self._held(slot)
            return
        newest = held if held.item.supersedes(cached.item) else cached
        is_own, is_pinned = cached.is_own or held.is_own, cached.is_pinned or held.is_pinned
        self._remember(slot, replace(newest, is_own=is_own, is_pinned=is_pinned))

    def _adopted_in_memory(self, slot: Slot, held: Held) -> None:
        """Hold an item in memory until it is on the disk, where its mark is already."""
        for other in (self._pending.get(slot), self._cached.get(slot)):
            if other is not None and not held.item.supersedes(other.item):
                return
        self._pending[slot] = held
        self._remember(slot, held)
        if len(self._pending) > PENDING_MAX:
            self._pending.popitem(last=False)

    def release(self, zone_id: ZoneId) -> None:
        """Keep a key's items alive no longer; its mark stays, so that no older item can take their place."""
        raw, _ = tables.slot_for(zone_id)
        try:
            with transaction(self._database.reading) as connection:
                connection.execute(tables.RELEASE, (raw,))
        except sqlite3.Error as error:
            raise Unavailable(f"cannot be written: {words_of(error)}", place="reader.sqlite") from None
        for table in (self._cached, self._pending):
            for slot in [slot for slot in table if slot[0] == raw]:
                table[slot] = replace(table[slot], is_own=False, is_pinned=False)

    def forget(self, zone_id: ZoneId) -> bool:
        """Clear the marks of a key, its commitment, and the wish to keep it alive; return whether there was any."""
        raw, _ = tables.slot_for(zone_id)
        with transaction(self._database.reading) as connection:
            salts = connection.execute("DELETE FROM marks WHERE key = ? RETURNING salt", (raw,)).fetchall()
            known = {b"", *(salt for (salt,) in salts), *(salt for other, salt in self._pending if other == raw)}
            marks = [tables.mark_of(zone_id.raw, salt) for salt in sorted(known)]
            count = tables.forget(connection, marks, unix_now())
            had_commitment = self.commitments.forget(connection, zone_id)
        for mark in marks:
            count += self._owed.pop(mark, None) is not None
        self.item_count -= len(salts)
        self._forget_in_memory(lambda slot, held: slot[0] == raw)
        if count:
            self._log.warning("a mark was cleared with forget: an older item may pass for the newest", key=str(zone_id))
        if had_commitment:
            self._log.warning("a commitment was cleared with forget: a thief of the key is followed", key=str(zone_id))
        return count > 0 or had_commitment

    def forget_above(self, seq: int) -> int:
        """Clear every mark above a seq, and the items with them; return how many marks there were."""
        with transaction(self._database.reading) as connection:
            self.item_count -= connection.execute("DELETE FROM marks WHERE seq > ?", (seq,)).rowcount
            count = tables.forget_above(connection, seq, unix_now())
        for sighting in [sighting for sighting in self._owed.values() if sighting.seq > seq]:
            del self._owed[sighting.mark]
            count += 1
        self._forget_in_memory(lambda slot, held: held.item.seq > seq)
        self._log.warning("marks ahead of the clock were cleared with forget", count=count)
        return count

    def _forget_in_memory(self, is_gone: Callable[[Slot, Held], bool]) -> None:
        self._gone_count += 1
        self._forgotten_count += 1
        for table in (self._cached, self._pending):
            for slot in [slot for slot, held in table.items() if is_gone(slot, held)]:
                del table[slot]
        self.facts = tables.read_facts(self._database.reading)

    def close(self) -> None:
        """Commit everything that waits, and close the file."""
        if self._thread is not None:
            self._thread.shutdown(wait=True)
        with contextlib.suppress(sqlite3.Error):
            changes = [wish.change for wish in self._wishes]
            changes += [self._change(held, is_whole=True) for held in self._pending.values()]
            rows = self.commitments.waiting()
            if changes or rows or self._confirmed or self._owed:
                self._write(changes, self._confirmed, list(self._owed.values()), rows)
        self._wishes.clear()
        self._database.close()
