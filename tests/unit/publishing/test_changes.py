"""What an edition changes, and the same change made again on top of another's."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pdns.dns.message import RRset
from p2pdns.items.item import MutableItem
from p2pdns.items.keys import SecretKey
from p2pdns.items.packet import compose_packet
from p2pdns.publishing.changes import Changes, Conflict, EmptyZone, WholeZone, changes_between, differences, rrsets_of
from p2pdns.publishing.editions import LargeZone
from tests.overlay_doubles import A, rrsets

SECRET = SecretKey.generate(b"\x01" * 32)
APEX = A.signed_by.apex
SEQ = 1_790_000_000_000_000


def item(*lines: str) -> MutableItem:
    """Return an item with these lines."""
    return MutableItem.signed(SECRET, SEQ, compose_packet(rrsets(APEX, *lines), APEX))


def soa(serial: int) -> RRset:
    """Return an SOA with this serial."""
    return RRset(APEX, 6, 300, (APEX.wire() * 2 + serial.to_bytes(4) + (300).to_bytes(4) * 4,))


def lines_of(labels: dict[str, int]) -> list[str]:
    """Return a line for each label; its number is its address."""
    return [f"{label} 300 A 192.0.2.{number}" for label, number in sorted(labels.items())]


def test_added_removed_and_changed_rrsets_are_named() -> None:
    changes = changes_between(
        item("www 300 A 192.0.2.1", "ftp 300 A 192.0.2.2", "@ 300 TXT a"),
        APEX,
        item("www 300 A 192.0.2.9", "mail 300 A 192.0.2.3", "@ 300 TXT a").value,
    )
    assert changes == Changes(("mail A",), ("ftp A",), ("www A",), 3)
    assert (changes.count, changes.is_mostly_gone) == (3, False)


def test_each_rrset_that_differs_is_told_as_it_was_and_as_it_would_be() -> None:
    current = item("www 300 A 192.0.2.1", "ftp 300 A 192.0.2.2", "@ 300 TXT a")
    found = differences(current, APEX, item("www 60 A 192.0.2.1", "mail 300 A 192.0.2.3", "@ 300 TXT a").value)
    told = {
        one.owner.text_in(APEX): (one.mark, one.before and one.before.ttl, one.after and one.after.ttl) for one in found
    }
    assert told == {"www": ("~", 300, 60), "ftp": ("-", 300, None), "mail": ("+", None, 300)}
    assert differences(current, APEX, current.value) == ()
    assert [one.mark for one in differences(None, APEX, current.value)] == ["+", "+", "+"]


@pytest.mark.parametrize(
    ("removed", "before", "is_mostly_gone"), [(0, 0, False), (1, 2, False), (2, 3, True), (3, 3, True), (1, 1, True)]
)
def test_more_than_half_is_most_of_a_zone(removed: int, before: int, is_mostly_gone: bool) -> None:
    changes = Changes(removed=tuple(f"h{number} A" for number in range(removed)), before_count=before)
    assert changes.is_mostly_gone is is_mostly_gone


def test_the_order_of_records_and_a_first_publication_are_no_change() -> None:
    one = rrsets(APEX, "www 300 A 192.0.2.1", "www 300 A 192.0.2.2")
    other = rrsets(APEX, "www 300 A 192.0.2.2", "www 300 A 192.0.2.1")
    assert changes_between(item(), APEX, compose_packet(one, APEX)).added == ("www A",)
    first = MutableItem.signed(SECRET, SEQ, compose_packet(one, APEX))
    assert changes_between(first, APEX, compose_packet(other, APEX)).count == 0
    assert str(changes_between(first, APEX, first.value)) == "no RRset differs"


def test_what_is_no_zone_has_no_rrsets_and_is_not_merged_with() -> None:
    junk = MutableItem.signed(SECRET, SEQ, b"junk")
    assert rrsets_of(junk) == rrsets_of(None) == {}
    content = WholeZone(APEX, item("www 300 A 192.0.2.1").value)
    content.value_above(item("ftp 300 A 192.0.2.1"))
    with pytest.raises(Conflict, match="no zone"):
        content.value_above(junk)


def test_the_first_call_replaces_whatever_is_there_and_later_ones_keep_what_others_have_changed() -> None:
    ours = item("www 300 A 192.0.2.1", "wiki 300 A 192.0.2.2")
    content = WholeZone(APEX, ours.value)
    assert content.value_above(item("www 300 A 192.0.2.1", "ftp 300 A 192.0.2.3")) == ours.value
    # Another has added mail and kept ftp: ours has removed ftp and added wiki.
    theirs = item("www 300 A 192.0.2.1", "ftp 300 A 192.0.2.3", "mail 300 A 192.0.2.4")
    both = item("www 300 A 192.0.2.1", "wiki 300 A 192.0.2.2", "mail 300 A 192.0.2.4")
    assert content.value_above(theirs) == both.value
    assert content.value_above(both) == both.value
    assert content.value_above(ours) == ours.value


@pytest.mark.parametrize(
    ("base", "ours", "theirs", "names"),
    [
        ({"a": 1}, {"a": 2}, {"a": 3}, "a A"),
        ({"a": 1}, {"a": 2}, {}, "a A"),
        ({"a": 1, "b": 1}, {"b": 1}, {"a": 3, "b": 1}, "a A"),
        ({}, {"a": 2}, {"a": 3}, "a A"),
        ({}, dict.fromkeys("abcdef", 1), dict.fromkeys("abcdef", 2), "a A, b A, c A, d A and 2 more"),
    ],
)
def test_two_changes_of_one_rrset_are_a_conflict_that_names_it(
    base: dict[str, int], ours: dict[str, int], theirs: dict[str, int], names: str
) -> None:
    content = WholeZone(APEX, item(*lines_of(ours)).value)
    content.value_above(item(*lines_of(base)) if base else None)
    with pytest.raises(Conflict, match=f"both publications change {names}$"):
        content.value_above(item(*lines_of({**theirs, "kept": 9})))


def test_of_two_serials_the_later_one_stands() -> None:
    def zone(serial: int, *lines: str) -> MutableItem:
        value = compose_packet([soa(serial), *rrsets(APEX, *lines)], APEX)
        return MutableItem.signed(SECRET, SEQ, value)

    for ours, theirs, kept in ((5, 7, 7), (7, 5, 7), (2**32 - 1, 3, 3), (3, 2**32 - 1, 3)):
        content = WholeZone(APEX, zone(ours, "www 300 A 192.0.2.1").value)
        content.value_above(zone(1))
        merged = content.value_above(zone(theirs, "ftp 300 A 192.0.2.2"))
        assert merged == zone(kept, "www 300 A 192.0.2.1", "ftp 300 A 192.0.2.2").value


def test_changes_that_do_not_fit_together_are_a_conflict() -> None:
    content = WholeZone(APEX, item("www 300 A 192.0.2.1").value)
    content.value_above(None)
    with pytest.raises(Conflict, match=r"do not fit together: .*beside-cname"):
        content.value_above(item("www 300 CNAME ftp"))


def test_changes_that_do_not_fit_one_item_together_are_a_large_zone() -> None:
    text = "x" * 200
    content = WholeZone(APEX, item(*(f"a{number} 300 TXT {text}" for number in range(3))).value)
    content.value_above(None)
    merged = content.value_above(item(*(f"b{number} 300 TXT {text}" for number in range(3))))
    assert isinstance(merged, LargeZone)
    assert {rrset.owner.text_in(APEX) for rrset in merged.rrsets} == {"a0", "a1", "a2", "b0", "b1", "b2"}


ZONES = st.dictionaries(st.sampled_from("abcd"), st.integers(1, 3), max_size=4)


@given(ZONES, ZONES, ZONES)
def test_a_merge_keeps_both_changes_or_says_that_it_cannot(
    base: dict[str, int], ours: dict[str, int], theirs: dict[str, int]
) -> None:
    # One name stays, so that no zone is empty.
    base, ours, theirs = ({**zone, "kept": 9} for zone in (base, ours, theirs))
    content = WholeZone(APEX, item(*lines_of(ours)).value)
    content.value_above(item(*lines_of(base)))
    contested = [
        label
        for label in "abcd"
        if base.get(label) != ours.get(label) != theirs.get(label) != base.get(label)
        and ours.get(label) != theirs.get(label)
    ]
    try:
        merged = content.value_above(item(*lines_of(theirs)))
    except Conflict:
        assert contested
        return
    assert not contested
    wanted = {}
    for label in "abcd":
        source = theirs if base.get(label) == ours.get(label) else ours
        if label in source:
            wanted[label] = source[label]
    assert merged == item(*lines_of({**wanted, "kept": 9})).value


def test_the_empty_zone_takes_the_place_of_anything_at_first_and_later_only_of_an_empty_one() -> None:
    content = EmptyZone(APEX)
    empty = content.value_above(item("www 300 A 192.0.2.1"))
    assert isinstance(empty, bytes)
    assert content.value_above(MutableItem.signed(SECRET, 9, empty)) == content.value_again(item()) == empty
    with pytest.raises(Conflict, match="another publication came in between"):
        content.value_above(item("www 300 A 192.0.2.1"))
