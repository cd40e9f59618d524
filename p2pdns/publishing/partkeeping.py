"""The items with a salt that this node keeps alive: what the heads of its own and its pinned zones pin.

Guarantees: an item is on the disk before it is put; each has a cycle like that of a head (`cycle`), at a time of its
own; what a head no longer pins, or not yet, is kept alive for two hours; what a head pins and this node does not have
is looked for. Does not know how a head is kept alive (`upkeep`), nor who signs.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from p2pdns.dht.node.values import PutOutcome, Wanted
from p2pdns.errors import BadItem, Unavailable
from p2pdns.items.dividing import ITEMS_MAX as ZONE_ITEMS_MAX
from p2pdns.items.dividing import Division, gathered
from p2pdns.items.item import SEQ_PER_SECOND, MutableItem
from p2pdns.items.keys import ZoneId
from p2pdns.items.shards.pinned import Pinned, pin_of
from p2pdns.overlay.parts import key_of, zone_id_of
from p2pdns.overlay.ports import Gets, Keeps, Tell
from p2pdns.publishing.cycle import LookEnd, Task
from p2pdns.publishing.cycles import Cycles
from p2pdns.publishing.divided import Placed
from p2pdns.publishing.editions import is_head
from p2pdns.publishing.pacing import Pacer
from p2pdns.publishing.placing import fetch, first_found, place
from p2pdns.publishing.replicas import Tell as TellStage
from p2pdns.publishing.upkeep import RETRY_S_MAX, RETRY_S_MIN, SEQ_TOO_LOW, START_S_PER_ITEM, is_well_kept
from p2pdns.timing import Clock, UnixClock

# One zone of the largest size, and as many items again while it is divided anew. At some 500 datagrams a day each
# (docs/adr/0018), the items of one such zone take 47 datagrams a second.
PARTS_KEPT_MAX = 2 * ZONE_ITEMS_MAX
UNPINNED_S = 7_200.0  # A reader may have a head for so long, and asks for what that pins.
STEPS_AT_ONCE_MAX = 4  # Looks and puts under way: with thousands of items one is due every second or so.
# A cycle of an item is shorter by up to this share, one step of eight. So the looks at items that were put together are
# spread over an hour in the end.
SPREAD = 1 / 8
TICK_S = 15.0  # The longest sleep; an item that comes meanwhile is put by its publication, and first due in an hour.
# Rounds of looks for what is missing; then it is tried again with the next head, or after the next start.
FETCH_TRIES_MAX = 8


@dataclass(frozen=True, slots=True)
class KeptPart:
    """An item with a salt, and since when no head pins it; None while one does."""

    item: MutableItem
    unpinned_unix: float | None


class PartState(Protocol):
    """Where the items outlive the process; `p2pdns.state.parts.Parts`."""

    def load(self) -> list[KeptPart]:
        """Return all items."""

    async def save(self, parts: Sequence[KeptPart]) -> None:
        """Keep items, in the place of those with their keys and salts; Unavailable when the disk refuses."""

    async def drop(self, items: Sequence[MutableItem]) -> None:
        """Keep items no longer."""


@dataclass(slots=True)
class _Part:
    item: MutableItem
    unpinned_unix: float | None
    failure_count: int = 0  # Puts in a row that reached too few for a cycle.
    due_at: float = 0.0
    is_held: bool = True  # More than half of the others known have taken it at its last put, as far as that is known.


class KeepsAndGets(Keeps, Gets, Protocol):
    """What the keeping of parts needs of the network."""


class PartKeeper:
    """The items with a salt of all zones that this node keeps alive. `jitter` draws from [0, 1)."""

    def __init__(
        self,
        network: KeepsAndGets,
        state: PartState,
        cycles: Cycles,
        pacer: Pacer,
        *,
        clock: Clock,
        unix_clock: UnixClock,
        jitter: Callable[[], float],
        tell: Tell,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._network = network
        self._state = state
        self._cycles = cycles
        self._pacer = pacer
        self._clock = clock
        self._unix_clock = unix_clock
        self._jitter = jitter
        self._tell = tell
        self._sleep = sleep
        self._parts: dict[bytes, dict[bytes, _Part]] = {}  # By zone and salt.
        self._due: list[tuple[float, bytes, bytes]] = []
        self._loop: asyncio.Task[None] | None = None
        # Items for which room was found and which the disk does not have yet: it takes its time.
        self._taking_count = 0
        self._fetching: dict[bytes, asyncio.Task[None]] = {}
        # Zones of an earlier run whose head nobody has named yet, and since when.
        self._unfollowed: dict[bytes, float] = {}

    def start(self) -> None:
        """Go on with what earlier runs have kept."""
        kept = self._state.load()[:PARTS_KEPT_MAX]
        for number, one in enumerate(kept):
            # The first puts are spread, as those of heads are.
            first_s = START_S_PER_ITEM * number
            part = _Part(one.item, one.unpinned_unix)
            # Until a head is followed, it may be one of a zone that is kept alive no more.
            self._unfollowed[zone_id_of(one.item).raw] = self._unix_clock()
            self._parts.setdefault(zone_id_of(one.item).raw, {})[one.item.salt] = part
            if self._cycles.resume(one.item):
                first_s = self._cycles.of(zone_id_of(one.item), one.item.salt).pause_s(self._clock())
            self._plan(part, first_s)

    async def close(self) -> None:
        """Stop putting."""
        tasks = [*self._fetching.values(), *([] if self._loop is None else [self._loop])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    @property
    def count(self) -> int:
        """How many items are kept alive."""
        return sum(map(len, self._parts.values()))

    def items_of(self, zone_id: ZoneId) -> dict[bytes, MutableItem]:
        """Return the items of a zone that are kept, by salt."""
        return {salt: part.item for salt, part in self._parts.get(zone_id.raw, {}).items()}

    def poor_count(self, zone_id: ZoneId) -> int:
        """Return how many items of a zone, of those that its head pins, too few others have taken at their last put."""
        parts = self._parts.get(zone_id.raw, {}).values()
        return sum(not part.is_held and part.unpinned_unix is None for part in parts)

    # Publications

    async def place(self, zone_id: ZoneId, items: Sequence[MutableItem], tell: TellStage) -> Placed:
        """Keep items, and have others keep them; Unavailable where there is no room, or the disk refuses.

        No head pins them yet: if none does within two hours, they go again.
        """
        changed = await self._taken(zone_id, items)
        turn = self._pacer.begin()
        try:
            return await place(changed, partial(self._put_first, zone_id, turn), clock=self._clock, tell=tell)
        finally:
            self._pacer.end(turn)

    async def _taken(self, zone_id: ZoneId, items: Sequence[MutableItem]) -> list[MutableItem]:
        """Keep items, and return those that are to be put."""
        parts = self._parts.get(zone_id.raw, {})
        fresh = [one for one in items if one.salt not in parts]
        if self.count + self._taking_count + len(fresh) > PARTS_KEPT_MAX:
            what = f"this node keeps {self.count} items of large zones alive already, {PARTS_KEPT_MAX} allowed"
            raise Unavailable(what, place=str(zone_id), hint="p2pdns zones shows them; p2pdns forget one of the zones")
        # An item that was put already, by a publication that did not come to its end, need not be put twice.
        again = [one for one in items if (known := parts.get(one.salt)) is None or known.item.value != one.value]
        renewed = [one for one in items if one not in again and not self._is_well_kept(parts[one.salt], one)]
        changed = [*again, *renewed]
        now = self._unix_clock()
        if zone_id.raw in self._unfollowed:
            # The head that is being published is named only once it is stored.
            self._unfollowed[zone_id.raw] = now
        await self._saved([KeptPart(one, self._unpinned(parts, one, now)) for one in changed], len(fresh))
        # The zone may have been forgotten meanwhile.
        parts = self._parts.setdefault(zone_id.raw, {})
        for one in changed:
            parts[one.salt] = _Part(one, self._unpinned(parts, one, now))
        return changed

    async def _saved(self, rows: list[KeptPart], fresh_count: int) -> None:
        """Have the disk keep items; so many of them are new, and count as kept meanwhile."""
        self._taking_count += fresh_count
        try:
            await self._state.save(rows)
        finally:
            self._taking_count -= fresh_count

    def _unpinned(self, parts: Mapping[bytes, _Part], item: MutableItem, now: float) -> float | None:
        known = parts.get(item.salt)
        return None if known is not None and known.unpinned_unix is None else now

    def _is_well_kept(self, part: _Part, item: MutableItem) -> bool:
        cycle = self._cycles.of(zone_id_of(item), item.salt)
        is_fresh = cycle.put_at is not None and self._clock() - cycle.put_at < UNPINNED_S
        is_recent = item.seq - part.item.seq < UNPINNED_S * SEQ_PER_SECOND
        return is_fresh and is_recent and not cycle.is_poor and not part.failure_count

    async def _put_first(self, zone_id: ZoneId, turn: int, item: MutableItem) -> PutOutcome:
        outcome = await self._pacer.put(turn, partial(self._network.put, item))
        part = self._parts.get(zone_id.raw, {}).get(item.salt)
        if part is not None and part.item is item:
            # It is put some times in a row; only afterwards a failure means a longer pause.
            part.failure_count = 0
            await self._note(part, outcome)
        return outcome

    # What heads pin

    def follow(self, zone_id: ZoneId, head: MutableItem | None) -> None:
        """Keep alive what this head pins, and the rest of the zone for two hours; with None nothing of it any more."""
        parts = self._parts.get(zone_id.raw, {})
        self._unfollowed.pop(zone_id.raw, None)
        if (task := self._fetching.pop(zone_id.raw, None)) is not None:
            task.cancel()
        if head is None:
            gone = [part.item for part in self._parts.pop(zone_id.raw, {}).values()]
            for item in gone:
                self._cycles.forget(zone_id, item.target, item.salt)
            if gone:
                self._fetching[zone_id.raw] = asyncio.get_running_loop().create_task(self._dropped(gone))
            return
        if not parts and not is_head(head.value):
            return
        work = asyncio.get_running_loop().create_task(self._follow(zone_id, head))
        self._fetching[zone_id.raw] = work

    async def _follow(self, zone_id: ZoneId, head: MutableItem) -> None:
        for _ in range(FETCH_TRIES_MAX):
            parts = self._parts.setdefault(zone_id.raw, {})
            try:
                known, missing = pinned_by(head, {salt: part.item.value for salt, part in parts.items()})
            except BadItem:
                # It is no zone: it pins nothing.
                known, missing = frozenset(), []
            await self._settle(zone_id, known, is_all=not missing)
            if not missing:
                return
            if self.count + len(missing) > PARTS_KEPT_MAX:
                self._tell("a zone has more items than this node has room for", key=str(zone_id), items=len(missing))
                return
            if not await self._fetched(zone_id, missing):
                await self._sleep(RETRY_S_MIN)
        self._tell("items of a zone that is kept alive cannot be found", key=str(zone_id))

    async def _fetched(self, zone_id: ZoneId, missing: Sequence[Pinned]) -> bool:
        salts, clock = [pinned.salt for pinned in missing], self._clock
        try:
            fetched = await fetch(self._network, key_of(zone_id), salts, clock=clock, tell=lambda progress: None)
            found = [one for pinned in missing if (one := fetched.get(pinned.salt)) and pinned.pin == pin_of(one.value)]
            if self.count + self._taking_count + len(found) > PARTS_KEPT_MAX:
                return False
            await self._saved([KeptPart(one, None) for one in found], len(found))
            for one in found:
                part = self._parts.setdefault(zone_id.raw, {})[one.salt] = _Part(one, None)
                # Its storers are not known: only a put tells them.
                self._plan(part, RETRY_S_MIN * self._jitter())
        except Unavailable as trouble:
            self._tell("items of a zone are not kept", key=str(zone_id), reason=str(trouble))
            return False
        return bool(found)

    async def _settle(self, zone_id: ZoneId, known: frozenset[bytes], *, is_all: bool) -> None:
        """Note which items are pinned, and since when the others are not; that is certain if all pinned are known."""
        now, changed = self._unix_clock(), list[_Part]()
        for salt, part in self._parts.get(zone_id.raw, {}).items():
            if (salt in known) != (part.unpinned_unix is None) and (is_all or salt in known):
                part.unpinned_unix = None if salt in known else now
                changed.append(part)
        try:
            await self._state.save([KeptPart(part.item, part.unpinned_unix) for part in changed])
        except Unavailable as trouble:
            # The next start learns it from the head.
            self._tell("the items of a zone are not noted", key=str(zone_id), reason=str(trouble))

    async def _dropped(self, items: Sequence[MutableItem]) -> None:
        try:
            await self._state.drop(items)
        except Unavailable as trouble:
            self._tell("items that are kept alive no longer stay on the disk", reason=str(trouble))

    # Steps

    def _plan(self, part: _Part, pause_s: float) -> None:
        part.due_at = self._clock() + pause_s
        heapq.heappush(self._due, (part.due_at, zone_id_of(part.item).raw, part.item.salt))
        if self._loop is None:
            self._loop = asyncio.get_running_loop().create_task(self._run())

    async def _run(self) -> None:
        while True:
            now, due = self._clock(), list[_Part]()
            while self._due and self._due[0][0] <= now and len(due) < STEPS_AT_ONCE_MAX:
                at, raw, salt = heapq.heappop(self._due)
                part = self._parts.get(raw, {}).get(salt)
                # What was planned anew since, or is gone, has another entry or none.
                if part is not None and part.due_at == at:
                    due.append(part)
            if due:
                await asyncio.gather(*map(self._step, due))
                continue
            next_s = self._due[0][0] - now if self._due else TICK_S
            await self._sleep(min(TICK_S, max(next_s, 0.0)))

    async def _step(self, part: _Part) -> None:
        item, zone_id = part.item, zone_id_of(part.item)
        unpinned_unix = self._unfollowed.get(zone_id.raw, part.unpinned_unix)
        if unpinned_unix is not None and not 0 <= self._unix_clock() - unpinned_unix < UNPINNED_S:
            self._parts.get(zone_id.raw, {}).pop(item.salt, None)
            self._cycles.forget(zone_id, item.target, item.salt)
            await self._dropped([item])
            return
        cycle = self._cycles.of(zone_id, item.salt)
        if cycle.put_at is None:
            self._cycles.resume(item)
        try:
            finding = await self._cycles.look(item) if cycle.take(item.seq) is Task.LOOK else None
            if finding is LookEnd.ENOUGH:
                self._plan(part, cycle.pause_s(self._clock()))
                return
            if finding is LookEnd.NEWER:
                await self._take_newer(part)
            outcome = await self._pacer.put(None, partial(self._network.put, part.item))
            if outcome.refused.get(SEQ_TOO_LOW) and await self._take_newer(part):
                outcome = await self._pacer.put(None, partial(self._network.put, part.item))
        except Unavailable as trouble:
            outcome = PutOutcome(0, 0)
            self._tell("not put again", key=str(zone_id), reason=str(trouble))
        await self._note(part, outcome)

    async def _take_newer(self, part: _Part) -> bool:
        """Take the item that its owner has signed again elsewhere, with the same value; return whether it was found."""
        item = part.item
        wanted = Wanted(item.target, item.key, item.salt, known_seq=item.seq)
        newer = await first_found(self._network, wanted, self._clock)
        if newer is None or newer.value != item.value or newer.seq <= item.seq:
            return False
        part.item = newer
        await self._state.save([KeptPart(newer, part.unpinned_unix)])
        return True

    async def _note(self, part: _Part, outcome: PutOutcome) -> None:
        item, is_well = part.item, is_well_kept(outcome)
        self._cycles.has_put(item, outcome.storers, is_poor=not is_well)
        part.failure_count = 0 if is_well else part.failure_count + 1
        part.is_held = outcome.others.is_enough
        if is_well:
            await self._cycles.save(item)
            self._plan(part, self._cycles.of(zone_id_of(item), item.salt).pause_s(self._clock()))
            return
        longest = min(RETRY_S_MAX, RETRY_S_MIN * 2.0 ** min(part.failure_count - 1, 16))
        self._plan(part, longest * (1 - 0.1 * self._jitter()))


def pinned_by(head: MutableItem, values: Mapping[bytes, bytes]) -> tuple[frozenset[bytes], list[Pinned]]:
    """Return the salts of all that a head pins, and what of it is missing among values by salt.

    An item that breaks a rule is pinned like any other one, and pins nothing itself.
    """
    if not is_head(head.value):
        return frozenset(), []
    asked: dict[bytes, None] = {}

    def value_of(pinned: Pinned) -> bytes | None:
        value = values.get(pinned.salt)
        asked[pinned.salt] = None
        # Another value under a pinned salt is not the one that is pinned: that one is missing.
        return value if value is not None and pin_of(value) == pinned.pin else None

    division = gathered(head.key.apex, head.value, value_of, on_broken=lambda trouble: None)
    return frozenset(asked), [] if isinstance(division, Division) else division
