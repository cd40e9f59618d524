"""Divided zones in a resolution: the steps to their shards, what these cost, and what a missing one becomes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from p2pdns.dns.registry import Ede, Rcode
from p2pdns.dns.zone import Zone
from p2pdns.items.item import MutableItem
from p2pdns.items.shards.content import MovedZone, content_of
from p2pdns.items.shards.partial import PartialZone
from p2pdns.limits import QUESTION_LOOKUPS_MAX
from p2pdns.overlay.parts import key_of
from p2pdns.resolver.names import tag_of_zone
from p2pdns.resolver.resolution import PINNED_STEPS_MAX
from p2pdns.resolver.steps import Answered, Fetch, FetchPinned, Found, Missing, NotFound, Step
from tests.overlay_doubles import NOW, SECRETS, UNIX, A, B, found, question, rrsets
from tests.unit.items.divisions import Items, Made, divided
from tests.unit.resolver.test_resolver import begin

SECRET = SECRETS["a"]
APEX = SECRET.zone_key.apex
SEQ = int(UNIX * 1e6)


def items_of(*lines: str, bits: int = 2, by_manifests: bool = False) -> Items:
    """Return a zone of these lines, divided at its apex."""
    zone = Zone.of(APEX, rrsets(APEX, *lines), SEQ)
    return divided(zone, [Made(APEX, bits, by_manifests=by_manifests)])


def head_of(items: Items, **facts: object) -> Found:
    """Return the outcome that has the head."""
    return found(MutableItem.signed(SECRET, SEQ, items.head), **facts)  # type: ignore[arg-type]


def filled(outcome: Found, step: FetchPinned, items: Items, number: int = 0, **facts: object) -> Found:
    """Return the outcome of a step that has found its items."""
    zone = outcome.zone
    assert isinstance(zone, PartialZone)
    for wanted in step.needed.items:
        zone = zone.with_value(wanted, items.values[wanted.salt])
    earlier = ((number, 5),) if number else ()
    return replace(outcome, zone=zone, earlier=earlier, pinned_lookup=number, **facts)  # type: ignore[arg-type]


def pinned(step: Step) -> FetchPinned:
    """Return the step, which fetches pinned items."""
    assert isinstance(step, FetchPinned), step
    return step


def answered(step: Step) -> Answered:
    """Return the step, which is the last."""
    assert isinstance(step, Answered), step
    return step


HOSTS = items_of(*[f"n{n} 300 A 192.0.2.{n}" for n in range(20)])


def test_a_divided_zone_is_asked_for_the_shard_that_the_answer_needs() -> None:
    resolution, step = begin("n5.{a} A")
    head = head_of(HOSTS)
    step = pinned(resolution.step_done(head, NOW))
    assert (step.zone_id, step.pinned_by, step.settled) == (A, A, False)
    answer = answered(resolution.step_done(filled(head, step, HOSTS, 7), NOW)).answer
    assert [rr.rdata[-1] for rr in answer.answer] == [5]
    assert tag_of_zone(A) in answer.tags
    assert f"the zone is divided: {step.needed} is needed" in answer.trace
    assert answer.rpc_count == 5


def test_a_manifest_and_its_shard_count_as_one_look_up() -> None:
    items = items_of(*[f"n{n} 300 A 192.0.2.{n}" for n in range(20)], by_manifests=True)
    resolution, _ = begin("n5.{a} A")
    head = head_of(items, lookup=1, rpc_count=40)
    manifest = pinned(resolution.step_done(head, NOW))
    assert manifest.is_of_manifest
    with_manifest = filled(head, manifest, items, 2)
    shard = pinned(resolution.step_done(with_manifest, NOW))
    assert not shard.is_of_manifest
    assert resolution.cold_gets_left == QUESTION_LOOKUPS_MAX - 1
    resolution.step_done(filled(with_manifest, shard, items, 3), NOW)
    assert resolution.cold_gets_left == QUESTION_LOOKUPS_MAX - 2
    assert resolution.rpc_count == 50


def test_a_manifest_that_came_to_hand_meanwhile_makes_no_other_look_up_free() -> None:
    items = items_of(*[f"n{n} 300 A 192.0.2.{n}" for n in range(20)], by_manifests=True)
    resolution, _ = begin("n5.{a} A")
    manifest = pinned(resolution.step_done(head_of(items, lookup=1, rpc_count=40), NOW))
    # The zone that a key was succeeded by has been looked up before the head.
    at_hand = filled(head_of(items, lookup=3, rpc_count=20), manifest, items)
    resolution.step_done(replace(at_hand, earlier=((2, 30),)), NOW)
    assert resolution.cold_gets_left == QUESTION_LOOKUPS_MAX - 3


@pytest.mark.parametrize(
    ("reason", "code", "words"),
    [
        (Missing.ABSENT, Ede.NO_REACHABLE_AUTHORITY, "contacts answered, and none has this item"),
        (Missing.UNREACHABLE, Ede.NETWORK_ERROR, "no contact of the overlay answered"),
        (Missing.BROKEN, Ede.NO_REACHABLE_AUTHORITY, "the item of this pin breaks a rule of divided zones"),
    ],
)
def test_a_missing_shard_has_the_head_looked_up_once_more_and_then_names_itself(
    reason: Missing, code: Ede, words: str
) -> None:
    resolution, step = begin("n5.{a} A")
    head = head_of(HOSTS)
    step = pinned(resolution.step_done(head, NOW))
    again = resolution.step_done(NotFound(reason, NOW + 9, earlier=((7, 30),)), NOW)
    assert again == Fetch(A, settled=True, looks_again=True)
    answer = answered(resolution.step_done(head, NOW)).answer
    assert (answer.rcode, answer.ede, answer.failure) == (Rcode.SERVFAIL, ((code, f"{step.needed}: {words}"),), True)
    assert answer.expiry == NOW + 9


def test_the_failure_that_is_remembered_of_a_shard_costs_no_second_look_at_the_head() -> None:
    resolution, _ = begin("n5.{a} A")
    resolution.step_done(head_of(HOSTS), NOW)
    answer = answered(resolution.step_done(NotFound(Missing.ABSENT, NOW + 20), NOW)).answer
    assert (answer.rcode, answer.expiry) == (Rcode.SERVFAIL, NOW + 20)


@pytest.mark.parametrize("reason", [Missing.BUDGET, Missing.DEADLINE])
def test_a_spent_budget_is_a_brief_failure_because_the_next_question_goes_on(reason: Missing) -> None:
    resolution, _ = begin("n5.{a} A")
    resolution.step_done(head_of(HOSTS), NOW)
    answer = answered(resolution.step_done(NotFound(reason, earlier=((7, 30),)), NOW)).answer
    assert answer.rcode == Rcode.SERVFAIL
    assert answer.expiry <= NOW + 1.0


def test_a_newer_head_that_pins_another_shard_is_gone_on_with() -> None:
    newer = items_of(*[f"n{n} 300 A 198.51.100.{n}" for n in range(20)])
    resolution, step = begin("n5.{a} A")
    resolution.step_done(head_of(HOSTS), NOW)
    resolution.step_done(NotFound(Missing.ABSENT, NOW + 9, earlier=((7, 30),)), NOW)
    head = head_of(newer)
    step = pinned(resolution.step_done(head, NOW))
    answer = answered(resolution.step_done(filled(head, step, newer, 9), NOW)).answer
    assert [rr.rdata[0] for rr in answer.answer] == [198]
    # The shard of the newer head may be missing too; then there is no third head.
    resolution, _ = begin("n5.{a} A")
    resolution.step_done(head_of(HOSTS), NOW)
    resolution.step_done(NotFound(Missing.ABSENT, NOW + 9, earlier=((7, 30),)), NOW)
    resolution.step_done(head, NOW)
    last = answered(resolution.step_done(NotFound(Missing.ABSENT, NOW + 9, earlier=((9, 30),)), NOW)).answer
    assert last.rcode == Rcode.SERVFAIL


def test_steps_through_shards_are_bounded_even_if_each_finds_something() -> None:
    resolution, _ = begin("n5.{a} A")
    head = head_of(HOSTS)
    for _ in range(PINNED_STEPS_MAX):
        # The items were at hand, and are evicted before the answer is made.
        pinned(resolution.step_done(head, NOW))
    assert answered(resolution.step_done(head, NOW)).answer.rcode == Rcode.SERVFAIL


def test_a_denial_and_a_delegation_wait_for_a_settled_head() -> None:
    for name in ("absent", "cut"):
        items = items_of(*[f"n{n} 300 A 192.0.2.{n}" for n in range(20)], "cut 300 NS {b}")
        resolution, step = begin(f"{name}.{{a}} A")
        head = head_of(items, settled=False)
        step = pinned(resolution.step_done(head, NOW))
        assert resolution.step_done(filled(head, step, items, 7), NOW) == Fetch(A, settled=True)


def test_a_newer_head_waits_where_nobody_knows_what_the_older_one_said() -> None:
    resolution, step = begin("n5.{a} A")
    before = content_of(MutableItem.signed(SECRET, SEQ - 1, HOSTS.head))
    newer = items_of(*[f"n{n} 300 A 198.51.100.{n}" for n in range(20)])
    head = head_of(newer, settled=False, previous=before)
    step = pinned(resolution.step_done(head, NOW))
    assert resolution.step_done(filled(head, step, newer, 7), NOW) == Fetch(A, settled=True)


def test_the_shards_of_a_key_that_has_followed_are_pinned_by_that_one() -> None:
    resolution, step = begin("n5.{b} A")
    head = head_of(HOSTS)
    partial = head.zone
    assert isinstance(partial, PartialZone)
    shown = replace(head, zone=MovedZone(partial, key_of(B).apex), followed=(A,))
    step = pinned(resolution.step_done(shown, NOW))
    assert (step.zone_id, step.pinned_by) == (B, A)
    for wanted in step.needed.items:
        partial = partial.with_value(wanted, HOSTS.values[wanted.salt])
    done = replace(shown, zone=MovedZone(partial, key_of(B).apex), earlier=((7, 5),))
    answer = answered(resolution.step_done(done, NOW)).answer
    assert [(str(rr.owner), rr.rdata[-1]) for rr in answer.answer] == [(str(question("n5.{b} A").name), 5)]
