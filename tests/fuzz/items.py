"""The target of items: item files, signed values, and zones in them.

The first byte says what the rest is: an item file, a value that its publisher signed, a value with parts of an item
made by a stranger, or the text of a key.
"""

from __future__ import annotations

import contextlib

from p2pdns.dns.message import Question
from p2pdns.dns.registry import Class
from p2pdns.errors import StrangerError, ZoneFileError
from p2pdns.items.item import VALUE_BYTES_WRITE_MAX, ImmutableItem, MutableItem, SignatureMemo
from p2pdns.items.keys import L, SecretKey, ZoneKey
from p2pdns.items.packet import compose_packet, zone_of

SECRET = SecretKey.generate(bytes(range(32)))
FILE, SIGNED, FORGED, KEY = range(4)
SEQ = 1_700_000_000_000_000
SIGNATURES = SignatureMemo()


def read(data: bytes) -> None:
    """Do with the rest what the first byte says."""
    kind, rest = (data[0] & 3 if data else FILE), data[1:]
    (_read_file, _read_signed, _read_forged, _read_key)[kind](rest)


def _read_file(data: bytes) -> None:
    try:
        item = MutableItem.read_file(data)
    except StrangerError:
        return
    again = MutableItem.read_file(item.to_bytes())
    assert again == item, data.hex()
    _judge_zone(item)


def _read_signed(value: bytes) -> None:
    item = MutableItem.signed(SECRET, SEQ, value[:VALUE_BYTES_WRITE_MAX])
    assert MutableItem.read_file(item.to_bytes()) == item, value.hex()
    # Anyone can make this twin of a signature; it is the same item.
    twin = item.signature[:32] + (int.from_bytes(item.signature[32:], "little") + L).to_bytes(32, "little")
    assert MutableItem.verified(item.key, item.seq, item.value, twin, memo=SIGNATURES) == item, value.hex()
    assert ImmutableItem.verified(ImmutableItem(item.value).target, item.value).value == item.value
    _judge_zone(item)


def _read_forged(data: bytes) -> None:
    """Whatever a stranger sends without the secret key is refused."""
    signature, salt, value = data[:64], data[64 : 64 + 70], data[134:]
    for key in (SECRET.zone_key.raw, data[:32]):
        with contextlib.suppress(StrangerError):
            item = MutableItem.verified(key, SEQ, value, signature, salt, SIGNATURES)
            assert item.key.raw != SECRET.zone_key.raw, data.hex()


def _read_key(data: bytes) -> None:
    with contextlib.suppress(StrangerError):
        key = ZoneKey.read(data.decode("latin-1"))
        assert ZoneKey.read(str(key)) == key == ZoneKey.verified(key.raw), data.hex()
        assert str(key) == data.decode("ascii").lower(), data.hex()
    with contextlib.suppress(StrangerError):
        assert ZoneKey.verified(data).raw == data, data.hex()


def _judge_zone(item: MutableItem) -> None:
    try:
        zone = zone_of(item)
    except StrangerError:
        return
    told = item.value.hex()
    apex = item.key.apex
    for owner, rtype in zone.rrsets:
        assert owner.is_at_or_below(apex), told
        zone.answer(Question(owner, rtype, Class.IN))
    try:
        value = compose_packet(zone, apex, size_bytes_max=65_000)
    except ZoneFileError:
        return
    assert len(value) <= 65_000, told
    if zone.rrsets:
        again = zone_of_value(value, item)
        if again is not None:
            assert again == dict(zone.rrsets), told


def zone_of_value(value: bytes, item: MutableItem) -> dict[object, object] | None:
    """Return what the value says as an item of the same seq, or None where no item holds it."""
    if len(value) > VALUE_BYTES_WRITE_MAX or item.key != SECRET.zone_key:
        return None
    return dict(zone_of(MutableItem.signed(SECRET, item.seq, value)).rrsets)


def inputs(messages: list[bytes]) -> list[bytes]:
    """Return items around messages, and keys."""
    apex = SECRET.zone_key.apex.wire()
    address = apex + b"\x00\x01\x00\x01\x00\x00\x01\x2c\x00\x04\xc0\x00\x02\x01"
    zone = b"\x00\x00\x80\x00\x00\x00\x00\x01\x00\x00\x00\x00" + address
    alias = b"\x03www\xc0\x0c\x00\x05\x00\x01\x00\x00\x01\x2c\x00\x02\xc0\x0c"
    both = zone[:7] + b"\x02" + zone[8:] + alias
    values = [zone, both, *[data for data in messages if len(data) <= VALUE_BYTES_WRITE_MAX]]
    files = [bytes([FILE]) + MutableItem.signed(SECRET, SEQ, value).to_bytes() for value in values[:8]]
    signed = [bytes([SIGNED]) + value for value in values]
    forged = [bytes([FORGED]) + MutableItem.signed(SECRET, SEQ, zone).signature + bytes(70) + zone]
    keys = [bytes([KEY]) + text for text in (str(SECRET.zone_key).encode(), SECRET.zone_key.raw, b"y" * 52)]
    return [*files, *signed, *forged, *keys]
