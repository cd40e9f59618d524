"""Marks: what is shown was committed before, nothing falls below it at any clock, and nobody washes them out."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pdns.cli.inspect import Inspected, facts_of
from p2pdns.errors import Unavailable
from p2pdns.items.item import MutableItem
from p2pdns.overlay import marks as marks_module
from p2pdns.overlay.marks import NEW_MARKS_PER_SECOND
from p2pdns.overlay.parts import zone_id_of
from p2pdns.overlay.ports import Held, Mark
from p2pdns.resolver.steps import Found, Missing, NotFound
from tests.overlay_doubles import SECRETS, UNIX, A, B, C, Clock, FakeState, item_of
from tests.unit.overlay.test_finder import World, item_in, of, run
from tests.waiting import at_rest

DAY = 86_400.0
# Notes of `inspect`, which people read.
RATIONED = "this client has asked for too many new zones: no mark is kept of this one yet"
REFUSED = "no mark of this zone is kept on the disk: after a restart an older item could pass for the newest"
BEHIND = "this machine's clock is behind the newest item it has seen"
WWW = "www 300 A 192.0.2.1"
TWO_DAYS, FIFTY_DAYS = item_of("a", WWW, age_s=2 * DAY), item_of("a", "www 300 A 192.0.2.66", age_s=50 * DAY)


# Before the answer leaves.


def test_a_first_answer_waits_until_its_mark_is_committed_and_no_later_one_does() -> None:
    async def story() -> None:
        world = World()
        world.state.gate = asyncio.Event()
        tasks = [world.ask(), world.ask(settled=True)]
        await at_rest()
        world.dht.gets[0].on_item(TWO_DAYS)
        await at_rest()
        assert not any(task.done() for task in tasks)
        world.state.gate.set()
        await at_rest()
        assert (item_in(tasks[0].result()), of(tasks[0].result()).settled) == (TWO_DAYS, False)
        assert world.state.log == [(TWO_DAYS.seq, 0.0)]
        world.state.gate.clear()
        assert item_in(await world.ask()) == TWO_DAYS

    run(story())


def test_what_was_shown_provisionally_is_not_fallen_below_when_its_look_up_breaks_off() -> None:
    async def story() -> None:
        world = World(held=(FIFTY_DAYS, UNIX - DAY))
        task = world.ask()
        await at_rest()
        world.dht.gets[0].on_item(TWO_DAYS)
        await at_rest()
        assert item_in(task.result()) == TWO_DAYS
        world.dht.gets[0].future.set_exception(OSError("socket gone"))
        await at_rest()
        assert item_in(await world.answered()) == TWO_DAYS

    run(story())


def test_whoever_waits_for_a_commit_is_shown_the_newer_item_that_others_were_shown_meanwhile() -> None:
    newest = item_of("a", WWW, age_s=DAY)

    async def story() -> None:
        world = World()
        gate = world.state.gate = asyncio.Event()
        slow = world.ask()
        await at_rest()
        world.dht.gets[0].on_item(TWO_DAYS)
        await at_rest()
        # The disk is done with the second commit before it is with the first.
        world.state.gate = None
        world.dht.gets[0].on_item(newest)
        assert item_in(await world.ask()) == newest
        assert not slow.done()
        gate.set()
        await at_rest()
        assert item_in(slow.result()) == newest

    run(story())


def test_the_item_itself_is_kept_from_the_second_question_on() -> None:
    async def story() -> None:
        world = World(at_once=True)
        assert world.dht.items is not None
        world.dht.items[A] = TWO_DAYS
        await world.answered()
        assert world.state.kept == []
        await world.answered()
        assert world.state.kept == [A]

    run(story())


def test_an_item_of_which_the_disk_takes_no_mark_is_shown_with_a_note_and_not_fallen_below() -> None:
    async def story() -> None:
        world = World(at_once=True)
        assert world.dht.items is not None
        world.state.trouble = Unavailable("no space")
        world.dht.items[A] = TWO_DAYS
        shown = of(await world.answered(settled=True))
        assert (shown.item, shown.settled) == (TWO_DAYS, False)
        assert shown.notes == (REFUSED,)
        world.dht.items[A] = FIFTY_DAYS
        world.clock.turn(1_000)
        assert item_in(await world.answered(settled=True)) == TWO_DAYS

    run(story())


# Marks without their items.


def seq_only(item: MutableItem) -> FakeState:
    """Return the state of a reader that was killed after it had shown the item once."""
    return FakeState(seqs={zone_id_of(item): Mark(item.seq)})


def test_below_a_mark_of_which_only_the_seq_is_known_nothing_is_shown() -> None:
    async def story() -> None:
        world = World(state=seq_only(TWO_DAYS))
        provisional, settled = world.ask(), world.ask(settled=True)
        await at_rest()
        # Contacts that hold what was shown are asked for it, and the others leave out what is older.
        assert world.dht.gets[0].wanted.known_seq == TWO_DAYS.seq - 1
        world.dht.gets[0].on_item(FIFTY_DAYS)
        await at_rest()
        assert not provisional.done()
        world.dht.gets[0].end(FIFTY_DAYS)
        await at_rest()
        for task in (provisional, settled):
            outcome = task.result()
            assert isinstance(outcome, NotFound)
            assert outcome.reason is Missing.OLDER
        assert world.overlay.counters["items-below-the-mark"] == 2
        assert world.state.log == []

    run(story())


@pytest.mark.parametrize("value", ["192.0.2.1", "192.0.2.200", "192.0.2.0"])
def test_the_item_of_the_mark_serves_again_after_a_restart_and_so_does_another_of_its_seq(value: str) -> None:
    again = item_of("a", f"www 300 A {value}", age_s=2 * DAY)

    async def story() -> None:
        world = World(state=seq_only(TWO_DAYS))
        task = world.ask(settled=True)
        await at_rest()
        world.dht.gets[0].end(again)
        await at_rest()
        assert (item_in(task.result()), of(task.result()).settled) == (again, True)

    run(story())


@given(st.lists(st.tuples(st.integers(0, 4), st.sampled_from(["get", "arrive", "kill", "break"])), max_size=12))
@settings(max_examples=60, deadline=None)
def test_no_answer_falls_below_one_that_was_given_before_a_kill(history: list[tuple[int, str]]) -> None:
    items = [item_of("a", f"www 300 A 192.0.2.{number}", age_s=100 - number) for number in range(5)]

    async def story() -> None:
        world = World(at_once=True)
        highest = -1
        for number, what in history:
            item = items[number]
            world.clock.turn(1000)
            world.dht.items = {A: item}
            if what == "arrive":
                world.overlay.item_arrived(item.target, item)
            elif what == "kill":
                seq = world.state.seq_of(A)
                state = FakeState(seqs={} if seq is None else {A: Mark(seq)})
                world = World(at_once=True, state=state, clock=world.clock)
                world.dht.items = {A: item}
            await at_rest()
            outcome = await world.answered(settled=what != "break")
            if isinstance(outcome, Found):
                assert outcome.item.seq >= highest
                highest = outcome.item.seq
                assert world.state.seq_of(A) == highest
            else:
                assert item.seq < highest

    run(story())


# Clocks.


@pytest.mark.parametrize("behind_days", [40, 400, 20_000])
@pytest.mark.parametrize("is_item_held", [True, False])
def test_no_clock_that_is_behind_opens_a_way_below_a_mark(behind_days: int, is_item_held: bool) -> None:
    clock = Clock()
    clock.unix = max(0.0, UNIX - behind_days * DAY)
    state = FakeState({A: Held(TWO_DAYS, UNIX - 2 * DAY)}) if is_item_held else seq_only(TWO_DAYS)

    async def story() -> None:
        world = World(state=state, clock=clock)
        task = world.ask(settled=True)
        await at_rest()
        (get,) = world.dht.gets
        assert get.wanted.present is not None
        assert get.wanted.present.prefers(TWO_DAYS, FIFTY_DAYS), (
            "the look-up must not take the replayed one for the better"
        )
        get.on_item(FIFTY_DAYS)
        get.on_item(TWO_DAYS)
        get.end(FIFTY_DAYS)
        await at_rest()
        outcome = of(task.result())
        assert outcome.item == TWO_DAYS
        assert outcome.notes == (BEHIND,)
        world.clock.turn(400)
        world.dht.items = {A: FIFTY_DAYS}
        assert item_in(await world.answered(settled=True)) == TWO_DAYS

    run(story())


def test_a_clock_that_is_behind_makes_no_expired_item_fresh() -> None:
    clock = Clock()
    clock.unix = UNIX - 40 * DAY
    state = FakeState({B: Held(item_of("b", WWW, age_s=2 * DAY), 0.0)})

    async def story() -> None:
        world = World(at_once=True, state=state, clock=clock)
        assert world.dht.items is not None
        world.dht.items[A] = FIFTY_DAYS
        assert not of(await world.answered(settled=True)).fresh

    run(story())


def test_a_mark_of_a_clock_that_was_ahead_is_judged_by_no_clock_again() -> None:
    ahead = item_of("a", WWW, age_s=-40 * DAY)

    async def story() -> None:
        clock = Clock()
        clock.unix = UNIX + 40 * DAY
        world = World(at_once=True, clock=clock)
        world.dht.items = {A: ahead}
        assert of(await world.answered(settled=True)).notes == ()
        clock.unix = UNIX
        world = World(at_once=True, clock=clock, state=world.state)
        world.dht.items = {A: TWO_DAYS}
        outcome = of(await world.answered(settled=True))
        assert (outcome.item, outcome.notes) == (ahead, (BEHIND,))

    run(story())


# Room.


def test_a_client_makes_no_more_new_marks_than_its_budget_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(marks_module, "NEW_MARKS_BURST", 1.0)

    async def story() -> None:
        world = World(at_once=True)
        world.dht.items = {key: item_of(name, WWW) for name, key in zip("abc", (A, B, C), strict=True)}
        client = {"client_prefix": "192.0.2.0/24"}
        assert of(await world.answered(A, True, **client)).settled
        for _ in range(2):
            rationed = of(await world.answered(B, True, **client))
            assert (rationed.settled, rationed.notes) == (False, (RATIONED,))
        assert world.state.seq_of(B) is None
        # What has a mark costs nothing, and neither do zones that a person has named or trusts.
        assert of(await world.answered(A, True, **client)).notes == ()
        world.state.protected.add(C)
        assert of(await world.answered(C, True, **client)).settled
        # Another client is not concerned, and his answer makes the mark.
        assert of(await world.answered(B, True, client_prefix="198.51.100.0/24")).settled
        assert of(await world.answered(B, True, **client)).settled

    run(story())


def test_a_rationed_zone_gets_its_mark_when_there_is_room_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(marks_module, "NEW_MARKS_BURST", 1.0)

    async def story() -> None:
        world = World(at_once=True)
        world.dht.items = {A: item_of("a", WWW), B: item_of("b", WWW)}
        await world.answered(A, True)
        assert of(await world.answered(B, True)).notes == (RATIONED,)
        world.clock.turn(1 / NEW_MARKS_PER_SECOND)
        assert of(await world.answered(B, True)).notes == ()
        assert world.state.seq_of(B) is not None

    run(story())


def test_a_flood_of_prefixes_restores_no_spent_budget_of_new_marks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(marks_module, "NEW_MARKS_BURST", 1.0)
    monkeypatch.setattr(marks_module, "PREFIXES_MAX", 1)

    async def story() -> None:
        world = World(at_once=True)
        world.dht.items = {A: item_of("a", WWW), B: item_of("b", WWW), C: item_of("c", WWW)}
        assert of(await world.answered(A, True, client_prefix="loopback")).settled
        assert of(await world.answered(C, True, client_prefix="192.0.2.0/24")).settled
        assert of(await world.answered(B, True, client_prefix="loopback")).notes == (RATIONED,)

    run(story())


def test_a_signed_value_that_is_no_zone_makes_no_mark() -> None:
    async def story() -> None:
        world = World(at_once=True)
        world.dht.items = {A: MutableItem.signed(SECRETS["a"], TWO_DAYS.seq, b"i am no message")}
        assert isinstance(await world.answered(), NotFound)
        assert world.state.log == []

    run(story())


def test_forgetting_what_lies_ahead_leaves_the_other_zones_in_hand() -> None:
    async def story() -> None:
        world = World(at_once=True)
        ahead, sane = item_of("a", WWW, age_s=-DAY), item_of("b", WWW)
        world.dht.items = {A: ahead, B: sane}
        await world.answered(A, True)
        await world.answered(B, True)
        world.state.marks.pop(A)
        world.overlay.forget_above(sane.seq)
        world.dht.items[A] = TWO_DAYS
        assert item_in(await world.answered(A, True)) == TWO_DAYS
        assert item_in(await world.answered(B, True)) == sane
        assert [get.zone_id for get in world.dht.gets] == [A, B, A], "only what was forgotten is looked up again"

    run(story())


def test_an_older_item_that_is_put_here_forgives_no_failure() -> None:
    async def story() -> None:
        world = World(state=seq_only(TWO_DAYS))
        world.ask()
        await at_rest()
        world.dht.gets[0].end()
        await at_rest()
        world.overlay.item_arrived(FIFTY_DAYS.target, FIFTY_DAYS)
        assert isinstance(await world.answered(), NotFound)
        world.overlay.item_arrived(TWO_DAYS.target, TWO_DAYS)
        world.ask()
        await at_rest()
        assert len(world.dht.gets) == 2

    run(story())


def test_inspect_says_what_does_not_hold_of_an_item() -> None:
    assert facts_of(Inspected(TWO_DAYS, "the running daemon", False, (BEHIND,)), UNIX)["notes"] == [BEHIND]
    assert "notes" not in facts_of(Inspected(TWO_DAYS, "the running daemon", True), UNIX)
