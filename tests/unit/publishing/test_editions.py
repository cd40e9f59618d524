"""Drafts of zones of several items: the room that they take."""

from __future__ import annotations

from p2pdns.dns.labels import HEADER_BYTES
from p2pdns.dns.message import RRset
from p2pdns.dns.registry import Type
from p2pdns.items.item import VALUE_BYTES_WRITE_DEFAULT
from p2pdns.items.packet import size_of
from p2pdns.publishing.editions import draft_of, extent_of
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
