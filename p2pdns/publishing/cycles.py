"""The cycles of all items that are kept alive, and the looks at their copies over the network.

Guarantees: a look costs at most `ASKED_MAX` inquiries and a few probes; a disk that takes nothing stops no cycle; after
a restart a cycle goes on where it was, if the disk still tells. Does not know when a look is due, nor how an item is
put: the publisher does.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Protocol

from p2pdns.dht.krpc import NodeInfo
from p2pdns.dht.node.values import Inquiry, InquiryOutcome
from p2pdns.errors import Unavailable
from p2pdns.items.item import MutableItem
from p2pdns.items.keys import ZoneId
from p2pdns.overlay.parts import zone_id_of
from p2pdns.overlay.ports import Inquires
from p2pdns.publishing.cycle import CYCLE_JITTER, CopiesLook, Cycle, KeptCycle, LookEnd, Measured, Storer
from p2pdns.timing import Clock, UnixClock


class CycleMemory(Protocol):
    """Where cycles outlive the process; `p2pdns.state.store.Store`."""

    def load_cycle(self, target: bytes) -> KeptCycle | None:
        """Return what was kept of the cycle of the item under a target; None where nothing was, or it is damaged."""

    async def save_cycle(self, target: bytes, kept: KeptCycle) -> None:
        """Keep this of a cycle, where the disk takes it."""

    def drop_cycle(self, target: bytes) -> None:
        """Keep nothing of a cycle any more."""


class NoCycleMemory:
    """The memory of a process that keeps nothing."""

    def load_cycle(self, target: bytes) -> KeptCycle | None:
        """Return nothing."""

    async def save_cycle(self, target: bytes, kept: KeptCycle) -> None:
        """Keep nothing."""

    def drop_cycle(self, target: bytes) -> None:
        """Drop nothing."""


class Cycles:
    """The cycle of each item that is kept alive, by its zone and its salt. `jitter` draws from [0, 1)."""

    def __init__(
        self,
        network: Inquires,
        memory: CycleMemory | None,
        *,
        clock: Clock,
        unix_clock: UnixClock,
        jitter: Callable[[], float],
        counters: Counter[str],
        spread: float = CYCLE_JITTER,
    ) -> None:
        self._network = network
        self._memory = memory or NoCycleMemory()
        self._clock = clock
        self._unix_clock = unix_clock
        self._jitter = jitter
        self._counters = counters
        self._spread = spread
        self._cycles: dict[tuple[bytes, bytes], Cycle] = {}

    def of(self, zone_id: ZoneId, salt: bytes = b"") -> Cycle:
        """Return the cycle of an item of a zone; a new one has no put yet."""
        return self._cycles.setdefault((zone_id.raw, salt), Cycle(self._jitter, self._spread))

    def resume(self, item: MutableItem) -> bool:
        """Go on with the cycle of an earlier process; return whether there is one."""
        kept = self._memory.load_cycle(item.target)
        if kept is None:
            return False
        return self.of(zone_id_of(item), item.salt).resume(kept, item.seq, self._clock(), self._unix_clock())

    def has_put(self, item: MutableItem, storers: Sequence[NodeInfo], *, is_poor: bool) -> None:
        """Note the end of a put."""
        self.of(zone_id_of(item), item.salt).begin(item.seq, storers, self._clock(), is_poor=is_poor)

    async def save(self, item: MutableItem) -> None:
        """Have the cycle of an item outlive this process."""
        kept = self.of(zone_id_of(item), item.salt).kept(self._clock(), self._unix_clock())
        if kept is not None:
            await self._memory.save_cycle(item.target, kept)

    def forget(self, zone_id: ZoneId, target: bytes | None, salt: bytes = b"") -> None:
        """Forget the cycle of an item of a zone, and what is kept of it under `target`."""
        self._cycles.pop((zone_id.raw, salt), None)
        if target is not None:
            self._memory.drop_cycle(target)

    def measured(self, zone_id: ZoneId) -> Measured:
        """Return the copies of a zone's item without a salt as they were measured."""
        cycle = self._cycles.get((zone_id.raw, b""))
        return Measured() if cycle is None else cycle.measured()

    async def look(self, item: MutableItem) -> LookEnd:
        """Ask storers of an item whether they still have it, until enough of them have shown it."""
        cycle = self.of(zone_id_of(item), item.salt)
        before = cycle.is_keeping, cycle.is_forgetful
        finding = await self._looked(cycle, item)
        if finding is LookEnd.FORGOTTEN:
            # A third of what a put costs renews enough of the copies that are left.
            finding = await self._looked(cycle, item)
        self._counters["looks"] += 1
        self._counters[f"looks-{finding.value}"] += 1
        if (cycle.is_keeping, cycle.is_forgetful) != before:
            await self.save(item)
        return finding

    async def _looked(self, cycle: Cycle, item: MutableItem) -> LookEnd:
        look = cycle.look()
        while asked := look.next():
            outcomes = await asyncio.gather(*(self._inquire(item, one, look) for one in asked))
            for storer, outcome in zip(asked, outcomes, strict=True):
                look.note(storer, outcome, item, self._clock())
                self._counters["inquiry-datagrams"] += outcome.request_count
                if outcome.dropped is not None:
                    self._counters["inquiries-forged"] += 1
        return look.conclude()

    async def _inquire(self, item: MutableItem, storer: Storer, look: CopiesLook) -> InquiryOutcome:
        again = item if look.renews(storer) else None
        # One seq less than ours: a node that has the item has to send it, and cannot only repeat a number.
        inquiry = Inquiry(storer.contact, item.key, item.salt, max(0, item.seq - 1), again)
        try:
            return await self._network.inquire(inquiry)
        except Unavailable:
            return InquiryOutcome()
