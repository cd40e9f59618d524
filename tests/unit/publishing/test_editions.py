"""Drafts of zones of several items: the room that they take."""

from __future__ import annotations

from p2pdns.dns.labels import HEADER_BYTES
from p2pdns.dns.message import RRset
from p2pdns.dns.name import Name
from p2pdns.dns.registry import Type
from p2pdns.items.item import VALUE_BYTES_WRITE_DEFAULT
from p2pdns.items.packet import size_of
from p2pdns.publishing.editions import LargeZone, draft_of, extent_of, is_of_small_names
from tests.unit.publishing.test_publication import APEX


def test_the_names_that_one_value_does_not_hold_are_told_with_their_bytes_the_largest_first() -> None:
    rrsets = []
    # The middle ones fill the room of one value nearly, wholly, and a little more.
    for number, size in enumerate((10, 500, *range(800, VALUE_BYTES_WRITE_DEFAULT + 100, 10), 3_000)):
        owner = APEX.child(b"h%d" % number)
        texts = [b"\xff" + number.to_bytes(2) * 127 + b"\x00"] * (size // 256)
        rrsets.append(RRset(owner, Type.TXT, 300, (b"".join([*texts, bytes([size % 256]), bytes(size % 256)]),)))
        rrsets.append(RRset(owner, Type.A, 300, (bytes([10, 0, 0, number]),)))
    sizes: dict[str, int] = {}
    for rrset in rrsets:
        name = rrset.owner.text_in(APEX)
        sizes[name] = sizes.get(name, 0) + size_of([rrset], APEX).size_bytes - HEADER_BYTES
    large = {name: size for name, size in sizes.items() if size > VALUE_BYTES_WRITE_DEFAULT}
    assert 2 < len(large) < len(sizes) - 2
    told = extent_of(draft_of(rrsets, APEX), APEX, size_bytes_max=VALUE_BYTES_WRITE_DEFAULT).large
    assert dict(told) == large
    assert [size for _, size in told] == sorted(large.values(), reverse=True)


def txt(owner: Name, *sizes: int) -> RRset:
    """Return TXT with strings of these sizes."""
    rdatas = [bytes([size]) + bytes([number]) * size for number, size in enumerate(sizes)]
    return RRset(owner, Type.TXT, 300, tuple(rdatas))


def hosts(count: int, parent: Name = APEX) -> list[RRset]:
    """Return so many plain hosts."""
    return [RRset(parent.child(b"host%d" % n), Type.A, 300, (n.to_bytes(4),)) for n in range(count)]


def test_only_a_zone_of_small_names_is_not_divided_before_it_is_published() -> None:
    assert is_of_small_names(draft_of(hosts(3), APEX), APEX)
    assert is_of_small_names(draft_of(hosts(3_000), APEX), APEX)
    # One name, the apex, and one label with all below it, which needs a directory of its own.
    for odd in ([txt(APEX.child(b"x"), *[200] * 3)], [txt(APEX, *[200] * 3)], hosts(30, APEX.child(b"deep"))):
        assert not is_of_small_names(draft_of([*hosts(200), *odd], APEX), APEX)
    # Each name is small, and all together need more items than one key may have.
    many = [txt(APEX.child(b"host%d" % n), 150) for n in range(12_000)]
    assert not is_of_small_names(LargeZone(tuple(many)), APEX)
