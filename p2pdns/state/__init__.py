"""What survives a restart: the state directory with its lock, `reader.sqlite` and `store.sqlite`.

Guarantees: one process a directory; what strangers write to (the store) never shares a file with what protects this
reader (the marks); a file that is broken is set aside and made anew, and `warnings` says so. Does not know when to
save: the engine's timers do. A State without a directory keeps everything in memory, for a short-lived node.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from p2pdns import log
from p2pdns.dht.routing.contact import SavedContact
from p2pdns.dht.stored import StoredChange, StoredRow
from p2pdns.directory import StateDirectory
from p2pdns.errors import Unavailable, words_of
from p2pdns.items.item import MutableItem
from p2pdns.items.keys import ZoneId
from p2pdns.overlay.ports import Held, Mark
from p2pdns.state.marks import Reader
from p2pdns.state.store import SavedNode, Store
from p2pdns.state.tables import Commits

__all__ = ["SavedNode", "State"]


class State:
    """Everything of this node that outlives its process. Made by `open`."""

    def __init__(self, opened: StateDirectory | None, lock: int | None, reader: Reader, store: Store) -> None:
        self.directory = None if opened is None else opened.path
        self._opened = opened
        self._lock = lock
        self._reader = reader
        self._store = store
        self._store_warnings: list[str] = []
        self._saving = asyncio.Lock()

    @classmethod
    def open(cls, directory: Path | StateDirectory | None) -> State:
        """Return the state of a directory, which is made where it is missing; None for one in memory.

        Unavailable when another process runs there, or when the directory cannot be used. `close` closes a directory
        that was opened here as well as one that was handed in.
        """
        if directory is None:
            return cls(None, None, Reader(None), Store(None))
        opened = directory if isinstance(directory, StateDirectory) else StateDirectory.open(directory)
        with contextlib.ExitStack() as undo:
            undo.callback(opened.close)
            lock = opened.lock()
            undo.callback(os.close, lock)
            reader = Reader(opened.path / "reader.sqlite")
            undo.callback(reader.close)
            state = cls(opened, lock, reader, Store(opened.path / "store.sqlite"))
            undo.pop_all()
        logger = log.get_logger("state")
        for text in state.warnings:
            logger.warning(text)
        return state

    @property
    def warnings(self) -> list[str]:
        """What went wrong with the files, in words for `status`."""
        return [*self._reader.warnings, *self._store.warnings, *self._store_warnings]

    @property
    def disk_trouble(self) -> str | None:
        """Why the disk takes no marks at present, in words; None where it does."""
        return self._reader.trouble

    @property
    def roll_back_protection(self) -> str:
        """Return, in words, since when no answer falls below the newest item seen, and for which keys it may."""
        return self._reader.protection.told(self._reader.facts, self._reader.owed_count)

    @property
    def mark_count(self) -> int:
        """Return how many keys have a mark."""
        return len(self._reader)

    @property
    def item_count(self) -> int:
        """Return of how many keys the item is on the disk too."""
        return self._reader.item_count

    @property
    def commits(self) -> Commits:
        """Return what the commits of marks have cost so far."""
        return self._reader.commits

    @property
    def newest_seq(self) -> int | None:
        """Return the highest seq that was adopted by a clock that could be believed; it bounds the time from below."""
        return self._reader.facts.bound_seq

    def mark(self, zone_id: ZoneId, salt: bytes = b"") -> Mark | None:
        """Return the highest seq ever adopted for a key, whether its item is held or not."""
        return self._reader.mark(zone_id, salt)

    def protect(self, zone_ids: Iterable[ZoneId]) -> None:
        """Say which keys' marks never make room for others', beside those that this node keeps alive."""
        self._reader.protect(zone_ids)

    def is_protected(self, zone_id: ZoneId) -> bool:
        """Return whether the mark of a key never makes room for others'."""
        return self._reader.is_protected(zone_id)

    def held(self, zone_id: ZoneId, salt: bytes = b"") -> Held | None:
        """Return the newest item ever adopted for a key."""
        return self._reader.held(zone_id, salt)

    async def adopt(self, item: MutableItem, confirmed_unix: float, *, own: bool = False, pinned: bool = False) -> None:
        """Raise the mark of the item's key to the item, never lower it; return after the commit."""
        await self._reader.adopt(item, confirmed_unix, own=own, pinned=pinned)

    def keep(self, zone_id: ZoneId) -> None:
        """Have the item of a key on the disk soon, and not its mark alone."""
        self._reader.keep(zone_id)

    async def save(self) -> None:
        """Write the items and the confirmations that wait for a commit."""
        await self._reader.save()

    def forget_above(self, seq: int) -> int:
        """Clear every mark above a seq; return how many there were."""
        return self._reader.forget_above(seq)

    def forget(self, zone_id: ZoneId) -> bool:
        """Clear the mark of a key; return whether there was one."""
        return self._reader.forget(zone_id)

    def kept_alive(self) -> list[Held]:
        """Return the items that this node publishes or has pinned."""
        return self._reader.kept_alive()

    def names(self) -> dict[str, str]:
        """Return the petnames that `p2pdns name add` has made: name to zone key."""
        return self._reader.names()

    def set_names(self, names: Mapping[str, ZoneId]) -> None:
        """Keep petnames, all or none."""
        self._reader.set_names(names)

    def remove_name(self, name: str) -> bool:
        """Remove a petname; return whether it was there."""
        return self._reader.remove_name(name)

    def load_store(self) -> list[StoredRow]:
        """Return the items kept for others, to be verified by who loads them."""
        try:
            return self._store.rows()
        except sqlite3.Error as error:
            raise Unavailable(f"cannot be read: {words_of(error)}", place="store.sqlite") from None

    async def save_changes(self, changes: Sequence[StoredChange]) -> None:
        """Write what `Storage.take_changes` returned; the loop runs on meanwhile."""
        if changes:
            await self._save(self._store.save, changes)

    def load_contacts(self, network: str) -> list[SavedContact]:
        """Return the saved contacts of a network, best first."""
        return self._store.contacts(network)

    async def save_contacts(self, network: str, contacts: Iterable[SavedContact]) -> None:
        """Replace the saved contacts of a network; the loop runs on meanwhile."""
        await self._save(self._store.save_contacts, network, list(contacts))

    async def _save(self, save: object, *args: object) -> None:
        assert callable(save)
        async with self._saving:
            try:
                # One connection, so one save at a time; in memory a thread would only cost.
                if self.directory is None:
                    save(*args)
                else:
                    await asyncio.to_thread(save, *args)
            except sqlite3.Error as error:
                text = f"store.sqlite: cannot be written: {words_of(error)}"
                # Others' items are not worth the daemon; the next save tries again, and it is said once.
                if text not in self._store_warnings:
                    self._store_warnings.append(text)
                    log.get_logger("state").warning(text)
            else:
                self._store_warnings.clear()

    def save_now(self, network: str, changes: Sequence[StoredChange], contacts: Iterable[SavedContact]) -> None:
        """Write what is left at the end of a process; the loop stands still meanwhile."""
        with contextlib.suppress(sqlite3.Error):
            self._store.save(changes)
            self._store.save_contacts(network, contacts)

    def load_node(self, network: str) -> SavedNode | None:
        """Return the id and the port that this node had in a network, or None."""
        return self._store.node(network)

    def save_node(self, network: str, node: SavedNode) -> None:
        """Keep the id and the port that this node has in a network."""
        with contextlib.suppress(sqlite3.Error):
            self._store.save_node(network, node)

    def close(self) -> None:
        """Commit what waits, close the files, let the directory go."""
        self._reader.close()
        self._store.close()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None
        if self._opened is not None:
            self._opened.close()
            self._opened = None
