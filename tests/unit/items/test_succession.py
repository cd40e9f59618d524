"""Succession: which value reveals a next key, which record is a commitment, and which items are in conflict."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pdns.dns.message import RR, Message, RRset
from p2pdns.dns.message.wire import compose
from p2pdns.dns.registry import COMMITMENT, DIRECTORY, Class, Type
from p2pdns.dns.zone import Zone
from p2pdns.errors import BadItem, KeyFileError
from p2pdns.items.item import ImmutableItem, MutableItem
from p2pdns.items.keys import SecretKey, ZoneKey
from p2pdns.items.packet import compose_packet, zone_of
from p2pdns.items.succession import (
    Commitment,
    Succession,
    are_in_conflict,
    breaks_commitment,
    commitment_of,
    commitment_to,
    succession_values,
)

VECTORS = json.loads((Path(__file__).resolve().parents[2] / "vectors" / "succession.json").read_text("utf-8"))
OLD, NEXT, OTHER = (SecretKey.generate(bytes([number]) * 32) for number in (1, 2, 3))
KEY = OLD.zone_key
COMMITTED, ANOTHER = commitment_to(KEY, NEXT), commitment_to(KEY, OTHER)
ADDRESS = RRset(KEY.apex, Type.A, 300, (bytes([192, 0, 2, 1]),))


def item_with(*rdatas: bytes, seq: int = 1, beside: tuple[RR, ...] = ()) -> MutableItem:
    """Return an item of the old key with such records of TYPE65311 at its apex, and an address."""
    made = tuple(RR(KEY.apex, COMMITMENT, Class.IN, 0, rdata) for rdata in rdatas)
    address = RR(KEY.apex, Type.A, Class.IN, 300, ADDRESS.rdatas[0])
    return MutableItem.signed(OLD, seq, compose(Message(0, 0x8000, None, (address, *made, *beside), (), ())))


@pytest.mark.parametrize("vector", VECTORS["vectors"], ids=lambda vector: vector["name"])
def test_value_reveals_what_its_vector_says(vector: dict[str, Any]) -> None:
    old = ZoneKey.read(vector["old"])
    commitment = Commitment.verified(bytes.fromhex(vector["commitment"]))
    value = bytes.fromhex(vector["value"])
    if "next" in vector:
        assert str(Succession.verified(old, commitment, value).next_key) == vector["next"]
        return
    with pytest.raises(BadItem) as caught:
        Succession.verified(old, commitment, value)
    assert caught.value.reason == vector["reason"]


@given(st.binary(min_size=32, max_size=32), st.binary(min_size=32, max_size=32))
def test_both_values_of_any_two_keys_reveal_the_next_one(old_seed: bytes, next_seed: bytes) -> None:
    old, following = SecretKey.generate(old_seed).zone_key, SecretKey.generate(next_seed)
    if old == following.zone_key:
        with pytest.raises(KeyFileError):
            commitment_to(old, following)
        return
    commitment = commitment_to(old, following)
    assert Commitment.verified(commitment.rdata) == commitment
    values = succession_values(old, following)
    assert tuple(value.target for value in values) == commitment.targets
    for value in values:
        assert Succession.verified(old, commitment, value.value).next_key == following.zone_key


@given(st.binary(max_size=200), st.binary(max_size=140))
def test_any_bytes_are_refused_with_a_reason(rdata: bytes, value: bytes) -> None:
    if len(rdata) != 72:
        with pytest.raises(BadItem, match="commitment-size"):
            Commitment.verified(rdata)
    with pytest.raises(BadItem):
        Succession.verified(KEY, COMMITTED, value)


@given(st.integers(0, 129), st.integers(1, 255))
def test_no_byte_of_a_value_can_be_changed_even_by_who_makes_the_commitment(place: int, flip: int) -> None:
    value = bytearray(succession_values(KEY, NEXT)[0].value)
    value[place] ^= flip
    target = ImmutableItem(bytes(value)).target
    with pytest.raises(BadItem):
        Succession.verified(KEY, Commitment(COMMITTED.next_digest, (target, target)), bytes(value))


def test_succession_and_commitment_are_made_by_verified_values_only() -> None:
    with pytest.raises(TypeError):
        Succession(KEY, NEXT.zone_key)
    with pytest.raises(BadItem):
        Commitment(bytes(31), COMMITTED.targets)


def test_commitment_is_read_from_the_item_that_was_composed_with_it() -> None:
    value = compose_packet([ADDRESS], KEY.apex, made=[COMMITTED.record_of(KEY)])
    item = MutableItem.signed(OLD, 1, value)
    assert commitment_of(item) == COMMITTED
    zone = zone_of(item)
    assert list(zone.rrsets) == [(KEY.apex, Type.A)]
    assert not zone.dropped
    assert commitment_of(MutableItem.signed(OLD, 1, compose_packet([ADDRESS], KEY.apex))) is None


@pytest.mark.parametrize(
    "rdatas",
    [(), (COMMITTED.rdata, COMMITTED.rdata), (COMMITTED.rdata, ANOTHER.rdata), (COMMITTED.rdata[:-1],), (b"",)],
    ids=["none", "the same twice", "two", "cut short", "empty"],
)
def test_anything_but_one_whole_record_is_no_commitment(rdatas: tuple[bytes, ...]) -> None:
    assert commitment_of(item_with(*rdatas)) is None


def test_commitment_counts_at_the_apex_of_its_own_zone_only() -> None:
    below = RR(KEY.apex.child(b"www"), COMMITMENT, Class.IN, 0, COMMITTED.rdata)
    assert commitment_of(item_with(beside=(below,))) is None
    assert commitment_of(item_with(COMMITTED.rdata, beside=(below,))) == COMMITTED
    chaos = RR(KEY.apex, COMMITMENT, Class.CH, 0, COMMITTED.rdata)
    assert commitment_of(item_with(beside=(chaos,))) is None
    foreign = RR(OTHER.zone_key.apex, COMMITMENT, Class.IN, 0, COMMITTED.rdata)
    assert commitment_of(item_with(beside=(foreign,))) is None
    salted = MutableItem.signed(OLD, 1, item_with(COMMITTED.rdata).value, b"salt")
    assert commitment_of(salted) is None
    assert commitment_of(MutableItem.signed(OLD, 1, COMMITMENT.to_bytes(2))) is None


def test_alias_at_the_apex_hides_no_commitment_and_the_commitment_hides_no_alias() -> None:
    """A thief who puts an alias beside the commitment would otherwise have removed it."""
    alias = RR(KEY.apex, Type.CNAME, Class.IN, 300, OTHER.zone_key.apex.wire())
    made = RR(KEY.apex, COMMITMENT, Class.IN, 0, COMMITTED.rdata)
    item = MutableItem.signed(OLD, 1, compose(Message(0, 0x8000, None, (alias, made), (), ())))
    assert commitment_of(item) == COMMITTED
    assert list(zone_of(item).rrsets) == [(KEY.apex, Type.CNAME)]
    assert not zone_of(item).dropped


def test_records_that_p2pdns_makes_are_no_content_of_a_zone() -> None:
    directory = RR(KEY.apex.child(b"www"), DIRECTORY, Class.IN, 0, b"\1")
    item = item_with(COMMITTED.rdata, beside=(directory,))
    zone = Zone.verified(KEY.apex, item.value, item.seq)
    assert [record.rtype for record in zone.made] == [COMMITMENT, DIRECTORY]
    assert list(zone.rrsets) == [(KEY.apex, Type.A)]
    assert zone.lowest_ttl > 0
    assert zone != Zone.of(KEY.apex, zone.rrsets.values(), 1)


@pytest.mark.parametrize(
    ("items", "is_conflict"),
    [
        ([], False),
        ([(1, None)], False),
        ([(1, None), (2, COMMITTED)], False),
        ([(1, COMMITTED), (2, COMMITTED)], False),
        ([(1, COMMITTED), (2, None)], True),
        ([(2, None), (1, COMMITTED)], True),
        ([(1, COMMITTED), (2, ANOTHER)], True),
        ([(1, None), (2, COMMITTED), (3, None), (4, COMMITTED)], True),
        ([(1, COMMITTED), (1, COMMITTED)], False),
    ],
)
def test_conflict_is_a_higher_seq_without_the_commitment_of_a_lower_one(
    items: list[tuple[int, Commitment | None]], is_conflict: bool
) -> None:
    made = [item_with(*([] if one is None else [one.rdata]), seq=seq) for seq, one in items]
    assert are_in_conflict(made) is is_conflict


def test_item_breaks_a_commitment_by_another_one_and_by_none() -> None:
    assert not breaks_commitment(item_with(COMMITTED.rdata), COMMITTED)
    assert not breaks_commitment(item_with(ANOTHER.rdata), None)
    assert breaks_commitment(item_with(ANOTHER.rdata), COMMITTED)
    assert breaks_commitment(item_with(), COMMITTED)


@pytest.mark.parametrize("raw", [b"\x01" + bytes(31), bytes(32), b"\xff" * 32], ids=["identity", "order 4", "no point"])
def test_next_key_that_anybody_could_sign_for_is_refused_whatever_signature_comes_with_it(raw: bytes) -> None:
    with pytest.raises(BadItem) as wanted:
        ZoneKey.verified(raw)
    # With the identity as the key, R = identity and S = 0 satisfy the equation for any message.
    values = [b"n" + bytes([index]) + KEY.raw + raw + b"\x01" + bytes(63) for index in (1, 2)]
    targets = (ImmutableItem(values[0]).target, ImmutableItem(values[1]).target)
    commitment = Commitment(hashlib.sha256(raw).digest(), targets)
    with pytest.raises(BadItem) as caught:
        Succession.verified(KEY, commitment, values[0])
    assert caught.value.reason == wanted.value.reason
