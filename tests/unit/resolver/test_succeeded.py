"""Keys that others have followed: what a question sees of it, what it costs, and what its answer depends on."""

from __future__ import annotations

from dataclasses import replace

import pytest

from p2pdns.dns.registry import Ede, Rcode
from p2pdns.items.shards.content import moved
from p2pdns.items.succession import HOPS_MAX
from p2pdns.limits import QUESTION_LOOKUPS_MAX, QUESTION_RPCS_MAX
from p2pdns.overlay.parts import key_of
from p2pdns.resolver.names import ResolverSettings, tag_of_zone
from p2pdns.resolver.steps import WORDS, Fetch, Found, Missing, NotFound
from tests.overlay_doubles import A, B, C, found, item_of
from tests.unit.resolver.test_resolver import begin, resolved, text_of

WWW = "www 300 A 192.0.2.1"


def following(*lines: str, **facts: object) -> Found:
    """Return the outcome for the key A, which the key B has followed."""
    outcome = found(item_of("b", *lines), followed=(B,), **facts)  # type: ignore[arg-type]
    return replace(outcome, zone=moved(outcome.zone, key_of(A).apex))


def test_the_answer_has_the_name_that_was_asked_for_and_depends_on_both_keys() -> None:
    answer = resolved("www.{a} A", following("www 300 CNAME mail", "mail 300 A 192.0.2.7"))
    assert text_of(answer) == ["www.<a>. 300 CNAME", "mail.<a>. 300 A"]
    assert {tag_of_zone(A), tag_of_zone(B)} <= set(answer.tags)
    assert f"{A} is succeeded by {B}" in answer.trace


def test_a_chain_of_keys_is_told_key_by_key() -> None:
    answer = resolved("www.{a} A", replace(following(WWW), followed=(C, B)))
    assert [line for line in answer.trace if "succeeded" in line] == [
        f"{A} is succeeded by {C}",
        f"{C} is succeeded by {B}",
    ]


def test_a_petname_and_a_delegation_follow_through_the_same_door() -> None:
    options = ResolverSettings.of(petnames={"alice": str(A)}, suffixes=("p2p.alt",))
    named = resolved("www.alice.p2p.alt. A", following(WWW), options=options)
    assert [str(rr.owner) for rr in named.answer] == ["www.alice.p2p.alt."]
    delegated = resolved("www.{c} A", found(item_of("c", "www 300 NS {a}")), following("@ 300 A 192.0.2.7"))
    assert text_of(delegated)[-1] == "<a>. 300 A"


def test_the_look_ups_of_the_keys_before_are_charged_as_those_before_a_delegation_are() -> None:
    resolution, step = begin("www.{a} A")
    assert isinstance(step, Fetch)
    resolution.step_done(following(WWW, lookup=3, rpc_count=33, earlier=((1, 40), (2, 7))), 1_000.0)
    assert resolution.rpc_count == 80
    assert resolution.rpcs_left == QUESTION_RPCS_MAX - 80
    assert resolution.cold_gets_left == QUESTION_LOOKUPS_MAX - 3


@pytest.mark.parametrize(
    ("reason", "text"),
    [
        (Missing.ODD, "the newest item of this zone lacks its commitment to a next key: not adopted"),
        (Missing.CONFLICT, "this zone has two items of which the newer lacks the older one's commitment"),
        (Missing.ENDLESS, f"more than {HOPS_MAX} keys follow this one, or they come back to one"),
    ],
)
def test_what_a_reader_may_not_adopt_is_a_failure_with_its_reason(reason: Missing, text: str) -> None:
    answer = resolved("www.{a} A", NotFound(reason, followed=(B,)))
    assert (answer.rcode, answer.ede, answer.failure) == (
        Rcode.SERVFAIL,
        ((Ede.NO_REACHABLE_AUTHORITY, text),),
        True,
    )
    assert tag_of_zone(B) in answer.tags


def test_a_zone_with_an_odd_newest_item_is_served_as_stale_with_the_reason_and_earns_no_ad() -> None:
    odd = WORDS[Missing.ODD]
    answer = resolved("www.{a} A", found(item_of("a", WWW), unconfirmed=True, notes=(odd,)))
    assert (Ede.OTHER, odd) in answer.ede
    assert Ede.STALE_ANSWER in [code for code, _ in answer.ede]
    assert not answer.ad_eligible
    assert text_of(answer) == ["www.<a>. 30 A"]
    denied = resolved("x.{a} A", found(item_of("a", WWW), unconfirmed=True, notes=(odd,)))
    assert denied.rcode == Rcode.SERVFAIL
    assert (Ede.OTHER, odd) in denied.ede
