"""The publisher: committed before told, refused when older, put again while the node runs. Time is a number."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pdns.dht.krpc import NodeInfo
from p2pdns.dht.node.values import Cas, Inquiry, InquiryOutcome, Others, PutOutcome
from p2pdns.errors import Unavailable
from p2pdns.items.item import Item, MutableItem
from p2pdns.items.keys import SecretKey, ZoneId
from p2pdns.overlay.ports import OnProgress
from p2pdns.publishing import upkeep as publisher_module
from p2pdns.publishing.cycle import CYCLE_JITTER, STEP_S_MAX, KeptCycle
from p2pdns.publishing.dates import date_of
from p2pdns.publishing.upkeep import (
    JITTER,
    RETRY_S_MAX,
    RETRY_S_MIN,
    Publisher,
)
from p2pdns.state.marks import Reader
from tests.committed import ANOTHER, COMMITTED, OLD_ID, committed_item
from tests.overlay_doubles import Told
from tests.waiting import at_rest

ALICE = SecretKey.generate(b"\x01" * 32)
NOW = 1_800_000_000.0
SEQ = int(NOW * 1e6)
GOOD = PutOutcome(20, 20)
STEP_S = STEP_S_MAX * (1 - CYCLE_JITTER / 2)  # With a jitter that is always a half.


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
    answer: Callable[[Inquiry], InquiryOutcome] = lambda inquiry: InquiryOutcome()
    inquiries: list[Inquiry] = field(default_factory=list)
    kept: dict[bytes, KeptCycle] = field(default_factory=dict)
    is_disk_full: bool = False
    now: float = 0.0
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

    def inquire(self, inquiry: Inquiry) -> Awaitable[InquiryOutcome]:
        """Answer as the storer does; the time stands still."""
        self.inquiries.append(inquiry)
        future: asyncio.Future[InquiryOutcome] = asyncio.get_running_loop().create_future()
        future.set_result(self.answer(inquiry))
        return future

    def load_cycle(self, target: bytes) -> KeptCycle | None:
        """Return what an earlier process has kept."""
        return self.kept.get(target)

    async def save_cycle(self, target: bytes, kept: KeptCycle) -> None:
        """Keep it, or fail as a full disk does: without a word."""
        if not self.is_disk_full:
            self.kept[target] = kept

    def drop_cycle(self, target: bytes) -> None:
        """Keep nothing of it."""
        self.kept.pop(target, None)

    async def sleep(self, seconds: float) -> None:
        """Wait until `wake`."""
        self.pauses.append(seconds)
        sleeper: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._sleepers.append(sleeper)
        await sleeper

    async def wake(self) -> None:
        """End every sleep, and wait until everybody sleeps again; the time goes on by the last pause."""
        self.now += self.pauses[-1] if self.pauses else 0.0
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
            clock=lambda: self.now,
            unix_clock=lambda: NOW + self.now,
            tell=Told(),
            memory=self,
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
    # No storer is known, so none can be asked.
    assert world.pauses == pytest.approx([STEP_S] * 3)


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
    # The last put reached enough, so the cycle begins.
    assert world.pauses[-2:] == [RETRY_S_MAX, STEP_S_MAX]


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
    assert world.pauses[2] == STEP_S


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


STORERS = tuple(NodeInfo(bytes([number]) * 20, (f"10.0.{number}.1", 6_881)) for number in range(20))
KEPT_WELL = PutOutcome(20, 20, storers=STORERS)


def holding(world: World) -> Callable[[Inquiry], InquiryOutcome]:
    """Return the answers of storers that keep what was put last."""
    return lambda inquiry: InquiryOutcome(True, world.puts[-1], is_kept=inquiry.again is not None, request_count=1)


def test_after_an_hour_four_storers_are_asked_with_one_seq_less_and_nothing_is_put() -> None:
    world = World(outcomes=[KEPT_WELL])
    world.answer = holding(world)

    async def story(publisher: Publisher) -> None:
        await publisher.publish(item_of())
        await at_rest()
        await world.wake()
        assert publisher.counters["looks-enough"] == 1

    world.run(story)
    assert (len(world.puts), len(world.inquiries)) == (1, 4)
    assert {inquiry.seq for inquiry in world.inquiries} == {SEQ - 1}


def test_after_eight_hours_an_item_is_put_although_every_storer_has_it() -> None:
    world = World(outcomes=[KEPT_WELL] * 2)
    world.answer = holding(world)

    async def story(publisher: Publisher) -> None:
        await publisher.publish(item_of())
        await at_rest()
        for _ in range(8):
            await world.wake()
        assert publisher.counters["looks-enough"] == 7

    world.run(story)
    assert len(world.puts) == 2
    assert sum(world.pauses[:8]) == pytest.approx(8 * STEP_S)


def test_where_nodes_forget_the_copies_that_were_renewed_are_renewed_again_and_no_put_is_needed() -> None:
    world = World(outcomes=[KEPT_WELL])
    renewed: dict[NodeInfo, int] = {}

    def forgetting(inquiry: Inquiry) -> InquiryOutcome:
        # Until the third step no copy is two hours old; then only those have it that were put to again.
        has_it = len(world.inquiries) <= 8 or inquiry.contact in renewed
        if inquiry.again is not None:
            renewed[inquiry.contact] = 1
        is_kept = inquiry.again is not None
        return InquiryOutcome(True, world.puts[-1] if has_it else None, is_kept=is_kept, request_count=1 + is_kept)

    world.answer = forgetting

    async def story(publisher: Publisher) -> None:
        await publisher.publish(item_of())
        await at_rest()
        for _ in range(3):
            await world.wake()
        assert (publisher.counters["looks"], publisher.counters["looks-enough"]) == (3, 3)

    world.run(story)
    assert len(world.puts) == 1


def test_an_item_that_too_few_storers_show_is_put_at_once() -> None:
    world = World(outcomes=[KEPT_WELL] * 2)

    async def story(publisher: Publisher) -> None:
        await publisher.publish(item_of())
        await at_rest()
        await world.wake()
        assert publisher.counters["looks-lost"] == 1

    world.run(story)
    assert len(world.puts) == 2
    assert world.pauses == pytest.approx([STEP_S] * 2)


def test_a_storer_that_shows_a_newer_item_makes_us_look_for_it_and_put_that() -> None:
    world = World(outcomes=[KEPT_WELL] * 2)
    newer = item_of(SEQ + 1)
    world.answer = lambda inquiry: InquiryOutcome(True, newer, request_count=1)

    async def story(publisher: Publisher) -> None:
        await publisher.publish(item_of())
        await at_rest()

        async def look_up(zone_id: ZoneId) -> None:
            world.looked_up.append(zone_id)
            await world.state.adopt(newer, NOW)

        publisher = Publisher(
            world,
            world.state,
            clock=lambda: world.now,
            unix_clock=lambda: NOW + world.now,
            tell=Told(),
            memory=world,
            look_up=look_up,
            sleep=world.sleep,
            jitter=lambda: 0.5,
        )
        publisher.start()
        await at_rest()
        await world.wake()
        await publisher.close()

    world.run(story)
    assert ZoneId.of_key(ALICE.zone_key) in world.looked_up
    assert world.puts[-1] == newer


def restarted(world: World, age_s: float) -> World:
    """Return the world of the next process: the same disk, a later time, and a clock that begins anew."""
    later = World(outcomes=[KEPT_WELL], state=world.state, kept=world.kept)
    later.now = age_s
    later.puts = list(world.puts)
    later.answer = holding(later)
    return later


def test_a_restart_in_the_middle_of_a_cycle_looks_and_does_not_put() -> None:
    world = World(outcomes=[KEPT_WELL])
    world.answer = holding(world)
    later: list[World] = []

    async def story(publisher: Publisher) -> None:
        await publisher.publish(item_of())
        await at_rest()
        # No step of the way out: this is kill -9.
        later.append(restarted(world, 3 * 3_600.0))
        second = later[0].publisher()
        second.start()
        await at_rest()
        await later[0].wake()
        assert (len(later[0].puts), bool(later[0].inquiries)) == (1, True)
        for _ in range(5):
            await later[0].wake()
        await second.close()

    world.run(story)
    assert later[0].inquiries
    # Eight hours after the put it was put again, and not before.
    assert [item.seq for item in later[0].puts] == [SEQ, SEQ]
    assert later[0].now >= 7 * 3_600.0


def test_a_restart_without_a_memory_of_the_put_puts() -> None:
    world = World(outcomes=[KEPT_WELL])
    world.is_disk_full = True
    later: list[World] = []

    async def story(publisher: Publisher) -> None:
        await publisher.publish(item_of())
        await at_rest()
        later.append(restarted(world, 3 * 3_600.0))
        second = later[0].publisher()
        second.start()
        await at_rest()
        await later[0].wake()
        await second.close()

    world.run(story)
    assert len(later[0].puts) == 2


def test_a_full_disk_does_not_stop_the_upkeep() -> None:
    world = World(outcomes=[KEPT_WELL] * 2, is_disk_full=True)
    world.answer = holding(world)

    async def story(publisher: Publisher) -> None:
        await publisher.publish(item_of())
        await at_rest()
        for _ in range(8):
            await world.wake()
        assert (publisher.counters["looks-enough"], publisher.counters["republished"]) == (7, 1)

    world.run(story)


def test_what_is_released_is_put_no_more_and_its_mark_stays() -> None:
    world = World(outcomes=[KEPT_WELL])
    zone_id = ZoneId.of_key(ALICE.zone_key)

    async def story(publisher: Publisher) -> None:
        await publisher.publish(item_of())
        await at_rest()
        assert world.kept
        # Somebody has published through this daemon meanwhile: that item is not what is released.
        assert not publisher.release(zone_id, SEQ - 1)
        assert world.kept
        assert publisher.release(zone_id, SEQ)
        await world.wake()
        assert (publisher.kept, world.kept, world.state.kept_alive()) == ([], {}, [])
        mark = world.state.mark(zone_id)
        assert mark is not None
        assert mark.seq == SEQ
        with pytest.raises(Unavailable, match="is lower than"):
            await publisher.publish(item_of(SEQ - 1))

    world.run(story)
    assert len(world.puts) == 1


def test_in_a_small_network_the_copies_are_measured_right_after_each_put() -> None:
    few = PutOutcome(2, 2, storers=STORERS[:2])
    world = World(outcomes=[few, few])
    world.answer = holding(world)

    async def story(publisher: Publisher) -> None:
        await publisher.publish(item_of())
        await at_rest()
        await world.wake()
        measured = publisher.measured(ZoneId.of_key(ALICE.zone_key))
        assert (measured.acknowledged, measured.copies) == (2, 2)

    world.run(story)
    assert len(world.puts) == 2


def test_a_closed_overlay_is_a_silent_storer() -> None:
    world = World(outcomes=[KEPT_WELL] * 2)

    def closed(inquiry: Inquiry) -> InquiryOutcome:
        raise Unavailable("the overlay is closed")

    world.answer = closed

    async def story(publisher: Publisher) -> None:
        await publisher.publish(item_of())
        await at_rest()
        await world.wake()

    world.run(story)
    assert len(world.puts) == 2


@pytest.mark.parametrize("is_kept", [True, False], ids=["seen before", "in the item that it replaces"])
@pytest.mark.parametrize("commitment", [None, ANOTHER], ids=["none", "another"])
def test_a_publication_without_the_commitment_of_the_zone_is_refused_with_the_way_out(
    is_kept: bool, commitment: object
) -> None:
    world = World()

    async def story(publisher: Publisher) -> None:
        held = committed_item(COMMITTED, seq=SEQ)
        await world.state.adopt(held, NOW, own=True)
        if is_kept:
            await world.state.commitments.keep(OLD_ID, COMMITTED)
        with pytest.raises(Unavailable, match="lacks the zone's commitment") as caught:
            await publisher.publish(committed_item(commitment, seq=SEQ + 1))
        assert caught.value.hint is not None
        assert f"p2pdns forget {OLD_ID}" in caught.value.hint
        assert world.puts == []
        await publisher.publish(committed_item(COMMITTED, seq=SEQ + 2))
        # After that nobody is locked out, not even an owner who has lost the next key.
        publisher.forget(OLD_ID)
        world.state.forget(OLD_ID)
        await publisher.publish(committed_item(commitment, seq=SEQ + 3))

    world.run(story)


def test_an_owner_adds_a_first_commitment_to_a_zone_that_had_none() -> None:
    world = World()

    async def story(publisher: Publisher) -> None:
        await world.state.adopt(committed_item(None, seq=SEQ), NOW, own=True)
        await publisher.publish(committed_item(COMMITTED, seq=SEQ + 1))
        assert [item.seq for item in world.puts] == [SEQ + 1]

    world.run(story)
