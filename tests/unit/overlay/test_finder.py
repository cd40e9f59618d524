"""The overlay: who waits for whom, what is shown when, what is remembered."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pdns.dht.lookup.verdict import Verdict
from p2pdns.errors import Unavailable
from p2pdns.items.item import MutableItem
from p2pdns.items.keys import SecretKey, ZoneId
from p2pdns.limits import QUESTION_S_MAX
from p2pdns.overlay import lookups as lookups_module
from p2pdns.overlay.entries import LOOKUP_RPCS_USUAL, Slots
from p2pdns.overlay.finder import Overlay
from p2pdns.overlay.parts import zone_id_of
from p2pdns.overlay.ports import Held
from p2pdns.resolver.names import tag_of_zone
from p2pdns.resolver.steps import Budget, Found, Missing, NotFound, ZoneOutcome
from tests.overlay_doubles import (
    KEYS,
    NOW,
    SECRETS,
    UNIX,
    A,
    B,
    C,
    Clock,
    FakeDht,
    FakeState,
    Told,
    item_of,
)
from tests.waiting import at_rest

WWW = "www 300 A 192.0.2.1"
OLD, NEW = item_of("a", WWW, age_s=100), item_of("a", "www 300 A 192.0.2.2")
DAY = 86_400.0
OVERLAYS: list[Overlay] = []


class World:
    """An overlay among stand-ins."""

    def __init__(
        self,
        *,
        held: tuple[MutableItem, float] | None = None,
        at_once: bool = False,
        state: FakeState | None = None,
        clock: Clock | None = None,
        **limits: Any,
    ) -> None:
        self.clock = clock or Clock()
        self.dht = FakeDht({} if at_once else None)
        self.state = state or FakeState()
        if held is not None:
            self.state.marks[zone_id_of(held[0])] = Held(*held)
        self.invalidated: list[bytes] = []
        self.told = Told()
        self.overlay = Overlay(
            self.dht,
            self.state,
            clock=self.clock.boot,
            unix_clock=self.clock.wall,
            tell=self.told,
            later=self.clock.later,
            on_invalidate=lambda tags: self.invalidated.extend(tags),
            **limits,
        )
        OVERLAYS.append(self.overlay)

    def ask(
        self, zone_id: ZoneId = A, settled: bool = False, *, wait_s: float = 60.0, **budget: Any
    ) -> asyncio.Task[ZoneOutcome]:
        """Ask for an item; the deadline is far away unless the test wants it near."""
        facts = Budget(self.clock.now + wait_s, **budget)
        return asyncio.create_task(self.overlay.zone(zone_id, settled, facts))

    async def answered(self, zone_id: ZoneId = A, settled: bool = False, **budget: Any) -> ZoneOutcome:
        """Return what is known without a look-up."""
        task = self.ask(zone_id, settled, **budget)
        await at_rest()
        assert task.done(), "a look-up is waited for"
        return task.result()


def run(story: Coroutine[Any, Any, None]) -> None:
    """Run a test's story, and close what it has opened; no task may break unseen."""
    unseen: list[dict[str, Any]] = []

    async def whole() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda loop, trouble: unseen.append(trouble))
        try:
            await asyncio.wait_for(story, 30)
        finally:
            while OVERLAYS:
                await OVERLAYS.pop().close()

    asyncio.run(whole())
    assert unseen == []


def of(outcome: ZoneOutcome) -> Found:
    """Return the outcome, which has an item."""
    assert isinstance(outcome, Found), outcome
    return outcome


def item_in(outcome: ZoneOutcome) -> MutableItem:
    """Return the item that was found."""
    return of(outcome).item


def test_the_first_valid_item_is_shown_at_once_and_the_settled_one_at_the_end() -> None:
    async def story() -> None:
        world = World()
        first, last = world.ask(), world.ask(settled=True)
        await at_rest()
        world.dht.gets[0].on_item(OLD)
        await at_rest()
        assert (item_in(first.result()), of(first.result()).settled) == (OLD, False)
        assert not last.done()
        world.dht.gets[0].on_item(NEW)
        world.dht.gets[0].end(NEW)
        await at_rest()
        outcome = last.result()
        assert isinstance(outcome, Found)
        assert (outcome.item, outcome.settled, outcome.confirmed_at, outcome.rpc_count) == (NEW, True, NOW, 30)
        # Who had the first one is told to forget it.
        assert world.invalidated == [tag_of_zone(A)]

    run(story())


def test_one_look_up_serves_everybody_who_asks_for_the_key() -> None:
    async def story() -> None:
        world = World()
        tasks = [world.ask() for _ in range(20)]
        await at_rest()
        assert len(world.dht.gets) == 1
        world.dht.gets[0].end(OLD)
        await at_rest()
        outcomes = [task.result() for task in tasks]
        assert {(item_in(outcome), outcome.lookup, outcome.rpc_count) for outcome in outcomes} == {(OLD, 1, 30)}
        # Afterwards the item is there, and nobody is charged.
        again = await world.answered()
        assert (again.lookup, again.rpc_count, len(world.dht.gets)) == (0, 0, 1)

    run(story())


def test_a_question_that_leaves_before_the_end_is_charged_with_a_usual_look_up() -> None:
    async def story() -> None:
        world = World()
        task = world.ask()
        await at_rest()
        world.dht.gets[0].on_item(OLD)
        await at_rest()
        assert (task.result().lookup, task.result().rpc_count) == (1, LOOKUP_RPCS_USUAL)

    run(story())


# High-water marks.


def test_the_mark_is_committed_before_the_settled_answer_that_shows_it() -> None:
    async def story() -> None:
        world = World()
        world.state.gate = asyncio.Event()
        task = world.ask(settled=True)
        await at_rest()
        world.dht.gets[0].end(NEW)
        await at_rest()
        assert not task.done()
        assert world.state.log == []
        world.state.gate.set()
        await at_rest()
        assert of(task.result()).settled
        assert world.state.log[0] == (NEW.seq, UNIX)

    run(story())


def test_an_item_whose_mark_cannot_be_committed_is_not_called_settled() -> None:
    async def story() -> None:
        world = World()
        world.state.trouble = Unavailable("disk full")
        task = world.ask(settled=True)
        await at_rest()
        world.dht.gets[0].end(NEW)
        await at_rest()
        shown = of(task.result())
        assert (shown.item, shown.settled) == (NEW, False)
        assert "no mark of this zone is kept on the disk" in shown.notes[0]
        # And once the disk takes it, it is what it would have been.
        world.state.trouble = None
        again = of(await world.answered(settled=True))
        assert (again.settled, again.notes, world.state.log) == (True, (), [(NEW.seq, UNIX)])

    run(story())


def test_an_older_item_never_replaces_the_one_we_hold() -> None:
    async def story() -> None:
        world = World(held=(NEW, UNIX - DAY))
        task = world.ask(settled=True)
        await at_rest()
        world.dht.gets[0].on_item(OLD)
        world.dht.gets[0].end(OLD)
        await at_rest()
        assert (item_in(task.result()), of(task.result()).settled) == (NEW, True)
        assert world.state.marks[A].item == NEW
        assert world.invalidated == []

    run(story())


@given(st.lists(st.tuples(st.integers(0, 4), st.sampled_from(["get", "arrive", "publish", "restart"])), max_size=12))
@settings(max_examples=60, deadline=None)
def test_a_readers_seq_never_goes_back(history: list[tuple[int, str]]) -> None:
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
            elif what == "publish":
                await world.state.adopt(item, world.clock.unix, own=True)
                world.overlay.published(item)
            elif what == "restart":
                world = World(at_once=True, state=world.state, clock=world.clock)
                world.dht.items = {A: item}
            await at_rest()
            seq = item_in(await world.answered(settled=True)).seq
            assert seq >= highest
            highest = seq

    run(story())


def test_an_item_we_hold_answers_at_once_while_it_is_newly_confirmed_across_restarts() -> None:
    async def story() -> None:
        world = World(held=(NEW, UNIX - 20))
        outcome = await world.answered(settled=True)
        assert isinstance(outcome, Found)
        assert (outcome.item, outcome.settled, outcome.confirmed_at) == (NEW, True, NOW - 20)
        assert world.dht.gets == []

    run(story())


def test_an_item_confirmed_long_ago_is_shown_provisionally_when_the_network_is_silent() -> None:
    async def story() -> None:
        world = World(held=(NEW, UNIX - DAY), held_wait_s=0.0)
        outcome = await world.ask()
        assert (item_in(outcome), of(outcome).settled) == (NEW, False)
        assert len(world.dht.gets) == 1
        # The look-up goes on, and brings a newer one.
        newest = item_of("a", WWW, age_s=-5)
        world.dht.gets[0].on_item(newest)
        assert world.invalidated == [tag_of_zone(A)]
        shown = await world.answered()
        assert isinstance(shown, Found)
        assert (shown.item, shown.settled, shown.previous) == (newest, False, shown.previous)
        assert shown.previous is not None

    run(story())


def test_an_item_we_hold_survives_a_look_up_that_finds_nothing() -> None:
    async def story() -> None:
        world = World(held=(NEW, UNIX - DAY))
        task = world.ask(settled=True)
        await at_rest()
        world.dht.gets[0].end(verdict=Verdict.DEADLINE, answered_count=0)
        await at_rest()
        outcome = task.result()
        assert isinstance(outcome, Found)
        assert (outcome.item, outcome.settled, outcome.unconfirmed, outcome.fresh) == (NEW, True, True, True)
        # And is not looked up again at once.
        assert item_in(await world.answered(settled=True)) == NEW
        assert len(world.dht.gets) == 1

    run(story())


def test_a_complete_look_up_in_which_nobody_has_the_item_does_not_confirm_it() -> None:
    async def story() -> None:
        world = World(held=(NEW, UNIX - DAY))
        task = world.ask(settled=True)
        await at_rest()
        world.dht.gets[0].end(None)
        await at_rest()
        outcome = of(task.result())
        assert (outcome.item, outcome.settled, outcome.unconfirmed) == (NEW, True, True)
        assert outcome.confirmed_at == NOW - DAY
        assert world.state.log == [], "no time of a confirmation is kept"
        assert (world.overlay.unconfirmed_count, world.overlay.reports[-1].is_confirmed) == (1, False)
        # It is looked up again soon, and a contact that returns the item confirms it.
        world.clock.turn(40)
        task = world.ask(settled=True)
        await at_rest()
        world.dht.gets[-1].end(NEW)
        await at_rest()
        assert not of(task.result()).unconfirmed
        assert (world.overlay.unconfirmed_count, world.overlay.reports[-1].is_confirmed) == (0, True)

    run(story())


def test_an_older_item_that_contacts_return_does_not_confirm_the_newer_one_we_hold() -> None:
    async def story() -> None:
        world = World(held=(NEW, UNIX - DAY))
        task = world.ask(settled=True)
        await at_rest()
        world.dht.gets[0].end(OLD)
        await at_rest()
        outcome = of(task.result())
        assert (outcome.item, outcome.unconfirmed) == (NEW, True)

    run(story())


def test_a_first_item_that_only_our_own_storage_has_is_not_settled() -> None:
    async def story() -> None:
        world = World()
        task = world.ask(settled=True)
        await at_rest()
        world.dht.gets[0].on_item(NEW)
        world.dht.gets[0].end(NEW, rpcs_to_first=0)
        await at_rest()
        outcome = of(task.result())
        assert (outcome.item, outcome.settled, outcome.unconfirmed) == (NEW, False, True)
        assert world.state.log == [(NEW.seq, 0.0)]

    run(story())


def test_a_newer_item_that_only_our_own_storage_has_keeps_the_time_of_the_last_confirmation() -> None:
    async def story() -> None:
        world = World(held=(OLD, UNIX - DAY))
        task = world.ask(settled=True)
        await at_rest()
        world.dht.gets[0].end(NEW, rpcs_to_first=0)
        await at_rest()
        outcome = of(task.result())
        assert (outcome.item, outcome.settled, outcome.unconfirmed) == (NEW, True, True)
        assert world.state.log == [(NEW.seq, UNIX - DAY)]

    run(story())


def test_a_refresh_is_confirmed_by_contacts_that_name_the_seq() -> None:
    async def story() -> None:
        world = World(held=(NEW, UNIX - 280))
        await world.answered()
        world.ask(is_prefetch=True)
        await at_rest()
        get = world.dht.gets[0]
        assert get.wanted.known_seq == NEW.seq
        get.end(None, confirmed=NEW)
        await at_rest()
        outcome = of(await world.answered(settled=True))
        assert (outcome.unconfirmed, outcome.confirmed_at) == (False, NOW)

    run(story())


def test_a_look_up_may_take_as_long_as_a_question() -> None:
    async def story() -> None:
        world = World()
        world.ask()
        await at_rest()
        assert world.dht.gets[0].wanted.deadline == NOW + QUESTION_S_MAX

    run(story())


def test_no_question_waits_for_the_time_of_a_confirmation_to_be_stored() -> None:
    async def story() -> None:
        world = World(held=(NEW, UNIX - 400))
        world.state.gate = asyncio.Event()
        task = world.ask(settled=True)
        await at_rest()
        world.dht.gets[0].end(None, confirmed=NEW)
        await at_rest()
        assert of(task.result()).settled
        assert world.state.log == []
        world.state.gate.set()
        await at_rest()
        assert world.state.log == [(NEW.seq, UNIX)]

    run(story())


@pytest.mark.parametrize("is_complete", [True, False])
def test_a_zone_that_this_daemon_publishes_is_confirmed_by_that(is_complete: bool) -> None:
    async def story() -> None:
        world = World()
        await world.state.adopt(NEW, UNIX, own=True)
        world.overlay.published(NEW)
        for _ in range(2):
            world.clock.turn(400)
            task = world.ask(settled=True)
            await at_rest()
            world.dht.gets[-1].end(None, verdict=Verdict.COMPLETE if is_complete else Verdict.BUDGET)
            await at_rest()
            outcome = of(task.result())
            assert (outcome.item, outcome.settled, outcome.unconfirmed) == (NEW, True, False)
            # A restart knows it from the state.
            world = World(state=world.state, clock=world.clock)

    run(story())


def test_an_item_only_ever_seen_in_incomplete_look_ups_is_never_called_settled() -> None:
    async def story() -> None:
        world = World()
        task = world.ask(settled=True)
        await at_rest()
        world.dht.gets[0].end(NEW, verdict=Verdict.SPARSE)
        await at_rest()
        assert not of(task.result()).settled
        assert world.state.log == [(NEW.seq, 0.0)]

    run(story())


def test_an_item_past_its_expiry_is_not_fresh() -> None:
    async def story() -> None:
        world = World(held=(OLD, UNIX - 10))
        assert of(await world.answered()).fresh
        world.clock.unix += 31 * DAY
        world.clock.now += 31 * DAY
        world.dht.items = {}
        outcome = await world.answered(settled=True)
        assert isinstance(outcome, Found)
        assert not outcome.fresh

    run(story())


# Seqs from the future.


def test_a_seq_from_the_future_is_served_but_neither_adopted_nor_in_the_way_of_a_saner_one() -> None:
    odd = item_of("a", "www 300 A 192.0.2.66", age_s=-2 * DAY)

    async def story() -> None:
        world = World()
        task = world.ask(settled=True)
        await at_rest()
        world.dht.gets[0].end(odd)
        await at_rest()
        assert (item_in(task.result()), of(task.result()).settled) == (odd, False)
        assert "ahead of this machine's clock" in of(task.result()).notes[0]
        assert world.state.log == []
        world.clock.turn(400)
        task = world.ask(settled=True)
        await at_rest()
        assert world.dht.gets[1].wanted.known_seq is None
        world.dht.gets[1].on_item(odd)
        world.dht.gets[1].on_item(OLD)
        world.dht.gets[1].end(OLD)
        await at_rest()
        assert item_in(task.result()) == OLD
        assert world.state.log[0][0] == OLD.seq
        assert tag_of_zone(A) in world.invalidated

    run(story())


# Failures.


def test_a_failure_is_remembered_for_twice_as_long_each_time() -> None:
    async def story() -> None:
        world = World()
        for count, seconds in enumerate([5, 10, 20, 40, 80, 160, 300, 300], 1):
            task = world.ask()
            await at_rest()
            assert len(world.dht.gets) == count
            world.dht.gets[-1].end()
            await at_rest()
            assert task.result() == NotFound(Missing.ABSENT, world.clock.now + seconds, count, 30)
            world.clock.turn(seconds - 0.1)
            assert isinstance(await world.answered(), NotFound)
            world.clock.turn(0.2)

    run(story())


@pytest.mark.parametrize(("answered", "reason"), [(3, Missing.ABSENT), (0, Missing.UNREACHABLE)])
def test_a_failure_says_whether_any_contact_answered(answered: int, reason: Missing) -> None:
    async def story() -> None:
        world = World()
        task = world.ask()
        await at_rest()
        world.dht.gets[0].end(verdict=Verdict.DEADLINE, answered_count=answered)
        await at_rest()
        outcome = task.result()
        assert isinstance(outcome, NotFound)
        assert outcome.reason is reason

    run(story())


@pytest.mark.parametrize("event", ["arrival", "publication", "flush", "flush all", "joined"])
def test_a_failure_is_forgiven_when_there_is_reason_to_look_again(event: str) -> None:
    async def story() -> None:
        world = World()
        world.ask()
        await at_rest()
        world.dht.gets[0].end()
        await at_rest()
        if event == "arrival":
            world.overlay.item_arrived(NEW.target, NEW)
        elif event == "publication":
            world.overlay.published(NEW)
            assert item_in(await world.answered(settled=True)) == NEW
            return
        elif event == "joined":
            world.overlay.joined()
            assert world.invalidated == [tag_of_zone(A)], "the front has kept the failure too"
        else:
            world.overlay.flush(None if event == "flush all" else A)
        if event != "flush all":
            assert world.invalidated == [tag_of_zone(A)]
        world.ask()
        await at_rest()
        assert len(world.dht.gets) == 2

    run(story())


def test_a_put_under_another_target_forgives_nothing() -> None:
    async def story() -> None:
        world = World()
        world.ask()
        await at_rest()
        world.dht.gets[0].end()
        await at_rest()
        world.overlay.item_arrived(item_of("b", WWW).target, NEW)
        assert isinstance(await world.answered(), NotFound)

    run(story())


def test_a_look_up_that_breaks_off_is_a_failure_and_leaves_nobody_waiting() -> None:
    async def story() -> None:
        world = World()
        task = world.ask()
        await at_rest()
        world.dht.gets[0].future.set_exception(OSError("socket gone"))
        await at_rest()
        assert isinstance(task.result(), NotFound)
        assert world.overlay.counters["lookups-broken-off"] == 1
        assert world.told.events == ["look-up broke off"]

    run(story())


def test_a_signed_value_that_is_no_zone_is_no_item() -> None:
    async def story() -> None:
        world = World()
        task = world.ask()
        await at_rest()
        world.dht.gets[0].end(MutableItem.signed(SECRETS["a"], NEW.seq + 1, b"i am no message"))
        await at_rest()
        assert isinstance(task.result(), NotFound)
        assert world.overlay.counters["item-not-dns"] == 1

    run(story())


# Room.


def keys(count: int) -> list[ZoneId]:
    """Return that many keys nobody has published under."""
    return [ZoneId.of_key(SecretKey.generate(bytes([99, number]) * 16).zone_key) for number in range(count)]


def test_a_client_prefix_has_eight_cold_look_ups_and_holds_up_nobody_else() -> None:
    async def story() -> None:
        world = World()
        many = [*KEYS.values(), *keys(4)]
        for key in many[:10]:
            world.ask(key, client_prefix="192.0.2.0/24", is_privileged=False)
        await at_rest()
        assert len(world.dht.gets) == 8
        world.ask(many[10], client_prefix="198.51.100.0/24", is_privileged=False)
        world.ask(many[11], client_prefix="127.0.0.1:5", is_privileged=True)
        await at_rest()
        assert [get.zone_id for get in world.dht.gets[8:]] == many[10:]
        # The first item frees the client's share: what follows only refines its answer.
        world.dht.gets[0].on_item(item_of("a", WWW))
        await at_rest()
        assert [get.zone_id for get in world.dht.gets[10:]] == [many[8]]
        # The end of that look-up frees nothing twice.
        world.dht.gets[0].end(item_of("a", WWW))
        await at_rest()
        assert len(world.dht.gets) == 11
        world.dht.gets[1].end()
        await at_rest()
        assert [get.zone_id for get in world.dht.gets[11:]] == [many[9]]

    run(story())


def test_a_look_up_that_is_patient_lets_another_begin() -> None:
    async def story() -> None:
        world = World(cold_get_count_max=2)
        many = [*keys(4), A]
        for key in many:
            world.ask(key)
        await at_rest()
        assert len(world.dht.gets) == 2
        world.dht.gets[0].be_patient()
        world.dht.gets[0].be_patient()
        await at_rest()
        assert len(world.dht.gets) == 3
        # Its end frees nothing twice, nor does patience after an item.
        world.dht.gets[0].end()
        await at_rest()
        assert len(world.dht.gets) == 3
        world.dht.gets[1].end()
        world.dht.gets[2].end()
        await at_rest()
        world.dht.gets[4].on_item(OLD)
        world.dht.gets[4].be_patient()
        world.dht.gets[4].end(OLD)
        world.dht.gets[3].end()
        await at_rest()
        # There is as much room as at the start, and nobody waits.
        begun = [get.zone_id for get in world.dht.gets]
        assert begun == many
        for key in keys(8)[4:]:
            world.ask(key)
        await at_rest()
        assert len(world.dht.gets) == len(begun) + 2

    run(story())


def test_of_patient_look_ups_no_client_has_more_than_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookups_module, "Slots", partial(Slots, patient_max=4))

    async def story() -> None:
        world = World(cold_get_count_max=8)
        many = keys(30)
        for key in many[:20]:
            world.ask(key, client_prefix="loopback")
        await at_rest()
        told = 0
        while told < len(world.dht.gets):
            world.dht.gets[told].be_patient()
            told += 1
            await at_rest()
        # Half of the patient and half of the slots; the others wait.
        assert len(world.dht.gets) == 2 + 4
        world.ask(many[20], client_prefix="192.168.1.1")
        await at_rest()
        assert world.dht.gets[-1].zone_id == many[20]
        world.dht.gets[-1].be_patient()
        world.dht.gets[0].end()
        await at_rest()
        # Of the three that are free now it may have half, which is one more; the slot of the other is free again.
        for get in world.dht.gets[2:7]:
            get.be_patient()
            await at_rest()
        assert len(world.dht.gets) == 8
        for key in many[21:]:
            world.ask(key, client_prefix="192.168.1.1")
        await at_rest()
        assert len(world.dht.gets) == 8 + 2

    run(story())


def test_a_host_has_half_of_the_slots_and_any_number_leaves_one() -> None:
    async def story() -> None:
        world = World(cold_get_count_max=8)
        many = keys(40)
        for number, key in enumerate(many[:20]):
            world.ask(key, client_prefix="loopback", client_seat=f"udp {number}")
        await at_rest()
        assert len(world.dht.gets) == 4
        for number, key in enumerate(many[20:30]):
            world.ask(key, client_prefix=f"192.168.1.{number % 2}", is_privileged=False)
        await at_rest()
        begun = [many.index(get.zone_id) for get in world.dht.gets[4:] if get.zone_id is not None]
        # Two others have what one leaves, and there is still a slot for a newcomer.
        assert begun == [20, 21, 22]
        world.ask(many[39], client_prefix="192.168.1.9", is_privileged=False)
        await at_rest()
        assert world.dht.gets[-1].zone_id == many[39]
        for get in world.dht.gets[:2]:
            get.end()
        await at_rest()
        assert [many.index(get.zone_id) for get in world.dht.gets[8:] if get.zone_id is not None] == [23]

    run(story())


def test_a_slot_goes_to_the_prefix_that_has_fewest() -> None:
    async def story() -> None:
        world = World(cold_get_count_max=3)
        many = keys(6)
        # What is asked on nobody's account may take all, and waits first.
        for key in many[:5]:
            world.ask(key)
        world.ask(many[5], client_prefix="192.168.1.1")
        await at_rest()
        assert len(world.dht.gets) == 3
        world.dht.gets[0].end()
        await at_rest()
        assert [get.zone_id for get in world.dht.gets[3:]] == [many[5]]

    run(story())


def test_sockets_of_a_machine_take_turns_and_new_keys_go_before_those_found_absent_before() -> None:
    async def story() -> None:
        world = World(cold_get_count_max=1)
        absent, *many = keys(9)
        world.ask(absent)
        await at_rest()
        world.dht.gets[0].end()
        await at_rest()
        world.clock.turn(6.0)
        world.ask(many[0])
        await at_rest()
        seats = ["udp 1", "udp 1", "udp 1", "udp 1", "udp 2"]
        for key, seat in zip([absent, *many[1:5]], seats, strict=True):
            world.ask(key, client_seat=seat)
        await at_rest()
        for get in range(1, 7):
            world.dht.gets[get].end()
            await at_rest()
        order = [get.zone_id for get in world.dht.gets[2:]]
        assert order == [many[1], many[4], many[2], many[3], absent]

    run(story())


def test_absences_are_remembered_longer_than_entries_and_push_no_zone_out() -> None:
    async def story() -> None:
        world = World(entry_count_max=3)
        task = world.ask(A)
        await at_rest()
        world.dht.gets[0].end(OLD)
        await at_rest()
        assert item_in(task.result()) == OLD
        many = keys(6)
        for number, key in enumerate(many, 1):
            world.ask(key)
            await at_rest()
            world.dht.gets[number].end()
            await at_rest()
        # Nothing is looked up again, though no mark is left: neither the zone nor the first of the absent keys.
        world.state.marks.clear()
        assert isinstance(await world.answered(A), Found)
        assert await world.answered(many[0]) == NotFound(Missing.ABSENT, NOW + 5.0)
        assert len(world.dht.gets) == 7
        world.clock.turn(6.0)
        world.ask(many[0])
        await at_rest()
        world.dht.gets[7].end()
        await at_rest()
        # The second time counts as the second, and the key's own item ends it.
        assert await world.answered(many[0]) == NotFound(Missing.ABSENT, NOW + 16.0)
        for key in many[1:]:
            world.ask(key)
        await at_rest()
        world.invalidated.clear()
        world.overlay.flush()
        world.ask(many[0])
        await at_rest()
        assert world.dht.gets[-1].zone_id == many[0]

    run(story())


def test_an_item_that_arrives_ends_a_failure_whose_entry_is_gone() -> None:
    async def story() -> None:
        world = World(entry_count_max=1)
        world.ask(A)
        await at_rest()
        world.dht.gets[0].end()
        await at_rest()
        world.ask(B)
        await at_rest()
        world.dht.gets[1].end()
        await at_rest()
        world.overlay.item_arrived(OLD.target, OLD)
        assert world.invalidated == [tag_of_zone(A)]
        world.ask(A)
        await at_rest()
        assert len(world.dht.gets) == 3

    run(story())


def test_thirty_seven_absent_keys_a_second_starve_nobody() -> None:
    """Each takes 1.75 seconds, as among dead contacts: with a slot held to the end, 64 are 37 a second.

    The live ones need a tenth of a second; they come of the same socket, of another one, and of another host.
    """
    step_s, active_s, absent_s, live_s, waited_s_max = 0.025, 0.2, 1.75, 0.1, 0.3
    askers = [("loopback", "udp 1"), ("loopback", "udp 2"), ("192.168.1.1", "192.168.1.1")]

    async def story() -> None:
        world = World(entry_count_max=100)
        secrets = [SecretKey.generate(bytes([77, n]) * 16) for n in range(30)]
        live = {ZoneId.of_key(secret.zone_key): MutableItem.signed(secret, OLD.seq, NEW.value) for secret in secrets}
        waiting = list(live)
        asked: dict[ZoneId, tuple[float, asyncio.Task[ZoneOutcome]]] = {}
        waited: list[float] = []
        due: list[tuple[float, Callable[[], None]]] = []
        seen = absent_count = 0
        while len(waited) < len(live):
            now = world.clock.now
            while absent_count < 37 * (now - NOW):
                secret = SecretKey.generate(absent_count.to_bytes(4) * 8)
                world.ask(ZoneId.of_key(secret.zone_key), wait_s=4.0, client_prefix="loopback", client_seat="udp 1")
                absent_count += 1
            if now >= NOW + 4.0 and waiting and len(waited) + len(asked) < 5 * (now - NOW - 4.0):
                key = waiting.pop()
                prefix, seat = askers[len(waiting) % 3]
                task = world.ask(key, wait_s=4.0, client_prefix=prefix, client_seat=seat)
                asked[key] = (now, task)
            await at_rest()
            for get in world.dht.gets[seen:]:
                if get.zone_id in live:
                    due.append((now + live_s, partial(get.on_item, live[get.zone_id])))
                    due.append((now + live_s, partial(get.end, live[get.zone_id])))
                else:
                    due += [(now + active_s, get.be_patient), (now + absent_s, get.end)]
            seen = len(world.dht.gets)
            world.clock.turn(step_s)
            for one in [one for one in due if one[0] <= world.clock.now]:
                due.remove(one)
                one[1]()
            await at_rest()
            for key, (since, task) in list(asked.items()):
                if task.done():
                    assert isinstance(task.result(), Found)
                    waited.append(world.clock.now - since)
                    del asked[key]
                else:
                    assert world.clock.now - since < waited_s_max

    run(story())


def test_the_node_has_a_limit_and_serves_who_waits_in_order_of_arrival() -> None:
    async def story() -> None:
        world = World(cold_get_count_max=2)
        many = keys(5)
        for key in many:
            world.ask(key)
        await at_rest()
        for count in range(2, 5):
            assert len(world.dht.gets) == count
            world.dht.gets[count - 2].end()
            await at_rest()
        assert [get.zone_id for get in world.dht.gets] == many

    run(story())


def test_who_waits_for_room_joins_the_look_up_that_somebody_else_starts() -> None:
    async def story() -> None:
        world = World(cold_get_count_max=1)
        one, two = keys(2)
        world.ask(one)
        waiting = [world.ask(two), world.ask(two)]
        await at_rest()
        world.dht.gets[0].end()
        await at_rest()
        assert len(world.dht.gets) == 2
        world.dht.gets[1].end()
        await at_rest()
        assert all(task.done() for task in waiting)

    run(story())


def test_a_look_up_that_has_its_item_at_once_lets_the_next_in_line_begin_once() -> None:
    async def story() -> None:
        world = World(cold_get_count_per_prefix_max=1)
        asked = [world.ask(key, client_prefix="192.0.2.0", is_privileged=False) for key in (A, B, C)]
        await at_rest()
        assert [get.zone_id for get in world.dht.gets] == [A]
        # From now on, what is asked for lies in our own storage.
        world.dht.items = {key: item_of(name, WWW) for name, key in zip("abc", (A, B, C), strict=True)}
        world.dht.gets[0].end()
        await at_rest()
        assert [zone_id_of(item_in(task.result())) for task in asked[1:]] == [B, C]
        assert [get.zone_id for get in world.dht.gets] == [A, B, C]

    run(story())


def test_a_long_queue_is_no_deep_stack() -> None:
    async def story() -> None:
        world = World(cold_get_count_max=1)
        world.ask(A)
        await at_rest()
        secrets = [SecretKey.generate(bytes([78, n % 256, n // 256, 0]) * 8) for n in range(300)]
        asked = [world.ask(ZoneId.of_key(secret.zone_key)) for secret in secrets]
        await at_rest()
        world.dht.items = {ZoneId.of_key(s.zone_key): MutableItem.signed(s, OLD.seq, OLD.value) for s in secrets}
        # Each of them finds its item as it begins, and so lets the next one begin.
        world.dht.gets[0].end()
        await at_rest()
        assert [task.done() and isinstance(task.result(), Found) for task in asked] == [True] * 300

    run(story())


def test_the_first_requests_leave_before_the_next_question_is_begun() -> None:
    async def story() -> None:
        world = World()
        begun: list[int] = []
        for key in (A, B, C):
            world.ask(key)
            asyncio.get_running_loop().call_soon(lambda: begun.append(len(world.dht.gets)))
        await at_rest()
        assert begun == [1, 2, 3]

    run(story())


def test_who_waits_for_room_gives_up_at_the_deadline() -> None:
    async def story() -> None:
        world = World(cold_get_count_max=1)
        one, two = keys(2)
        world.ask(one)
        await at_rest()
        outcome = await world.ask(two, wait_s=0.0)
        assert outcome == NotFound(Missing.DEADLINE)
        world.dht.gets[0].end()
        await at_rest()
        assert len(world.dht.gets) == 1

    run(story())


@pytest.mark.parametrize("poor", [{"cold_get_max": 0}, {"rpc_max": 5}])
def test_a_question_that_has_spent_its_budget_causes_no_look_up(poor: dict[str, Any]) -> None:
    async def story() -> None:
        world = World()
        assert await world.ask(**poor) == NotFound(Missing.BUDGET)
        assert world.dht.gets == []

    run(story())


def test_a_look_up_cut_short_on_a_poor_question_is_no_failure_for_a_rich_one() -> None:
    async def story() -> None:
        world = World()
        poor = world.ask(rpc_max=30)
        rich = world.ask()
        await at_rest()
        assert world.dht.gets[0].wanted.rpc_max == 30
        world.dht.gets[0].end(verdict=Verdict.BUDGET, rpc_count=30)
        await at_rest()
        assert poor.result() == NotFound(Missing.BUDGET, 0.0, 1, 30)
        assert not rich.done()
        world.dht.gets[1].end(NEW)
        await at_rest()
        assert (item_in(rich.result()), world.dht.gets[1].wanted.rpc_max) == (NEW, 250)

    run(story())


def test_a_question_leaves_at_its_deadline_with_what_is_in_hand() -> None:
    async def story() -> None:
        world = World()
        assert await world.ask(wait_s=0.0) == NotFound(Missing.DEADLINE, 0.0, 1, LOOKUP_RPCS_USUAL)
        world.dht.gets[0].on_item(NEW)
        outcome = await world.ask(settled=True, wait_s=0.0)
        assert (item_in(outcome), of(outcome).settled) == (NEW, False)

    run(story())


def test_the_entries_are_bounded_and_the_oldest_question_goes_first() -> None:
    async def story() -> None:
        world = World(at_once=True, entry_count_max=3)
        world.dht.items = {key: item_of(name, WWW) for name, key in list(KEYS.items())[:6]}
        many = list(world.dht.items)
        for key in many:
            await world.answered(key)
        world.state.marks.clear()
        for key in [*many[3:], many[2]]:
            assert isinstance(await world.answered(key), Found)
        assert [get.zone_id for get in world.dht.gets] == [*many, many[2]], "the last three are in hand"

    run(story())


# Refreshing.


def test_a_zone_that_is_asked_for_is_looked_up_again_in_the_background() -> None:
    async def story() -> None:
        world = World(at_once=True)
        assert world.dht.items is not None
        world.dht.items[A] = item_of("a", "www 60 A 192.0.2.1")
        await world.answered()
        world.clock.turn(59)
        assert len(world.dht.gets) == 1
        world.clock.turn(1)
        await at_rest()
        assert len(world.dht.gets) == 2
        assert world.dht.gets[1].wanted.known_seq == world.dht.items[A].seq
        # It is confirmed now; and as nobody has asked since, that was the last time.
        assert world.state.log[-1] == (world.dht.items[A].seq, UNIX + 60)
        world.clock.turn(60)
        await at_rest()
        assert len(world.dht.gets) == 2

    run(story())


@pytest.mark.parametrize(("ttl", "seconds"), [(0, 30), (45, 45), (86_400, 300)])
def test_the_refresh_follows_the_lowest_ttl_between_half_a_minute_and_five(ttl: int, seconds: int) -> None:
    async def story() -> None:
        world = World(at_once=True)
        assert world.dht.items is not None
        world.dht.items[A] = item_of("a", f"www {ttl} A 192.0.2.1", "x 90000 A 192.0.2.1")
        await world.answered()
        assert world.clock.calls[0][0] == NOW + seconds

    run(story())


def test_a_newer_item_found_by_a_refresh_takes_the_old_answers_away() -> None:
    async def story() -> None:
        world = World(at_once=True)
        assert world.dht.items is not None
        world.dht.items[A] = OLD
        await world.answered()
        world.dht.items[A] = NEW
        world.clock.turn(300)
        await at_rest()
        assert world.invalidated == [tag_of_zone(A)]
        assert item_in(await world.answered(settled=True)) == NEW
        assert world.overlay.reports[-1].is_refresh

    run(story())


def test_a_newer_item_that_arrives_by_a_put_is_shown_without_a_look_up() -> None:
    async def story() -> None:
        world = World(at_once=True)
        assert world.dht.items is not None
        world.dht.items[A] = OLD
        await world.answered()
        world.overlay.item_arrived(NEW.target, NEW)
        await at_rest()
        assert world.invalidated == [tag_of_zone(A)]
        assert item_in(await world.answered(settled=True)) == NEW
        assert world.state.marks[A].item == NEW
        assert len(world.dht.gets) == 1

    run(story())


def test_forgetting_a_key_drops_what_is_held_of_it() -> None:
    async def story() -> None:
        world = World(at_once=True)
        assert world.dht.items is not None
        world.dht.items[A] = NEW
        await world.answered()
        world.state.marks.clear()
        world.overlay.forget(A)
        world.dht.items[A] = OLD
        assert item_in(await world.answered(settled=True)) == OLD

    run(story())


def test_every_look_up_leaves_a_report() -> None:
    async def story() -> None:
        world = World(at_once=True)
        assert world.dht.items is not None
        world.dht.items[A] = NEW
        await world.answered()
        await world.answered(B)
        first, second = world.overlay.reports
        assert (first.zone_id, first.rpcs, first.peers, first.first_ms, first.verdict) == (
            A,
            30,
            20,
            4.0,
            Verdict.COMPLETE,
        )
        assert second.zone_id == B

    run(story())


def test_closing_ends_what_is_under_way() -> None:
    async def story() -> None:
        world = World(cold_get_count_max=1)
        tasks = [world.ask(key) for key in keys(2)]
        await at_rest()
        await world.overlay.close()
        assert world.dht.gets[0].future.cancelled()
        assert len(world.dht.gets) == 1
        assert world.clock.calls == []
        for task in tasks:
            task.cancel()

    run(story())
