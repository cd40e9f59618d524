"""The publisher: committed before told, refused when older, put again while the node runs. Time is a number."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pdns.dht.node.values import Cas, Others, PutOutcome
from p2pdns.errors import Unavailable
from p2pdns.items.item import Item, MutableItem
from p2pdns.items.keys import SecretKey, ZoneId
from p2pdns.overlay.ports import OnProgress
from p2pdns.publishing import upkeep as publisher_module
from p2pdns.publishing.dates import date_of
from p2pdns.publishing.upkeep import (
    JITTER,
    REPUBLISH_S,
    RETRY_S_MAX,
    RETRY_S_MIN,
    Publisher,
)
from p2pdns.state.marks import Reader
from tests.overlay_doubles import Told
from tests.waiting import at_rest

ALICE = SecretKey.generate(b"\x01" * 32)
NOW = 1_800_000_000.0
SEQ = int(NOW * 1e6)
GOOD = PutOutcome(20, 20)


def item_of(seq: int = SEQ, value: bytes = b"v", secret: SecretKey = ALICE) -> MutableItem:
    """Return an item of Alice's."""
    return MutableItem.signed(secret, seq, value)


@dataclass
class World:
    """A fake overlay with a clock of its own: `pauses` are what the publisher waited, `puts` what it put."""

    outcomes: list[PutOutcome | Exception] = field(default_factory=list)
    jitter: float = 0.5
    puts: list[MutableItem] = field(default_factory=list)
    cas: list[Cas | None] = field(default_factory=list)
    pauses: list[float] = field(default_factory=list)
    published: list[MutableItem] = field(default_factory=list)
    looked_up: list[ZoneId] = field(default_factory=list)
    state: Reader = field(default_factory=lambda: Reader(None))
    on_put: Callable[[MutableItem], None] = lambda item: None
    _sleepers: list[asyncio.Future[None]] = field(default_factory=list)

    def put(
        self, item: Item, *, cas: Cas | None = None, on_progress: OnProgress | None = None
    ) -> Awaitable[PutOutcome]:
        """Put as told by `outcomes`, well when they are used up."""
        assert isinstance(item, MutableItem)
        self.on_put(item)
        self.puts.append(item)
        self.cas.append(cas)
        outcome = self.outcomes.pop(0) if self.outcomes else GOOD
        future: asyncio.Future[PutOutcome] = asyncio.get_running_loop().create_future()
        if isinstance(outcome, Exception):
            future.set_exception(outcome)
        else:
            if on_progress is not None:
                on_progress(outcome.sent_count, outcome.stored_count)
            future.set_result(outcome)
        return future

    async def sleep(self, seconds: float) -> None:
        """Wait until `wake`."""
        self.pauses.append(seconds)
        sleeper: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._sleepers.append(sleeper)
        await sleeper

    async def wake(self) -> None:
        """End every sleep, and wait until everybody sleeps again."""
        sleepers, self._sleepers = self._sleepers, []
        for sleeper in sleepers:
            if not sleeper.done():
                sleeper.set_result(None)
        await at_rest()

    async def look_up(self, zone_id: ZoneId) -> None:
        """Note that somebody wants to know what is newest."""
        self.looked_up.append(zone_id)

    def publisher(self) -> Publisher:
        """Return a publisher in this world."""
        return Publisher(
            self,
            self.state,
            clock=lambda: 0.0,
            unix_clock=lambda: NOW,
            tell=Told(),
            on_published=self.published.append,
            look_up=self.look_up,
            sleep=self.sleep,
            jitter=lambda: self.jitter,
        )

    def run(self, story: Callable[[Publisher], Coroutine[Any, Any, None]]) -> None:
        """Tell a story about one publisher."""

        async def told() -> None:
            publisher = self.publisher()
            try:
                await story(publisher)
            finally:
                await publisher.close()

        asyncio.run(told())
        self.state.close()


def test_an_item_is_committed_and_shown_before_it_is_put() -> None:
    world = World()

    def check(item: MutableItem) -> None:
        held = world.state.held(ZoneId.of_key(item.key))
        assert held is not None
        assert (held.item, held.is_own) == (item, True)
        assert world.published == [item]

    world.on_put = check

    async def story(publisher: Publisher) -> None:
        progress: list[tuple[int, int]] = []
        outcome = await publisher.publish(item_of(), lambda sent, stored: progress.append((sent, stored)))
        assert outcome == GOOD
        assert progress == [(20, 20)]

    world.run(story)
    assert world.puts == [item_of()]


@pytest.mark.parametrize(
    ("item", "words"),
    [
        (item_of(SEQ - 1), rf"seq {SEQ - 1} is lower than {SEQ}, the newest known of this key"),
        (item_of(SEQ, b"a"), rf"seq {SEQ} was published before, with another value"),
        (item_of(SEQ + 2 * 86_400 * 1_000_000), "more than a day ahead of this machine's clock"),
    ],
    ids=["older", "same seq", "future"],
)
def test_what_readers_would_not_take_is_refused_before_anything_happens(item: MutableItem, words: str) -> None:
    world = World()

    async def story(publisher: Publisher) -> None:
        await publisher.publish(item_of())
        with pytest.raises(Unavailable, match=words) as caught:
            await publisher.publish(item)
        assert str(caught.value).startswith(str(ALICE.zone_key))
        assert caught.value.hint

    world.run(story)
    assert world.puts == [item_of()]
    assert world.published == [item_of()]


FUTURE = SEQ + 3 * 86_400 * 1_000_000


def test_a_refusal_below_a_mark_from_the_future_names_its_date_the_time_and_the_command() -> None:
    world = World()

    async def story(publisher: Publisher) -> None:
        await world.state.adopt(item_of(FUTURE), NOW, own=True)
        with pytest.raises(Unavailable, match=r"publish again after .* UTC, in \d+ d \d+ h \d+ min") as caught:
            await publisher.publish(item_of())
        assert date_of(FUTURE) in str(caught.value)
        assert "p2pdns publish --take-back" in str(caught.value.hint)
        # Told to forget, it publishes the saner one.
        publisher.forget(ZoneId.of_key(ALICE.zone_key))
        assert world.state.forget(ZoneId.of_key(ALICE.zone_key))
        assert await publisher.publish(item_of()) == GOOD

    world.run(story)
    assert world.puts == [item_of()]


def test_an_own_item_from_the_future_is_not_put_again_and_status_says_so() -> None:
    world = World()

    async def story(publisher: Publisher) -> None:
        await world.state.adopt(item_of(FUTURE), NOW, own=True)
        publisher.start()
        await at_rest()
        for _ in range(3):
            await world.wake()
        assert (world.puts, publisher.counters["held-back"]) == ([], 3)
        [warning] = publisher.warnings
        assert "p2pdns publish --take-back" in warning
        assert date_of(FUTURE) in warning
        publisher.forget(ZoneId.of_key(ALICE.zone_key))
        assert world.state.forget(ZoneId.of_key(ALICE.zone_key))
        await publisher.publish(item_of())
        await at_rest()
        await world.wake()
        assert (world.puts, publisher.warnings) == ([item_of(), item_of()], [])

    world.run(story)


def test_publishing_the_same_item_again_is_no_mistake() -> None:
    world = World()

    async def story(publisher: Publisher) -> None:
        await publisher.publish(item_of())
        await publisher.publish(item_of())
        assert len(publisher.kept) == 1

    world.run(story)
    assert len(world.puts) == 2


def test_an_item_is_put_again_every_hour_in_its_newest_form() -> None:
    world = World()

    async def story(publisher: Publisher) -> None:
        await publisher.publish(item_of())
        await at_rest()
        await world.wake()
        await world.state.adopt(item_of(SEQ + 1), NOW)
        await world.wake()
        assert publisher.counters["republished"] == 2

    world.run(story)
    assert [item.seq for item in world.puts] == [SEQ, SEQ, SEQ + 1]
    assert world.pauses == [REPUBLISH_S] * 3


def test_a_put_that_reached_too_few_is_repeated_soon_and_ever_less_often() -> None:
    world = World(outcomes=[PutOutcome(0, 0)] * 12, jitter=0.0)

    async def story(publisher: Publisher) -> None:
        outcome = await publisher.publish(item_of())
        assert outcome.sent_count == 0
        await at_rest()
        for _ in range(12):
            await world.wake()

    world.run(story)
    assert world.pauses[:5] == [RETRY_S_MIN, RETRY_S_MIN, 30.0, 60.0, 120.0]
    # The last put reached enough, so the hour begins.
    assert world.pauses[-2:] == [RETRY_S_MAX, REPUBLISH_S * (1 - JITTER)]


def test_a_zone_published_while_the_others_were_still_joining_is_put_again_soon() -> None:
    # All of four nodes hold it, and a minute later there are twenty that do not.
    world = World(outcomes=[PutOutcome(4, 4), PutOutcome(7, 7), PutOutcome(8, 8)], jitter=0.5)

    async def story(publisher: Publisher) -> None:
        await publisher.publish(item_of())
        await at_rest()
        await world.wake()
        await world.wake()

    world.run(story)
    assert world.pauses[0] == RETRY_S_MIN
    assert RETRY_S_MIN * (1 - JITTER) <= world.pauses[1] <= RETRY_S_MIN
    assert world.pauses[2] == REPUBLISH_S


def test_an_overlay_that_is_closed_does_not_end_the_keeping_alive() -> None:
    world = World(outcomes=[GOOD, Unavailable("the overlay was closed")])

    async def story(publisher: Publisher) -> None:
        await publisher.publish(item_of())
        await at_rest()
        await world.wake()
        await world.wake()

    world.run(story)
    assert len(world.puts) == 3


def test_a_node_that_holds_a_newer_item_makes_us_look_for_it() -> None:
    world = World(outcomes=[GOOD, PutOutcome(20, 0, {302: 20})])

    async def story(publisher: Publisher) -> None:
        await publisher.publish(item_of())
        await at_rest()
        await world.wake()

    world.run(story)
    assert world.looked_up == [ZoneId.of_key(ALICE.zone_key)]


def test_a_start_puts_what_earlier_runs_have_published_and_spreads_it() -> None:
    world = World()
    secrets = [SecretKey.generate(bytes([number]) * 32) for number in range(1, 9)]

    async def story(publisher: Publisher) -> None:
        for secret in secrets:
            await world.state.adopt(item_of(secret=secret), NOW, own=True)
        await world.state.adopt(item_of(secret=SecretKey.generate(b"\x77" * 32)), NOW)
        publisher.start()
        await at_rest()
        assert world.puts == []
        await world.wake()

    world.run(story)
    assert {item.key for item in world.puts} == {secret.zone_key for secret in secrets}
    assert world.pauses[:8] == [0.5 * 0.25 * 8] * 8


def test_a_pinned_zone_of_somebody_else_is_kept_alive_over_a_restart() -> None:
    world = World()

    async def story(publisher: Publisher) -> None:
        with pytest.raises(Unavailable, match="no item is known that could be pinned"):
            await publisher.pin(ZoneId.of_key(ALICE.zone_key))
        await world.state.adopt(item_of(), NOW)
        assert await publisher.pin(ZoneId.of_key(ALICE.zone_key)) == item_of()
        await at_rest()
        await world.wake()

    world.run(story)
    assert world.puts == [item_of()]


def test_what_is_forgotten_is_put_no_more() -> None:
    world = World()

    async def story(publisher: Publisher) -> None:
        await publisher.publish(item_of())
        await at_rest()
        publisher.forget(ZoneId.of_key(ALICE.zone_key))
        publisher.forget(ZoneId.of_key(ALICE.zone_key))
        await world.wake()
        assert len(publisher.kept) == 0

    world.run(story)
    assert len(world.puts) == 1


def test_one_node_keeps_only_so_many_zones_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publisher_module, "KEPT_ALIVE_MAX", 1)
    world = World()

    async def story(publisher: Publisher) -> None:
        await publisher.publish(item_of())
        with pytest.raises(Unavailable, match="keeps 1 zones alive already"):
            await publisher.publish(item_of(secret=SecretKey.generate(b"\x05" * 32)))
        await publisher.publish(item_of(SEQ + 1))

    world.run(story)


@given(sent=st.integers(0, 20), stored=st.integers(0, 20))
def test_more_than_half_of_the_others_and_at_least_one_is_enough(sent: int, stored: int) -> None:
    stored = min(sent, stored)
    enough = sent >= 1 and stored > sent / 2
    assert PutOutcome(sent, stored).others.is_enough == enough
    # Our own copy is none of them, and those that could not be asked are some.
    assert PutOutcome(sent, stored, is_kept_here=True).others.is_enough == enough
    assert PutOutcome(sent, stored, passed_count=1).others.is_enough == (min(20, sent + 1) < 2 * stored)


# Where it is


def test_what_no_other_node_has_is_known_until_one_has_it() -> None:
    only_here = PutOutcome(0, 0, is_kept_here=True)
    world = World(outcomes=[only_here, PutOutcome(20, 4, {"timeout": 16}), GOOD, PutOutcome(0, 0)])

    async def story(publisher: Publisher) -> None:
        key = ALICE.zone_key
        assert publisher.copies(ZoneId.of_key(key)) is None
        await publisher.publish(item_of())
        await at_rest()
        told: list[tuple[str | None, list[str]]] = []
        for _ in range(4):
            copies = publisher.copies(ZoneId.of_key(key))
            assert copies is not None
            told.append((copies.trouble, publisher.warnings))
            await world.wake()
        assert told == [
            (
                "only this machine has it: no other node is known",
                [f"zone {key}: only 0 other nodes keep it, 20 are wanted"],
            ),
            (
                "only 4 of 20 other nodes and this machine have it",
                [f"zone {key}: only 4 other nodes keep it, 20 are wanted"],
            ),
            (None, []),
            # The network is away: the others hold it still, and how many will be seen when it is back.
            (None, [f"zone {key}: only 0 other nodes keep it, 20 are wanted"]),
        ]
        publisher.forget(ZoneId.of_key(key))
        assert (publisher.copies(ZoneId.of_key(key)), publisher.warnings) == (None, [])

    world.run(story)


def test_after_a_restart_nothing_is_said_that_only_the_last_run_could_know() -> None:
    world = World(outcomes=[PutOutcome(0, 0)])

    async def story(publisher: Publisher) -> None:
        await world.state.adopt(item_of(), NOW, own=True)
        publisher.start()
        assert publisher.copies(ZoneId.of_key(ALICE.zone_key)) is None
        await at_rest()
        await world.wake()
        copies = publisher.copies(ZoneId.of_key(ALICE.zone_key))
        assert copies is not None
        assert copies.trouble == "no other node has taken it since this daemon has started"

    world.run(story)


def test_a_newer_publication_begins_its_own_count() -> None:
    world = World(outcomes=[GOOD, PutOutcome(0, 0)])

    async def story(publisher: Publisher) -> None:
        await publisher.publish(item_of())
        await publisher.publish(item_of(SEQ + 1))
        copies = publisher.copies(ZoneId.of_key(ALICE.zone_key))
        assert copies is not None
        assert copies.best == Others(0, 0)

    world.run(story)


def test_many_zones_that_few_keep_are_one_warning_each_up_to_five() -> None:
    world = World(outcomes=[PutOutcome(3, 3)] * 8)

    async def story(publisher: Publisher) -> None:
        for number in range(1, 9):
            await publisher.publish(item_of(secret=SecretKey.generate(bytes([number]) * 32)))
        assert len(publisher.warnings) == 6
        assert publisher.warnings[0].endswith(": only 3 other nodes keep it, 20 are wanted")
        assert publisher.warnings[5] == "and so it is with 3 more zones"

    world.run(story)


def test_a_put_with_cas_passes_it_on_and_leaves_it_to_the_caller_to_see_a_newer_item() -> None:
    world, newer = World(), item_of(SEQ + 9, b"newer")

    async def story(publisher: Publisher) -> None:
        def arrives(item: MutableItem) -> None:
            task.append(asyncio.ensure_future(world.state.adopt(newer, NOW)))

        task: list[asyncio.Future[None]] = []
        world.on_put = arrives
        assert await publisher.publish(item_of(), cas=(7, 8)) == GOOD
        await asyncio.gather(*task)

    world.run(story)
    assert world.cas[0] == (7, 8)
