"""A divided zone answers what the whole zone answers, whichever of its shards are at hand."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pdns.dns.message import Question, RRset
from p2pdns.dns.name import Name
from p2pdns.dns.registry import Rcode, Type
from p2pdns.dns.zone import Zone, records_in
from p2pdns.dns.zone.answer import Kind, ZoneAnswer
from p2pdns.errors import BadItem
from p2pdns.items.shards.directory import BITS_MAX
from p2pdns.items.shards.head import Head
from p2pdns.items.shards.partial import PARSED_MAX, SHARDS_MAX, Needed, PartialZone
from p2pdns.limits import QUESTION_LOOKUPS_MAX
from tests.unit.dns.strategies import KEY, OTHER_KEYS
from tests.unit.items.divisions import SEQ, Items, Made, asked, divided, index, is_blocked, pin

LABELS = (b"a", b"b", b"c", b"*", b"www", b"WWW")
TYPES = (Type.A, Type.AAAA, Type.TXT, Type.MX, Type.CNAME, Type.CNAME, Type.DNAME, Type.NS, Type.SRV)
ASKED = (*TYPES[:5], Type.DNAME, Type.NS, Type.SOA, Type.ANY, Type.DS, 65281)
# What the own shard of a directory may have.
OWN = (Type.A, Type.AAAA, Type.TXT, Type.MX, Type.SRV)
OTHER_SEQ = SEQ + 1

Row = tuple[Name, int, Name, int]
label_lists = st.lists(st.sampled_from(LABELS), max_size=4)
inside = label_lists.map(lambda labels: Name.of(*labels, *KEY.labels))
rows = st.lists(st.tuples(inside, st.sampled_from(list(map(int, TYPES))), inside, st.integers(1, 9)), max_size=16)
questions = st.lists(
    st.tuples(st.one_of(inside, inside.map(lambda name: name.child(b"z"))), st.sampled_from(ASKED)), max_size=12
)


def zone_of(found: list[Row]) -> Zone:
    """Return the zone of some rows: owner, type, target, data."""
    rrsets: dict[tuple[Name, int], RRset] = {}
    for owner, rtype, target, byte in found:
        rdata = {
            Type.A: bytes([192, 0, 2, byte]),
            Type.AAAA: bytes(15) + bytes([byte]),
            Type.TXT: bytes([1, byte]),
            Type.MX: b"\0\1" + target.wire(),
            Type.SRV: bytes(6) + target.wire(),
            Type.NS: OTHER_KEYS[byte % 2].wire(),
        }.get(Type(rtype), target.wire())
        rrsets.setdefault((owner, rtype), RRset(owner, rtype, 60 * byte, (rdata,)))
    return Zone.of(KEY, rrsets.values(), SEQ)


@st.composite
def divisions(draw: st.DrawFn) -> tuple[Zone, list[Made]]:
    """Draw a zone and directories for some of its names: three above one another at most."""
    zone = zone_of(draw(rows))
    names = sorted(name for name in zone.nodes if not is_blocked(zone, name))
    owners = draw(st.lists(st.sampled_from(names), max_size=5, unique=True))
    if draw(st.booleans()):
        owners.append(KEY)
    mades: list[Made] = []
    for owner in sorted(dict.fromkeys(owners)):
        if sum(owner.is_at_or_below(made.owner) for made in mades) >= 3:
            continue
        own: set[int] = set()
        if Type.CNAME not in zone.nodes[owner]:
            own |= draw(st.sets(st.sampled_from(list(map(int, OWN)))))
            own |= draw(st.sets(st.just(int(Type.NS)))) if owner == KEY else set()
        mades.append(
            Made(
                owner,
                bits=draw(st.integers(0, 3)),
                by_manifests=draw(st.booleans()),
                own_types=frozenset(own),
                epoch=draw(st.integers(0, 2**32 - 1)),
                part_bytes=draw(st.sampled_from([0, 30, 200])),
            )
        )
    return zone, mades


def assert_same(said: ZoneAnswer, whole: ZoneAnswer) -> None:
    """Assert that two answers are one, but for additional records, which may be fewer."""
    assert (said.kind, said.rcode, said.target) == (whole.kind, whole.rcode, whole.target)
    assert (said.delegates, said.reason) == (whole.delegates, whole.reason)
    assert said.answer == whole.answer
    assert said.authority == whole.authority
    assert [rrset for rrset in whole.additional if rrset in said.additional] == list(said.additional)


@settings(max_examples=200, deadline=None)
@given(divisions(), questions, st.booleans())
def test_a_divided_zone_answers_as_the_whole_zone(
    made: tuple[Zone, list[Made]], more: list[tuple[Name, int]], keeps_shards: bool
) -> None:
    zone, mades = made
    items = divided(zone, mades)
    partial = items.partial()
    assert not partial.head.dropped
    every = [(owner, ASKED[at % len(ASKED)]) for at, owner in enumerate(zone.nodes)]
    for owner, rtype in [*every, *((owner, Type.A) for owner in zone.nodes), *more]:
        question = Question(owner, rtype)
        said, grown, _ = asked(partial, question, items.values)
        assert_same(said, zone.answer(question))
        assert not grown.dropped
        partial = grown if keeps_shards else partial


@settings(max_examples=100, deadline=None)
@given(divisions(), inside, st.sampled_from(ASKED))
def test_nothing_is_answered_of_a_shard_that_is_missing(made: tuple[Zone, list[Made]], name: Name, rtype: int) -> None:
    zone, mades = made
    items = divided(zone, mades)
    said = items.partial().answer(Question(name, rtype))
    if isinstance(said, ZoneAnswer):
        assert_same(said, zone.answer(Question(name, rtype)))
    else:
        assert all(wanted.salt in items.values for wanted in said.items)
        assert str(said).endswith(f"of {said.items[0].owner}")


def at(text: str) -> Name:
    """Return a name of the zone."""
    return KEY if text == "@" else Name.read(text).under(KEY)


def a_zone(*rrsets: tuple[str, int, bytes]) -> Zone:
    """Return the zone with one RRset for each owner, type and RDATA."""
    return Zone.of(KEY, [RRset(at(owner), rtype, 300, (rdata,)) for owner, rtype, rdata in rrsets], SEQ)


IP = bytes([192, 0, 2, 1])
HOSTS = a_zone(*((f"h{number}", Type.A, bytes([192, 0, 2, number])) for number in range(40)), ("*", Type.TXT, b"\1x"))


@pytest.mark.parametrize("bits", range(BITS_MAX + 1))
def test_the_dearest_question_fits_the_budget_at_every_count_of_shards(bits: int) -> None:
    # Manifest, shard and parts of the name, then those of the wildcard. A manifest and its shard count as one get.
    made = Made(KEY, bits, by_manifests=True, part_bytes=70 if bits else 200)
    items = divided(HOSTS, [made])
    star = index(KEY, made.epoch, bits, b"*")
    elsewhere = [n for n in range(99) if index(KEY, made.epoch, bits, b"n%d" % n) != star]
    said, _, rounds = asked(items.partial(), Question(at(f"n{elsewhere[0] if bits else 0}"), Type.A), items.values)
    assert said.kind is Kind.NODATA
    # Without more shards than one there is no second one to ask for. Beyond 16 some have no parts.
    least, most = {0: (3, 3), 1: (5, 5), 2: (5, 5), 3: (5, 5)}.get(bits, (3, 6))
    assert least <= rounds <= most
    head, with_manifest, parts = 1, 2, 2
    assert head + with_manifest + parts <= QUESTION_LOOKUPS_MAX


def test_a_repeated_question_needs_nothing_that_is_at_hand() -> None:
    items = divided(HOSTS, [Made(KEY, 3, by_manifests=True, part_bytes=40)])
    question = Question(at("h7"), Type.A)
    partial = items.partial()
    outcome = partial.answer(question)
    assert isinstance(outcome, Needed)
    partial = partial.with_value(outcome.items[0], items.values[outcome.items[0].salt])
    # The first question has ended here; the second one goes on behind the manifest.
    _, whole, rounds = asked(partial, question, items.values)
    assert rounds == 2
    assert asked(whole, question, items.values)[2] == 0


def test_all_further_parts_of_a_shard_are_needed_together_and_in_any_order() -> None:
    items = divided(HOSTS, [Made(KEY, 0, part_bytes=50)])
    partial = items.partial()
    first = partial.answer(Question(at("h7"), Type.A))
    assert isinstance(first, Needed)
    partial = partial.with_value(first.items[0], items.values[first.items[0].salt])
    parts = partial.answer(Question(at("h7"), Type.A))
    assert isinstance(parts, Needed)
    assert [wanted.number for wanted in parts.items] == list(range(1, len(parts.items) + 1))
    for wanted in reversed(parts.items[1:]):
        partial = partial.with_value(wanted, items.values[wanted.salt])
    left = partial.answer(Question(at("h7"), Type.A))
    assert isinstance(left, Needed)
    assert left.items == parts.items[:1]
    partial = partial.with_value(left.items[0], items.values[left.items[0].salt])
    assert isinstance(partial.answer(Question(at("h7"), Type.A)), ZoneAnswer)


def test_a_part_of_another_edition_is_refused_and_the_shard_stays_missing() -> None:
    # Its key has signed it, and the shard names its pin; the nonce alone tells.
    foreign = b"\3oldn" + b"slice"
    first = b"\1nonc\2" + pin(foreign) + b"last" + b"begin"
    head = divided(a_zone(("www", Type.A, IP)), [Made(KEY, 0)]).head
    old = divided(a_zone(("www", Type.A, IP)), [Made(KEY, 0)]).values
    shard = next(iter(old.values()))
    partial = Items(KEY, head.replace(pin(shard), pin(first))).partial()
    needed = partial.answer(Question(at("www"), Type.A))
    assert isinstance(needed, Needed)
    partial = partial.with_value(needed.items[0], first)
    needed = partial.answer(Question(at("www"), Type.A))
    assert isinstance(needed, Needed)
    with pytest.raises(BadItem) as caught:
        partial.with_value(needed.items[0], foreign)
    assert caught.value.reason == "part-nonce"
    assert partial.answer(Question(at("www"), Type.A)) == needed


def test_a_replayed_shard_is_refused_and_denies_nothing() -> None:
    old, new = a_zone(("x", Type.A, IP)), a_zone(("x", Type.A, IP), ("www", Type.A, IP))
    before, items = divided(old, [Made(KEY, 0)]), divided(new, [Made(KEY, 0)])
    needed = items.partial().answer(Question(at("www"), Type.A))
    assert isinstance(needed, Needed)
    with pytest.raises(BadItem) as caught:
        items.partial().with_value(needed.items[0], next(iter(before.values.values())))
    assert caught.value.reason == "pin-wrong"
    assert isinstance(items.partial().answer(Question(at("www"), Type.A)), Needed)


def head_of(items: Items, seq: int = OTHER_SEQ) -> Head:
    """Return the head of items under a seq."""
    return Head.verified(KEY, items.head, seq)


@pytest.mark.parametrize("by_manifests", [False, True])
def test_a_newer_head_confirms_the_shards_that_it_pins_too(by_manifests: bool) -> None:
    made = Made(KEY, 3, by_manifests=by_manifests)
    old = divided(HOSTS, [made])
    changed = Zone.of(KEY, [*HOSTS.rrsets.values(), RRset(at("new"), Type.A, 300, (IP,))], SEQ)
    new = divided(changed, [made])
    partial = old.partial()
    for number in range(40):
        _, partial, _ = asked(partial, Question(at(f"h{number}"), Type.A), old.values)
    assert partial.shard_count == 8
    partial = partial.with_head(head_of(new))
    # With direct pins the changed shard is known at once; else once the manifest has come.
    assert partial.shard_count == (8 if by_manifests else 7)
    fetched = []
    for number in range(40):
        question = Question(at(f"h{number}"), Type.A)
        while isinstance(outcome := partial.answer(question), Needed):
            fetched += [wanted.letter.value for wanted in outcome.items]
            for wanted in outcome.items:
                partial = partial.with_value(wanted, new.values[wanted.salt])
        assert_same(outcome, changed.answer(question))
    assert fetched == ([b"m", b"s"] if by_manifests else [b"s"])
    said = partial.answer(Question(at("new"), Type.SOA))
    assert isinstance(said, ZoneAnswer)
    # Negative answers have the SOA of the newer head.
    assert said.authority == (head_of(new).zone.negative_soa,)


def test_a_shard_of_a_former_division_is_not_kept() -> None:
    old = divided(HOSTS, [Made(KEY, 3)])
    _, partial, _ = asked(old.partial(), Question(at("h1"), Type.A), old.values)
    for made in (Made(KEY, 2), Made(KEY, 3, epoch=1), Made(at("h1"), 3)):
        assert partial.with_head(head_of(divided(HOSTS, [made]))).shard_count == 0
    assert partial.with_head(head_of(old)).shard_count == 1
    wanted = old.partial().answer(Question(at("h1"), Type.A))
    assert isinstance(wanted, Needed)
    assert partial.without(wanted.items[0]).shard_count == 0


def test_a_shard_that_a_new_head_divides_further_no_longer_speaks_for_the_names_inside() -> None:
    zone = a_zone(("x.sub", Type.A, IP), ("sub", Type.TXT, b"\1s"), ("other", Type.A, IP))
    old = divided(zone, [Made(KEY, 0)])
    _, partial, _ = asked(old.partial(), Question(at("other"), Type.A), old.values)
    # The head of the same key pins the same shard and a directory in it, whose shard is empty.
    inner = divided(a_zone(), [Made(at("sub"), 0)])
    both = Items(KEY, divided(zone, [Made(KEY, 0)]).head)
    records = records_in(both.head)[0] + records_in(inner.head)[0]
    partial = partial.with_head(Head(KEY, records, Counter(), OTHER_SEQ))
    assert partial.shard_count == 1
    said, partial, _ = asked(partial, Question(at("x.sub"), Type.A), inner.values)
    assert said.rcode == Rcode.NXDOMAIN
    assert partial.dropped["foreign-cell"] == 2
    assert isinstance(partial.answer(Question(at("other"), Type.A)), ZoneAnswer)


@pytest.mark.parametrize("by_manifests", [False, True])
def test_a_shard_whose_names_a_newer_head_has_elsewhere_is_kept_only_if_it_is_pinned(by_manifests: bool) -> None:
    zone = a_zone(("x.sub", Type.A, IP), ("sub", Type.TXT, b"\1s"), ("other", Type.A, IP))
    old = divided(zone, [Made(KEY, 0, by_manifests)])
    _, partial, _ = asked(old.partial(), Question(at("other"), Type.A), old.values)
    new = divided(zone, [Made(KEY, 0, by_manifests), Made(at("sub"), 0)])
    # Whether the newer head pins it is only known with the newer manifest.
    moved = partial.with_head(new.read_head())
    assert (moved.shard_count, dict(moved.dropped)) == (0, {})
    said, moved, _ = asked(moved, Question(at("x.sub"), Type.A), new.values)
    assert (said.rcode, dict(moved.dropped)) == (Rcode.NOERROR, {})


@settings(max_examples=100, deadline=None)
@given(divisions(), st.randoms(use_true_random=False), questions)
def test_what_is_at_hand_of_an_older_head_is_read_as_the_newer_one_reads_it(
    made: tuple[Zone, list[Made]], rng: random.Random, more: list[tuple[Name, int]]
) -> None:
    zone, mades = made
    # The newer head has no directory where the older one had, or has one where it had none.
    fewer = [one for one in mades if rng.random() < 0.6]
    older, newer = (fewer, mades) if rng.random() < 0.5 else (mades, fewer)
    before, after = divided(zone, older), divided(zone, newer)
    partial, beside = before.partial(), after.partial()
    asks = [(owner, Type.A) for owner in zone.nodes] + more
    for owner, rtype in asks:
        _, partial, _ = asked(partial, Question(owner, rtype), before.values)
        if rng.random() < 0.5:
            _, beside, _ = asked(beside, Question(owner, rtype), after.values)
    for moved in (partial.with_head(after.read_head()), beside.with_items_of(partial)):
        assert not moved.dropped
        for owner, rtype in asks:
            said, _, _ = asked(moved, Question(owner, rtype), after.values)
            assert_same(said, zone.answer(Question(owner, rtype)))


def test_an_item_that_comes_after_its_head_was_replaced_changes_nothing() -> None:
    old, new = divided(HOSTS, [Made(KEY, 3)]), divided(HOSTS, [Made(KEY, 3, epoch=7)])
    needed = old.partial().answer(Question(at("h1"), Type.A))
    assert isinstance(needed, Needed)
    late = new.partial().with_value(needed.items[0], old.values[needed.items[0].salt])
    assert late.shard_count == 0


def test_shards_at_hand_are_bounded() -> None:
    items = divided(a_zone(), [Made(KEY, BITS_MAX, by_manifests=True)])
    partial = items.partial()
    names = {index(KEY, Made(KEY).epoch, BITS_MAX, b"n%d" % number): f"n{number}" for number in range(2_000)}
    assert len(names) > SHARDS_MAX
    for name in names.values():
        _, partial, _ = asked(partial, Question(at(name), Type.A), items.values)
    assert partial.shard_count == SHARDS_MAX
    # Few of them are kept as records; the others are read again from their messages.
    for name in list(names.values())[-3 * PARSED_MAX :]:
        said, partial, rounds = asked(partial, Question(at(name), Type.A), items.values)
        assert (said.kind, rounds) == (Kind.NXDOMAIN, 0)


def test_additional_addresses_come_from_the_shards_at_hand() -> None:
    zone = a_zone(
        ("mail", Type.MX, b"\0\1" + at("mail").wire()),
        ("mail", Type.A, IP),
        ("o", Type.MX, b"\0\1" + at("mail").wire()),
    )
    items = divided(zone, [Made(KEY, 12, by_manifests=True)])
    said, _, _ = asked(items.partial(), Question(at("mail"), Type.MX), items.values)
    assert said.additional == zone.answer(Question(at("mail"), Type.MX)).additional
    assert said.additional
    said, _, _ = asked(items.partial(), Question(at("o"), Type.MX), items.values)
    assert not said.additional


def test_the_lowest_ttl_is_that_of_all_that_is_at_hand() -> None:
    zone = Zone.of(KEY, [RRset(at("www"), Type.A, 7, (IP,))], SEQ)
    items = divided(zone, [Made(KEY, 0)])
    assert items.partial().lowest_ttl == 300
    assert asked(items.partial(), Question(at("www"), Type.A), items.values)[1].lowest_ttl == 7


def test_a_partial_zone_does_not_change() -> None:
    items = divided(HOSTS, [Made(KEY, 0)])
    partial = items.partial()
    _, grown, _ = asked(partial, Question(at("h1"), Type.A), items.values)
    assert (partial.shard_count, grown.shard_count) == (0, 1)
    assert isinstance(partial, PartialZone)
