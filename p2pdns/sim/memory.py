"""State that outlives a process, in memory: a stand-in for the database with its rules of marks. A forgetful storage.

Guarantees: a mark never goes back; an item below its key's mark is not held. Does not know disks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from p2pdns.addresses import Address
from p2pdns.dht import krpc
from p2pdns.dht.storage import Storage
from p2pdns.dht.stored import Holding, Selected, StoredItem
from p2pdns.dht.stored import Kept as KeptItem
from p2pdns.items.item import MutableItem
from p2pdns.items.keys import ZoneId
from p2pdns.items.succession import Commitment, Succession
from p2pdns.overlay.parts import zone_id_of
from p2pdns.overlay.ports import Held, KeptCommitment, Mark
from p2pdns.publishing.cycle import FORGET_S, KeptCycle


class MemoryCommitments:
    """The commitments that one machine keeps: `CommitmentState` of the overlay."""

    def __init__(self, kept: Mapping[ZoneId, KeptCommitment] | None = None) -> None:
        self.all = dict(kept or {})

    def kept(self, zone_id: ZoneId) -> KeptCommitment | None:
        """Return the commitment that is kept of a key."""
        return self.all.get(zone_id)

    async def keep(self, zone_id: ZoneId, commitment: Commitment) -> None:
        """Keep the first commitment of a key."""
        self.all.setdefault(zone_id, KeptCommitment(commitment))

    async def succeed(self, zone_id: ZoneId, succession: Succession) -> None:
        """Keep the next key of a key."""
        kept = self.all[zone_id]
        if kept.next_key is None:
            self.all[zone_id] = replace(kept, next_key=succession.next_key)


class MemoryState:
    """The state of one machine: `ReaderState` of the overlay, and `OwnState` and `CycleMemory` of publishing."""

    def __init__(self, marks: dict[ZoneId, Held] | None = None) -> None:
        self.marks = {} if marks is None else marks
        self.cycles: dict[bytes, KeptCycle] = {}
        self.commitments = MemoryCommitments()

    @property
    def newest_seq(self) -> int | None:
        """Return the highest seq of all."""
        return max((held.item.seq for held in self.marks.values()), default=None)

    def mark(self, zone_id: ZoneId, salt: bytes = b"") -> Mark | None:
        """Return the highest seq of a zone."""
        held = self.marks.get(zone_id)
        return None if held is None else Mark(held.item.seq)

    def is_protected(self, zone_id: ZoneId) -> bool:
        """Return whether the zone is this machine's own."""
        held = self.marks.get(zone_id)
        return held is not None and held.is_own

    def keep(self, zone_id: ZoneId) -> None:
        """Do nothing: every item is kept."""

    def held(self, zone_id: ZoneId, salt: bytes = b"") -> Held | None:
        """Return the newest item of a zone."""
        return self.marks.get(zone_id)

    def kept_alive(self) -> list[Held]:
        """Return own and pinned items."""
        return [held for held in self.marks.values() if held.is_own or held.is_pinned]

    async def adopt(self, item: MutableItem, confirmed_unix: float, *, own: bool = False, pinned: bool = False) -> None:
        """Raise the mark of the item's zone to the item."""
        zone_id = zone_id_of(item)
        before = self.marks.get(zone_id)
        if before is None:
            self.marks[zone_id] = Held(item, confirmed_unix, own, pinned)
            return
        newest = before.item if before.item.supersedes(item) else item
        confirmed = confirmed_unix if newest == item else before.confirmed_unix
        is_own, is_pinned = own or before.is_own, pinned or before.is_pinned
        self.marks[zone_id] = replace(before, item=newest, confirmed_unix=confirmed, is_own=is_own, is_pinned=is_pinned)

    def release(self, zone_id: ZoneId) -> None:
        """Keep a zone alive no longer."""
        held = self.marks.get(zone_id)
        if held is not None:
            self.marks[zone_id] = replace(held, is_own=False, is_pinned=False)

    def load_cycle(self, target: bytes) -> KeptCycle | None:
        """Return what was kept of the cycle of an item."""
        return self.cycles.get(target)

    async def save_cycle(self, target: bytes, kept: KeptCycle) -> None:
        """Keep this of the cycle of an item."""
        self.cycles[target] = kept

    def drop_cycle(self, target: bytes) -> None:
        """Keep nothing of a cycle any more."""
        self.cycles.pop(target, None)


class ForgetfulStorage(Storage):
    """The storage of a foreign node: it drops an item two hours after its last put, and a restart loses all."""

    def __init__(self) -> None:
        super().__init__()
        self._put_at: dict[bytes, float] = {}

    def _has_forgotten(self, target: bytes, now: float) -> bool:
        return now - self._put_at.get(target, float("-inf")) > FORGET_S

    def put(self, request: krpc.Put, address: Address, now: float, *, has_token: bool) -> KeptItem:
        """Keep an item, and note when."""
        kept = super().put(request, address, now, has_token=has_token)
        self._put_at[request.target] = now
        return kept

    def select(self, target: bytes, known_seq: int | None, address: Address, now: float) -> Selected | None:
        """Return what a get is answered with; nothing once the item is forgotten."""
        return None if self._has_forgotten(target, now) else super().select(target, known_seq, address, now)

    def held(self, target: bytes, now: float) -> StoredItem | None:
        """Return an item; None once it is forgotten."""
        return None if self._has_forgotten(target, now) else super().held(target, now)

    def holdings(self, now: float) -> Iterator[Holding]:
        """Yield what is not forgotten."""
        return (one for one in super().holdings(now) if not self._has_forgotten(one.stored.target, now))
