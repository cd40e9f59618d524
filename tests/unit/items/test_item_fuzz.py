"""Items, keys and zones in items under bad input."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from p2pdns.dns.message import Message
from p2pdns.dns.message.wire import compose
from p2pdns.errors import StrangerError
from p2pdns.items.item import VALUE_BYTES_WRITE_MAX, MutableItem
from tests.fuzz.items import FILE, FORGED, KEY, SECRET, SIGNED, read
from tests.fuzz.targets import TARGETS
from tests.unit.dns.strategies import names, plain_labels, records

RUNS = 6_000
FILE_HEAD_BYTES = 32 + 64 + 8
inside = st.lists(plain_labels, max_size=3).map(
    lambda parts: SECRET.zone_key.apex.child(parts[0]) if parts else SECRET.zone_key.apex
)
zones = st.lists(records(st.one_of(inside, inside, names), st.one_of(inside, names)), max_size=10).map(
    lambda found: compose(Message(0, 0x8000, None, tuple(found)))
)


def changed(data: bytes, chance: random.Random) -> bytes:
    """Return an input with one to four bytes changed behind the one that says what it is."""
    raw = bytearray(data)
    for _ in range(chance.randint(1, 4)):
        kind, at = chance.randrange(4), chance.randrange(1, len(raw) + 1)
        if kind == 0:
            raw[at:at] = chance.randbytes(chance.randint(1, 6))
        elif kind == 1 and at > 1:
            del raw[at : at + chance.randint(1, 6)]
        elif at < len(raw):
            raw[at] = chance.choice((0, 1, 12, 63, 0xC0, 0xFF, raw[at] ^ 1 << chance.randrange(8)))
    return bytes(raw)


def test_changed_items_keys_and_zones_end_in_values_or_reasons() -> None:
    chance = random.Random(44)
    seeds = TARGETS["item"].seeds()
    for _ in range(RUNS):
        read(changed(chance.choice(seeds), chance))


def test_no_changed_item_file_is_an_item_of_its_key() -> None:
    """Every bit counts: the signature covers seq and value, and has one form."""
    chance = random.Random(45)
    whole = MutableItem.signed(SECRET, 1_700_000_000_000_000, b"value of an item").to_bytes()
    for _ in range(RUNS // 2):
        raw = bytearray(whole)
        raw[chance.randrange(len(raw))] ^= 1 << chance.randrange(8)
        try:
            item = MutableItem.read_file(bytes(raw))
        except StrangerError:
            continue
        raise AssertionError(f"accepted: {item}")


@settings(deadline=None)
@given(st.sampled_from([FILE, SIGNED, FORGED, KEY]), st.binary(max_size=300))
def test_any_bytes_end_in_a_value_or_a_reason(kind: int, data: bytes) -> None:
    read(bytes([kind]) + data)


@settings(deadline=None)
@given(zones)
def test_what_a_zone_says_it_says_again_when_it_is_published(value: bytes) -> None:
    read(bytes([SIGNED]) + value[:VALUE_BYTES_WRITE_MAX])
