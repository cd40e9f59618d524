"""The commitments to next keys that this reader has seen first, and the next keys that were revealed to it.

Guarantees: the first commitment of a key stays until `forget`; when `keep` or `succeed` has returned, what they keep
survives a crash; there are `COMMITMENTS_MAX` at most, and no protected one is evicted. Does not know whether an item is
settled, nor which value may be believed: the callers do.
"""

from __future__ import annotations

import contextlib
import hashlib
import sqlite3
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from dataclasses import replace
from typing import NamedTuple

from p2pdns.clock import unix_now
from p2pdns.errors import BadItem, Unavailable
from p2pdns.items.keys import ZoneId, ZoneKey
from p2pdns.items.succession import HOPS_MAX, Commitment, Succession
from p2pdns.overlay.parts import zone_id_for
from p2pdns.overlay.ports import KeptCommitment
from p2pdns.state import tables
from p2pdns.state.database import unreadable

COMMITMENTS_MAX = 262_144  # 140 bytes each and the tree round them: 45 MB of file.
WAITING_MAX = 4_096  # Held in memory while the disk takes nothing; about 2 MB. Beyond that none is kept.


class CommitmentRow(NamedTuple):
    """A row of the table: the hash of a key, its commitment, the next key if it is known, and when it was first seen.

    The time is for the person who examines the file.
    """

    mark: bytes
    commitment: bytes
    next_raw: bytes | None
    seen_unix: float


class CommitmentTable:
    """The commitments that are kept; `CommitmentState` of the overlay. `commit` has all that waits written."""

    def __init__(
        self,
        reading: sqlite3.Connection,
        commit: Callable[[], Awaitable[None]],
        *,
        on_succeeded: Callable[[ZoneId, ZoneId], None],
        warn: Callable[[str], None],
    ) -> None:
        self._reading = reading
        self._commit = commit
        self._on_succeeded = on_succeeded
        self._warn = warn
        # In force at once, and on the disk with the next commit that it takes.
        self._waiting: dict[bytes, CommitmentRow] = {}

    def kept(self, zone_id: ZoneId) -> KeptCommitment | None:
        """Return the commitment that is kept of a key, and the next key where it is known."""
        mark = tables.mark_of(zone_id.raw)
        row = self._waiting.get(mark) or self._on_disk(mark)
        return None if row is None else self._verified(row)

    def chain(self, zone_id: ZoneId) -> tuple[ZoneId, ...]:
        """Return a zone and those that have followed it, as far as they are known."""
        found = [zone_id]
        while len(found) < HOPS_MAX:
            kept = self.kept(found[-1])
            if kept is None or kept.next_key is None or (following := zone_id_for(kept.next_key)) in found:
                break
            found.append(following)
        return tuple(found)

    @property
    def succeeded_count(self) -> int:
        """How many keys have a next one that is known."""
        query = "SELECT count(*) FROM successions WHERE next IS NOT NULL"
        return int(self._reading.execute(query).fetchone()[0])

    async def keep(self, zone_id: ZoneId, commitment: Commitment) -> None:
        """Keep the first commitment of a key; return once it is on the disk. Unavailable when the disk refuses it."""
        if self.kept(zone_id) is None:
            row = CommitmentRow(tables.mark_of(zone_id.raw), commitment.rdata, None, unix_now())
            self._wait(row)
            await self._written(row)

    async def succeed(self, zone_id: ZoneId, succession: Succession) -> None:
        """Keep the next key of a key; return once it is on the disk. Unavailable when the disk refuses it."""
        mark = tables.mark_of(zone_id.raw)
        row = self._waiting.get(mark) or self._on_disk(mark)
        if row is None or row.next_raw is not None:
            return
        row = row._replace(next_raw=succession.next_key.raw)
        self._wait(row)
        # It is in force from here on, whatever the disk says.
        self._on_succeeded(zone_id, zone_id_for(succession.next_key))
        await self._written(row)

    def _wait(self, row: CommitmentRow) -> None:
        if len(self._waiting) >= WAITING_MAX and row.mark not in self._waiting:
            raise Unavailable(f"{WAITING_MAX} commitments wait for the disk already", place="reader.sqlite")
        self._waiting[row.mark] = row

    async def _written(self, row: CommitmentRow) -> None:
        await self._commit()
        if self._waiting.get(row.mark) == row:
            raise Unavailable("a commitment to a next key cannot be written", place="reader.sqlite")

    def waiting(self) -> list[CommitmentRow]:
        """Return the rows that are due to be written."""
        return list(self._waiting.values())

    def written(self, rows: Sequence[CommitmentRow]) -> None:
        """Take note that rows are on the disk."""
        for row in rows:
            if self._waiting.get(row.mark) == row:
                del self._waiting[row.mark]

    def forget(self, connection: sqlite3.Connection, zone_id: ZoneId) -> bool:
        """Drop the commitment of a key, because a person wants it; return whether there was one."""
        mark = tables.mark_of(zone_id.raw)
        was_waiting = self._waiting.pop(mark, None) is not None
        count = connection.execute("DELETE FROM successions WHERE mark = ?", (mark,)).rowcount
        if count:
            facts = tables.read_facts(connection)
            tables.write_facts(connection, replace(facts, commitment_count=max(0, facts.commitment_count - count)))
        return was_waiting or count > 0

    def _on_disk(self, mark: bytes) -> CommitmentRow | None:
        try:
            query = "SELECT mark, commitment, next, seen_unix FROM successions WHERE mark = ?"
            row = self._reading.execute(query, (mark,)).fetchone()
        except sqlite3.Error as error:
            # This is not the same as "none is kept": an odd item would be adopted.
            raise unreadable(error, "reader.sqlite") from None
        return None if row is None else CommitmentRow(*row)

    def _verified(self, row: CommitmentRow) -> KeptCommitment | None:
        try:
            commitment = Commitment.verified(row.commitment)
        except BadItem as error:
            # If the disk refuses, the row is dropped the next time that it is read.
            with contextlib.suppress(sqlite3.Error):
                self._reading.execute("DELETE FROM successions WHERE mark = ?", (row.mark,))
            self._warn(f"reader.sqlite: a commitment to a next key does not verify ({error}) and is dropped")
            return None
        if row.next_raw is None or hashlib.sha256(row.next_raw).digest() != commitment.next_digest:
            return KeptCommitment(commitment)
        try:
            return KeptCommitment(commitment, ZoneKey.verified(row.next_raw))
        except BadItem:
            return KeptCommitment(commitment)


def followers(connection: sqlite3.Connection, marks: Iterable[bytes], rows: Sequence[CommitmentRow] = ()) -> set[bytes]:
    """Return the marks of the keys that have followed those of some marks; `rows` are about to be written."""
    waiting = {row.mark: row.next_raw for row in rows}
    found, edge = set[bytes](), set(marks)
    for _ in range(HOPS_MAX - 1):
        following = {mark: waiting.get(mark) or _next_on_disk(connection, mark) for mark in sorted(edge)}
        edge = {tables.mark_of_slot(raw, b"") for raw in following.values() if raw is not None} - found
        found |= edge
    return found


def _next_on_disk(connection: sqlite3.Connection, mark: bytes) -> bytes | None:
    row = connection.execute("SELECT next FROM successions WHERE mark = ?", (mark,)).fetchone()
    return None if row is None else row[0]


def write_rows(connection: sqlite3.Connection, rows: Sequence[CommitmentRow], protected: Collection[bytes]) -> None:
    """Write rows, and make room where there are too many; a commitment that is there already stays."""
    if not rows:
        return
    new_count = connection.executemany(
        "INSERT OR IGNORE INTO successions VALUES (?, ?, NULL, ?)",
        [(row.mark, row.commitment, row.seen_unix) for row in rows],
    ).rowcount
    connection.executemany(
        "UPDATE successions SET next = ?2 WHERE mark = ?1 AND next IS NULL AND commitment = ?3",
        [(row.mark, row.next_raw, row.commitment) for row in rows if row.next_raw is not None],
    )
    before = facts = tables.read_facts(connection)
    facts = replace(facts, commitment_count=facts.commitment_count + new_count)
    if facts.commitment_count > COMMITMENTS_MAX:
        gone = tables.evict(connection, "successions", {*protected, *(row.mark for row in rows)})
        facts = replace(
            facts,
            commitment_count=facts.commitment_count - gone,
            commitments_evicted_count=facts.commitments_evicted_count + gone,
            commitments_evicted_unix=int(unix_now()) if gone else facts.commitments_evicted_unix,
        )
    if facts != before:
        tables.write_facts(connection, facts)
