"""The values that reveal a next key, and the last item of the old key: put, and put again for as long as this runs.

Guarantees: what is to be revealed is on the disk before it is put, and a kill after that loses nothing; it is put again
before the nodes that forget after two hours do, and sooner if too few have taken it; nothing is revealed that does not
verify. Does not know secret keys (the values arrive signed), nor how a put finds its nodes.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from p2pdns.dht.node.values import Others
from p2pdns.errors import BadItem, Unavailable
from p2pdns.items.item import ImmutableItem, Item, MutableItem
from p2pdns.items.keys import KEY_BYTES, ZoneId, ZoneKey
from p2pdns.items.succession import VALUE_BYTES, VALUES_COUNT, Commitment, Succession, commitment_of
from p2pdns.overlay.parts import zone_id_for
from p2pdns.overlay.ports import Puts, Tell
from p2pdns.timing import Clock

REVEALED_MAX = 64  # Old keys of this machine; each costs three puts in two hours, for ever.
PUT_S = 7_080.0  # BEP 44 lets nodes forget an item two hours after its last put.
JITTER = 0.1  # Share of a pause: what was put together should not be put together for ever.
RETRY_S_MIN = 15.0  # After a put that reached too few: contacts come within seconds of a start.
RETRY_S_MAX = 900.0
START_S = 2.0  # How far a start spreads the puts of one old key; a node has few contacts at first.
_NEXT_KEY_AT = 2 + KEY_BYTES


@dataclass(frozen=True)
class Revealed:
    """A zone that has moved to its next key: the two values that say so, and the last item under the old key.

    Only `verified` is to make one.
    """

    old_key: ZoneKey
    next_key: ZoneKey
    values: tuple[ImmutableItem, ...]
    item: MutableItem | None

    @classmethod
    def verified(cls, old_raw: bytes, values: Sequence[bytes], item: MutableItem | None) -> Revealed:
        """Return what these values reveal; BadItem where a reader would not believe them both.

        The item is one of the old key that carries the commitment to the next one.
        """
        if len(values) != VALUES_COUNT or any(len(value) != VALUE_BYTES for value in values):
            raise BadItem("succession-size", f"{VALUES_COUNT} values of {VALUE_BYTES} bytes are expected")
        old_key = ZoneKey.verified(old_raw)
        items = tuple(ImmutableItem(value) for value in values)
        digest = hashlib.sha256(values[0][_NEXT_KEY_AT : _NEXT_KEY_AT + KEY_BYTES]).digest()
        commitment = Commitment(digest, (items[0].target, items[1].target))
        first, _second = (Succession.verified(old_key, commitment, value) for value in values)
        if [value[1] for value in values] != [1, 2]:
            raise BadItem("succession-index", "the values are not 1 and 2")
        if item is not None and (item.key != old_key or commitment_of(item) != commitment):
            raise BadItem("succession-item", "the item does not carry the commitment to the next key")
        return cls(old_key, first.next_key, items, item)

    @property
    def items(self) -> tuple[Item, ...]:
        """All that is put, the values first."""
        return self.values if self.item is None else (*self.values, self.item)


class RevealedMemory(Protocol):
    """Where what was revealed outlives the process; `p2pdns.state.revealed.RevealedKeys`."""

    def load(self) -> list[Revealed]:
        """Return all that was revealed."""

    def save(self, revealed: Revealed) -> None:
        """Keep this, in the place of what was kept of the old key; Unavailable when the disk refuses."""

    def drop(self, old_key: ZoneKey) -> bool:
        """Keep nothing of an old key any more; return whether there was anything."""


@dataclass
class RevealedCopies:
    """Where an old key is at: how many others took each value at its last put, and how many rationed it.

    Times are of the caller's clock.
    """

    revealed: Revealed
    others: list[Others] = field(default_factory=lambda: [Others(0, 0)] * VALUES_COUNT)
    rationed: list[int] = field(default_factory=lambda: [0] * VALUES_COUNT)
    put_at: float | None = None
    next_at: float | None = None

    @property
    def is_enough(self) -> bool:
        """Whether more than half of the others have taken each value."""
        return all(one.is_enough for one in self.others)

    @property
    def trouble(self) -> str | None:
        """Why readers may not find the next key, in words."""
        if self.is_enough or self.put_at is None:
            return None
        (known, stored), rationed = min(zip(self.others, self.rationed, strict=True), key=lambda one: one[0].stored)
        text = f"only {stored} of {known} other nodes have taken a value that reveals the next key"
        if rationed:
            text += f"; {rationed} have no room for it yet, because they take few new items at a time"
        return text


class Revealing:
    """All old keys whose next key this node reveals. `jitter` draws from [0, 1)."""

    def __init__(
        self,
        network: Puts,
        memory: RevealedMemory,
        *,
        clock: Clock,
        jitter: Callable[[], float],
        tell: Tell,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.counters: Counter[str] = Counter()
        self._network = network
        self._memory = memory
        self._clock = clock
        self._jitter = jitter
        self._tell = tell
        self._sleep = sleep
        self._copies: dict[bytes, RevealedCopies] = {}
        self._tasks: dict[bytes, asyncio.Task[None]] = {}

    def start(self) -> None:
        """Go on with what earlier runs have revealed."""
        for revealed in self._memory.load()[:REVEALED_MAX]:
            self._keep_alive(RevealedCopies(revealed), START_S * self._jitter())

    async def close(self) -> None:
        """Stop putting."""
        tasks, self._tasks = list(self._tasks.values()), {}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    @property
    def kept(self) -> list[RevealedCopies]:
        """Every old key, as its values stand."""
        return list(self._copies.values())

    async def reveal(self, revealed: Revealed, on_put: Callable[[], None] = lambda: None) -> RevealedCopies:
        """Keep this, put it, and put it again from now on; return how the puts went. Unavailable where it cannot be."""
        raw = revealed.old_key.raw
        if raw not in self._copies and len(self._copies) >= REVEALED_MAX:
            hint = "p2pdns forget one of the old keys; p2pdns zones shows them"
            raise Unavailable(f"this node reveals {REVEALED_MAX} next keys already", hint=hint)
        self._memory.save(revealed)
        self._end_task(raw)
        copies = self._copies[raw] = RevealedCopies(revealed)
        try:
            await self._put(copies, on_put)
        finally:
            # Whether the caller has gone or not: it is on the disk, so it is put again.
            if self._copies.get(raw) is copies:
                self._keep_alive(copies, PUT_S if copies.is_enough else RETRY_S_MIN)
        return copies

    def forget(self, zone_id: ZoneId) -> bool:
        """Reveal the next key of a zone no more; return whether it was revealed."""
        for raw in [raw for raw, one in self._copies.items() if zone_id_for(one.revealed.old_key) == zone_id]:
            self._end_task(raw)
            return self._memory.drop(self._copies.pop(raw).revealed.old_key)
        return False

    def _end_task(self, raw: bytes) -> None:
        task = self._tasks.pop(raw, None)
        if task is not None:
            task.cancel()

    def _keep_alive(self, copies: RevealedCopies, pause_s: float) -> None:
        raw = copies.revealed.old_key.raw
        self._copies[raw] = copies
        self._tasks[raw] = asyncio.get_running_loop().create_task(self._kept_alive(copies, pause_s))

    async def _kept_alive(self, copies: RevealedCopies, pause_s: float) -> None:
        failure_count = 0
        while True:
            copies.next_at = self._clock() + pause_s
            await self._sleep(pause_s)
            await self._put(copies)
            failure_count = 0 if copies.is_enough else failure_count + 1
            longest = min(RETRY_S_MAX, RETRY_S_MIN * 2.0 ** min(failure_count - 1, 16)) if failure_count else PUT_S
            pause_s = longest * (1 - JITTER * self._jitter())

    async def _put(self, copies: RevealedCopies, on_put: Callable[[], None] = lambda: None) -> None:
        for index, item in enumerate(copies.revealed.items):
            others, rationed = Others(0, 0), 0
            try:
                outcome = await self._network.put(item)
                others, rationed = outcome.others, outcome.rationed_count
            except Unavailable as error:
                self._tell("a value of a succession was not put", key=str(copies.revealed.old_key), reason=str(error))
            self.counters["revealed"] += 1
            if index < VALUES_COUNT:
                copies.others[index], copies.rationed[index] = others, rationed
            on_put()
        copies.put_at = self._clock()
