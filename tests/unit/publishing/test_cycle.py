"""The cycle of an item: whom it asks, which words count, when it puts, and what that costs where some lie or forget."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pdns.dht.krpc import NodeInfo
from p2pdns.dht.node.values import InquiryOutcome
from p2pdns.dht.routing.ids import id_for, is_id_allowed
from p2pdns.items.item import MutableItem
from p2pdns.items.keys import SecretKey
from p2pdns.publishing.cycle import (
    ASKED_FIRST,
    ASKED_MAX,
    CYCLE_JITTER,
    CYCLE_S_MAX,
    EARLY_STEPS,
    FORGET_S,
    FOUND_WANTED,
    KEEP_S,
    NEAREST_RENEWED,
    PREFIX_COPIES_MAX,
    RENEWED_SHOWN_WANTED,
    RENEWED_WANTED,
    STEPS,
    STORERS_MAX,
    Cycle,
    KeptCycle,
    LookEnd,
    Storer,
    Task,
)
from tests.unit.publishing.kept_model import Model

SECRET = SecretKey.generate(b"\x01" * 32)
SEQ = 1_000
ITEM = MutableItem.signed(SECRET, SEQ, b"v")
SHOWN = InquiryOutcome(has_answered=True, item=ITEM, request_count=1)
NOTHING = InquiryOutcome(has_answered=True, request_count=1)
SILENT = InquiryOutcome(request_count=1)
STEP_S = CYCLE_S_MAX / STEPS  # With a jitter of 0.
RATIO_MIN = 4.0


def storers_of(count: int) -> list[NodeInfo]:
    """Return storers in as many private places, where every id is allowed."""
    return [NodeInfo(bytes([number]) * 20, (f"10.0.{number}.1", 6_881)) for number in range(count)]


def begun(count: int = 20, jitter: float = 0.0, *, is_keeping: bool = True) -> Cycle:
    """Return a cycle that has begun at time 0 with storers that keep what they are given."""
    cycle = Cycle(lambda: jitter)
    cycle.begin(SEQ, storers_of(count), 0.0)
    cycle.is_keeping = is_keeping
    return cycle


def looked(cycle: Cycle, outcomes: dict[NodeInfo, InquiryOutcome], usual: InquiryOutcome, now: float) -> list[Storer]:
    """Take a step, look, and return who was asked."""
    assert cycle.take(SEQ) is Task.LOOK
    look, all_asked = cycle.look(), []
    while asked := look.next():
        all_asked += asked
        for one in asked:
            look.note(one, outcomes.get(one.contact, usual), ITEM, now)
    look.conclude()
    return all_asked


def test_seven_looks_and_then_a_put() -> None:
    cycle, now = begun(), 0.0
    tasks = []
    for _ in range(STEPS):
        now += cycle.pause_s(now)
        tasks.append((cycle.take(SEQ), now))
    assert [task for task, _ in tasks] == [Task.LOOK] * (STEPS - 1) + [Task.PUT]
    assert [at for _, at in tasks] == pytest.approx([STEP_S * step for step in range(1, STEPS + 1)])


@given(st.floats(0.0, 1.0, exclude_max=True), st.lists(st.sampled_from([SHOWN, NOTHING, SILENT]), max_size=40))
def test_an_item_is_put_within_eight_hours_whatever_the_storers_say(
    jitter: float, answers: Sequence[InquiryOutcome]
) -> None:
    cycle, now, given_count = begun(jitter=jitter), 0.0, 0
    for _ in range(STEPS):
        now += cycle.pause_s(now)
        if cycle.take(SEQ) is Task.PUT:
            break
        look = cycle.look()
        while asked := look.next():
            for one in asked:
                answer = answers[given_count % len(answers)] if answers else SHOWN
                given_count += 1
                look.note(one, answer, ITEM, now)
        if look.conclude() is LookEnd.LOST:
            break
    assert CYCLE_S_MAX * (1 - CYCLE_JITTER) / STEPS - 1e-6 <= now <= CYCLE_S_MAX


def test_four_are_asked_and_three_signed_replies_end_a_look() -> None:
    assert len(looked(begun(), {}, SHOWN, STEP_S)) == ASKED_FIRST
    cycle = begun()
    assert cycle.take(SEQ) is Task.LOOK
    look = cycle.look()
    for one, answer in zip(look.next(), (SHOWN, SILENT, SHOWN, SHOWN), strict=True):
        look.note(one, answer, ITEM, STEP_S)
    assert (look.next(), look.conclude(), look.found_count) == ([], LookEnd.ENOUGH, FOUND_WANTED)


def test_with_two_signed_replies_of_four_one_storer_more_is_asked() -> None:
    cycle = begun()
    assert cycle.take(SEQ) is Task.LOOK
    look = cycle.look()
    for one, answer in zip(look.next(), (SHOWN, SILENT, NOTHING, SHOWN), strict=True):
        look.note(one, answer, ITEM, STEP_S)
    assert (look.finding, len(look.next())) == (LookEnd.OPEN, FOUND_WANTED - 2)


def test_each_storer_is_asked_in_its_turn() -> None:
    cycle = begun(12)
    looks = [looked(cycle, {}, SHOWN, STEP_S * step) for step in (1, 2, 3)]
    assert Counter(one.contact for asked in looks for one in asked) == Counter(storers_of(12))


@pytest.mark.parametrize("outcome", [SILENT, NOTHING], ids=["silent", "without it"])
def test_another_storer_is_asked_for_each_that_shows_nothing_and_it_comes_last_next_time(
    outcome: InquiryOutcome,
) -> None:
    cycle, failing = begun(), dict.fromkeys(storers_of(20)[:8], outcome)
    asked = looked(cycle, failing, SHOWN, STEP_S)
    failed = [one for one in asked if one.contact in failing]
    assert len(asked) == FOUND_WANTED + len(failed)
    assert failed, "the first are asked first where nothing else decides"
    again = looked(cycle, failing, SHOWN, 2 * STEP_S)
    assert not [one for one in again if one in failed]


def test_too_few_signed_replies_are_a_loss_after_a_bounded_number_of_inquiries() -> None:
    cycle = begun()
    assert cycle.take(SEQ) is Task.LOOK
    look, count = cycle.look(), 0
    while asked := look.next():
        count += len(asked)
        for one in asked:
            look.note(one, SHOWN if count <= FOUND_WANTED and one is asked[0] else NOTHING, ITEM, STEP_S)
    assert look.conclude() is LookEnd.LOST
    assert count <= ASKED_MAX


def test_a_seq_that_is_only_named_is_no_copy() -> None:
    cycle = begun()
    named = InquiryOutcome(has_answered=True, seq_named=SEQ, request_count=1)
    looked(cycle, {}, named, STEP_S)
    assert cycle.measured().copies == 0


def test_the_same_seq_with_another_value_is_no_copy() -> None:
    cycle = begun()
    other = InquiryOutcome(has_answered=True, item=MutableItem.signed(SECRET, SEQ, b"a"), request_count=1)
    looked(cycle, {}, other, STEP_S)
    assert cycle.measured().copies == 0


def test_a_newer_item_is_told_and_ends_the_look() -> None:
    cycle = begun()
    newer = InquiryOutcome(has_answered=True, item=MutableItem.signed(SECRET, SEQ + 1, b"n"), request_count=1)
    cycle.take(SEQ)
    look = cycle.look()
    first, *others = look.next()
    look.note(first, newer, ITEM, STEP_S)
    for one in others:
        look.note(one, SHOWN, ITEM, STEP_S)
    assert (look.conclude(), look.next()) == (LookEnd.NEWER, [])


def test_two_storers_of_a_prefix_count_and_no_third() -> None:
    cycle = Cycle(lambda: 0.0)
    # All in one /24 that is not private; their ids are those that BEP 42 allows there.
    contacts = [NodeInfo(id_for(f"203.1.113.{n}", bytes([n]) * 20), (f"203.1.113.{n}", 6_881)) for n in range(1, 9)]
    cycle.begin(SEQ, contacts, 0.0)
    cycle.is_keeping = True
    asked = looked(cycle, {}, SHOWN, STEP_S)
    assert len(asked) == PREFIX_COPIES_MAX
    assert cycle.measured().copies == PREFIX_COPIES_MAX


def test_a_storer_whose_id_bep_42_forbids_is_neither_asked_nor_counted() -> None:
    cycle = Cycle(lambda: 0.0)
    contact = NodeInfo(b"\x00" * 20, ("203.1.113.9", 6_881))
    assert not is_id_allowed(contact.node_id, contact.address[0])
    cycle.begin(SEQ, [contact, *storers_of(5)], 0.0)
    cycle.is_keeping = True
    asked = looked(cycle, {}, SHOWN, STEP_S)
    assert contact not in [one.contact for one in asked]


def test_in_the_middle_of_a_cycle_the_nearest_are_put_to_again_so_that_no_holder_need_look() -> None:
    cycle, renewed = begun(), Counter[int]()
    for step in range(1, STEPS):
        assert cycle.take(SEQ) is Task.LOOK
        look = cycle.look()
        while asked := look.next():
            for one in asked:
                renewed[step] += look.renews(one)
                look.note(one, SHOWN, ITEM, step * STEP_S)
    assert +renewed == Counter({STEPS // 2: NEAREST_RENEWED})


def test_until_nodes_are_known_to_keep_it_some_copies_are_renewed_before_two_hours_are_over() -> None:
    cycle = begun(is_keeping=False)
    renewed = []
    for step in range(1, EARLY_STEPS + 1):
        assert cycle.take(SEQ) is Task.LOOK
        look = cycle.look()
        for one in look.next():
            assert step * STEP_S < FORGET_S
            renewed.append(look.renews(one))
            look.note(one, SHOWN, ITEM, step * STEP_S)
    assert renewed == [True] * EARLY_STEPS * ASKED_FIRST


def test_a_renewed_copy_does_not_prove_that_nodes_keep_it_for_long() -> None:
    cycle = begun(is_keeping=False)
    kept = InquiryOutcome(has_answered=True, item=ITEM, is_kept=True, request_count=2)
    for step in range(1, EARLY_STEPS + 1):
        looked(cycle, {}, kept, step * STEP_S)
    renewed = [one.contact for one in cycle.storers if one.put_at > 0]
    # Three hours after the put all others have forgotten it.
    asked = looked(cycle, dict.fromkeys(renewed, SHOWN), NOTHING, 3 * STEP_S)
    assert not [one for one in asked if one.contact in renewed]
    assert cycle.is_forgetful


def test_nodes_that_show_an_old_copy_are_known_to_keep_it() -> None:
    cycle = begun(is_keeping=False)
    for step in (1, 2, 3):
        looked(cycle, {}, SHOWN, step * STEP_S)
    assert cycle.is_keeping
    assert cycle.measured().until == KEEP_S


def test_where_nodes_forget_copies_are_renewed_every_second_step_and_before_they_are_two_hours_old() -> None:
    cycle, now = begun(), 0.0
    cycle.note_forgetting()
    kept = InquiryOutcome(has_answered=True, item=ITEM, is_kept=True, request_count=2)
    times = []
    while True:
        before, now = now, now + cycle.pause_s(now)
        assert now - before < FORGET_S
        if cycle.take(SEQ) is Task.PUT:
            break
        look, renewed = cycle.look(), 0
        while asked := look.next():
            for one in asked:
                renewed += look.renews(one)
                look.note(one, kept if look.renews(one) else NOTHING, ITEM, now)
        # Storers that show the item before they take it again are no liars, so fewer are enough.
        assert (look.conclude(), renewed) == (LookEnd.ENOUGH, RENEWED_SHOWN_WANTED)
        times.append(now)
    assert times == pytest.approx([STEP_S * step for step in (2, 4, 6)])


def test_of_storers_that_take_the_item_and_show_nothing_more_are_renewed() -> None:
    cycle = begun()
    cycle.note_forgetting()
    assert cycle.take(SEQ) is Task.LOOK
    look, now, renewed = cycle.look(), 2 * STEP_S, 0
    taken = InquiryOutcome(has_answered=True, is_kept=True, request_count=2)
    shown = InquiryOutcome(has_answered=True, item=ITEM, is_kept=True, request_count=2)
    while asked := look.next():
        for one in asked:
            renewed += 1
            look.note(one, shown if renewed < RENEWED_SHOWN_WANTED else taken, ITEM, now)
    assert (look.conclude(), renewed) == (LookEnd.ENOUGH, RENEWED_WANTED)


def test_where_most_have_forgotten_it_the_copies_that_were_renewed_are_renewed_at_once() -> None:
    cycle = begun(is_keeping=False)
    kept = InquiryOutcome(has_answered=True, item=ITEM, is_kept=True, request_count=2)
    renewed: set[NodeInfo] = set()
    for step in range(1, EARLY_STEPS + 1):
        renewed |= {one.contact for one in looked(cycle, {}, kept, step * STEP_S)}
    assert cycle.take(SEQ) is Task.LOOK
    look = cycle.look()
    while asked := look.next():
        for one in asked:
            look.note(one, NOTHING, ITEM, 3 * STEP_S)
    assert (look.conclude(), cycle.is_forgetful) == (LookEnd.FORGOTTEN, True)
    again, found = cycle.look(), []
    while asked := again.next():
        for one in asked:
            found.append(one.contact)
            again.note(one, kept, ITEM, 3 * STEP_S)
    assert again.conclude() is LookEnd.ENOUGH
    assert set(found) <= renewed


def test_where_the_renewed_copies_are_gone_too_the_item_is_lost() -> None:
    cycle = begun(is_keeping=False)
    for step in range(1, EARLY_STEPS + 1):
        looked(cycle, {}, SHOWN, step * STEP_S)
    assert cycle.take(SEQ) is Task.LOOK
    ends = []
    for _ in range(2):
        look = cycle.look()
        while asked := look.next():
            for one in asked:
                look.note(one, NOTHING, ITEM, 3 * STEP_S)
        ends.append(look.conclude())
    assert ends == [LookEnd.FORGOTTEN, LookEnd.LOST]


def test_old_copies_that_were_not_renewed_end_the_renewing() -> None:
    cycle = begun()
    cycle.note_forgetting()
    kept = InquiryOutcome(has_answered=True, item=ITEM, is_kept=True, request_count=2)
    looked(cycle, {}, kept, 2 * STEP_S)
    assert cycle.is_forgetful
    looked(cycle, {}, kept, 4 * STEP_S)
    assert (cycle.is_forgetful, cycle.is_keeping) == (False, True)


@pytest.mark.parametrize("count", range(1, 8))
def test_in_a_small_network_all_that_can_be_asked_are_enough(count: int) -> None:
    cycle = begun(count)
    cycle.take(SEQ)
    look = cycle.look()
    while asked := look.next():
        for one in asked:
            look.note(one, SHOWN, ITEM, STEP_S)
    assert look.conclude() is LookEnd.ENOUGH


def test_without_a_storer_that_could_be_asked_the_item_is_put_at_every_step() -> None:
    cycle = begun(0)
    assert cycle.pause_s(0.0) == pytest.approx(STEP_S)
    assert cycle.take(SEQ) is Task.PUT


def test_after_a_put_that_reached_too_few_the_next_one_is_due() -> None:
    cycle = Cycle(lambda: 0.0)
    cycle.begin(SEQ, storers_of(3), 0.0, is_poor=True)
    assert (cycle.take(SEQ), cycle.kept(1.0, 2.0)) == (Task.PUT, None)
    assert (cycle.measured().put_next_at, cycle.measured().look_next_at) == (None, None)


def test_another_edition_is_put_at_once() -> None:
    assert begun().take(SEQ + 1) is Task.PUT


def test_a_node_that_showed_nothing_comes_last_after_the_next_put_too() -> None:
    cycle = begun()
    liar = looked(cycle, {}, NOTHING, STEP_S)[0].contact
    cycle.begin(SEQ, storers_of(20), 2 * STEP_S)
    assert liar not in [one.contact for one in looked(cycle, {}, SHOWN, 3 * STEP_S)]


@given(st.floats(0.0, CYCLE_S_MAX * (1 - CYCLE_JITTER), exclude_max=True))
def test_a_restart_goes_on_in_the_middle_of_a_cycle(age_s: float) -> None:
    cycle, unix = Cycle(lambda: 0.0), 1_800_000_000.0
    kept = KeptCycle(SEQ, unix - age_s, tuple(storers_of(20)), is_keeping=True)
    # The clock of the new process has another zero.
    assert cycle.resume(kept, SEQ, 50.0, unix)
    assert 0.0 <= cycle.pause_s(50.0) <= STEP_S + 1e-3
    # `kept` has the same put, up to rounding.
    again = cycle.kept(60.0, unix + 10.0)
    assert again is not None
    assert again.put_unix == pytest.approx(kept.put_unix)


@pytest.mark.parametrize(
    ("kept", "seq"),
    [
        (KeptCycle(SEQ, 1_000.0 - CYCLE_S_MAX, tuple(storers_of(20))), SEQ),
        (KeptCycle(SEQ, 1_001.0, tuple(storers_of(20))), SEQ),
        (KeptCycle(SEQ, 900.0, ()), SEQ),
        (KeptCycle(SEQ, 900.0, tuple(storers_of(20))), SEQ + 1),
    ],
    ids=["a cycle ago", "in the future", "without storers", "another edition"],
)
def test_a_put_that_says_nothing_of_now_is_not_gone_on_with(kept: KeptCycle, seq: int) -> None:
    assert not Cycle(lambda: 0.0).resume(kept, seq, 0.0, 1_000.0)


def test_no_more_storers_are_remembered_than_two_families_have() -> None:
    assert len(begun(100).storers) == STORERS_MAX


def test_what_is_measured_has_its_age_and_the_times_of_the_next_look_and_put() -> None:
    cycle = begun()
    looked(cycle, {}, SHOWN, STEP_S)
    found = cycle.measured()
    assert (found.acknowledged, found.copies, found.at, found.put_at) == (20, ASKED_FIRST, STEP_S, 0.0)
    assert [found.look_next_at, found.put_next_at] == pytest.approx([2 * STEP_S, CYCLE_S_MAX])


# Seeds are fixed, so that the figures are the same each time; bench/upkeep.py has the simulated world's.
@pytest.mark.parametrize("forgetful", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("liars", [0.0, 0.2])
def test_a_day_costs_a_quarter_of_hourly_puts_and_the_item_is_found_as_often(forgetful: float, liars: float) -> None:
    days, seeds = 30.0, (1, 2, 3, 4)
    now = [Model(seed, forgetful, liars).kept(days, by_looks=True) for seed in seeds]
    before = [Model(seed, forgetful, liars).kept(days, by_looks=False) for seed in seeds]
    assert sum(one.availability for one in now) / len(now) >= 0.999
    ratio = sum(one.datagrams_a_day for one in before) / sum(one.datagrams_a_day for one in now)
    assert ratio >= RATIO_MIN
