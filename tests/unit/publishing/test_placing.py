"""Many items on their way: how many at a time, how often each is tried, and what is told meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from p2pdns.dht import krpc
from p2pdns.dht.lookup.verdict import Verdict
from p2pdns.dht.node.values import RATIONED, GetOutcome, PutOutcome, Wanted
from p2pdns.errors import Unavailable
from p2pdns.items.item import Item, MutableItem
from p2pdns.publishing.divided import Placed
from p2pdns.publishing.placing import (
    FETCHED_AT_ONCE_MAX,
    PLACED_AT_ONCE_MAX,
    RATIONED_TRIES_MAX,
    TRIES_MAX,
    fetch,
    place,
)
from p2pdns.publishing.replicas import PublishStage
from tests.unit.publishing.test_publication import SECRET

GOOD, POOR = PutOutcome(20, 20), PutOutcome(20, 3, {"timeout": 17})
SHORT_OF_RATIONS = PutOutcome(20, 3, {krpc.SERVER_ERROR: 17})


def items(count: int) -> list[MutableItem]:
    """Return items with salts."""
    return [MutableItem.signed(SECRET, 1, b"v%d" % number, b"s%015d" % number) for number in range(count)]


@dataclass
class Storers:
    """Nodes that take items as they are told; nothing ends before the loop has turned once."""

    outcomes: dict[bytes, list[PutOutcome | Exception]] = field(default_factory=dict)
    puts: list[MutableItem] = field(default_factory=list)
    under_way: int = 0
    most: int = 0

    async def put(self, item: MutableItem) -> PutOutcome:
        """Take an item, or not."""
        self.puts.append(item)
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        await asyncio.sleep(0)
        self.under_way -= 1
        left = self.outcomes.get(item.salt)
        outcome = left.pop(0) if left else GOOD
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


def placed(storers: Storers, some: list[MutableItem], told: list[PublishStage] | None = None) -> Placed:
    """Place items; each end of one takes a second of the clock."""
    seconds = iter(range(10_000))
    tell = (lambda stage: None) if told is None else told.append
    return asyncio.run(place(some, storers.put, clock=lambda: float(next(seconds)), tell=tell))


def test_every_item_is_put_once_where_all_is_well_and_few_at_a_time() -> None:
    storers, some = Storers(), items(100)
    assert placed(storers, some) == Placed()
    assert sorted(one.salt for one in storers.puts) == [one.salt for one in some]
    assert storers.most == PLACED_AT_ONCE_MAX


def test_the_progress_counts_and_estimates_what_is_left() -> None:
    told: list[PublishStage] = []
    placed(Storers(), items(20), told)
    assert [stage.facts["done"] for stage in told] == list(range(1, 21))
    assert str(told[9]) == "item 10 of 20 stored, about 10 s left"
    assert (told[9].share, told[-1].facts["seconds_left"]) == (0.5, 0.0)


def test_an_item_that_few_take_is_tried_again_and_told_in_the_end() -> None:
    some = items(3)
    storers = Storers({some[0].salt: [POOR, GOOD], some[1].salt: [POOR] * TRIES_MAX})
    assert placed(storers, some) == Placed((some[1],), {"timeout": 17})
    assert [storers.puts.count(one) for one in some] == [2, TRIES_MAX, 1]


def test_half_of_the_puts_failing_costs_one_more_put_each_and_loses_nothing() -> None:
    some = items(40)
    storers = Storers({one.salt: [POOR] for one in some[::2]})
    assert placed(storers, some) == Placed()
    assert len(storers.puts) == 60


def test_an_item_that_others_ration_is_put_until_it_is_taken() -> None:
    some = items(2)
    storers = Storers({some[0].salt: [SHORT_OF_RATIONS] * 20, some[1].salt: [SHORT_OF_RATIONS] * RATIONED_TRIES_MAX})
    assert placed(storers, some) == Placed((some[1],), {RATIONED: 17})
    assert storers.puts.count(some[1]) == RATIONED_TRIES_MAX


def test_with_nobody_there_it_says_so_and_a_closed_overlay_is_the_same() -> None:
    some = items(3)
    storers = Storers({one.salt: [PutOutcome(0, 0)] for one in some})
    done = placed(storers, some)
    assert (done.is_alone, len(done.poor), len(storers.puts)) == (True, 3, 3)
    storers = Storers({one.salt: [Unavailable("the overlay is closed")] for one in some})
    assert placed(storers, some).is_alone
    storers = Storers({some[0].salt: [PutOutcome(0, 0)]})
    assert not placed(storers, some).is_alone


@dataclass
class Finders:
    """Nodes that return items by target. With `never_ends` a look-up gives its first item and goes on for ever."""

    held: dict[bytes, MutableItem] = field(default_factory=dict)
    lost: int = 0  # So many look-ups find nothing.
    never_ends: bool = False
    stopped: int = 0
    under_way: int = 0
    most: int = 0

    def get(
        self, wanted: Wanted, *, on_item: Callable[[Item], None], on_patient: Callable[[], None] | None = None
    ) -> Awaitable[GetOutcome]:
        """Look an item up."""
        return self._get(wanted, on_item)

    async def _get(self, wanted: Wanted, on_item: Callable[[Item], None]) -> GetOutcome:
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            await asyncio.sleep(0)
            found = self.held.get(wanted.target)
            if self.lost:
                self.lost -= 1
                found = None
            if found is not None:
                on_item(found)
                if self.never_ends:
                    await asyncio.get_running_loop().create_future()
            return GetOutcome(found, Verdict.COMPLETE, 1, 0, 1, 1, None, 0.0, 0, 0, None)
        except asyncio.CancelledError:
            self.stopped += 1
            raise
        finally:
            self.under_way -= 1


def fetched(finders: Finders, salts: list[bytes]) -> dict[bytes, MutableItem]:
    """Look items up."""
    return dict(asyncio.run(fetch(finders, SECRET.zone_key, salts, clock=lambda: 0.0, tell=lambda stage: None)).items())


def test_items_are_looked_up_side_by_side_and_what_is_missing_is_left_out() -> None:
    some = items(100)
    finders = Finders({one.target: one for one in some[1:]})
    assert fetched(finders, [one.salt for one in some]) == {one.salt: one for one in some[1:]}
    assert finders.most == FETCHED_AT_ONCE_MAX


def test_a_look_up_of_an_item_ends_with_the_first_one_that_is_valid() -> None:
    some = items(5)
    finders = Finders({one.target: one for one in some}, never_ends=True)

    async def story() -> None:
        salts = [one.salt for one in some]
        found = await fetch(finders, SECRET.zone_key, salts, clock=lambda: 0.0, tell=lambda stage: None)
        assert len(found) == 5
        await asyncio.sleep(0)
        assert (finders.stopped, finders.under_way) == (5, 0)

    asyncio.run(story())


def test_one_look_up_that_finds_nothing_is_made_again() -> None:
    (one,) = items(1)
    assert fetched(Finders({one.target: one}, lost=1), [one.salt]) == {one.salt: one}
    assert fetched(Finders({one.target: one}, lost=2), [one.salt]) == {}
