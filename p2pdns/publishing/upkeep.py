"""The items that this node publishes, and how they stay published.

Guarantees: an item is in the reader's database before its publication is reported, and a kill after that loses
nothing; an item older than the newest known is refused, with words; own and pinned items are looked at about every
hour and put again every eight, each at a time of its own, and at once when too few storers show them or a put reached
too few nodes; an item that others ration is put again at the pace that they allow until more than half of them hold it;
one from the future is not put again. Does not know secret keys (items arrive signed), nor how a put finds its nodes.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol

from p2pdns.dht.node.republish import COPIES_ENOUGH
from p2pdns.dht.node.values import Cas, Others, PutOutcome
from p2pdns.dht.routing.table import K
from p2pdns.errors import Unavailable, counted
from p2pdns.items.item import MutableItem, Present
from p2pdns.items.keys import ZoneId
from p2pdns.items.succession import breaks_commitment, commitment_of
from p2pdns.overlay.parts import zone_id_of
from p2pdns.overlay.ports import Held, Keeps, KeptCommitment, Mark, OnProgress, ReaderState, Tell
from p2pdns.publishing.cycle import STEP_S_MAX, LookEnd, Measured, Task
from p2pdns.publishing.cycles import CycleMemory, Cycles
from p2pdns.publishing.dates import date_of, publish_again_after
from p2pdns.publishing.pacing import Pacer, Standing
from p2pdns.timing import Clock, UnixClock

JITTER = 0.1  # Share of a pause: items that were published together should not be put together for ever.
RETRY_S_MIN = 15.0  # After a put that reached too few: contacts come within seconds of a start.
RETRY_S_MAX = 900.0
START_S_PER_ITEM = 0.25  # How far a start spreads the first puts: four a second.
KEPT_ALIVE_MAX = 1_024  # A look costs some ten datagrams and a put a hundred: six a second for ever.
TRIES_MAX = 12  # Puts of one publication before it no longer waits; at the right pace one or two are enough.
REPORT_S = 1.0  # Between two reports of a rationed publication to its caller.
PUBLISHING_MAX = 448  # Publications under way; the other connections of the control socket stay free.
OTHERS_WANTED = K
OTHERS_FEW = 5  # Fewer nodes than that may all be gone by tomorrow.
FEW_SHOWN_MAX = 5  # Zones named in one warning.
SEQ_TOO_LOW = 302  # BEP 44: the node holds a higher seq.
TAKE_BACK_HINT = "if a clock was wrong then, p2pdns publish --take-back -k KEYFILE ZONEFILE replaces it"

OnRationed = Callable[[Standing], None]
"""Called now and then while a publication waits because the others ration it."""


class OwnState(ReaderState, Protocol):
    """Where own items outlive the process; `p2pdns.state.marks.Reader`."""

    def held(self, zone_id: ZoneId, salt: bytes = b"") -> Held | None:
        """Return the newest item known of a zone."""

    def mark(self, zone_id: ZoneId, salt: bytes = b"") -> Mark | None:
        """Return the highest seq known of a zone, whether its item is held or not."""

    def kept_alive(self) -> list[Held]:
        """Return own and pinned items."""

    async def adopt(self, item: MutableItem, confirmed_unix: float, *, own: bool = False, pinned: bool = False) -> None:
        """Commit the item as the newest of its zone."""

    def release(self, zone_id: ZoneId) -> None:
        """Keep a zone alive no longer; its mark stays."""


def is_well_kept(outcome: PutOutcome) -> bool:
    """Return whether the cycle of an item may begin: enough of the nodes known hold it, and `COPIES_ENOUGH`.

    While other nodes are still joining, more than half of those known is only a few.
    """
    return outcome.others.is_enough and outcome.others.stored >= COPIES_ENOUGH


def is_rationed(outcome: PutOutcome) -> bool:
    """Return whether enough nodes would hold an item if those that rationed it had taken it."""
    known, stored = outcome.others
    return not outcome.others.is_enough and Others(known, stored + outcome.rationed_count).is_enough


def refuse_older(item: MutableItem, newest_seq: int | None, now: float) -> None:
    """Raise Unavailable for an item that is older than the newest known of its key, or from the future."""
    place = str(item.key)
    if newest_seq is not None and item.seq < newest_seq:
        what = f"seq {item.seq} is lower than {newest_seq}, the newest known of this key"
        raise Unavailable(what, place=place, hint=f"the newer publication stands; p2pdns inspect {place} shows it")
    # The clock does not judge a seq that was adopted before.
    if Present(now, mark_seq=newest_seq).is_ahead(item.seq):
        hint = "set the clock if it is wrong; nodes refuse the item until its time has come"
        raise Unavailable("signed more than a day ahead of this machine's clock", place=place, hint=hint)


def refuse_odd(item: MutableItem, kept: KeptCommitment | None) -> None:
    """Raise Unavailable for an item that lacks the commitment that was seen first of its key."""
    if kept is not None and breaks_commitment(item, kept.commitment):
        hint = f"publish with what KEYFILE.next says; only if that is lost for good: p2pdns forget {item.key}"
        what = "it lacks the zone's commitment to a next key, and no reader that has seen that would adopt it"
        raise Unavailable(what, place=str(item.key), hint=hint)


@dataclass(frozen=True, slots=True)
class Copies:
    """How many other nodes hold an item that we keep alive, by its best and its last put."""

    seq: int
    best: Others
    last: Others
    was_published_now: bool

    @property
    def trouble(self) -> str | None:
        """Why others may not find the item, in words; None once a put of it has reached enough nodes."""
        if self.best.is_enough:
            return None
        if self.best.stored:
            return f"only {self.best.stored} of {self.best.known} other nodes and this machine have it"
        if not self.was_published_now:
            return "no other node has taken it since this daemon has started"
        reason = f"none of {self.best.known} other nodes has taken it" if self.best.known else "no other node is known"
        return f"only this machine has it: {reason}"

    @property
    def warning(self) -> str | None:
        """A warning that too few others keep the item; None where enough do."""
        count = self.last.stored
        if count >= OTHERS_FEW:
            return None
        return f"only {count} other node{' keeps' if count == 1 else 's keep'} it, {OTHERS_WANTED} are wanted"


class Publisher:
    """The items this node answers for: publishes them, and puts them again for as long as it runs."""

    def __init__(
        self,
        network: Keeps,
        state: OwnState,
        *,
        clock: Clock,
        unix_clock: UnixClock,
        jitter: Callable[[], float],
        tell: Tell,
        on_published: Callable[[MutableItem], None] = lambda item: None,
        look_up: Callable[[ZoneId], Awaitable[object]] | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        memory: CycleMemory | None = None,
    ) -> None:
        """Make a publisher; `jitter` draws from [0, 1), `look_up` makes the overlay find and adopt the newest item.

        `memory` is where cycles outlive the process.
        """
        # Called with the item of a zone that is kept alive from now on; None where the zone is forgotten.
        self.on_kept: Callable[[ZoneId, MutableItem | None], None] = lambda zone_id, item: None
        self.counters: Counter[str] = Counter()
        self._cycles = Cycles(
            network, memory, clock=clock, unix_clock=unix_clock, jitter=jitter, counters=self.counters
        )
        self._clock = clock
        self._network = network
        self._state = state
        self._unix_clock = unix_clock
        self._on_published = on_published
        self._look_up = look_up
        self._sleep = sleep
        self._jitter = jitter
        self._tasks: dict[bytes, asyncio.Task[None]] = {}
        self._held_back: dict[bytes, str] = {}
        self._copies: dict[bytes, Copies] = {}
        self._publishing: Counter[bytes] = Counter()
        self.pacer = Pacer(clock, sleep)
        self._tell = tell

    def start(self) -> None:
        """Begin to keep alive what earlier runs have published or pinned."""
        kept = self._state.kept_alive()
        for held in kept:
            # The first puts are spread: a thousand at once would be too many, and a single zone need not wait.
            self._keep_alive(held.item, self._jitter() * START_S_PER_ITEM * len(kept))

    async def close(self) -> None:
        """Stop putting."""
        self.pacer.close()
        tasks, self._tasks = list(self._tasks.values()), {}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def publish(
        self,
        item: MutableItem,
        on_progress: OnProgress | None = None,
        on_rationed: OnRationed = lambda standing: None,
        *,
        cas: Cas | None = None,
    ) -> PutOutcome:
        """Commit the item as our own, put it, and keep it alive from now on. Unavailable when it must be refused.

        Where other nodes ration it, this waits until enough of them hold it, or `TRIES_MAX` puts have failed. With
        `cas` it takes the place of items with these seqs only, and the caller looks whether a newer one came meanwhile.
        """
        self._check(item)
        if self.pacer.waiting_count >= PUBLISHING_MAX:
            hint = "publish again when some are through; p2pdns status counts them"
            raise Unavailable(f"{PUBLISHING_MAX} publications wait already", place=str(item.key), hint=hint)
        raw = zone_id_of(item).raw
        self._publishing[raw] += 1
        turn = self.pacer.begin()
        try:
            await self._state.adopt(item, self._unix_clock(), own=True)
            self.counters["published"] += 1
            self._on_published(item)
            self._copies.pop(raw, None)
            outcome = await self._put_until_held(item, turn, on_progress, on_rationed, cas)
        finally:
            self.pacer.end(turn)
            self._publishing -= Counter([raw])
        self._keep_alive(item, self._pause(0) if is_well_kept(outcome) else RETRY_S_MIN)
        return outcome

    async def _put_until_held(
        self, item: MutableItem, turn: int, on_progress: OnProgress | None, on_rationed: OnRationed, cas: Cas | None
    ) -> PutOutcome:
        begun = partial(self._network.put, item, cas=cas, on_progress=on_progress)
        for _ in range(TRIES_MAX):
            put = asyncio.ensure_future(self.pacer.put(turn, begun))
            try:
                while not put.done():
                    await asyncio.wait({put}, timeout=REPORT_S)
                    if not put.done() and self.pacer.is_rationed:
                        on_rationed(self.pacer.standing(turn))
            finally:
                put.cancel()
            outcome = put.result()
            self._check_newest(item, may_be_superseded=cas is not None)
            self._note(item, outcome, was_published_now=True)
            if not is_rationed(outcome):
                break
            self.counters["rationed"] += 1
            on_rationed(self.pacer.standing(turn))
        return outcome

    def _check_newest(self, item: MutableItem, *, may_be_superseded: bool) -> None:
        """Raise Unavailable when an item that is being put was forgotten or superseded."""
        held = self._state.held(zone_id_of(item), item.salt)
        if held is None:
            raise Unavailable("the zone was forgotten meanwhile", place=str(item.key), hint="publish again")
        if held.item.seq != item.seq and not may_be_superseded:
            what = f"seq {held.item.seq} was published meanwhile"
            raise Unavailable(what, place=str(item.key), hint="the newer publication stands")

    def _note(self, item: MutableItem, outcome: PutOutcome, *, was_published_now: bool) -> None:
        raw, others = zone_id_of(item).raw, outcome.others
        self._cycles.has_put(item, outcome.storers, is_poor=not is_well_kept(outcome))
        known = self._copies.get(raw)
        if known is None or known.seq != item.seq:
            self._copies[raw] = Copies(item.seq, others, others, was_published_now)
            return
        is_better = (others.is_enough, others.stored) >= (known.best.is_enough, known.best.stored)
        self._copies[raw] = replace(known, best=others if is_better else known.best, last=others)

    def copies(self, zone_id: ZoneId) -> Copies | None:
        """Return the copies of the zone's item; None when we do not keep it alive, or have not put it yet."""
        return self._copies.get(zone_id.raw)

    def measured(self, zone_id: ZoneId) -> Measured:
        """Return the copies of a zone's item as they were measured; times are of this publisher's clock."""
        return self._cycles.measured(zone_id)

    @property
    def warnings(self) -> list[str]:
        """Zones that too few other nodes keep, and items that are not put again, in words for `status`."""
        few = [(ZoneId.verified(raw), text) for raw, copies in self._copies.items() if (text := copies.warning)]
        lines = [f"zone {zone_id}: {text}" for zone_id, text in few[:FEW_SHOWN_MAX]]
        more = len(few) - len(lines)
        rest = [f"and so it is with {counted(more, 'more zone')}"] if more else []
        return [*self.held_back, *lines, *rest]

    @property
    def kept(self) -> list[tuple[ZoneId, Copies | None]]:
        """The zones that are kept alive, and their copies; None before the first put of this run."""
        return [(ZoneId.verified(raw), self._copies.get(raw)) for raw in self._tasks]

    @property
    def held_back(self) -> list[str]:
        """Zones that are not put again because they are dated ahead of the clock, in words."""
        return list(self._held_back.values())

    @property
    def waiting_count(self) -> int:
        return self.pacer.waiting_count

    async def pin(self, zone_id: ZoneId) -> MutableItem:
        """Keep the newest item of any key alive from now on, and return it; Unavailable when none is known."""
        held = self._state.held(zone_id)
        if held is None:
            hint = f"p2pdns resolve {zone_id}"
            raise Unavailable("no item is known that could be pinned", place=str(zone_id), hint=hint)
        self._check_room(zone_id)
        await self._state.adopt(held.item, held.confirmed_unix, pinned=True)
        self._keep_alive(held.item, 0.0)
        return held.item

    def forget(self, zone_id: ZoneId) -> None:
        """Put the zone's items no more; the caller clears the state."""
        self._end(zone_id)
        self.on_kept(zone_id, None)

    def _end(self, zone_id: ZoneId) -> None:
        held = self._state.held(zone_id)
        self._held_back.pop(zone_id.raw, None)
        self._copies.pop(zone_id.raw, None)
        self._cycles.forget(zone_id, None if held is None else held.item.target)
        self._end_task(zone_id)

    def release(self, zone_id: ZoneId, seq: int) -> bool:
        """Put the zone's item no more, and let others forget it; the mark stays. False where a newer one is here."""
        held = self._state.held(zone_id)
        if held is not None and held.item.seq != seq:
            return False
        self._state.release(zone_id)
        # What the zone had before it became empty is kept alive for two hours, as after any edit.
        self._end(zone_id)
        return True

    def _end_task(self, zone_id: ZoneId) -> None:
        task = self._tasks.pop(zone_id.raw, None)
        if task is not None:
            task.cancel()

    def _check(self, item: MutableItem) -> None:
        place, hint, now = str(item.key), "publish again: a new signature takes the next seq", self._unix_clock()
        held = self._state.held(zone_id_of(item), item.salt)
        mark = self._state.mark(zone_id_of(item), item.salt)
        if mark is not None and item.seq < mark.seq and self._is_ahead(mark.seq):
            what = f"the newest publication of this key is dated {date_of(mark.seq)}"
            raise Unavailable(f"{what}: {publish_again_after(mark.seq, now)}", place=place, hint=TAKE_BACK_HINT)
        # The item of a mark was shown here, whether it is held or not; an item may outlive its mark.
        newest_seq = max(0 if mark is None else mark.seq, 0 if held is None else held.item.seq)
        if item.seq < newest_seq:
            what = f"seq {item.seq} is lower than {newest_seq}, the newest known of this key"
            raise Unavailable(what, place=place, hint=hint)
        if held is not None and held.item.supersedes(item):
            raise Unavailable(f"seq {item.seq} was published before, with another value", place=place, hint=hint)
        if Present(now, self._state.newest_seq, None if mark is None else mark.seq).is_ahead(item.seq):
            hint = "set the clock, then sign again"
            raise Unavailable("signed more than a day ahead of this machine's clock", place=place, hint=hint)
        kept = self._state.commitments.kept(zone_id_of(item))
        if kept is None and held is not None and (commitment := commitment_of(held.item)) is not None:
            kept = KeptCommitment(commitment)
        refuse_odd(item, kept)
        self._check_room(zone_id_of(item))

    def _is_ahead(self, seq: int) -> bool:
        # By the clock alone: an item that was adopted while the clock was wrong must not make itself believable.
        return Present(self._unix_clock()).is_ahead(seq)

    def _check_room(self, zone_id: ZoneId) -> None:
        kept = self._tasks.keys() | self._publishing.keys()
        if zone_id.raw not in kept and len(kept) >= KEPT_ALIVE_MAX:
            what, hint = f"this node keeps {KEPT_ALIVE_MAX} zones alive already", "p2pdns forget one of them"
            raise Unavailable(what, place=str(zone_id), hint=hint)

    def _pause(self, failure_count: int) -> float:
        if failure_count == 0:
            return STEP_S_MAX  # The cycle of the item knows better, where it has begun.
        longest = min(RETRY_S_MAX, RETRY_S_MIN * 2.0 ** min(failure_count - 1, 16))
        return longest * (1 - JITTER * self._jitter())

    def _keep_alive(self, item: MutableItem, pause_s: float) -> None:
        zone_id = zone_id_of(item)
        self._end_task(zone_id)
        self.on_kept(zone_id, item)
        if len(self._tasks) < KEPT_ALIVE_MAX:
            work = self._kept_alive(zone_id, pause_s, item.seq)
            self._tasks[zone_id.raw] = asyncio.get_running_loop().create_task(work)

    async def _kept_alive(self, zone_id: ZoneId, pause_s: float, followed: int) -> None:
        cycle, failure_count = self._cycles.of(zone_id), 0
        if cycle.put_at is not None and not cycle.is_poor:
            # It was just put, well enough that its cycle has begun.
            pause_s = cycle.pause_s(self._clock())
            held = self._state.held(zone_id)
            if held is not None and held.item.seq == cycle.seq:
                await self._cycles.save(held.item)
        while True:
            await self._sleep(pause_s)
            held = self._state.held(zone_id)
            if held is None:
                return
            if held.item.seq != followed:
                # The owner has published elsewhere.
                followed = held.item.seq
                self.on_kept(zone_id, held.item)
            if self._is_held_back(zone_id, held.item):
                pause_s = RETRY_S_MAX
                continue
            if cycle.put_at is None:
                self._cycles.resume(held.item)
            if cycle.take(held.item.seq) is Task.LOOK and await self._is_well_at(zone_id, held.item):
                pause_s = cycle.pause_s(self._clock())
                continue
            failure_count = 0 if await self._is_put_well(zone_id) else failure_count + 1
            self.counters["republished-to-too-few"] += failure_count > 0
            pause_s = self._pause(failure_count) if failure_count else cycle.pause_s(self._clock())

    def _is_held_back(self, zone_id: ZoneId, item: MutableItem) -> bool:
        """Return whether an item is from the future: nodes without that rule would take it in place of a sane one."""
        if not self._is_ahead(item.seq):
            self._held_back.pop(zone_id.raw, None)
            return False
        if zone_id.raw not in self._held_back:
            text = f"{item.key} is dated {date_of(item.seq)}, so it is not put again; {TAKE_BACK_HINT}"
            self._held_back[zone_id.raw] = text
            self._tell(text)
        self.counters["held-back"] += 1
        return True

    async def _is_well_at(self, zone_id: ZoneId, item: MutableItem) -> bool:
        """Look at the copies of an item; return whether it needs no put now."""
        finding = await self._cycles.look(item)
        if finding is LookEnd.NEWER:
            # The newest is put then, by us as well: it has just been published, or some nodes have missed it.
            await self._find_newest(zone_id)
        if finding is LookEnd.ENOUGH and zone_id.raw not in self._copies:
            # An earlier process has put it.
            count = self._cycles.measured(zone_id).acknowledged
            self._copies[zone_id.raw] = Copies(item.seq, Others(count, count), Others(count, count), False)
        return finding is LookEnd.ENOUGH

    async def _is_put_well(self, zone_id: ZoneId) -> bool:
        """Put the newest item of a zone again; return whether enough others hold it."""
        held = self._state.held(zone_id)
        if held is None:
            return True
        item = held.item
        try:
            outcome = await self.pacer.put(None, partial(self._network.put, item))
        except Unavailable as error:
            outcome = PutOutcome(0, 0)
            self._tell("not put again", key=str(zone_id), reason=str(error))
        self.counters["republished"] += 1
        self._note(item, outcome, was_published_now=False)
        if outcome.refused.get(SEQ_TOO_LOW) or outcome.refused_here == SEQ_TOO_LOW:
            await self._find_newest(zone_id)
        is_well = is_well_kept(outcome)
        if is_well:
            await self._cycles.save(item)
        elif outcome.storers:
            # A small network: all that can be known of its copies is measured at once.
            await self._cycles.look(item)
        return is_well

    async def _find_newest(self, zone_id: ZoneId) -> None:
        """Look up a zone whose owner has published elsewhere: its newest item is the one to keep alive."""
        if self._look_up is not None:
            with contextlib.suppress(Unavailable):
                await self._look_up(zone_id)
