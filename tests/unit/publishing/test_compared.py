"""The difference of two divisions is that of the whole zones, whatever both have in common."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from p2pdns.dns.zone import Zone
from p2pdns.items.dividing import Division, divide
from p2pdns.items.item import MutableItem
from p2pdns.publishing.changes import Changes, changes_between
from p2pdns.publishing.compared import changes_of_divisions
from p2pdns.publishing.editions import DividedItem, LargeZone
from tests.overlay_doubles import rrsets
from tests.unit.publishing.shelf import hosts
from tests.unit.publishing.test_publication import APEX, NOW, SECRET


def divided(lines: list[str], former: Division | None = None) -> tuple[Division, LargeZone]:
    """Return a zone with these lines as a division, and as what was divided."""
    content = LargeZone(rrsets(APEX, *lines))
    zone = Zone.of(APEX, content.rrsets, 0)
    return divide(zone, entropy=bytes(32), unix_now=NOW, former=former), content


def whole(old: Division, content: LargeZone) -> Changes:
    """Return the difference by reading both zones whole."""
    found = DividedItem(MutableItem.signed(SECRET, 1, old.head), old)
    return changes_between(found, APEX, content)


def assert_same(old: Division, new: Division, content: LargeZone) -> None:
    """Compare the two ways, where the short one may be taken."""
    short, long = changes_of_divisions(old, new), whole(old, content)
    if short is None:
        return
    for name in ("added", "removed", "changed"):
        assert sorted(getattr(short, name)) == sorted(getattr(long, name)), name
    assert short.is_mostly_gone == long.is_mostly_gone


@given(
    gone=st.sets(st.integers(0, 199), max_size=199),
    changed=st.sets(st.integers(0, 199), max_size=20),
    added=st.integers(0, 300),
    text=st.sampled_from([(), ("@ 300 TXT a",), ("@ 300 MX 1 host1", "*.host2 60 A 192.0.2.1", "a.b.c 60 TXT x")]),
)
@settings(max_examples=15, deadline=None)
def test_the_short_way_finds_what_the_long_way_finds(
    gone: set[int], changed: set[int], added: int, text: tuple[str, ...]
) -> None:
    old, _ = divided(hosts(200, "@ 300 TXT old"))
    now = [f"host{number} 300 A 192.0.2.9" if number in changed else line for number, line in enumerate(hosts(200))]
    lines = [line for number, line in enumerate(now) if number not in gone]
    lines += [*text, *(f"more{number} 300 A 192.0.2.1" for number in range(added))]
    new, content = divided(lines, old)
    if new.directories:
        assert_same(old, new, content)


def test_an_edit_reads_the_shards_that_differ_alone() -> None:
    old, _ = divided(hosts(2_000))
    new, content = divided([*hosts(2_000)[1:], "host0 300 A 192.0.2.9"], old)
    assert_same(old, new, content)
    short = changes_of_divisions(old, new)
    assert short is not None
    # What was read is far from all; that the rest stays is certain all the same.
    assert (short.changed, short.before_count < 300, short.is_mostly_gone) == (("host0 A",), True, False)


def test_whether_most_of_a_zone_goes_is_not_judged_by_the_shards_that_were_read() -> None:
    old, _ = divided(hosts(2_000))
    directory = old.directories[APEX]
    lines = [line for line in hosts(2_000) if directory.index_of(line.split()[0].encode()) >= 12]
    new, content = divided(lines, old)
    assert not whole(old, content).is_mostly_gone
    # All that was read goes, and the rest was not counted.
    assert changes_of_divisions(old, new) is None


def test_a_directory_that_comes_or_goes_has_both_zones_read_whole() -> None:
    old, _ = divided(hosts(200))
    below = [f"h{number}.big 300 A 192.0.2.{number % 250}" for number in range(3_000)]
    new, _ = divided([*hosts(200), *below], old)
    assert len(new.directories) == 2
    assert changes_of_divisions(old, new) is None
