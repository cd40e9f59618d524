"""Publications of zones that do not fit one item: what is put, in which order, and what a rival or a crash leaves."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pdns.dht.node.republish import KEPT_S_MAX
from p2pdns.dns.zone import Zone
from p2pdns.errors import Unavailable
from p2pdns.items.dividing import RENEWED_AFTER_S, Division
from p2pdns.items.item import MutableItem
from p2pdns.items.keys import SecretKey
from p2pdns.items.packet import compose_packet
from p2pdns.items.succession import commitment_of, commitment_to
from p2pdns.publishing.changes import Content, EmptyZone, StandingZone, WholeZone
from p2pdns.publishing.edits import Edit, EditJournal, EditsInMemory, base_of
from p2pdns.publishing.memory import Made, Memory
from p2pdns.publishing.publication import Plan
from p2pdns.publishing.stored import Stored
from tests.overlay_doubles import rrsets
from tests.unit.publishing.shelf import Shelf, dividing, hosts, large
from tests.unit.publishing.test_publication import APEX, NOW, SECRET, Nodes, publication, seq_at, zone

COMMITMENT = commitment_to(SECRET.zone_key, SecretKey.generate(bytes([7]) * 32))


def published(
    nodes: Nodes,
    shelf: Shelf,
    content: Content | tuple[str, ...] | list[str],
    memory: Memory | None = None,
    *,
    journal: EditJournal | None = None,
    mark: bytes = b"",
    **rules: Any,
) -> Stored:
    """Publish lines, or a content, in an overlay and on a shelf."""
    whole = WholeZone(APEX, large(*content)) if isinstance(content, list | tuple) else content
    means = dividing(shelf, journal, mark)
    return asyncio.run(publication(nodes, whole, memory, dividing=means, **rules).run())


def standing(nodes: Nodes, shelf: Shelf) -> Division:
    """Return the division that all nodes and the shelf hold."""
    (head,) = {one for one in nodes.held if one is not None}
    found = shelf.division(head)
    assert isinstance(found, Division), f"missing: {found}"
    return found


def names_of(division: Division) -> set[str]:
    """Return the owners of all records of a divided zone."""
    return {owner.text_in(APEX) for owner, _ in division.zone(0).rrsets}


def test_a_large_zone_is_put_with_all_its_items_and_its_head_last() -> None:
    nodes, shelf = Nodes([None] * 20), Shelf()
    seen_by_head: list[int] = []
    nodes.before_put.append(lambda: seen_by_head.append(len(shelf.items)))
    done = published(nodes, shelf, hosts(200))
    division = standing(nodes, shelf)
    assert done.is_done
    assert seen_by_head == [division.item_count - 1] == [len(shelf.items)]
    assert division.zone(0).rrsets == large(*hosts(200)).zone(APEX).rrsets
    assert len(nodes.puts) == 1


def test_a_zone_that_fits_one_item_is_put_as_that_item_and_nothing_else() -> None:
    nodes, shelf = Nodes([None] * 20), Shelf()
    value = zone("www 300 A 192.0.2.1")
    published(nodes, shelf, WholeZone(APEX, value))
    assert (nodes.puts[0][0].value, shelf.items) == (value, {})


@pytest.mark.parametrize(("count", "items"), [(200, 2), (5_000, 3)])
def test_an_edit_puts_the_shard_its_manifest_and_the_head_and_nothing_else(count: int, items: int) -> None:
    nodes, shelf, memory = Nodes([None] * 20), Shelf(), Made()
    published(nodes, shelf, hosts(count), memory)
    shelf.placed.clear()
    done = published(nodes, shelf, [*hosts(count)[1:], "host0 300 A 192.0.2.9"], memory, mark=b"2")
    assert len(shelf.placed) + 1 == items
    assert (done.changes and done.changes.changed) == ("host0 A",)
    assert names_of(standing(nodes, shelf)) == {f"host{number}" for number in range(count)}


def test_an_unchanged_zone_signs_its_head_alone() -> None:
    nodes, shelf, memory = Nodes([None] * 20), Shelf(), Made()
    first = published(nodes, shelf, hosts(200), memory)
    shelf.placed.clear()
    nodes.unix += 60
    again = published(nodes, shelf, hosts(200), memory, mark=b"2")
    assert shelf.placed == []
    assert again.item is not None
    assert first.item is not None
    assert (again.item.value, again.seq > first.seq) == (first.item.value, True)


@pytest.mark.parametrize(("later_s", "is_renewed"), [(RENEWED_AFTER_S - 1, False), (RENEWED_AFTER_S + 1, True)])
def test_an_item_that_would_end_before_its_head_is_signed_again_with_the_same_value(
    later_s: float, is_renewed: bool
) -> None:
    nodes, shelf, memory = Nodes([None] * 20), Shelf(), Made()
    published(nodes, shelf, hosts(200), memory)
    before = {salt: one.value for salt, one in shelf.items.items()}
    shelf.placed.clear()
    nodes.unix += later_s
    published(nodes, shelf, hosts(200), memory, mark=b"2")
    assert len(shelf.placed) == (len(before) if is_renewed else 0)
    assert {salt: one.value for salt, one in shelf.items.items()} == before
    assert all(one.seq >= seq_at(nodes.unix) for one in shelf.placed)


@pytest.mark.parametrize("is_refused", [False, True])
def test_items_are_signed_again_after_the_head_and_hold_no_edit_up(is_refused: bool) -> None:
    nodes, shelf, memory, journal = Nodes([None] * 20), Shelf(), Made(), EditsInMemory()
    published(nodes, shelf, hosts(200), memory, journal=journal)
    before = dict(shelf.items)
    nodes.unix += RENEWED_AFTER_S + 60
    fresh: list[set[bytes]] = []

    def note() -> None:
        fresh.append({one.salt for one in shelf.placed[len(before) :]})
        if is_refused:
            shelf.refused = set(before)

    nodes.before_put.append(note)
    done = published(nodes, shelf, hosts(200, "more 300 A 192.0.2.9"), memory, journal=journal, mark=b"2")
    assert (done.is_done, journal.begun()) == (True, None)
    assert fresh == [set(shelf.items) - set(before)]
    pinned = {pinned.salt for pinned, _ in standing(nodes, shelf).items()}
    assert "more" in names_of(standing(nodes, shelf))
    assert {salt for salt in pinned if shelf.items[salt] == before.get(salt)} == (
        pinned & set(before) if is_refused else set()
    )
    shelf.refused = set()
    published(nodes, shelf, hosts(200, "more 300 A 192.0.2.9"), memory, journal=journal, mark=b"3")
    assert all(shelf.items[salt].seq >= seq_at(nodes.unix) for salt in pinned)


def test_where_some_items_are_held_by_too_few_no_head_is_signed_and_the_next_run_puts_the_rest() -> None:
    nodes, shelf, journal, memory = Nodes([None] * 20), Shelf(refuses_from=4), EditsInMemory(), Made()
    with pytest.raises(Unavailable, match=r"\d+ of \d+ items are held by too few other nodes .*its head was not sig"):
        published(nodes, shelf, hosts(200), memory, journal=journal)
    assert (nodes.puts, memory.lines) == ([], [])
    first = dict(shelf.items)
    shelf.refuses_from = None
    nodes.unix += 30
    published(nodes, shelf, hosts(200), memory, journal=journal, mark=b"2")
    # What the first run has put is part of the edition: its random bytes were kept.
    assert {one.value for one in first.values()} <= {value for _, value in standing(nodes, shelf).items()}
    assert journal.begun() is None


def test_items_that_were_put_with_nobody_there_are_put_again_when_their_head_finds_others() -> None:
    nodes, shelf, journal = Nodes([None] * 20), Shelf(is_alone=True), EditsInMemory()

    def joined() -> None:
        shelf.is_alone = False

    nodes.before_put.append(joined)
    assert published(nodes, shelf, hosts(200), journal=journal).is_done
    assert len(names_of(standing(nodes, shelf))) == 200
    assert (len(nodes.puts), journal.begun()) == (1, None)


def test_a_head_whose_items_nobody_holds_is_not_reported_as_published() -> None:
    nodes, shelf, journal, memory = Nodes([None] * 20), Shelf(is_alone=True), EditsInMemory(), Made()

    def joined() -> None:
        shelf.is_alone, shelf.refuses_from = False, 3

    nodes.before_put.append(joined)
    with pytest.raises(
        Unavailable, match=r"5 of 8 items are held by too few other nodes .*, though its head is stored"
    ):
        published(nodes, shelf, hosts(200), memory, journal=journal)
    assert journal.begun() is not None
    shelf.refuses_from = None
    nodes.unix += 60
    assert published(nodes, shelf, hosts(200), memory, journal=journal, mark=b"2").is_done
    assert len(names_of(standing(nodes, shelf))) == 200


def test_a_publisher_that_dies_between_its_shards_and_its_head_goes_on_with_the_same_items() -> None:
    nodes, shelf, journal, memory = Nodes([None] * 20), Shelf(), EditsInMemory(), Made()
    published(nodes, shelf, hosts(200), memory, journal=journal)
    old = standing(nodes, shelf)
    edited = [*hosts(200), *(f"more{number} 300 A 192.0.2.9" for number in range(300))]

    class Killed(BaseException):
        """The end of a process."""

    def killed() -> None:
        raise Killed

    nodes.before_put.append(killed)
    with pytest.raises(Killed):
        published(nodes, shelf, edited, memory, journal=journal, mark=b"2")
    # Readers still see the old zone, whole.
    assert standing(nodes, shelf) == old
    before = set(shelf.items)
    nodes.unix += 3_600
    published(nodes, shelf, edited, memory, journal=journal, mark=b"3")
    assert len(names_of(standing(nodes, shelf))) == 500
    assert set(shelf.items) == before


def test_an_unfinished_edit_of_another_edition_is_not_gone_on_with() -> None:
    nodes, shelf, journal = Nodes([None] * 20), Shelf(), EditsInMemory()
    published(nodes, shelf, hosts(200), Made(), journal=journal)
    elsewhere, other_shelf = Nodes([None] * 20), Shelf()
    published(elsewhere, other_shelf, hosts(200), mark=b"other")
    journal.begin(Edit(base_of(b"another"), standing(elsewhere, other_shelf)).compose())
    shelf.placed.clear()
    published(nodes, shelf, hosts(201), journal=journal, mark=b"2")
    assert len(names_of(standing(nodes, shelf))) == 201
    # It goes on from the edition that was found.
    assert len(shelf.placed) == 1


@pytest.mark.parametrize("damage", [b"", b"x", b"p2pdns edit 1\n" + bytes(64)])
def test_an_edit_that_the_disk_has_damaged_counts_as_none(damage: bytes) -> None:
    nodes, shelf, journal = Nodes([None] * 20), Shelf(), EditsInMemory()
    journal.begin(damage)
    assert published(nodes, shelf, hosts(200), journal=journal).is_done
    edit = Edit(base_of(None), standing(nodes, shelf)).compose()
    assert Edit.parse(APEX, edit) == Edit(base_of(None), standing(nodes, shelf))
    for at in (0, 20, 60, len(edit) // 2, len(edit) - 1):
        assert Edit.parse(APEX, edit[:at] + bytes([edit[at] ^ 1]) + edit[at + 1 :]) is None
        assert Edit.parse(APEX, edit[:at]) is None


def test_an_edit_of_many_items_is_read_without_copying_it_for_each_of_them() -> None:
    nodes, shelf = Nodes([None] * 20), Shelf()
    published(nodes, shelf, hosts(5_000))
    edit = Edit(base_of(None), standing(nodes, shelf))
    copied: list[int] = []

    class Counted(bytes):
        """Bytes that note how much is copied out of them."""

        def __getitem__(self, at: Any) -> Any:
            got = super().__getitem__(at)
            if isinstance(got, int):
                return got
            copied.append(len(got))
            return Counted(got)

    data = Counted(edit.compose())
    assert Edit.parse(APEX, data) == edit
    assert sum(copied) <= 3 * len(data)


def test_growth_during_an_edit_leaves_the_old_shards_where_they_are() -> None:
    nodes, shelf, memory = Nodes([None] * 20), Shelf(), Made()
    published(nodes, shelf, hosts(200), memory)
    old = {pinned.salt: value for pinned, value in standing(nodes, shelf).items()}
    (old_directory,) = standing(nodes, shelf).directories.values()
    nodes.unix += 60
    published(nodes, shelf, hosts(2_000), memory, mark=b"2")
    (directory,) = standing(nodes, shelf).directories.values()
    assert directory.bits > old_directory.bits
    assert directory.epoch > old_directory.epoch
    assert {salt: shelf.items[salt].value for salt in old} == old
    assert len(names_of(standing(nodes, shelf))) == 2_000


# Another publisher


def other_publisher(nodes: Nodes, shelf: Shelf, *lines: str) -> MutableItem:
    """Return the head that somebody else publishes, whose items are on the shelf."""
    elsewhere = Nodes(list(nodes.held), unix=nodes.unix + 1)
    done = published(elsewhere, shelf, list(lines), mark=b"other", is_forced=True)
    assert done.item is not None
    return done.item


def test_what_another_publisher_changes_in_between_is_kept_in_a_large_zone() -> None:
    nodes, shelf, memory = Nodes([None] * 20), Shelf(), Made()
    published(nodes, shelf, hosts(200), memory)
    theirs = other_publisher(nodes, shelf, *hosts(200, "theirs 300 A 192.0.2.7"))
    nodes.unix += 2
    nodes.before_put.append(lambda: nodes.everywhere(theirs))
    done = published(nodes, shelf, hosts(200, "ours 300 A 192.0.2.8"), memory, mark=b"2")
    assert (done.is_done, done.rebased) == (True, (theirs.seq,))
    assert {"ours", "theirs"} <= names_of(standing(nodes, shelf))


def test_a_rival_that_died_after_its_shards_and_before_its_head_changes_nothing() -> None:
    nodes, shelf, memory = Nodes([None] * 20), Shelf(), Made()
    published(nodes, shelf, hosts(200), memory)
    before = set(shelf.items)
    other_publisher(nodes, shelf, *hosts(200, "theirs 300 A 192.0.2.7"))
    theirs = set(shelf.items) - before
    done = published(nodes, shelf, hosts(200, "ours 300 A 192.0.2.8"), memory, mark=b"2")
    assert (done.is_done, done.rebased) == (True, ())
    division = standing(nodes, shelf)
    assert theirs.isdisjoint(pinned.salt for pinned, _ in division.items())
    assert names_of(division) == {*(f"host{number}" for number in range(200)), "ours"}


def test_a_large_edition_from_elsewhere_is_refused_with_the_count_of_what_differs() -> None:
    nodes, shelf, memory = Nodes([None] * 20), Shelf(), Made()
    published(nodes, shelf, hosts(200), memory)
    nodes.everywhere(other_publisher(nodes, shelf, *hosts(190)))
    nodes.unix += 60
    with pytest.raises(Unavailable, match="was not made by this key file; 10 RRsets differ"):
        published(nodes, shelf, hosts(200), memory, mark=b"2")
    assert published(nodes, shelf, hosts(200), memory, mark=b"2", is_forced=True).is_done


def test_an_edition_from_elsewhere_of_which_items_are_missing_is_not_replaced_unseen() -> None:
    nodes, shelf, memory = Nodes([None] * 20), Shelf(), Made()
    nodes.everywhere(other_publisher(nodes, shelf, *hosts(300)))
    gone = next(iter(shelf.items))
    shelf.hidden.add(gone)
    nodes.unix += 60
    with pytest.raises(Unavailable, match="1 item of it cannot be found: shard"):
        published(nodes, shelf, hosts(200), memory, mark=b"2")
    assert published(nodes, shelf, hosts(200), memory, mark=b"2", is_forced=True).is_done


def test_an_own_edition_of_which_items_are_lost_is_mended_by_the_next_publication() -> None:
    nodes, shelf, memory = Nodes([None] * 20), Shelf(), Made()
    published(nodes, shelf, hosts(200), memory)
    for salt in list(shelf.items)[:3]:
        del shelf.items[salt]
    nodes.unix += 60
    assert published(nodes, shelf, hosts(200), memory, mark=b"2").is_done
    assert len(names_of(standing(nodes, shelf))) == 200


def test_an_item_with_another_value_under_a_pinned_salt_is_no_part_of_an_edition() -> None:
    nodes, shelf, memory = Nodes([None] * 20), Shelf(), Made()
    published(nodes, shelf, hosts(200), memory)
    nodes.everywhere(other_publisher(nodes, shelf, *hosts(190)))
    salt = next(reversed(shelf.items))
    shelf.items[salt] = MutableItem.signed(SECRET, seq_at(NOW + 9), b"\x00nonceforged", salt)
    nodes.unix += 60
    with pytest.raises(Unavailable, match="1 item of it cannot be found"):
        published(nodes, shelf, hosts(200), memory, mark=b"2")


# Small, large, committed, empty


def test_a_zone_grows_beyond_one_item_and_shrinks_again() -> None:
    nodes, shelf, memory = Nodes([None] * 20), Shelf(), Made()
    small = compose_packet(rrsets(APEX, *hosts(3)), APEX)
    published(nodes, shelf, WholeZone(APEX, small), memory)
    nodes.unix += 60
    grown = published(nodes, shelf, hosts(200), memory, mark=b"2")
    assert (grown.changes and len(grown.changes.added)) == 197
    nodes.unix += 60
    plans: list[Plan] = []
    shrunk = published(nodes, shelf, WholeZone(APEX, small), memory, mark=b"3", approve=plans.append)
    assert shrunk.item is not None
    assert shrunk.item.value == small
    assert (len(plans[0].changes.removed), plans[0].changes.is_mostly_gone) == (197, True)


def test_a_commitment_is_carried_in_the_head_of_a_large_zone() -> None:
    nodes, shelf, memory = Nodes([None] * 20), Shelf(), Made()
    first = published(nodes, shelf, hosts(200), memory, commitment=COMMITMENT)
    nodes.unix += 60
    second = published(nodes, shelf, hosts(210), memory, mark=b"2")
    for done in (first, second):
        assert done.item is not None
        assert commitment_of(done.item) == COMMITMENT


def test_a_zone_that_just_fits_is_divided_when_a_commitment_comes() -> None:
    nodes, shelf, memory = Nodes([None] * 20), Shelf(), Made()
    text = [f'@ 300 TXT "{letter * 200}"' for letter in "abcd"]
    done = published(nodes, shelf, WholeZone(APEX, zone(*text)), memory, commitment=COMMITMENT, size_bytes_max=940)
    assert done.item is not None
    assert commitment_of(done.item) == COMMITMENT
    assert standing(nodes, shelf).zone(0).rrsets == Zone.of(APEX, rrsets(APEX, *text), 0).rrsets


def test_a_large_zone_is_taken_down_and_what_stands_can_stand_again() -> None:
    nodes, shelf, memory = Nodes([None] * 20), Shelf(), Made()
    published(nodes, shelf, hosts(200), memory)
    shelf.placed.clear()
    nodes.unix += 60
    stood = published(nodes, shelf, StandingZone(APEX, zone("www 300 A 192.0.2.1")), memory, mark=b"2")
    assert (stood.changes and stood.changes.count, shelf.placed) == (0, [])
    nodes.unix += 60
    done = published(nodes, shelf, EmptyZone(APEX), memory, mark=b"3")
    assert done.item is not None
    assert (done.item.value, done.changes and len(done.changes.removed)) == (compose_packet((), APEX), 200)


def test_a_program_without_means_to_divide_refuses_a_large_zone_in_words() -> None:
    nodes = Nodes([None] * 20)
    with pytest.raises(Unavailable, match="does not fit one item, and this program publishes no others"):
        asyncio.run(publication(nodes, WholeZone(APEX, large(*hosts(200)))).run())
    assert nodes.puts == []


@given(gaps_days=st.lists(st.floats(0.01, 20.0), min_size=1, max_size=6))
@settings(max_examples=8, deadline=None)
def test_after_the_publishers_death_on_any_day_every_item_lives_as_long_as_the_head(gaps_days: list[float]) -> None:
    nodes, shelf, memory = Nodes([None] * 20), Shelf(), Made()
    for number, days in enumerate(gaps_days):
        nodes.unix += days * 86_400
        published(nodes, shelf, hosts(60 + number), memory, mark=b"%d" % number)
        (head,) = {one for one in nodes.held if one is not None}
        # Holders put a head again for 14 days after its seq, and an item with a salt for 21.
        head_ends = head.seq + KEPT_S_MAX * 10**6
        for pinned, value in standing(nodes, shelf).items():
            one = shelf.items[pinned.salt]
            assert one.value == value
            assert one.seq + (KEPT_S_MAX + RENEWED_AFTER_S) * 10**6 >= head_ends


@pytest.mark.parametrize("failing", [0.3, 0.5])
def test_with_half_of_the_items_failing_each_time_a_publication_ends_whole_or_with_the_old_zone(failing: float) -> None:
    nodes, shelf, memory, journal = Nodes([None] * 20), Shelf(), Made(), EditsInMemory()
    published(nodes, shelf, hosts(200), memory, journal=journal)
    old, lot = standing(nodes, shelf), random.Random(7)
    count = 0
    while True:
        count += 1
        shelf.drops = lambda: lot.random() < failing
        nodes.unix += 60
        try:
            published(nodes, shelf, hosts(600), memory, journal=journal, mark=b"%d" % count)
        except Unavailable:
            assert standing(nodes, shelf) == old
            continue
        break
    assert len(names_of(standing(nodes, shelf))) == 600
    assert count > 1


def test_a_publication_tells_how_much_room_the_zone_takes_that_it_has_divided() -> None:
    nodes, shelf = Nodes([None] * 20), Shelf()
    done = published(nodes, shelf, hosts(200))
    division = standing(nodes, shelf)
    assert done.extent is not None
    assert (done.extent.item_count, done.extent.size_bytes) == (division.item_count, division.size_bytes)
