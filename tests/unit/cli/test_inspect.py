"""What `inspect` says of a head: where the other names are, and its own records alone."""

from __future__ import annotations

from p2pdns.cli.inspect import Inspected, facts_of
from p2pdns.dns.message import RR
from p2pdns.dns.registry import DIRECTORY, Class
from p2pdns.dns.zone import Zone
from p2pdns.items.item import MutableItem
from tests.overlay_doubles import SECRETS, UNIX, rrsets
from tests.unit.items.divisions import Made, divided, packet

SECRET = SECRETS["a"]
APEX = SECRET.zone_key.apex
SEQ = int(UNIX * 1e6)


def facts(value: bytes) -> dict[str, object]:
    """Return what is shown of an item with this value."""
    return facts_of(Inspected(MutableItem.signed(SECRET, SEQ, value), "a test", True, ()), UNIX)


def test_a_head_is_shown_with_its_directories_and_without_the_names_in_shards() -> None:
    copy = rrsets(APEX, "www 300 A 192.0.2.9")
    zone = Zone.of(APEX, rrsets(APEX, "@ 300 A 192.0.2.1", "www 300 A 192.0.2.2"), SEQ)
    shown = facts(divided(zone, [Made(APEX, 3), Made(APEX.child(b"www"))], copies=copy).head)
    assert shown["directories"] == ["@ in 8 shards", "www in 1 shard"]
    assert [line for line in shown["records"] if "192.0.2.1" in line]  # type: ignore[attr-defined]
    assert not [line for line in shown["records"] if "TYPE65310" in line]  # type: ignore[attr-defined]


def test_a_directory_that_cannot_be_read_is_shown_with_its_reason() -> None:
    shown = facts(packet([RR(APEX, DIRECTORY, Class.IN, 300, b"\2")]))
    assert shown["directories"] == ["@ cannot be read (directory-version)"]
    assert shown["left_out"] == {"directory-version": 1}


def test_a_whole_zone_has_no_directories() -> None:
    assert "directories" not in facts(packet([]))
