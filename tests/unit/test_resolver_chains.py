"""Chains across zone keys: what their ends may say, which links they stand on, what they cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest

from p2pdns.dns.message import Rcode
from p2pdns.resolver import (
    Answered,
    Fetch,
    Forward,
    Missing,
    NotFound,
    Outcome,
    Resolved,
    ResolverSettings,
    tag_of_key,
    tag_of_petname,
)
from p2pdns.resolver.resolution import STEPS_MAX
from tests.overlay_doubles import KEYS, NOW, A, B, found, item_of
from tests.unit.test_resolver import SETTINGS, begin, replied, text_of

# What a provisional link of a chain cannot carry.


def walked(
    text: str, zones: Mapping[str, Sequence[Outcome]], options: ResolverSettings = SETTINGS
) -> tuple[list[str], Resolved]:
    """Return the steps of a resolution as text, and its end, from outcomes lined up by zone; `.` is the upstream."""
    resolution, step = begin(text, options)
    left = {place: list(outcomes) for place, outcomes in zones.items()}
    steps: list[str] = []
    while not isinstance(step, Answered):
        place = "." if isinstance(step, Forward) else next(name for name, key in KEYS.items() if key == step.key)
        steps.append(place + "!" * (isinstance(step, Fetch) and step.settled))
        step = resolution.step_done(left[place].pop(0), NOW)
    return steps, step.answer


ALIAS = item_of("a", "www 60 CNAME www.{b}")
HERE_A = "www 300 A 192.0.2.1"


def test_what_the_end_of_a_chain_denies_stands_on_settled_links_only() -> None:
    zones = {"a": [found(ALIAS, settled=False), found(ALIAS)], "b": [found(item_of("b"))]}
    steps, answer = walked("www.{a} A", zones)
    assert steps == ["a", "b", "a!"]
    assert (answer.rcode, answer.provisional, answer.ad_eligible) == (Rcode.NXDOMAIN, False, True)
    assert (text_of(answer), len(answer.authority)) == (["www.<a>. 60 CNAME"], 1)


def test_a_settled_link_that_leads_elsewhere_takes_the_denial_with_it() -> None:
    newer = item_of("a", HERE_A)
    zones = {"a": [found(item_of("a", "www 60 CNAME no.{b}", age_s=9), settled=False), found(newer)]}
    steps, answer = walked("www.{a} A", {**zones, "b": [found(item_of("b"))]})
    assert steps == ["a", "b", "a!"]
    assert (text_of(answer), answer.rcode, answer.authority) == (["www.<a>. 300 A"], Rcode.NOERROR, ())


def test_a_denial_on_a_link_that_cannot_be_settled_is_a_failure() -> None:
    ends: list[Outcome] = [found(ALIAS, settled=False), NotFound(Missing.DEADLINE)]
    for last in ends:
        zones: dict[str, list[Outcome]] = {"a": [found(ALIAS, settled=False), last], "b": [found(item_of("b"))]}
        _, answer = walked("www.{a} A", zones)
        assert (answer.rcode, answer.failure, answer.answer, answer.authority) == (Rcode.SERVFAIL, True, (), ())


@pytest.mark.parametrize(
    ("lines", "end"),
    [
        (["ent.www 300 A 192.0.2.1"], Rcode.NOERROR),
        (["www 300 NS {c}"], Rcode.NOERROR),
        (["www 300 NS ns.example."], Rcode.SERVFAIL),
        (["www 300 CNAME www"], Rcode.SERVFAIL),
        (["www 300 CNAME www.{a}"], Rcode.SERVFAIL),
    ],
    ids=["empty non-terminal", "delegation", "delegation to a host", "loop in a zone", "loop across zones"],
)
def test_a_chain_says_nothing_that_its_provisional_links_could_not_say(lines: list[str], end: Rcode) -> None:
    zones = {
        "a": [found(ALIAS, settled=False), found(ALIAS)],
        "b": [found(item_of("b", *lines))],
        "c": [found(item_of("c", "@ 300 A 192.0.2.1"))],
    }
    steps, answer = walked("www.{a} A", zones)
    assert steps[:3] == ["a", "b", "a!"]
    assert (answer.rcode, answer.provisional) == (end, False)


def test_a_type_that_the_end_of_a_provisional_chain_does_not_have_is_denied_at_once() -> None:
    # A browser asks for A and AAAA together, and the alias itself is there.
    zones = {"a": [found(ALIAS, settled=False)], "b": [found(item_of("b", HERE_A))]}
    steps, answer = walked("www.{a} AAAA", zones)
    assert (steps, answer.rcode, answer.provisional) == (["a", "b"], Rcode.NOERROR, True)


@pytest.mark.parametrize("target", ["example.com.", "nobody.invalid.", "nobody.p2p.alt."])
def test_a_denial_by_others_stands_on_settled_links_only(target: str) -> None:
    item = item_of("a", f"www 60 CNAME {target}")
    soa = ("com. 900 NS a.example.",)
    denial = replied("example.com. A", rcode=3, authority=soa)
    steps, answer = walked("www.{a} A", {"a": [found(item, settled=False), found(item)], ".": [denial] * 2})
    assert [step for step in steps if step != "."] == ["a", "a!"]
    assert (answer.rcode, answer.provisional) == (Rcode.NXDOMAIN, False)


def test_a_chain_of_provisional_zones_is_settled_zone_by_zone_within_the_steps() -> None:
    links = {"a": "{b}", "b": "{c}", "c": "{d}"}
    items = {name: item_of(name, f"www 60 CNAME www.{target}") for name, target in links.items()}
    items["d"] = item_of("d")
    zones: dict[str, list[Outcome]] = {name: [found(item, settled=False), found(item)] for name, item in items.items()}
    steps, answer = walked("www.{a} A", zones)
    assert steps == ["a", "b", "c", "d", "d!", "a!", "b!", "c!"]
    assert len(steps) == STEPS_MAX
    assert (answer.rcode, answer.provisional, len(answer.answer)) == (Rcode.NXDOMAIN, False, 3)


def test_the_second_way_through_a_chain_forgets_what_the_first_has_told() -> None:
    options = ResolverSettings.of(petnames={"alice": str(A)})
    first = item_of("a", "www 60 CNAME www.{b}p2pdns.internal.", age_s=9)
    zones = {"a": [found(first, settled=False), found(item_of("a", "www 60 CNAME x.{c}"))], "b": [found(item_of("b"))]}
    zones["c"] = [found(item_of("c", "x 60 A 192.0.2.3"))]
    steps, answer = walked("www.alice.p2p.alt. A", zones, options)
    assert steps == ["a", "b", "a!", "c!"]
    assert text_of(answer) == ["www.alice.p2p.alt. 60 CNAME", "x.<c>.p2p.alt. 60 A"]
    assert (answer.ede, answer.provisional) == ((), False)
    assert tag_of_petname(b"alice") in answer.tags
    assert tag_of_key(B) not in answer.tags
