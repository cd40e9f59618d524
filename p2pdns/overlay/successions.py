"""The search for the values that tell the next key of a zone, and the way from a key to the one that follows it.

Guarantees: while a zone with a commitment is in use, both targets are looked up about once an hour, and at once when an
item of it is odd or none can be had; no question waits longer than `WAIT_S_MAX` for that; a next key is believed by
`Succession.verified` alone, and is stored before it is used. Look-ups at once, their rate and their requests are
bounded. Does not know how an item of a key is found.
"""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, replace

from p2pdns.dht.node.values import GetOutcome, Wanted
from p2pdns.errors import BadItem
from p2pdns.items.item import ImmutableItem, Item
from p2pdns.items.keys import ZoneId
from p2pdns.items.succession import HOPS_MAX, Succession
from p2pdns.limits import QUESTION_S_MAX
from p2pdns.overlay.entries import KnownZone
from p2pdns.overlay.parts import key_of, zone_id_for
from p2pdns.overlay.ports import CommitmentState, Gets, Tell
from p2pdns.rates import RateLimit
from p2pdns.resolver.steps import Budget, Found, Missing, NotFound, ZoneOutcome
from p2pdns.timing import Clock, Later, Timer
from p2pdns.values import replace as with_changes

HOUR_S = 3_600.0  # A thief who keeps the commitment is followed for as long as that where one value can be found.
WAIT_S_MAX = 4.0  # A question has no longer life.
WATCHED_MAX = 4_096  # Zones whose values are looked for, 200 bytes each; the least recently asked is watched no more.
LOOKS_MAX = 8  # At once; each is two look-ups.
LOOKS_PER_SECOND, LOOKS_BURST = 1.0, 64.0  # WATCHED_MAX zones an hour are 1.1 a second, and cost 90 requests each.
VALUE_RPCS_MAX = 100  # For each of the two targets: an absent target costs some 45.
RETRY_S = 60.0  # How long an hourly look waits for room.

Fetch = Callable[[ZoneId, bool, Budget], Awaitable[ZoneOutcome]]
_MISSED = (Missing.ABSENT, Missing.OLDER, Missing.ODD, Missing.CONFLICT)


@dataclass(slots=True, eq=False)
class _WatchedZone:
    """A zone whose values are looked for; times are of the boot clock. It `is_new` until a first look has ended."""

    zone_id: ZoneId
    asked_at: float
    timer: Timer | None = None
    look: asyncio.Task[None] | None = None
    is_new: bool = True

    def stop(self) -> None:
        """Cancel the timer of the next look."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None


class Successions:
    """The zones that have followed others, and the search for those that will."""

    def __init__(
        self,
        network: Gets,
        state: CommitmentState,
        *,
        clock: Clock,
        later: Later,
        tell: Tell,
        counters: Counter[str],
        spawn: Callable[[Coroutine[None, None, None]], asyncio.Task[None]],
        on_revealed: Callable[[ZoneId], None],
    ) -> None:
        self._network = network
        self._state = state
        self._clock = clock
        self._later = later
        self._tell = tell
        self._counters = counters
        self._spawn = spawn
        self._on_revealed = on_revealed
        self._watches: OrderedDict[bytes, _WatchedZone] = OrderedDict()
        self._look_count = 0
        self._rate = RateLimit(LOOKS_PER_SECOND, LOOKS_BURST, clock())

    # The way from key to key.

    async def followed(
        self,
        zone_id: ZoneId,
        settled: bool,
        budget: Budget,
        *,
        entry_of: Callable[[ZoneId], KnownZone],
        fetch: Fetch,
    ) -> ZoneOutcome:
        """Return the outcome for a key: that of the last key that is known to follow it.

        The look-ups of the keys on the way are charged to the question, as those on the way to a delegation are.
        """
        way, earlier = [zone_id], dict[int, int]()
        while True:
            entry = entry_of(way[-1])
            if entry.kept is None or entry.kept.next_key is None:
                outcome = await fetch(way[-1], settled, _rest_of(budget, earlier))
                entry = entry_of(way[-1])
                await self._wait_for_value(entry, outcome, budget)
                if entry.kept is None or entry.kept.next_key is None:
                    return self._as_asked(entry_of(zone_id), way, outcome, earlier)
                if outcome.lookup:
                    earlier[outcome.lookup] = outcome.rpc_count
            following = zone_id_for(entry.kept.next_key)
            if following in way or len(way) >= HOPS_MAX:
                return NotFound(Missing.ENDLESS, followed=tuple(way[1:]), earlier=tuple(earlier.items()))
            way.append(following)

    def _as_asked(
        self, asked: KnownZone, way: list[ZoneId], outcome: ZoneOutcome, earlier: dict[int, int]
    ) -> ZoneOutcome:
        if len(way) == 1:
            return outcome
        followed, before = tuple(way[1:]), tuple(earlier.items())
        if isinstance(outcome, NotFound):
            return replace(outcome, followed=followed, earlier=before)
        apex = key_of(asked.zone_id).apex
        if asked.shown is None or asked.shown[0] is not outcome.zone:
            # Each question of a name would move the whole zone otherwise.
            asked.shown = outcome.zone, outcome.zone.at(apex)
        previous = None if outcome.previous is None else outcome.previous.at(apex)
        return replace(outcome, zone=asked.shown[1], previous=previous, followed=followed, earlier=before)

    async def _wait_for_value(self, entry: KnownZone, outcome: ZoneOutcome, budget: Budget) -> None:
        """Wait for the values of a zone, if they are being looked for and the outcome may change by them.

        That is so where the item is odd or absent; and at the first look for the values of a zone, if the outcome is
        settled and may thus deny what the next key has.
        """
        if entry.kept is None or entry.kept.next_key is not None:
            return
        self._asked(entry.zone_id)
        watch = self._watches.get(entry.zone_id.raw)
        if isinstance(outcome, Found):
            is_first = watch is not None and watch.is_new and outcome.settled
            is_missed = entry.refusal is not None or is_first
        else:
            is_missed = outcome.reason in _MISSED
        if is_missed and watch is not None and watch.look is not None:
            wait_s = min(WAIT_S_MAX, budget.deadline - self._clock())
            await asyncio.wait({watch.look}, timeout=max(0.0, wait_s))
        entry.kept = self._state.kept(entry.zone_id)

    # The search for values.

    def _asked(self, zone_id: ZoneId) -> _WatchedZone:
        """Note that a zone with a commitment is in use."""
        watch = self._watches.get(zone_id.raw)
        if watch is None:
            watch = self._watches[zone_id.raw] = _WatchedZone(zone_id, self._clock())
            # The first look after a start comes at a time of the key's own: all at once would be too many.
            self._arm(watch, HOUR_S * int.from_bytes(zone_id.raw[:4]) / 2**32)
            while len(self._watches) > WATCHED_MAX:
                self._watches.popitem(last=False)[1].stop()
        self._watches.move_to_end(zone_id.raw)
        watch.asked_at = self._clock()
        return watch

    def look_at_once(self, entry: KnownZone) -> None:
        """Look for the values of a zone whose item is odd or absent, or whose commitment is new to this reader.

        A zone that is new here may have moved to its next key long ago.
        """
        if entry.kept is None or entry.kept.next_key is not None:
            return
        watch = self._asked(entry.zone_id)
        if watch.look is None and not self._begun(watch):
            self._counters["value-looks-postponed"] += 1

    def forget(self, zone_id: ZoneId) -> None:
        """Look for the values of a zone no more."""
        watch = self._watches.pop(zone_id.raw, None)
        if watch is not None:
            watch.stop()

    def close(self) -> None:
        """Look for no value any more."""
        for watch in self._watches.values():
            watch.stop()
        self._watches.clear()

    def _arm(self, watch: _WatchedZone, seconds: float) -> None:
        watch.stop()
        watch.timer = self._later(seconds, lambda: self._due(watch))

    def _due(self, watch: _WatchedZone) -> None:
        watch.timer = None
        kept = self._state.kept(watch.zone_id)
        if self._clock() - watch.asked_at > HOUR_S or kept is None or kept.next_key is not None:
            # It is watched again when it is asked for.
            self._watches.pop(watch.zone_id.raw, None)
        elif watch.look is None and not self._begun(watch):
            self._arm(watch, RETRY_S)
        else:
            self._arm(watch, HOUR_S)

    def _begun(self, watch: _WatchedZone) -> bool:
        if self._look_count >= LOOKS_MAX or not self._rate.take(self._clock()):
            return False
        self._look_count += 1
        self._counters["value-looks"] += 1
        watch.look = self._spawn(self._look(watch))
        return True

    async def _look(self, watch: _WatchedZone) -> None:
        try:
            kept = self._state.kept(watch.zone_id)
            if kept is None or kept.next_key is not None:
                return
            believed: asyncio.Future[Succession] = asyncio.get_running_loop().create_future()

            def judge(item: Item) -> None:
                if believed.done() or not isinstance(item, ImmutableItem):
                    return
                try:
                    believed.set_result(Succession.verified(key_of(watch.zone_id), kept.commitment, item.value))
                except BadItem as error:
                    self._counters[f"value-{error.reason}"] += 1

            deadline = self._clock() + QUESTION_S_MAX
            wanted = [
                Wanted(target, rpc_max=VALUE_RPCS_MAX, deadline=deadline)
                for target in dict.fromkeys(kept.commitment.targets)
            ]
            await _ended(believed, [self._network.get(one, on_item=judge) for one in wanted])
            if believed.done():
                await self._reveal(watch.zone_id, believed.result())
        except Exception as error:
            # The hour comes round again.
            self._tell("search for a next key broke off", key=watch.zone_id, reason=repr(error))
        finally:
            self._look_count -= 1
            watch.look, watch.is_new = None, False

    async def _reveal(self, zone_id: ZoneId, succession: Succession) -> None:
        try:
            await self._state.succeed(zone_id, succession)
        except Exception as error:
            # Without the disk it is found again after a restart; the commitment is what protects the reader.
            self._tell("next key not stored", key=zone_id, reason=repr(error))
        self._counters["keys-succeeded"] += 1
        self._on_revealed(zone_id)


async def _ended(believed: asyncio.Future[Succession], gets: list[Awaitable[GetOutcome]]) -> None:
    """Wait for a value that is believed, or for the end of both look-ups."""
    waiting = [asyncio.ensure_future(get) for get in gets]
    for get in waiting:
        # The exception of a look-up is retrieved, so that asyncio does not log it: the next hour brings another one.
        get.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
    over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def look(_: object) -> None:
        if not over.done() and (believed.done() or all(get.done() for get in waiting)):
            over.set_result(None)

    believed.add_done_callback(look)
    for get in waiting:
        get.add_done_callback(look)
    try:
        await over
    finally:
        for get in waiting:
            get.cancel()


def _rest_of(budget: Budget, earlier: dict[int, int]) -> Budget:
    """Return what is left of a question's budget after the look-ups of the keys before."""
    if not earlier:
        return budget
    rpc_max = max(0, budget.rpc_max - sum(earlier.values()))
    return with_changes(budget, rpc_max=rpc_max, cold_get_max=max(0, budget.cold_get_max - len(earlier)))
