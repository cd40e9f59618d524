"""Commitments in the overlay: the first one that was settled counts, odd items are adopted by nobody, and a key is
followed to the next one once a value tells it."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import Any

import pytest

from p2pdns.dht.lookup.verdict import Verdict
from p2pdns.dns.message import Question
from p2pdns.dns.registry import Type
from p2pdns.dns.zone.answer import ZoneAnswer
from p2pdns.errors import Unavailable
from p2pdns.items.item import ImmutableItem, MutableItem
from p2pdns.items.keys import SecretKey, ZoneId
from p2pdns.items.succession import HOPS_MAX, Commitment, Succession, commitment_to, succession_values
from p2pdns.overlay import marks as marks_module
from p2pdns.overlay import successions as successions_module
from p2pdns.overlay.ports import Held, KeptCommitment, Mark
from p2pdns.overlay.successions import (
    AT_ONCE_BURST,
    FOUND_WAIT_S_MAX,
    HOUR_S,
    HOURLY_PER_SECOND,
    LOOK_GAP_S,
    LOOKS_MAX,
    LOOKS_PER_PREFIX_MAX,
    LOOKS_PER_SECOND,
    REST_S,
    RETRY_S,
    WAIT_S_MAX,
    WATCHED_MAX,
)
from p2pdns.resolver.names import tag_of_zone
from p2pdns.resolver.steps import WORDS, Budget, Found, Missing, NotFound, ZoneOutcome
from tests.committed import (
    ANOTHER,
    COMMITTED,
    KEY,
    LAST,
    LAST_ID,
    NEXT,
    NEXT_ID,
    OLD,
    OLD_ID,
    THIEFS_VALUES,
    VALUES,
    committed_item,
)
from tests.overlay_doubles import UNIX, FakeDht, FakeState, Get
from tests.unit.overlay.test_finder import World, of, run
from tests.waiting import at_rest

DAY = 86_400
SEQ = int((UNIX - 100) * 1e6)
HONEST = committed_item(COMMITTED, seq=SEQ)
NEWER = committed_item(COMMITTED, seq=SEQ + 2, address="192.0.2.2")
BARE, OTHERS = committed_item(None, seq=SEQ + 1), committed_item(ANOTHER, seq=SEQ + 1)
ODD = pytest.mark.parametrize("odd", [BARE, OTHERS], ids=["none", "another"])
SUCCESSION = Succession.verified(KEY, COMMITTED, VALUES[0].value)


def state_with(
    item: MutableItem | None = None,
    *,
    commitment: Commitment | None = COMMITTED,
    age_s: float = DAY,
    **facts: Any,
) -> FakeState:
    """Return the state of a reader that has kept a commitment, and an item that was confirmed so long ago."""
    state = FakeState(**facts)
    if commitment is not None:
        state.commitments.all[OLD_ID] = KeptCommitment(commitment)
    if item is not None:
        state.marks[OLD_ID] = Held(item, UNIX - age_s)
    return state


def world_with(item: MutableItem | None = None, *, at_once: bool = False, **facts: Any) -> World:
    """Return a world with the reader of `state_with`."""
    return World(state=state_with(item, **facts), at_once=at_once)


def gets_of_zones(dht: FakeDht) -> list[Get]:
    """Return the look-ups of zones."""
    return [get for get in dht.gets if get.wanted.key is not None]


def gets_of_values(dht: FakeDht) -> list[Get]:
    """Return the look-ups of values."""
    return [get for get in dht.gets if get.wanted.key is None]


def kept_of(world: World, zone_id: ZoneId = OLD_ID) -> KeptCommitment | None:
    """Return the commitment that the reader has kept."""
    return world.state.commitments.kept(zone_id)


def reason_of(outcome: ZoneOutcome) -> Missing:
    """Return why there is no zone."""
    assert isinstance(outcome, NotFound), outcome
    return outcome.reason


def shown_to(found: Found, text: str = "www") -> list[bytes]:
    """Return the addresses that a zone gives for a name below the old key."""
    answer = found.zone.answer(Question(KEY.apex.child(text.encode()), Type.A))
    assert isinstance(answer, ZoneAnswer)
    return [rdata for rrset in answer.answer for rdata in rrset.rdatas]


# The first commitment.


@pytest.mark.parametrize("age_s", [100, 400 * DAY], ids=["fresh", "expired"])
def test_the_commitment_of_a_settled_item_is_kept_expired_or_not_and_the_first_one_for_ever(age_s: int) -> None:
    async def story() -> None:
        world = World()
        first = committed_item(COMMITTED, seq=int((UNIX - age_s) * 1e6))
        world.ask(OLD_ID)
        await at_rest()
        world.dht.gets[0].on_item(first)
        await at_rest()
        assert kept_of(world) is None
        world.dht.gets[0].end(first)
        await at_rest()
        assert kept_of(world) == KeptCommitment(COMMITTED)
        assert world.overlay.counters["commitments-kept"] == 1

    run(story())


@pytest.mark.parametrize(
    ("item", "facts"),
    [
        (HONEST, {"verdict": Verdict.SPARSE}),
        (HONEST, {"rpcs_to_first": 0}),
        (committed_item(COMMITTED, seq=int((UNIX + 40 * DAY) * 1e6)), {}),
        (committed_item(None, seq=SEQ), {}),
    ],
    ids=["not complete", "confirmed by nobody", "from the future", "without one"],
)
def test_no_commitment_is_kept_of_an_item_that_is_not_settled(item: MutableItem, facts: dict[str, Any]) -> None:
    async def story() -> None:
        world = World()
        world.ask(OLD_ID, True)
        await at_rest()
        world.dht.gets[0].end(item, **facts)
        await at_rest()
        assert kept_of(world) is None

    run(story())


def test_a_confirmed_item_in_hand_lends_its_commitment_too() -> None:
    async def story() -> None:
        world = world_with(HONEST, commitment=None)
        world.ask(OLD_ID, True)
        await at_rest()
        world.dht.gets[0].end(None, confirmed=HONEST)
        await at_rest()
        assert kept_of(world) == KeptCommitment(COMMITTED)

    run(story())


def test_an_own_publication_lends_its_commitment_at_once() -> None:
    async def story() -> None:
        world = World()
        world.overlay.published(HONEST)
        await at_rest()
        assert kept_of(world) == KeptCommitment(COMMITTED)

    run(story())


def test_commitments_of_strangers_share_the_budget_of_new_marks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(marks_module, "NEW_MARKS_BURST", 3.0)
    secrets = [SecretKey.generate(bytes([number]) * 32) for number in range(60, 64)]
    ids = [ZoneId.of_key(secret.zone_key) for secret in secrets]

    async def story(state: FakeState, kept_count: int) -> None:
        world = World(at_once=True, state=state)
        for secret, zone_id in zip(secrets, ids, strict=True):
            commitment = commitment_to(secret.zone_key, NEXT)
            assert world.dht.items is not None
            world.dht.items[zone_id] = committed_item(commitment, seq=SEQ, secret=secret)
            await world.answered(zone_id, True)
        assert sum(kept_of(world, zone_id) is not None for zone_id in ids) == kept_count
        assert world.overlay.counters["commitments-rationed"] == 4 - kept_count

    # Each zone takes one for its mark and one for its commitment.
    run(story(FakeState(), 2))
    protected = FakeState()
    protected.protected.update(ids)
    run(story(protected, 4))
    pinned = FakeState({ids[3]: Held(committed_item(None, seq=1, secret=secrets[3]), 0.0, is_pinned=True)})
    run(story(pinned, 3))


def test_a_disk_that_refuses_a_commitment_is_told_and_the_item_is_settled_all_the_same() -> None:
    async def story() -> None:
        world = World()

        async def refused(zone_id: ZoneId, commitment: Commitment) -> None:
            raise Unavailable("no space")

        world.state.commitments.keep = refused  # type: ignore[method-assign]
        task = world.ask(OLD_ID, True)
        await at_rest()
        world.dht.gets[0].end(HONEST)
        await at_rest()
        assert of(task.result()).settled
        assert world.told.events == ["commitment to a next key not stored"]

    run(story())


# Odd items.


@ODD
def test_an_odd_item_is_not_adopted_and_what_is_in_hand_is_served_as_stale_with_a_note(odd: MutableItem) -> None:
    async def story() -> None:
        world = world_with(HONEST)
        task = world.ask(OLD_ID, True)
        await at_rest()
        assert world.dht.gets[0].wanted.commitment == COMMITTED
        world.dht.gets[0].end(odd)
        await at_rest()
        world.clock.turn(WAIT_S_MAX)
        for get in gets_of_values(world.dht):
            get.end()
        await at_rest()
        shown = of(task.result())
        assert (shown.item, shown.unconfirmed, shown.notes) == (HONEST, True, (WORDS[Missing.ODD],))
        assert world.state.mark(OLD_ID) == Mark(SEQ)
        assert world.overlay.counters["items-odd"] >= 1
        assert world.overlay.refused == [(OLD_ID, Missing.ODD)]

    run(story())


@ODD
def test_with_none_in_hand_an_odd_item_is_a_failure_that_is_remembered(odd: MutableItem) -> None:
    async def story() -> None:
        world = World(state=state_with(), at_once=True)
        assert world.dht.items is not None
        world.dht.items[OLD_ID] = odd
        assert reason_of(await world.answered(OLD_ID)) is Missing.ODD
        assert reason_of(await world.answered(OLD_ID)) is Missing.ODD
        assert len(gets_of_zones(world.dht)) == 1
        assert world.state.mark(OLD_ID) is None

    run(story())


def test_the_word_of_the_node_that_odd_items_were_met_is_enough() -> None:
    async def story() -> None:
        world = world_with(HONEST)
        world.ask(OLD_ID, True)
        await at_rest()
        world.dht.gets[0].end(None, confirmed=HONEST, dropped={"odd": 3})
        await at_rest()
        assert world.overlay.counters["items-odd"] == 3
        assert world.overlay.refused == [(OLD_ID, Missing.ODD)]
        for get in gets_of_values(world.dht):
            get.end()
        await at_rest()
        assert of(await world.answered(OLD_ID, True)).unconfirmed

    run(story())


def test_a_newer_item_with_the_commitment_is_adopted_beside_odd_ones_and_the_next_clean_look_up_ends_the_note() -> None:
    async def story() -> None:
        world = world_with(HONEST)
        world.ask(OLD_ID, True)
        await at_rest()
        world.dht.gets[0].end(NEWER, dropped={"odd": 1})
        await at_rest()
        for get in gets_of_values(world.dht):
            get.end()
        await at_rest()
        shown = of(await world.answered(OLD_ID))
        assert (shown.item, shown.notes) == (NEWER, (WORDS[Missing.ODD],))
        world.overlay.flush(OLD_ID)
        task = world.ask(OLD_ID, True)
        await at_rest()
        gets_of_zones(world.dht)[-1].end(NEWER)
        await at_rest()
        assert (of(task.result()).notes, of(task.result()).settled, world.overlay.refused) == ((), True, [])

    run(story())


@ODD
def test_an_odd_item_that_arrives_is_not_adopted_and_ends_no_failure(odd: MutableItem) -> None:
    async def story() -> None:
        world = world_with(HONEST, age_s=1)
        assert of(await world.answered(OLD_ID)).item == HONEST
        world.overlay.item_arrived(odd.target, odd)
        await at_rest()
        assert of(await world.answered(OLD_ID)).item == HONEST
        assert world.state.mark(OLD_ID) == Mark(SEQ)
        world.overlay.item_arrived(NEWER.target, NEWER)
        await at_rest()
        assert of(await world.answered(OLD_ID)).item == NEWER
        absent = World(state=state_with(), at_once=True)
        assert reason_of(await absent.answered(OLD_ID)) is Missing.ABSENT
        absent.overlay.item_arrived(odd.target, odd)
        assert reason_of(await absent.answered(OLD_ID)) is Missing.ABSENT
        assert len(gets_of_zones(absent.dht)) == 1

    run(story())


@ODD
def test_an_odd_item_ends_no_failure_of_a_key_whose_entry_was_evicted(odd: MutableItem) -> None:
    async def story() -> None:
        world = World(state=state_with(), at_once=True, entry_count_max=1)
        await world.answered(OLD_ID)
        await world.answered(NEXT_ID)
        world.invalidated.clear()
        world.overlay.item_arrived(odd.target, odd)
        assert world.invalidated == []
        world.overlay.item_arrived(HONEST.target, HONEST)
        assert world.invalidated == [tag_of_zone(OLD_ID)]

    run(story())


@ODD
def test_an_odd_publication_of_our_own_is_not_shown(odd: MutableItem) -> None:
    async def story() -> None:
        world = world_with(HONEST, age_s=1)
        world.overlay.published(odd)
        assert of(await world.answered(OLD_ID)).item == HONEST

    run(story())


def test_an_odd_item_that_an_earlier_run_has_adopted_is_not_shown() -> None:
    async def story() -> None:
        world = World(state=state_with(BARE, age_s=1), at_once=True)
        assert isinstance(await world.answered(OLD_ID), NotFound)

    run(story())


# Conflicts.


def shown_both(world: World, odd: MutableItem) -> None:
    """End the look-up under way of a reader that is shown the honest item and an odd one."""
    world.dht.gets[-1].end(odd, editions=(HONEST, odd))


@ODD
@pytest.mark.parametrize("has_mark", [False, True], ids=["fresh", "with a mark"])
def test_a_reader_without_a_commitment_that_is_shown_both_adopts_nothing(odd: MutableItem, has_mark: bool) -> None:
    async def story() -> None:
        world = World(state=FakeState(seqs={OLD_ID: Mark(SEQ)} if has_mark else {}))
        task = world.ask(OLD_ID, True)
        await at_rest()
        assert world.dht.gets[0].wanted.wants_editions
        shown_both(world, odd)
        await at_rest()
        assert reason_of(task.result()) is Missing.CONFLICT
        assert reason_of(await world.answered(OLD_ID)) is Missing.CONFLICT
        assert (kept_of(world), world.state.mark(OLD_ID)) == (None, Mark(SEQ) if has_mark else None)
        # Neither of the two ends the failure: the next look-up, after its time, does.
        for item in (HONEST, odd):
            world.overlay.item_arrived(item.target, item)
        assert reason_of(await world.answered(OLD_ID)) is Missing.CONFLICT

    run(story())


@ODD
def test_what_contradicts_the_item_in_hand_is_not_adopted_though_no_commitment_was_kept(odd: MutableItem) -> None:
    async def story() -> None:
        world = world_with(HONEST, commitment=None)
        task = world.ask(OLD_ID, True)
        await at_rest()
        world.dht.gets[0].end(odd)
        await at_rest()
        shown = of(task.result())
        assert (shown.item, shown.unconfirmed, shown.notes) == (HONEST, True, (WORDS[Missing.CONFLICT],))
        world.overlay.item_arrived(odd.target, odd)
        await at_rest()
        assert of(await world.answered(OLD_ID)).item == HONEST

    run(story())


@ODD
def test_the_second_of_two_that_contradict_each_other_ends_what_the_first_has_said(odd: MutableItem) -> None:
    async def story() -> None:
        world = World()
        world.ask(OLD_ID, True)
        await at_rest()
        world.dht.gets[0].on_item(HONEST)
        world.dht.gets[0].on_item(odd)
        hurried = world.ask(OLD_ID)
        await at_rest()
        assert reason_of(hurried.result()) is Missing.CONFLICT
        world.dht.gets[0].end(odd)
        await at_rest()
        assert reason_of(await world.answered(OLD_ID)) is Missing.CONFLICT

    run(story())


# Values.


def test_the_values_are_looked_for_once_an_hour_while_the_zone_is_in_use_the_first_time_at_a_time_of_the_keys_own() -> (
    None
):
    async def story() -> None:
        world = world_with(HONEST, at_once=True)
        assert world.dht.items is not None
        world.dht.items[OLD_ID] = HONEST
        first_s = HOUR_S * int.from_bytes(OLD_ID.raw[:4]) / 2**32
        assert 0 < first_s < HOUR_S
        await world.answered(OLD_ID)
        world.clock.turn(first_s - 1)
        await at_rest()
        assert gets_of_values(world.dht) == []
        world.clock.turn(2)
        await at_rest()
        assert [get.wanted.target for get in gets_of_values(world.dht)] == list(COMMITTED.targets)
        for _ in range(3):
            await world.answered(OLD_ID)
            world.clock.turn(HOUR_S)
            await at_rest()
        assert len(gets_of_values(world.dht)) == 8
        # Nobody asks for it any more.
        world.clock.turn(2 * HOUR_S)
        world.clock.turn(2 * HOUR_S)
        await at_rest()
        assert len(gets_of_values(world.dht)) <= 10
        count = len(gets_of_values(world.dht))
        world.clock.turn(5 * HOUR_S)
        await at_rest()
        assert len(gets_of_values(world.dht)) == count

    run(story())


def test_a_reader_that_is_new_to_a_zone_looks_for_its_values_at_once_and_is_told_nothing_settled_before() -> None:
    async def story() -> None:
        world = World()
        asked, provisional = world.ask(OLD_ID, True), world.ask(OLD_ID, False)
        await at_rest()
        world.dht.gets[0].end(HONEST)
        await at_rest()
        first, second = gets_of_values(world.dht)
        assert [first.wanted.target, second.wanted.target] == list(COMMITTED.targets)
        assert not asked.done()
        second.on_item(VALUES[1])
        await at_rest()
        gets_of_zones(world.dht)[1].end(committed_item(None, seq=SEQ, secret=NEXT))
        found = await asked
        assert isinstance(found, Found)
        assert found.followed == (NEXT_ID,)
        await provisional

    run(story())


def test_the_node_that_reveals_a_next_key_looks_for_it_at_once() -> None:
    async def story() -> None:
        world = world_with(HONEST)
        world.overlay.look_for_next_key(OLD_ID)
        await at_rest()
        assert [get.wanted.target for get in gets_of_values(world.dht)] == list(COMMITTED.targets)

    run(story())


def test_where_no_value_is_found_a_settled_answer_waits_for_the_first_look_alone() -> None:
    async def story() -> None:
        world = World()
        asked = world.ask(OLD_ID, True)
        await at_rest()
        world.dht.gets[0].end(HONEST)
        await at_rest()
        for get in gets_of_values(world.dht):
            get.end(None)
        assert isinstance(await asked, Found)
        assert isinstance(await world.answered(OLD_ID, True), Found)
        assert len(world.dht.gets) == 3

    run(story())


def test_a_zone_without_a_commitment_costs_no_look_up_of_values() -> None:
    async def story() -> None:
        world = world_with(BARE, commitment=None, at_once=True)
        await world.answered(OLD_ID)
        for _ in range(4):
            world.clock.turn(HOUR_S)
            await world.answered(OLD_ID)
        assert gets_of_values(world.dht) == []

    run(story())


@pytest.mark.parametrize("index", [0, 1])
@pytest.mark.parametrize("case", ["odd", "absent"])
def test_an_odd_or_absent_item_has_the_values_looked_for_at_once_and_either_of_them_is_enough(
    index: int, case: str
) -> None:
    async def story() -> None:
        world = World(state=state_with(), at_once=True)
        assert world.dht.items is not None
        world.dht.items[NEXT_ID] = committed_item(None, seq=SEQ, secret=NEXT, address="192.0.2.9")
        if case == "odd":
            world.dht.items[OLD_ID] = BARE
        world.dht.values[COMMITTED.targets[index]] = VALUES[index]
        found = of(await world.answered(OLD_ID))
        assert shown_to(found) == [bytes([192, 0, 2, 9])]
        assert (found.zone.apex, found.followed) == (KEY.apex, (NEXT_ID,))
        assert kept_of(world) == KeptCommitment(COMMITTED, NEXT.zone_key)
        assert tag_of_zone(OLD_ID) in world.invalidated

    run(story())


def test_a_question_waits_for_the_values_four_seconds_at_most_with_an_item_one_and_keeps_time_for_the_rest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    waited: list[float] = []
    wait = asyncio.wait

    async def noted(events: Any, *, timeout: float | None = None, **more: Any) -> Any:
        if any(isinstance(event, asyncio.Task) and "_look" in repr(event) for event in events):
            waited.append(timeout or 0.0)
            return set(), events
        return await wait(events, timeout=timeout, **more)

    monkeypatch.setattr(asyncio, "wait", noted)

    async def story(wait_s: float) -> None:
        world = World(state=state_with())
        task = world.ask(OLD_ID, wait_s=wait_s)
        await at_rest()
        gets_of_zones(world.dht)[0].end()
        await at_rest()
        assert reason_of(task.result()) is Missing.ABSENT

    run(story(60.0))
    run(story(1.5))
    run(story(0.4))
    assert waited == [WAIT_S_MAX, 1.5 - REST_S, 0.0]
    waited.clear()

    async def with_an_item(wait_s: float) -> None:
        world = world_with(HONEST)
        task = world.ask(OLD_ID, True, wait_s=wait_s)
        await at_rest()
        gets_of_zones(world.dht)[0].end(BARE)
        await at_rest()
        assert of(task.result()).item == HONEST

    run(with_an_item(60.0))
    run(with_an_item(1.25))
    assert waited == [FOUND_WAIT_S_MAX, 1.25 - REST_S]


def test_a_value_that_is_refused_is_counted_by_its_reason_and_changes_nothing() -> None:
    async def story() -> None:
        thiefs = commitment_to(KEY, LAST)
        mixed = Commitment(COMMITTED.next_digest, thiefs.targets)
        world = World(state=state_with(commitment=mixed), at_once=True)
        for target, value in zip(mixed.targets, succession_values(KEY, LAST), strict=True):
            world.dht.values[target] = value
        assert reason_of(await world.answered(OLD_ID)) is Missing.ABSENT
        assert world.overlay.counters["value-succession-not-committed"] == 2
        assert kept_of(world) == KeptCommitment(mixed)

    run(story())


@pytest.mark.parametrize("value", [*THIEFS_VALUES, ImmutableItem(b"n"), HONEST])
def test_nothing_but_a_value_of_the_commitment_is_believed(value: Any) -> None:
    async def story() -> None:
        world = World(state=state_with(), at_once=True)
        for target in COMMITTED.targets:
            world.dht.values[target] = value
        assert reason_of(await world.answered(OLD_ID)) is Missing.ABSENT
        assert kept_of(world) == KeptCommitment(COMMITTED)

    run(story())


def test_a_next_key_is_stored_before_it_is_used() -> None:
    async def story() -> None:
        world = World(state=state_with(), at_once=True)
        gate = asyncio.Event()
        succeed = world.state.commitments.succeed

        async def slow(zone_id: ZoneId, succession: Succession) -> None:
            await gate.wait()
            await succeed(zone_id, succession)

        world.state.commitments.succeed = slow  # type: ignore[method-assign]
        assert world.dht.items is not None
        world.dht.items[NEXT_ID] = committed_item(None, seq=SEQ, secret=NEXT)
        world.dht.values[COMMITTED.targets[0]] = VALUES[0]
        task = world.ask(OLD_ID)
        await at_rest()
        assert not task.done()
        assert tag_of_zone(OLD_ID) not in world.invalidated
        gate.set()
        await at_rest()
        assert of(task.result()).followed == (NEXT_ID,)

    run(story())


def committed_keys(state: FakeState, count: int) -> list[ZoneId]:
    """Return so many keys whose commitments a reader has kept."""
    secrets = [SecretKey.generate((1_000 + number).to_bytes(32)) for number in range(count)]
    zone_ids = [ZoneId.of_key(secret.zone_key) for secret in secrets]
    for secret, zone_id in zip(secrets, zone_ids, strict=True):
        state.commitments.all[zone_id] = KeptCommitment(commitment_to(secret.zone_key, NEXT))
    return zone_ids


async def found_absent(world: World, zone_id: ZoneId, prefix: str) -> None:
    """Have a client ask for a key that is found absent."""
    world.ask(zone_id, client_prefix=prefix)
    await at_rest()
    for get in gets_of_zones(world.dht):
        if not get.future.done():
            get.end()
    await at_rest()


async def nothing_found(world: World) -> None:
    """End all look-ups of values, in vain."""
    for get in gets_of_values(world.dht):
        if not get.future.done():
            get.end()
    await at_rest()


def looks_of(world: World) -> int:
    """Return for how many zones the values were looked for."""
    return world.overlay.counters["value-looks"]


def test_no_more_than_so_many_zones_have_their_values_looked_for_at_once() -> None:
    async def story() -> None:
        state = FakeState()
        world = World(state=state)
        for number, zone_id in enumerate(committed_keys(state, LOOKS_MAX + 3)):
            await found_absent(world, zone_id, f"10.0.0.{number}")
        assert len(gets_of_values(world.dht)) == 2 * LOOKS_MAX
        assert world.overlay.counters["value-looks-postponed"] == 3

    run(story())


def test_no_client_prefix_holds_more_than_half_of_the_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(successions_module, "AT_ONCE_BURST", 64.0)

    async def story() -> None:
        state = FakeState()
        world = World(state=state)
        *zone_ids, others = committed_keys(state, LOOKS_MAX + 1)
        for zone_id in zone_ids:
            await found_absent(world, zone_id, "10.0.0.1")
        assert looks_of(world) == LOOKS_PER_PREFIX_MAX == LOOKS_MAX // 2
        await found_absent(world, others, "10.0.0.2")
        assert looks_of(world) == LOOKS_PER_PREFIX_MAX + 1
        # An ended look makes room for another one.
        await nothing_found(world)
        await found_absent(world, zone_ids[-1], "10.0.0.1")
        world.clock.turn(RETRY_S)
        await at_rest()
        assert looks_of(world) == LOOKS_MAX + 1

    run(story())


def test_a_client_that_asks_for_ever_new_committed_zones_takes_the_looks_of_nobody_else() -> None:
    async def story() -> None:
        state = state_with()
        world = World(state=state)
        for zone_id in committed_keys(state, 70):
            await found_absent(world, zone_id, "10.0.0.1")
            await nothing_found(world)
        assert looks_of(world) == AT_ONCE_BURST
        await found_absent(world, OLD_ID, "10.0.0.2")
        assert looks_of(world) == AT_ONCE_BURST + 1

    run(story())


@pytest.mark.parametrize("relied_on", ["petname", "pinned", "own"])
def test_a_key_that_somebody_relies_on_here_is_looked_for_whoever_asks(relied_on: str) -> None:
    async def story() -> None:
        state = state_with()
        if relied_on == "petname":
            state.protected.add(OLD_ID)
        else:
            flags = {"is_pinned": relied_on == "pinned", "is_own": relied_on == "own"}
            state.marks[OLD_ID] = Held(HONEST, UNIX - DAY, **flags)
        world = World(state=state)
        for zone_id in committed_keys(state, 5):
            await found_absent(world, zone_id, "10.0.0.1")
            await nothing_found(world)
        world.ask(OLD_ID, True, client_prefix="10.0.0.1")
        await at_rest()
        gets_of_zones(world.dht)[-1].end(BARE)
        await at_rest()
        assert looks_of(world) == AT_ONCE_BURST + 1

    run(story())


def test_a_look_without_room_is_made_a_minute_later_or_with_the_next_question_of_another_client() -> None:
    async def story(is_asked: bool) -> None:
        state = state_with()
        world = World(state=state)
        for zone_id in committed_keys(state, int(AT_ONCE_BURST)):
            await found_absent(world, zone_id, "10.0.0.1")
            await nothing_found(world)
        await found_absent(world, OLD_ID, "10.0.0.1")
        assert looks_of(world) == AT_ONCE_BURST
        if is_asked:
            await found_absent(world, OLD_ID, "10.0.0.2")
        else:
            world.clock.turn(RETRY_S)
            await at_rest()
        assert looks_of(world) == AT_ONCE_BURST + 1
        assert gets_of_values(world.dht)[-1].wanted.target == COMMITTED.targets[1]

    run(story(is_asked=False))
    run(story(is_asked=True))


def test_an_odd_zone_is_looked_for_once_a_minute_however_often_it_is_asked_for() -> None:
    async def story() -> None:
        world = world_with(HONEST)

        async def odd_again() -> None:
            world.overlay.flush(OLD_ID)
            world.ask(OLD_ID, True)
            await at_rest()
            gets_of_zones(world.dht)[-1].end(BARE)
            await at_rest()
            await nothing_found(world)

        for _ in range(3):
            await odd_again()
        assert looks_of(world) == 1
        world.clock.turn(LOOK_GAP_S)
        await at_rest()
        assert looks_of(world) == 2
        # The node that has just put the values does not wait for that.
        await nothing_found(world)
        world.overlay.look_for_next_key(OLD_ID)
        await at_rest()
        assert looks_of(world) == 3

    run(story())


def test_the_rate_of_looks_carries_all_watched_zones_and_that_of_a_client_half_of_them() -> None:
    assert LOOKS_PER_SECOND * HOUR_S >= WATCHED_MAX
    assert HOURLY_PER_SECOND * HOUR_S <= 0.55 * WATCHED_MAX


def test_a_state_that_cannot_be_read_postpones_the_hourly_look() -> None:
    async def story() -> None:
        world = world_with(HONEST, at_once=True)
        assert world.dht.items is not None
        world.dht.items[OLD_ID] = HONEST
        await world.answered(OLD_ID)
        kept = world.state.commitments.kept

        def unreadable(zone_id: ZoneId) -> KeptCommitment | None:
            raise Unavailable("cannot be read")

        world.state.commitments.kept = unreadable  # type: ignore[method-assign]
        world.clock.turn(HOUR_S * int.from_bytes(OLD_ID.raw[:4]) / 2**32)
        await at_rest()
        assert looks_of(world) == 0
        world.state.commitments.kept = kept  # type: ignore[method-assign]
        world.clock.turn(RETRY_S)
        await at_rest()
        assert looks_of(world) == 1

    run(story())


def test_a_search_for_values_that_breaks_off_is_told_and_made_again_the_next_hour() -> None:
    async def story() -> None:
        world = world_with(HONEST, at_once=True)
        assert world.dht.items is not None
        world.dht.items[OLD_ID] = HONEST
        get, fails = world.dht.get, True

        def failing(wanted: Any, **more: Any) -> Any:
            if wanted.key is None and fails:
                raise Unavailable("no socket")
            return get(wanted, **more)

        world.dht.get = failing  # type: ignore[method-assign]
        await world.answered(OLD_ID)
        world.clock.turn(HOUR_S)
        await at_rest()
        assert world.told.events == ["search for a next key broke off"]
        fails = False
        await world.answered(OLD_ID)
        world.clock.turn(HOUR_S)
        await at_rest()
        assert len(gets_of_values(world.dht)) == 2

    run(story())


# The way from key to key.


def succeeded(*secrets: SecretKey) -> FakeState:
    """Return the state of a reader that knows how these keys have followed each other."""
    state = FakeState()
    for old, following in pairwise(secrets):
        commitment = commitment_to(old.zone_key, following)
        state.commitments.all[ZoneId.of_key(old.zone_key)] = KeptCommitment(commitment, following.zone_key)
    return state


def chain_of(count: int) -> list[SecretKey]:
    """Return so many keys."""
    return [SecretKey.generate(bytes([number]) * 32) for number in range(120, 120 + count)]


def test_a_succeeded_key_is_answered_by_the_last_zone_under_its_own_name_without_a_look_up_of_its_own() -> None:
    async def story() -> None:
        world = World(state=succeeded(OLD, NEXT, LAST), at_once=True)
        assert world.dht.items is not None
        world.dht.items[OLD_ID] = HONEST
        world.dht.items[LAST_ID] = committed_item(None, seq=SEQ, secret=LAST, address="192.0.2.77")
        found = of(await world.answered(OLD_ID, True))
        assert (shown_to(found), found.zone.apex) == ([bytes([192, 0, 2, 77])], KEY.apex)
        assert found.followed == (NEXT_ID, LAST_ID)
        assert [get.zone_id for get in gets_of_zones(world.dht)] == [LAST_ID]
        assert (world.state.mark(OLD_ID), world.state.mark(LAST_ID)) == (None, Mark(SEQ))
        again = of(await world.answered(OLD_ID, True))
        assert again.zone is found.zone, "the zone is moved once"

    run(story())


@pytest.mark.parametrize(("count", "is_followed"), [(HOPS_MAX, True), (HOPS_MAX + 1, False)])
def test_a_chain_of_keys_has_a_length_that_is_followed_and_no_more(count: int, is_followed: bool) -> None:
    async def story() -> None:
        secrets = chain_of(count)
        world = World(state=succeeded(*secrets), at_once=True)
        assert world.dht.items is not None
        last = ZoneId.of_key(secrets[-1].zone_key)
        world.dht.items[last] = committed_item(None, seq=SEQ, secret=secrets[-1])
        outcome = await world.answered(ZoneId.of_key(secrets[0].zone_key), True)
        if is_followed:
            assert len(of(outcome).followed) == count - 1
        else:
            assert reason_of(outcome) is Missing.ENDLESS

    run(story())


def test_keys_that_follow_each_other_in_a_circle_end_in_a_failure() -> None:
    async def story() -> None:
        one, two, three = chain_of(3)
        world = World(state=succeeded(one, two, three, one), at_once=True)
        for secret in (one, two, three):
            assert reason_of(await world.answered(ZoneId.of_key(secret.zone_key))) is Missing.ENDLESS
        assert world.dht.gets == []

    run(story())


def test_flush_of_a_succeeded_key_has_the_next_question_look_up_the_zone_that_answers() -> None:
    async def story() -> None:
        world = World(state=succeeded(OLD, NEXT, LAST), at_once=True)
        assert world.dht.items is not None
        world.dht.items[LAST_ID] = committed_item(None, seq=SEQ, secret=LAST)
        await world.answered(OLD_ID, True)
        world.invalidated.clear()
        world.overlay.flush(OLD_ID)
        assert world.invalidated == [tag_of_zone(zone_id) for zone_id in (OLD_ID, NEXT_ID, LAST_ID)]
        await world.answered(OLD_ID, True)
        assert [get.zone_id for get in gets_of_zones(world.dht)] == [LAST_ID, LAST_ID]
        one, two = chain_of(2)
        circle = World(state=succeeded(one, two, one))
        circle.overlay.flush(ZoneId.of_key(one.zone_key))
        assert len(circle.invalidated) == 2

    run(story())


def test_the_zone_of_a_succeeded_key_itself_can_be_had() -> None:
    async def story() -> None:
        world = World(state=succeeded(OLD, NEXT), at_once=True)
        assert world.dht.items is not None
        world.dht.items[OLD_ID] = HONEST
        found = of(await world.overlay.unfollowed(OLD_ID, True, Budget(world.clock.now + 60.0)))
        assert (found.item, found.followed) == (HONEST, ())

    run(story())


def test_the_look_ups_of_the_keys_on_the_way_are_charged_to_the_question() -> None:
    async def story() -> None:
        world = World(state=state_with())
        task = world.ask(OLD_ID, rpc_max=100, cold_get_max=2)
        await at_rest()
        world.dht.values = {}
        gets_of_zones(world.dht)[0].end(None, rpc_count=40)
        await at_rest()
        for get in gets_of_values(world.dht):
            if get.wanted.target == COMMITTED.targets[1]:
                get.on_item(VALUES[1])
        await at_rest()
        assert gets_of_zones(world.dht)[1].wanted.rpc_max == 60
        gets_of_zones(world.dht)[1].end(committed_item(None, seq=SEQ, secret=NEXT), rpc_count=33)
        await at_rest()
        found = of(task.result())
        assert (found.earlier, found.rpc_count) == (((1, 40),), 33)

    run(story())


def test_what_is_forgotten_is_looked_for_no_more() -> None:
    async def story() -> None:
        world = world_with(HONEST, at_once=True)
        await world.answered(OLD_ID)
        count = len(gets_of_values(world.dht))
        world.overlay.forget(OLD_ID)
        world.clock.turn(HOUR_S)
        await at_rest()
        assert len(gets_of_values(world.dht)) == count

    run(story())
