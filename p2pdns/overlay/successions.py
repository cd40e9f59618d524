"""The search for the values that tell the next key of a zone, and the way from a key to the one that follows it.

Guarantees: while a zone with a commitment is in use, both targets are looked up about once an hour, and at once when an
item of it is odd or none can be had; no question waits longer than `WAIT_S_MAX` for that, nor until its own end; a next
key is believed by `Succession.verified` alone, and is stored before it is used. Look-ups at once, their rate and their
requests are bounded, and no client prefix takes them all. Does not know how an item of a key is found.
"""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace

from p2pdns.dht.node.values import GetOutcome, Wanted
from p2pdns.errors import BadItem, Unavailable
from p2pdns.items.item import ImmutableItem, Item
from p2pdns.items.keys import ZoneId
from p2pdns.items.shards.content import moved
from p2pdns.items.succession import HOPS_MAX, Succession
from p2pdns.limits import QUESTION_S_MAX
from p2pdns.overlay.entries import NEVER, KnownZone
from p2pdns.overlay.parts import key_of, zone_id_for
from p2pdns.overlay.ports import CommitmentState, Gets, Means
from p2pdns.rates import PREFIXES_MAX, PrefixRates, RateLimit
from p2pdns.resolver.steps import Budget, Found, Missing, NotFound, ZoneOutcome
from p2pdns.timing import Later, Timer
from p2pdns.values import replace as with_changes

HOUR_S = 3_600.0  # A thief who keeps the commitment is followed for as long as that where one value can be found.
WAIT_S_MAX = 4.0  # A question has no longer life.
FOUND_WAIT_S_MAX = 1.0  # With an item in hand, the rest of the question is worth more than the values.
REST_S = 0.5  # Left to the question for what follows: zones in hand and the answer need no more.
WATCHED_MAX = 4_096  # Zones whose values are looked for, 200 bytes each; the least recently asked is watched no more.
LOOKS_MAX = 8  # At once; each is two look-ups.
LOOKS_PER_PREFIX_MAX = LOOKS_MAX // 2  # At once for the questions of one client prefix.
# WATCHED_MAX zones an hour are 1.14 a second, and cost 90 requests each.
LOOKS_PER_SECOND, LOOKS_BURST = 1.2, 64.0
# Of one client prefix, at once. A question may meet six new zones, and their values are outside its budget.
AT_ONCE_PER_SECOND, AT_ONCE_BURST = 0.1, 4.0
HOURLY_PER_SECOND, HOURLY_BURST = LOOKS_PER_SECOND / 2, LOOKS_BURST / 2  # Of one client prefix.
VALUE_RPCS_MAX = 100  # For each of the two targets: an absent target costs some 45.
RETRY_S = 60.0  # How long a look waits for room.
LOOK_GAP_S = 60.0  # Between two looks for one zone: a thief's items have every question ask for another one.

Fetch = Callable[[ZoneId, bool, Budget], Awaitable[ZoneOutcome]]
_MISSED = (Missing.ABSENT, Missing.OLDER, Missing.ODD, Missing.CONFLICT)


@dataclass(slots=True, eq=False)
class _WatchedZone:
    """A zone whose values are looked for; times are of the boot clock. It `is_new` until a first look has ended.

    It `is_postponed` if there was no room for a look, or the client prefix that asked last had no more of them.
    """

    zone_id: ZoneId
    asked_at: float = NEVER
    asked_by: str = ""
    looked_at: float = NEVER
    due_at: float = NEVER
    is_postponed: bool = False
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
        means: Means,
        network: Gets,
        state: CommitmentState,
        *,
        later: Later,
        is_kept_alive: Callable[[ZoneId], bool],
        on_revealed: Callable[[ZoneId], None],
    ) -> None:
        self._network = network
        self._state = state
        self._clock = means.clock
        self._later = later
        self._tell = means.tell
        self._counters = means.counters
        self._spawn = means.spawn
        self._is_kept_alive = is_kept_alive
        self._on_revealed = on_revealed
        self._watches: OrderedDict[bytes, _WatchedZone] = OrderedDict()
        self._look_count = 0
        self._look_count_of = Counter[str]()
        self._rate = RateLimit(LOOKS_PER_SECOND, LOOKS_BURST, means.clock())
        self._at_once = PrefixRates(AT_ONCE_PER_SECOND, AT_ONCE_BURST, PREFIXES_MAX, is_lasting=True)
        self._hourly = PrefixRates(HOURLY_PER_SECOND, HOURLY_BURST, PREFIXES_MAX, is_lasting=True)

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
                outcome = await fetch(way[-1], settled, rest_of(budget, earlier))
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

    def way(self, zone_id: ZoneId, entry_of: Callable[[ZoneId], KnownZone]) -> list[KnownZone]:
        """Return what is known of a zone and of those that have followed it, as far as questions follow them."""
        entries = [entry_of(zone_id)]
        while len(entries) < HOPS_MAX and (kept := entries[-1].kept) is not None and kept.next_key is not None:
            entry = entry_of(zone_id_for(kept.next_key))
            if entry in entries:
                break
            entries.append(entry)
        return entries

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
            asked.shown = outcome.zone, moved(outcome.zone, apex)
        previous = None if outcome.previous is None else moved(outcome.previous, apex)
        return replace(outcome, zone=asked.shown[1], previous=previous, followed=followed, earlier=before)

    async def _wait_for_value(self, entry: KnownZone, outcome: ZoneOutcome, budget: Budget) -> None:
        """Wait for the values of a zone, if they are being looked for and the outcome may change by them.

        That is so where the item is odd or absent; and at the first look for the values of a zone, if the outcome is
        settled and may thus deny what the next key has.
        """
        if entry.kept is None or entry.kept.next_key is not None:
            return
        watch = self._asked(entry)
        if watch.is_postponed and watch.look is None:
            # Another client's prefix may have had no look left, and this one has.
            self._has_begun(watch, budget.client_prefix, self._at_once)
        if isinstance(outcome, Found):
            is_missed, wait_s_max = entry.refusal is not None or (watch.is_new and outcome.settled), FOUND_WAIT_S_MAX
        else:
            is_missed, wait_s_max = outcome.reason in _MISSED, WAIT_S_MAX
        if is_missed and watch.look is not None:
            wait_s = min(wait_s_max, budget.deadline - self._clock() - REST_S)
            await asyncio.wait({watch.look}, timeout=max(0.0, wait_s))
        entry.kept = self._state.kept(entry.zone_id)

    # The search for values.

    def _asked(self, entry: KnownZone) -> _WatchedZone:
        """Note that a zone with a commitment is in use."""
        zone_id = entry.zone_id
        watch = self._watches.get(zone_id.raw)
        if watch is None:
            watch = self._watches[zone_id.raw] = _WatchedZone(zone_id)
            # The first look after a start comes at a time of the key's own: all at once would be too many.
            self._arm(watch, HOUR_S * int.from_bytes(zone_id.raw[:4]) / 2**32)
            while len(self._watches) > WATCHED_MAX:
                self._watches.popitem(last=False)[1].stop()
        self._watches.move_to_end(zone_id.raw)
        watch.asked_at, watch.asked_by = self._clock(), entry.asked_by
        return watch

    def look_at_once(self, entry: KnownZone, *, are_put: bool = False) -> None:
        """Look for the values of a zone whose item is odd or absent, or whose commitment is new to this reader.

        A zone that is new here may have moved to its next key long ago. Where the values `are_put`, by this node, no
        rate of a client counts.
        """
        if entry.kept is None or entry.kept.next_key is not None:
            return
        watch = self._asked(entry)
        if watch.look is not None:
            return
        wait_s = 0.0 if are_put else watch.looked_at + LOOK_GAP_S - self._clock()
        if wait_s <= 0.0 and self._has_begun(watch, watch.asked_by, None if are_put else self._at_once):
            return
        self._counters["value-looks-postponed"] += 1
        wait_s = wait_s if wait_s > 0.0 else RETRY_S
        if watch.timer is None or watch.due_at > self._clock() + wait_s:
            self._arm(watch, wait_s)

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
        watch.due_at = self._clock() + seconds
        watch.timer = self._later(seconds, lambda: self._due(watch))

    def _due(self, watch: _WatchedZone) -> None:
        watch.timer = None
        try:
            kept = self._state.kept(watch.zone_id)
        except Unavailable:
            # The disk may be readable again then. Without a timer the zone would never be looked for again.
            self._arm(watch, RETRY_S)
            return
        if self._clock() - watch.asked_at > HOUR_S or kept is None or kept.next_key is not None:
            # It is watched again when it is asked for.
            self._watches.pop(watch.zone_id.raw, None)
        elif watch.look is None and not self._has_begun(watch, watch.asked_by, self._hourly):
            self._arm(watch, RETRY_S)
        else:
            self._arm(watch, HOUR_S)

    def _has_begun(self, watch: _WatchedZone, prefix: str, rates: PrefixRates | None) -> bool:
        """Begin a look if there is room for it; `rates` are those of client prefixes, where they count."""
        now = self._clock()
        watch.is_postponed = True
        if self._look_count >= LOOKS_MAX or self._rate.left(now) < 1.0:
            return False
        if rates is None or self._is_relied_on(watch.zone_id):
            prefix = ""
        elif self._look_count_of[prefix] >= LOOKS_PER_PREFIX_MAX or not rates.take(prefix, now):
            return False
        self._rate.take(now)
        watch.is_postponed = False
        self._look_count += 1
        self._look_count_of[prefix] += 1
        self._counters["value-looks"] += 1
        watch.look = self._spawn(self._look(watch, prefix))
        return True

    def _is_relied_on(self, zone_id: ZoneId) -> bool:
        try:
            return self._is_kept_alive(zone_id)
        except Unavailable:
            return False

    async def _look(self, watch: _WatchedZone, prefix: str) -> None:
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
            self._look_count_of[prefix] -= 1
            # Only prefixes with a look under way are remembered.
            self._look_count_of += Counter()
            watch.look, watch.is_new, watch.looked_at = None, False, self._clock()

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


def rest_of(budget: Budget, earlier: Mapping[int, int]) -> Budget:
    """Return what is left of a question's budget after these look-ups."""
    if not earlier:
        return budget
    rpc_max = max(0, budget.rpc_max - sum(earlier.values()))
    return with_changes(budget, rpc_max=rpc_max, cold_get_max=max(0, budget.cold_get_max - len(earlier)))
