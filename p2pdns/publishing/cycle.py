"""The copies of one item: what this node knows of them, and what it does for the item next.

A *cycle* begins with a put and ends with the next one, eight hours later. It has eight steps. After each of the first
seven, four storers (nodes that acknowledged the put) are asked whether they still have the item. Three signed replies
are enough; with fewer another storer is asked, up to `ASKED_MAX`, and then the item is put again at once, and a new
cycle begins. Where storers forget within two hours, as BEP 44 allows, every second step renews copies before that,
until storers are seen that keep them longer.

Guarantees: a copy counts only by a signed reply of a node whose id BEP 42 allows at its address, two of one prefix at
most; no storer's word prolongs a cycle; an item is put after eight hours whatever was measured; a storer that showed
nothing comes last in the next round. Does not know the network, the disk or the clock: the caller says what it is told.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum

from p2pdns.addresses import prefix_of
from p2pdns.dht.krpc import NodeInfo
from p2pdns.dht.node.values import InquiryOutcome
from p2pdns.dht.routing.ids import is_id_allowed
from p2pdns.dht.routing.table import K
from p2pdns.items.item import MutableItem

STEPS = 8  # A cycle: seven looks, and then a put.
# A step is a little less than an hour: two of them end before copies of two hours do, and after half a cycle the
# nearest storers are put to again. A holder of ours begins to look four hours after its last put, and so never does.
CYCLE_S_MAX = 28_320.0
CYCLE_JITTER = 0.03  # Items that were published together should not be put together for ever.
STEP_S_MAX = CYCLE_S_MAX / STEPS
ASKED_FIRST = 4  # Of different prefixes: a fifth of all copies.
FOUND_WANTED = 3  # Signed replies of a look: all storers are asked in the end, and chance cannot be bribed for long.
ASKED_MAX = 14  # Storers asked in one look. Of eight copies among twenty, four or more are found in 98 % of all looks.
PREFIX_COPIES_MAX = 2  # Copies of one prefix that count.
STORERS_MAX = 2 * K  # The nearest K nodes of each of the two address families.
RENEWED_WANTED = 6  # Copies renewed if storers forget. If they were fewer, all could be gone two hours later.
RENEWED_SHOWN_WANTED = 4  # Or so many of storers that have shown the item as well: among six, one in five may lie.
RENEWED_FOUND_MIN = 2  # If fewer of the copies renewed two hours ago are found, the item is put anew.
NEAREST_RENEWED = 4  # In the middle of a cycle. So many holders look by themselves; see `dht.node.republish`.
FORGET_S = 7_200.0  # BEP 44 lets nodes forget an item two hours after its last put.
KEEP_S = 86_400.0  # Nodes of ours, and most others, keep it a day.
KEEPERS_MIN = 3  # Storers, of different prefixes, that had the item more than two hours after their last put.
EARLY_STEPS = 2  # Until then a copy is not yet two hours old.


class Task(Enum):
    """The next action for an item."""

    LOOK = "look"
    PUT = "put"


class LookEnd(Enum):
    """The result of a look so far."""

    OPEN = "open"  # More storers are to be asked.
    ENOUGH = "enough"
    LOST = "lost"  # Too few have it: it is to be put again.
    FORGOTTEN = "forgotten"  # Most nodes forget it: those that had it renewed may have it still, and are asked next.
    NEWER = "newer"  # A storer has shown a newer item: the owner has published elsewhere.


@dataclass(slots=True, eq=False)
class Storer:
    """A node that said that it keeps the item. Times are of the caller's clock; None where it never happened."""

    contact: NodeInfo
    place: str
    put_at: float
    asked_at: float | None = None
    found_at: float | None = None  # When it last showed the item.
    has_it: bool = False  # It showed the item when it was asked last.
    has_failed: bool = False  # It showed nothing when it was asked last.


@dataclass(frozen=True, slots=True)
class KeptCycle:
    """The facts of a cycle that are kept for the next process; `put_unix` is the time of the last put."""

    seq: int
    put_unix: float
    storers: tuple[NodeInfo, ...]
    is_keeping: bool = False
    is_forgetful: bool = False


@dataclass(frozen=True, slots=True)
class Measured:
    """The copies of an item as they were measured; times are of the caller's clock, None where nothing is known.

    `acknowledged` nodes said at the last put that they keep it; `copies` of them showed it when they were asked last,
    the latest at `at`. Left alone, the others keep it until `until`.
    """

    acknowledged: int = 0
    copies: int = 0
    at: float | None = None
    put_at: float | None = None
    put_next_at: float | None = None
    look_next_at: float | None = None
    until: float | None = None


def is_eligible(contact: NodeInfo) -> bool:
    """Return whether the word of a node counts: BEP 42 allows its id at its address."""
    return is_id_allowed(contact.node_id, contact.address[0])


class Cycle:
    """The cycle of one item. `jitter` draws from [0, 1); a cycle is shorter by up to the share `spread`."""

    def __init__(self, jitter: Callable[[], float], spread: float = CYCLE_JITTER) -> None:
        self.seq: int | None = None
        self.put_at: float | None = None
        self.is_keeping = False  # Storers have been seen that keep the item longer than `FORGET_S`.
        self.is_forgetful = False  # So many forget it that copies have to be renewed.
        self.is_poor = False  # The last put has reached too few.
        self.storers: list[Storer] = []
        self._keepers: dict[str, None] = {}
        self._jitter = jitter
        self._spread = spread
        self._step = 0
        self._cycle_s = CYCLE_S_MAX

    # The cycle

    def begin(self, seq: int, storers: Sequence[NodeInfo], now: float, *, is_poor: bool = False) -> None:
        """Begin a cycle after a put; `storers` acknowledged it, nearest first. After a poor one the next put is due."""
        failed = {one.contact for one in self.storers if one.has_failed}
        self.seq, self.put_at, self._step, self.is_poor = seq, now, 0, is_poor
        self._cycle_s = CYCLE_S_MAX * (1 - self._spread * self._jitter())
        self.storers = [
            # A node that showed nothing may have promised again what it does not do: it is asked after the others.
            Storer(contact, prefix_of(contact.address), now, has_failed=contact in failed)
            for contact in storers[:STORERS_MAX]
        ]

    def resume(self, kept: KeptCycle, seq: int, now: float, unix_now: float) -> bool:
        """Go on where an earlier process was; return whether that can be: an old or later put says nothing."""
        age_s = unix_now - kept.put_unix
        if kept.seq != seq or not 0 <= age_s < CYCLE_S_MAX or not kept.storers:
            return False
        self.begin(seq, kept.storers, now - age_s)
        self.is_keeping, self.is_forgetful = kept.is_keeping, kept.is_forgetful
        self._step = max(0, min(STEPS - 1, int(age_s / self._step_s)))
        return True

    def kept(self, now: float, unix_now: float) -> KeptCycle | None:
        """Return what is worth keeping for the next process; None before the first good put."""
        if self.put_at is None or self.seq is None or self.is_poor:
            return None
        put_unix, storers = unix_now - (now - self.put_at), tuple(one.contact for one in self.storers)
        return KeptCycle(self.seq, put_unix, storers, self.is_keeping, self.is_forgetful)

    @property
    def may_be_forgotten(self) -> bool:
        """Whether the last put is so old that nodes may have forgotten the item."""
        return self._step > EARLY_STEPS

    @property
    def _step_s(self) -> float:
        return self._cycle_s / STEPS

    @property
    def _next_step(self) -> int:
        if not self.storers:
            # Nobody can be asked, so the item is put again.
            return self._step + 1
        step = self._step + 1
        return step + step % 2 if self.is_forgetful else step

    def pause_s(self, now: float) -> float:
        """Return for how long nothing is to be done."""
        if self.put_at is None:
            return 0.0
        return max(0.0, self.put_at + self._next_step * self._step_s - now)

    def take(self, seq: int) -> Task:
        """Return what is to be done for the item with this seq, now that the pause is over."""
        if self.put_at is None or self.seq != seq or self.is_poor or not self.storers:
            return Task.PUT
        self._step = self._next_step
        return Task.PUT if self._step >= STEPS else Task.LOOK

    def look(self) -> CopiesLook:
        """Return the look of this step."""
        storers = [one for one in self.storers if is_eligible(one.contact)]
        is_middle = self._step == STEPS // 2
        if self.is_forgetful:
            # The nearest first, because readers ask those; but before them those that have a copy to lose.
            order = sorted(storers, key=lambda one: (one.has_failed, not one.has_it))
            return CopiesLook(self, order, renewable=order, probes=self._probes(storers) if is_middle else [])
        if self.is_keeping:
            return self._look_at(storers, storers[:NEAREST_RENEWED] if is_middle else [])
        if self._step <= EARLY_STEPS:
            # These nodes may forget an item after two hours, as far as is known yet, so some copies are renewed before.
            some = storers[::2]
            return self._look_at(storers, some)
        # Only copies that were never renewed show how long nodes keep an item.
        return self._look_at([one for one in storers if one.put_at == self.put_at] or storers, [])

    def _look_at(self, storers: Sequence[Storer], renewable: Sequence[Storer]) -> CopiesLook:
        """Return a look at some storers: those to be renewed first, then those that were not asked for longest."""
        drawn = {id(one): self._jitter() for one in storers}

        def order(one: Storer) -> tuple[bool, bool, float, float]:
            return one not in renewable, one.has_failed, one.asked_at or 0.0, drawn[id(one)]

        return CopiesLook(self, sorted(storers, key=order), renewable)

    def _probes(self, storers: Sequence[Storer]) -> list[Storer]:
        """Return storers whose copies were not renewed: those that have one all the same keep it for long."""
        oldest = [one for one in storers if one.put_at == self.put_at and not one.has_failed]
        return oldest[-KEEPERS_MIN:]

    def note_keeper(self, storer: Storer) -> None:
        """Note that a storer has kept the item for longer than it must."""
        self._keepers[storer.place] = None
        if len(self._keepers) >= KEEPERS_MIN:
            self.is_keeping, self.is_forgetful = True, False

    def note_forgetting(self) -> None:
        """Note that most storers have forgotten the item: from now on copies are renewed in time."""
        self._keepers.clear()
        self.is_keeping, self.is_forgetful = False, True

    # What is known

    def measured(self) -> Measured:
        """Return the copies as they were measured in this cycle."""
        if self.put_at is None:
            return Measured()
        places: Counter[str] = Counter()
        times: list[float] = []
        for one in self.storers:
            if one.has_it and one.found_at is not None and is_eligible(one.contact):
                places[one.place] += 1
                if places[one.place] <= PREFIX_COPIES_MAX:
                    times.append(one.found_at)
        next_at = self.put_at + self._next_step * self._step_s
        put_next_at: float | None = self.put_at + self._cycle_s if self.storers else next_at
        look_next_at = next_at if put_next_at is not None and next_at < put_next_at else None
        if self.is_poor:
            # It is put as soon as there are other nodes, at a time that cannot be foreseen.
            put_next_at = look_next_at = None
        last_put_at = max((one.put_at for one in self.storers), default=self.put_at)
        return Measured(
            acknowledged=len(self.storers),
            copies=len(times),
            at=max(times, default=None),
            put_at=self.put_at,
            put_next_at=put_next_at,
            look_next_at=look_next_at,
            until=last_put_at + (KEEP_S if self.is_keeping else FORGET_S),
        )


class CopiesLook:
    """One look at the copies of an item: which storers are asked next, and what came of it.

    They are asked in this order; the copies of those in `renewable` are renewed. `probes` are asked as well, first.
    """

    def __init__(
        self, cycle: Cycle, order: Sequence[Storer], renewable: Sequence[Storer], probes: Sequence[Storer] = ()
    ) -> None:
        self._cycle = cycle
        self._probes = list(probes)
        self._left = [one for one in order if one not in self._probes]
        self._renewable = list(renewable)
        self._waiting: list[Storer] = []
        self._asked_count = 0
        self._found: list[Storer] = []
        self._renewed_count = 0
        self._shown_count = 0  # Of those renewed.
        self._without_count = 0
        self._places: Counter[str] = Counter()
        self._is_newer = False
        self._is_renewal = cycle.is_forgetful
        # In a small network there are fewer to ask.
        countable = Counter(one.place for one in self._left)
        most = sum(min(count, PREFIX_COPIES_MAX) for count in countable.values())
        self._wanted = min(RENEWED_WANTED if self._is_renewal else FOUND_WANTED, most)

    @property
    def found_count(self) -> int:
        return len(self._found)

    def conclude(self) -> LookEnd:
        """Return what the look has come to, and have the cycle learn from it."""
        finding = self.finding
        # A storer without the item has lied or lost it, as no node may forget an item before two hours are over.
        if finding is LookEnd.LOST and self._without_count > len(self._found) and self._cycle.may_be_forgotten:
            self._cycle.note_forgetting()
            if not self._is_renewal:
                return LookEnd.FORGOTTEN
        return finding

    def renews(self, storer: Storer) -> bool:
        """Return whether the storer is to be put to again, although it may have the item."""
        return storer in self._renewable and storer not in self._probes

    def next(self) -> list[Storer]:
        """Return the storers to ask now, together; they count as asked."""
        wanted = self._missing_count
        if not self._asked_count and not self._is_renewal:
            wanted += ASKED_FIRST - FOUND_WANTED
        room = min(wanted, ASKED_MAX - self._asked_count) - len(self._waiting)
        chosen: list[Storer] = []
        if not self._asked_count:
            chosen += self._probes
        # One of each prefix before the second of any.
        for most in range(1, PREFIX_COPIES_MAX + 1):
            for one in list(self._left):
                if room <= 0 or self._is_newer:
                    break
                if self._places[one.place] < most:
                    self._left.remove(one)
                    self._places[one.place] += 1
                    chosen.append(one)
                    room -= 1
        self._asked_count += len(chosen)
        self._waiting += chosen
        return chosen

    def note(self, storer: Storer, outcome: InquiryOutcome, item: MutableItem, now: float) -> None:
        """Take in what a storer has shown."""
        shown, cycle = outcome.item, self._cycle
        self._waiting.remove(storer)
        storer.asked_at = now
        if shown is not None and shown.supersedes(item):
            self._is_newer = True
        is_found = shown is not None and (shown.seq, shown.value) == (item.seq, item.value)
        storer.has_it, storer.has_failed = is_found, not is_found
        if is_found:
            storer.found_at = now
            if now - storer.put_at > FORGET_S:
                cycle.note_keeper(storer)
        if outcome.is_kept:
            storer.put_at = now
        if storer in self._probes:
            return
        if is_found:
            self._found.append(storer)
        elif outcome.has_answered:
            self._without_count += 1
        self._renewed_count += outcome.is_kept
        self._shown_count += outcome.is_kept and is_found

    @property
    def _missing_count(self) -> int:
        """How many storers have yet to show the item, or to take it again."""
        if not self._is_renewal:
            return self._wanted - len(self._found)
        return min(self._wanted - self._renewed_count, RENEWED_SHOWN_WANTED - self._shown_count)

    @property
    def finding(self) -> LookEnd:
        """The result of the look so far."""
        if self._is_newer:
            return LookEnd.NEWER
        if self._waiting:
            return LookEnd.OPEN
        if self._is_renewal:
            if self._missing_count <= 0 and len(self._found) >= min(RENEWED_FOUND_MIN, self._wanted):
                return LookEnd.ENOUGH
        elif self._missing_count <= 0:
            return LookEnd.ENOUGH
        can_ask = any(self._places[one.place] < PREFIX_COPIES_MAX for one in self._left)
        is_open = can_ask and self._asked_count < ASKED_MAX and self._missing_count > 0
        return LookEnd.OPEN if is_open else LookEnd.LOST
