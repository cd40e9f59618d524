"""The republishing of others' items while their publisher is away, which needs no key.

The nearest holder of an item looks first, 4 h after the last put: eight other holders are enough for now. 8 h after
the last put it puts again in any case, and every receiver of that put starts its count anew; so an item costs its
twenty holders together about one put in eight hours.

Guarantees: only items that another node has put, or that two prefixes have asked for, within a day; none for longer
than a fortnight after its seq was new, or three weeks with a salt, so that holders alone keep no item for ever; one at
a time, within a byte quota. Our own put prolongs the item's life at the others only: a node that is left alone drops
all items within a day.
Does not know own or pinned items (the engine's publisher puts those).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from p2pdns.dht.node.core import Core
from p2pdns.dht.node.putting import PutOperation
from p2pdns.dht.node.values import ItemArrived
from p2pdns.dht.stored import Holding
from p2pdns.items.dividing import RENEWED_AFTER_S
from p2pdns.items.item import Item, MutableItem
from p2pdns.rates import RateLimit

TICK_S = 30.0  # Between two items: 2,880 a day, more than the byte quota lets through.
LOOK_AFTER_S = 4 * 3_600.0  # After the last put: a sixth of a day's churn has had its chance.
PUT_AFTER_S = 8 * 3_600.0  # Two holders that take turns meet each other's 24 h twice over.
LOOKERS = 4  # The nearest holders look; if all four are gone, the others put when that is due.
RETRY_S = 900.0  # After a put that no node kept.
STAGGER_S = 180.0  # The delay per nearer holder: after the first put the others need none.
COPIES_ENOUGH = 8  # 10 copies survive a day at 99.4 %; the next look comes after a third of a day.
KEPT_S_MAX = 14 * 86_400.0  # After the last new seq: as long as a holiday of the publisher.
# The head of a divided zone may be so much newer than a shard that it still pins. The shard must not end before it.
SALTED_KEPT_S_MAX = KEPT_S_MAX + RENEWED_AFTER_S
SEQ_UNIX_MIN = 1_262_304_000.0  # 2010. A seq that would be a time before BEP 44 is a plain number.
SEQ_AHEAD_S_MAX = 86_400.0  # A seq that would be a time after tomorrow is one as well.
KEPT_BYTES_PER_SECOND = 500.0  # 43 MB a day at the most; a full store of small zones takes half of it.
KEPT_BYTES_BURST = 64_000.0
OVERHEAD_BYTES = 350  # Of a put and of the get before it, headers included.


class RepublishOutcome(Enum):
    """How an attempt to keep an item alive ended."""

    PUT = "put"
    ENOUGH = "enough"  # So many others hold it that no put was needed.
    FAILED = "failed"


Done = Callable[[RepublishOutcome, float], None]


@dataclass(slots=True)
class _Watch:
    """Our last put of an item and our last look at it (minus infinity if never), and when to look again."""

    put_at: float = float("-inf")
    looked_at: float = float("-inf")
    next_at: float = float("-inf")


class RepublishOperation(PutOperation):
    """A put of an item that we hold for others; with enough copies found it ends after the look-up."""

    is_due = False
    on_done: Done | None = None

    def _lookup_done(self, now: float, *, is_late: bool) -> None:
        core, lookup = self.core, self.lookup
        newer = lookup.item
        if isinstance(newer, MutableItem) and core.storage.adopt(newer, now):
            # A partition has healed, or we were away: from here on the newer item is put.
            core.counters["keep-newer-found"] += 1
            core.events.append(ItemArrived(newer.target, newer))
            self.storing.item = newer
        elif lookup.copy_count >= COPIES_ENOUGH and not self.is_due:
            self._over(RepublishOutcome.ENOUGH, now)
            return
        super()._lookup_done(now, is_late=is_late)

    def _put_here(self, now: float) -> None:
        # It is here already, put by another node; our own put must not prolong its life, or make it our own.
        pass

    def _tell_progress(self) -> None:
        # No caller waits for this put.
        pass

    def _put_done(self, now: float) -> None:
        self._over(RepublishOutcome.PUT if self.storing.stored_count else RepublishOutcome.FAILED, now)

    def _over(self, kept: RepublishOutcome, now: float) -> None:
        self.core.counters[f"keep-{kept.value}"] += 1
        self._end()
        if self.on_done is not None:
            self.on_done(kept, now)


class Republisher:
    """The part of a node that republishes others' items. `keep` begins a RepublishOperation for an item."""

    def __init__(self, core: Core, keep: Callable[[Item, bool, Done, float], None], now: float) -> None:
        self._core = core
        self._keep = keep
        self._started_at = now
        self._watches: dict[bytes, _Watch] = {}
        self._bytes = RateLimit(KEPT_BYTES_PER_SECOND, KEPT_BYTES_BURST, now)
        self._is_busy = False
        core.at(now + TICK_S, self._tick)

    def _tick(self, now: float) -> None:
        core = self._core
        core.at(now + TICK_S, self._tick)
        if self._is_busy or core.is_read_only() or not core.settings.store or not len(core.table):
            return
        due = [holding for holding in core.storage.holdings(now) if self._next_at(holding) <= now]
        for holding in sorted(due, key=lambda holding: holding.put_at):
            if self._has_begun(holding, now):
                return
        if len(self._watches) > 2 * len(core.storage) + 64:
            self._watches = {t: w for t, w in self._watches.items() if core.storage.held(t, now) is not None}

    def _next_at(self, holding: Holding) -> float:
        watch = self._watches.get(holding.stored.target)
        first = holding.put_at + LOOK_AFTER_S
        return first if watch is None else max(first, watch.next_at)

    def _has_begun(self, holding: Holding, now: float) -> bool:
        """Begin to republish an item, or note when to look at it again; return whether this tick is used up."""
        item, target = holding.stored.item, holding.stored.target
        watch = self._watches.setdefault(target, _Watch())
        rank = self._core.table.nearer_count(target, self._core.settings.k)
        if item is None or rank >= self._core.settings.k or self._age(holding, now) > _kept_s_max(item):
            watch.next_at = now + LOOK_AFTER_S
            return False
        last_put_at = max(holding.put_at, watch.put_at)
        has_looked = watch.looked_at > last_put_at
        # The last to put goes last: otherwise the nearest would always put, receive no put, and lose its own copy.
        turn = rank + self._core.settings.k * (watch.put_at > holding.put_at)
        due_at = last_put_at + PUT_AFTER_S + turn * STAGGER_S
        look_at = last_put_at + LOOK_AFTER_S + turn * STAGGER_S
        if rank >= LOOKERS or has_looked:
            look_at = due_at
        if now < look_at:
            watch.next_at = look_at
            return False
        if not self._bytes.take(now, self._core.settings.k * (holding.stored.size_bytes + OVERHEAD_BYTES)):
            self._core.counters["keep-over-quota"] += 1
            return True
        # An item loaded from the disk may have been put again while we were away; so it is looked for first.
        is_due = now >= due_at and (has_looked or last_put_at >= self._started_at)
        self._is_busy = True
        self._keep(item, is_due, lambda kept, then: self._done(watch, kept, then), now)
        return True

    def _done(self, watch: _Watch, kept: RepublishOutcome, now: float) -> None:
        self._is_busy = False
        if kept is RepublishOutcome.FAILED:
            watch.next_at = now + RETRY_S
            return
        watch.looked_at = now
        watch.next_at = now + LOOK_AFTER_S
        if kept is RepublishOutcome.PUT:
            watch.put_at = now

    def _age(self, holding: Holding, now: float) -> float:
        """Return how old the seq of an item is: by its value if that is a time, else since it came."""
        age_s, skew = now - holding.new_at, self._core.storage.precedence.unix_skew
        if holding.stored.key is not None and skew is not None:
            # For a node that got the item from another holder it is new, but its seq has not become newer.
            signed_unix, unix_now = holding.stored.seq / 1e6, now + skew
            if SEQ_UNIX_MIN < signed_unix <= unix_now + SEQ_AHEAD_S_MAX:
                age_s = max(age_s, unix_now - signed_unix)
        return age_s


def _kept_s_max(item: Item) -> float:
    return SALTED_KEPT_S_MAX if isinstance(item, MutableItem) and item.salt else KEPT_S_MAX
