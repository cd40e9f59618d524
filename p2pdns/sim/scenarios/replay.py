"""The scenario `replay`: zones are published and updated, while some machines serve the oldest item that they ever had.

Guarantees: a reader that was shown the newer edition and is shown less is a finding; how often a new reader is told the
older one is a figure without a goal. Does not know how it is shown.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from p2pdns.clock import boot_now, unix_now
from p2pdns.items.item import MutableItem
from p2pdns.items.keys import ZoneId
from p2pdns.limits import QUESTION_S_MAX
from p2pdns.overlay.finder import Overlay
from p2pdns.overlay.parts import zone_id_of
from p2pdns.overlay.ports import CommitmentState, Gets, Held, Mark, ReaderState
from p2pdns.resolver.steps import Budget, Found
from p2pdns.sim.behaviours import Replay, casting
from p2pdns.sim.intervals import Shared, shared
from p2pdns.sim.memory import MemoryState
from p2pdns.sim.report import Report, Scale
from p2pdns.sim.scenarios.story import drawn_weather, one_after_another
from p2pdns.sim.world import Look, Owner, Progress, World

QUIET_S = 60.0  # Between the two editions.
REPLAYING_SHARES = (0.0, 0.05, 0.2)


@dataclass(frozen=True)
class ReplayRow:
    """The readers of one share of replaying machines.

    `stale_first`: new readers whose first answer was the older edition; `stale_settled`: those that were told it as the
    newest. `shown_less`: readers with a mark of the newer edition and no item, as after a restart, that were shown the
    older one; `went_without` were shown none.
    """

    replaying: float
    gets: int
    newest: int
    stale_first: Shared
    stale_settled: Shared
    shown_less: Shared
    went_without: int

    def cells(self) -> dict[str, str]:
        """Return the texts of the line by the title of their column."""
        return {
            "replaying": f"{self.replaying:.0%}",
            "newest": f"{self.newest} of {self.gets}",
            "first answer stale": str(self.stale_first),
            "stale and settled": str(self.stale_settled),
            "less than seen": str(self.shown_less),
            "none instead": str(self.went_without),
        }


class MarksAlone:
    """The state of a reader whose marks are on the disk and whose items are not: after a kill, most items are not."""

    def __init__(self, state: ReaderState) -> None:
        self._state = state

    @property
    def newest_seq(self) -> int | None:
        """Return the highest seq of all."""
        return self._state.newest_seq

    @property
    def commitments(self) -> CommitmentState:
        """Return what is kept of commitments."""
        return self._state.commitments

    def mark(self, zone_id: ZoneId) -> Mark | None:
        """Return the highest seq of a zone."""
        return self._state.mark(zone_id)

    def is_protected(self, zone_id: ZoneId) -> bool:
        """Return whether the zone is this reader's own."""
        return self._state.is_protected(zone_id)

    def keep(self, zone_id: ZoneId) -> None:
        """Keep nothing."""

    def held(self, zone_id: ZoneId) -> Held | None:
        """Return nothing."""
        return None

    async def adopt(self, item: MutableItem, confirmed_unix: float, *, own: bool = False) -> None:
        """Raise the mark of the item's zone to the item."""
        await self._state.adopt(item, confirmed_unix, own=own)


def replay(scale: Scale, progress: Progress, shares: Sequence[float] = REPLAYING_SHARES) -> Report:
    """Grow the same world for each share of replaying machines; publish, update, and look up."""
    _, weather, draw = drawn_weather(scale.seed)
    stories = [partial(_story, share, progress) for share in shares]
    return one_after_another(Report("replay", scale, draw), weather, progress, stories)


async def _story(share: float, progress: Progress, world: World, report: Report) -> None:
    scale = report.scale
    world.cast = casting(scale.seed, scale.nodes, {Replay: share})
    await world.grow(scale.nodes)
    await world.publish(scale.zones)
    await asyncio.sleep(QUIET_S)
    newest = [await _updated(owner) for owner in world.owners]
    looks, shown = [], []
    for number in range(scale.gets):
        owner, item = world.owners[number % scale.zones], newest[number % scale.zones]
        looks.append(await world.look_up(owner))
        shown += await shown_to_marked(world, owner, item)
        progress(f"looking up, {share:.0%} replaying,", number + 1, scale.gets)
    label = f"{share:.0%} replaying"
    report.picture.first_s[label] = [look.first_s for look in looks if look.first_s is not None]
    report.picture.done_s[label] = [look.outcome.done_s for look in looks]
    row = row_of(share, looks, shown)
    report.rows.append(row)
    report.findings += mark_findings(row)
    report.findings += world.findings()


async def _updated(owner: Owner) -> MutableItem:
    item = owner.next_item()
    await owner.engine.publisher.publish(item)
    return item


async def shown_to_marked(world: World, owner: Owner, newest: MutableItem) -> list[bool | None]:
    """Return what a reader that has seen the newest edition is shown of the zone afterwards.

    It is asked for a first and for a settled answer: True is the newest, False is less, None is nothing. A reader that
    does not come to see the newest edition gives no answer here.
    """
    endpoint, state = world.reader_of(owner).endpoint, MemoryState()
    zone_id = zone_id_of(newest)
    before = _overlay(world, endpoint, state)
    seen = await before.zone(zone_id, True, _budget())
    await before.close()
    if not isinstance(seen, Found) or seen.item != newest:
        return []
    shown: list[bool | None] = []
    for settled in (False, True):
        overlay = _overlay(world, endpoint, MarksAlone(state))
        found = await overlay.zone(zone_id, settled, _budget())
        await overlay.close()
        shown.append(found.item.seq >= newest.seq if isinstance(found, Found) else None)
    return shown


def _overlay(world: World, network: Gets, state: ReaderState) -> Overlay:
    return Overlay(network, state, clock=boot_now, unix_clock=unix_now, tell=world.told)


def _budget() -> Budget:
    return Budget(deadline=boot_now() + QUESTION_S_MAX)


def is_stale_and_settled(look: Look) -> bool:
    """Return whether a reader was told an older edition as the newest, by the rule of the overlay."""
    outcome = look.outcome
    return (
        is_stale(look.shown_seq, look)
        and outcome.item is not None
        and outcome.complete
        and outcome.confirmation.is_of(outcome.item)
    )


def is_stale(seq: int | None, look: Look) -> bool:
    """Return whether a seq is that of an older edition."""
    return seq is not None and seq < look.wanted_seq


def row_of(replaying: float, looks: Sequence[Look], shown: Sequence[bool | None]) -> ReplayRow:
    """Return the figures of new readers, and of those with a mark."""
    return ReplayRow(
        replaying=replaying,
        gets=len(looks),
        newest=sum(look.shown_seq == look.wanted_seq for look in looks),
        stale_first=shared(sum(is_stale(look.first_seq, look) for look in looks), len(looks)),
        stale_settled=shared(sum(map(is_stale_and_settled, looks)), len(looks)),
        shown_less=shared(sum(one is False for one in shown), len(shown)),
        went_without=sum(one is None for one in shown),
    )


def mark_findings(row: ReplayRow) -> list[str]:
    """Return the fault of readers that were shown less than they had seen."""
    less = row.shown_less
    if not less.count:
        return []
    return [f"{less.count} of {less.of} readers were shown less than they had seen"]
