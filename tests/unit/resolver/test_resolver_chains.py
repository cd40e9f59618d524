"""Chains across zone keys: what their ends may say, which links they stand on, what they cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest

from p2pdns.dns.registry import Rcode
from p2pdns.resolver.names import ResolverSettings, tag_of_petname, tag_of_zone
from p2pdns.resolver.resolution import STEPS_MAX
from p2pdns.resolver.steps import Answered, Fetch, Forward, Missing, NotFound, Outcome, Resolved
from tests.overlay_doubles import KEYS, NOW, A, B, found, item_of
from tests.unit.resolver.test_resolver import SETTINGS, begin, replied, shown, target_of, text_of

# What a provisional link of a chain cannot carry.


def walked(
    text: str, zones: Mapping[str, Sequence[Outcome]], options: ResolverSettings = SETTINGS
) -> tuple[list[str], Resolved]:
    """Return the steps of a resolution as text, and its end, from outcomes lined up by zone; `.` is the upstream."""
    resolution, step = begin(text, options)
    left = {place: list(outcomes) for place, outcomes in zones.items()}
    steps: list[str] = []
    while not isinstance(step, Answered):
        place = "." if isinstance(step, Forward) else next(name for name, key in KEYS.items() if key == step.zone_id)
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
    assert tag_of_zone(B) not in answer.tags


# Delegation to keys.


@pytest.mark.parametrize("rtype", ["A", "AAAA", "TXT", "MX", "SOA", "HTTPS", "CNAME", "ANY"])
def test_at_a_cut_every_type_but_ns_and_ds_is_the_other_zones(rtype: str) -> None:
    zone_a, zone_b = item_of("a", "friend 70 NS {b}"), item_of("b", "@ 300 A 192.0.2.1", "@ 200 TXT here")
    steps, answer = walked(f"friend.{{a}} {rtype}", {"a": [found(zone_a)], "b": [found(zone_b)]})
    assert steps == ["a", "b!"]
    assert text_of(answer)[0] == "friend.<a>. 70 CNAME"
    assert target_of(answer.answer[0]) == "<b>."
    ends = {"A": "<b>. 300 A", "TXT": "<b>. 200 TXT", "SOA": "<b>. 300 SOA", "ANY": "<b>. 300 A"}
    assert text_of(answer)[1:] == ([ends[rtype]] if rtype in ends else [])
    assert [shown(str(rr.owner)) for rr in answer.authority] == ([] if rtype in ends else ["<b>."])


def test_below_a_cut_ns_and_ds_too_are_the_other_zones() -> None:
    zone_a, zone_b = found(item_of("a", "friend 70 NS {b}")), found(item_of("b", "sub 50 NS {c}"))
    _, answer = walked("sub.friend.{a} NS", {"a": [zone_a], "b": [zone_b]})
    assert text_of(answer) == ["sub.friend.<a>. 70 CNAME", "sub.<b>. 50 NS"]


def test_a_delegated_zone_may_delegate_on() -> None:
    zones = {
        "a": [found(item_of("a", "bob 70 NS {b}"))],
        "b": [found(item_of("b", "carol 60 NS {c}"))],
        "c": [found(item_of("c", HERE_A))],
    }
    steps, answer = walked("www.carol.bob.alice.p2p.alt. A", zones)
    assert steps == ["a", "b!", "c!"]
    assert text_of(answer) == [
        "www.carol.bob.alice.p2p.alt. 70 CNAME",
        "www.carol.<b>.p2p.alt. 60 CNAME",
        "www.<c>.p2p.alt. 300 A",
    ]


def test_a_cut_may_name_hosts_beside_a_key_and_only_the_key_is_followed() -> None:
    zone_a = found(item_of("a", "friend 70 NS ns.example.", "friend 70 NS {b}", "friend 70 NS 10.{c}"))
    steps, _ = walked("www.friend.{a} A", {"a": [zone_a], "b": [found(item_of("b", HERE_A))]})
    assert steps == ["a", "b!"]


def test_behind_a_cut_the_complete_look_up_is_waited_for_and_an_item_is_valid_without() -> None:
    first, second = sorted("bc", key=lambda letter: KEYS[letter].apex.canonical_key())
    zone_a = found(item_of("a", "friend 70 NS {b}", "friend 70 NS {c}"))
    steps, answer = walked(
        "www.friend.{a} A", {"a": [zone_a], first: [found(item_of(first, HERE_A), settled=False)], second: []}
    )
    assert steps == ["a", f"{first}!"]
    assert (answer.provisional, answer.ad_eligible, [rr.ttl for rr in answer.answer]) == (True, False, [5, 5])


def test_when_no_delegate_has_an_item_the_name_is_not_denied() -> None:
    zone_a = found(item_of("a", *(f"friend 70 NS {{{letter}}}" for letter in "bcd")))
    missing = NotFound(Missing.ABSENT, retry_at=NOW + 7)
    steps, answer = walked("www.friend.{a} A", {"a": [zone_a], "b": [missing], "c": [missing], "d": [missing]})
    assert sorted(steps) == ["a", "b!", "c!", "d!"]
    assert (answer.rcode, answer.failure, answer.ede[0][0], answer.answer) == (Rcode.SERVFAIL, True, 22, ())


def test_a_name_too_long_below_a_delegate_is_not_told() -> None:
    long = ".".join(["x" * 62] * 3)
    zone_a = found(item_of("a", "f 70 NS {b}"))
    # In the zone's own words it fits, with the suffix behind it it does not.
    _, bare = walked(f"{long}.f.{{a}} A", {"a": [zone_a], "b": [found(item_of("b", f"{long} 60 A 192.0.2.1"))]})
    assert bare.rcode == Rcode.NOERROR
    options = ResolverSettings.of(petnames={"a": str(A)})
    zones = {"a": [zone_a], "b": [found(item_of("b", f"{long} 60 A 192.0.2.1"))]}
    _, answer = walked(f"{long}.f.a.p2pdns.internal. A", zones, options)
    assert (answer.rcode, answer.answer) == (Rcode.SERVFAIL, ())


# What the links of a chain earn.


@pytest.mark.parametrize("weak", [0, 1, 2, None])
@pytest.mark.parametrize("fault", ["settled", "fresh", "unconfirmed"])
def test_a_chain_earns_ad_only_when_every_link_does(weak: int | None, fault: str) -> None:
    items = [
        item_of("a", "www 60 CNAME x.sub.{b}"),
        item_of("b", "sub 60 DNAME {c}"),
        item_of("c", "x 60 A 192.0.2.1"),
    ]
    zones: dict[str, list[Outcome]] = {}
    for number, (letter, item) in enumerate(zip("abc", items, strict=True)):
        facts = {fault: fault == "unconfirmed"} if number == weak else {}
        zones[letter] = [found(item, **facts)]
    steps, answer = walked("www.{a} A", zones)
    assert steps == ["a", "b", "c"]
    assert answer.ad_eligible is (weak is None)
    assert answer.provisional is (weak is not None and fault == "settled")
    assert (3 in [code for code, _ in answer.ede]) is (weak is not None and fault != "settled")
