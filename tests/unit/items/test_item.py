"""Items: construction, malleated signatures, the memo, seq rules, item files."""

from __future__ import annotations

import dataclasses
import itertools
from functools import reduce

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pdns.errors import BadItem, FormatError, StrangerError, UsageError
from p2pdns.items.item import (
    BUILD_UNIX,
    FUTURE_S_MAX,
    SALT_BYTES_MAX,
    SEQ_RESERVED,
    VALUE_BYTES_READ_MAX,
    VALUE_BYTES_WRITE_MAX,
    ImmutableItem,
    MutableItem,
    Present,
    SignatureMemo,
    mutable_target,
    next_seq,
    reduced_signature,
    signing_buffer,
)
from p2pdns.items.keys import L, SecretKey, ZoneKey

SECRET = SecretKey.generate(bytes(range(32)))
OTHER = SecretKey.generate(bytes(32))
SEQS = st.integers(0, SEQ_RESERVED - 1)
VALUES = st.binary(max_size=60)
SALTS = st.binary(max_size=SALT_BYTES_MAX)


def twin_of(signature: bytes, times: int = 1) -> bytes:
    """Return the signature with L added to its S."""
    return signature[:32] + (int.from_bytes(signature[32:], "little") + times * L).to_bytes(32, "little")


@given(SEQS, VALUES, SALTS)
@settings(max_examples=60)
def test_signed_items_verify_as_themselves(seq: int, value: bytes, salt: bytes) -> None:
    """What the publisher made is what every reader makes of its parts."""
    item = MutableItem.signed(SECRET, seq, value, salt)
    again = MutableItem.verified(item.key.raw, seq, value, item.signature, salt)
    assert again == item
    assert again.target == mutable_target(SECRET.zone_key.raw, salt)
    assert again.signed_at_unix == seq / 1_000_000


@given(SEQS, VALUES, SALTS)
@settings(max_examples=40)
def test_twin_of_a_signature_becomes_the_canonical_item(seq: int, value: bytes, salt: bytes) -> None:
    """A stranger who stores S + L first must neither win nor censor."""
    item = MutableItem.signed(SECRET, seq, value, salt)
    twin = twin_of(item.signature)
    assert not item.key.verify(twin, signing_buffer(seq, value, salt))
    assert MutableItem.verified(item.key, seq, value, twin, salt) == item
    with pytest.raises(BadItem, match="signature-s-too-large"):
        MutableItem.verified(item.key, seq, value, twin_of(item.signature, 2), salt)


@given(st.binary(min_size=64, max_size=64))
def test_reduction_is_canonical_and_idempotent(signature: bytes) -> None:
    """R is never touched, S ends below L, and a canonical signature is left alone."""
    if signature[63] >= 0x20:
        with pytest.raises(BadItem, match="signature-s-too-large"):
            reduced_signature(signature)
        return
    once = reduced_signature(signature)
    s, reduced = (int.from_bytes(text[32:], "little") for text in (signature, once))
    assert once[:32] == signature[:32]
    assert reduced == s % L
    assert reduced_signature(once) == once


@given(
    st.binary(max_size=40),
    st.integers(-(2**70), 2**70),
    st.binary(max_size=1100),
    st.binary(max_size=70),
    st.binary(max_size=70),
)
def test_any_parts_end_in_a_bad_item(key: bytes, seq: int, value: bytes, signature: bytes, salt: bytes) -> None:
    """Everything here comes from strangers; nobody guesses a signature."""
    for memo in (None, SignatureMemo()):
        with pytest.raises(BadItem):
            MutableItem.verified(key, seq, value, signature, salt, memo)


def test_item_cannot_be_made_around_the_check() -> None:
    """Neither the plain constructor nor dataclasses.replace makes one."""
    item = MutableItem.signed(SECRET, 1, b"v")
    with pytest.raises(TypeError, match="is made by"):
        MutableItem(SECRET.zone_key, 1, b"v", bytes(64))
    with pytest.raises((TypeError, ValueError)):
        dataclasses.replace(item, value=b"w")


def test_sizes_are_checked_before_the_signature() -> None:
    """A stranger's oversized item costs no point decompression and no signature check."""
    with pytest.raises(BadItem, match="value-too-large"):
        MutableItem.verified(b"no key", 1, bytes(VALUE_BYTES_READ_MAX + 1), b"no signature")
    with pytest.raises(BadItem, match="salt-too-large"):
        MutableItem.verified(b"no key", 1, b"", b"no signature", bytes(SALT_BYTES_MAX + 1))
    with pytest.raises(BadItem, match="seq-reserved"):
        MutableItem.verified(b"no key", SEQ_RESERVED, b"", b"no signature")
    with pytest.raises(BadItem, match="signature-size"):
        MutableItem.verified(b"no key", 1, b"", b"no signature")


class CountingKey(ZoneKey):
    """A zone key that counts how often it was asked."""

    asked = 0

    def verify(self, signature: bytes, message: bytes) -> bool:
        """Count, then verify."""
        type(self).asked += 1
        return super().verify(signature, message)


def test_memo_spares_the_second_check_of_the_same_item_and_its_twin() -> None:
    """Hourly re-puts of a held item cost a hash."""
    CountingKey.asked = 0
    key = CountingKey(SECRET.zone_key.raw)
    item, memo = MutableItem.signed(SECRET, 7, b"value", b"salt"), SignatureMemo()
    for signature in (item.signature, item.signature, twin_of(item.signature)):
        assert MutableItem.verified(key, 7, b"value", signature, b"salt", memo).signature == item.signature
    assert CountingKey.asked == 1


def test_memo_covers_every_part_of_the_item() -> None:
    """A verified value lends nothing to another key, salt, seq, value or signature."""
    memo = SignatureMemo()
    item = MutableItem.signed(SECRET, 7, b"value", b"salt")
    MutableItem.verified(item.key, 7, b"value", item.signature, b"salt", memo)
    wrong = item.signature[:32] + b"\1" + item.signature[33:]
    variants: list[tuple[ZoneKey, int, bytes, bytes, bytes]] = [
        (OTHER.zone_key, 7, b"value", item.signature, b"salt"),
        (item.key, 8, b"value", item.signature, b"salt"),
        (item.key, 7, b"valuf", item.signature, b"salt"),
        (item.key, 7, b"value", wrong, b"salt"),
        (item.key, 7, b"value", item.signature, b""),
        (item.key, 7, b"tvalue", item.signature, b"sal"),
    ]
    for key, seq, value, signature, salt in variants:
        with pytest.raises(BadItem, match="signature-wrong"):
            MutableItem.verified(key, seq, value, signature, salt, memo)
    assert len(memo) == 1, "what did not verify is not remembered"


@given(
    st.lists(
        st.tuples(
            st.binary(min_size=32, max_size=32),
            st.binary(max_size=3),
            st.integers(0, 3),
            st.binary(max_size=3),
            st.binary(min_size=64, max_size=64),
        ),
        min_size=2,
        max_size=2,
        unique=True,
    )
)
def test_memo_digests_of_different_items_differ(parts: list[tuple[bytes, bytes, int, bytes, bytes]]) -> None:
    """The framing is unambiguous: no byte can wander from one field to the next."""
    first, second = parts
    assert SignatureMemo.digest_of(*first) != SignatureMemo.digest_of(*second)


def test_memo_forgets_the_least_recently_used() -> None:
    """It is bounded, and use keeps an entry."""
    memo = SignatureMemo(count_max=3)
    for digest in (b"a", b"b", b"c"):
        memo.add(digest)
    assert memo.has(b"a")
    memo.add(b"d")
    assert len(memo) == 3
    assert memo.has(b"a")
    assert not memo.has(b"b")


@given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from([b"", b"a", b"b", b"aa"])), min_size=1, max_size=5))
@settings(max_examples=30)
def test_any_order_of_arrival_ends_at_the_same_item(parts: list[tuple[int, bytes]]) -> None:
    """`supersedes` is a strict order: every reader settles on one item."""
    items = [MutableItem.signed(SECRET, seq, value) for seq, value in parts]

    def better(held: MutableItem, new: MutableItem) -> MutableItem:
        return new if new.supersedes(held) else held

    ends = {reduce(better, order) for order in itertools.permutations(items)}
    assert len(ends) == 1
    end = ends.pop()
    assert (end.seq, end.value) == max(parts)
    assert not end.supersedes(end)


@given(st.floats(0, 4e9), st.none() | st.integers(0, SEQ_RESERVED - 2))
def test_next_seq_moves_forward_whatever_the_clock_says(unix_now: float, last: int | None) -> None:
    """A publisher's clock may go back; its seq never does."""
    seq = next_seq(unix_now, last)
    assert seq >= int(unix_now * 1_000_000)
    assert last is None or seq > last
    assert seq < SEQ_RESERVED


def test_next_seq_never_gives_the_reserved_one() -> None:
    """A key whose last seq is the largest possible says so instead of publishing into a wall."""
    assert next_seq(0, SEQ_RESERVED - 2) == SEQ_RESERVED - 1
    with pytest.raises(UsageError, match="leaves none for a newer item"):
        next_seq(0, SEQ_RESERVED - 1)


def test_future_begins_after_a_day_and_only_for_a_believable_clock() -> None:
    """A machine that boots in 1970 must not refuse everything."""
    now = BUILD_UNIX + 1_000.0
    edge = int((now + FUTURE_S_MAX) * 1_000_000)
    assert not Present(now).is_ahead(edge)
    assert Present(now).is_ahead(edge + 1)
    assert not Present(BUILD_UNIX - 1).is_ahead(SEQ_RESERVED - 1)
    assert not Present(0).is_ahead(SEQ_RESERVED - 1)
    assert Present(BUILD_UNIX).is_ahead(SEQ_RESERVED - 1)


@pytest.mark.parametrize("clock_unix", [0.0, BUILD_UNIX - 1.0, BUILD_UNIX + 5.0])
def test_the_newest_adopted_seq_judges_where_the_clock_is_behind(clock_unix: float) -> None:
    """A clock without a battery, or one that was set back, must not make a mark of yesterday a seq from the future."""
    newest = (BUILD_UNIX + 40 * FUTURE_S_MAX) * 1_000_000 + 7
    present = Present(clock_unix, newest)
    assert present.is_clock_behind
    assert present.unix == pytest.approx(BUILD_UNIX + 39 * FUTURE_S_MAX)
    assert not present.is_ahead(newest)
    assert present.is_ahead(newest + 1)
    assert not present.of_key(newest + 9).is_ahead(newest + 9)
    assert present.of_key(newest + 9).is_ahead(newest + 10)
    right = BUILD_UNIX + 41.0 * FUTURE_S_MAX
    assert not Present(right, newest).is_clock_behind
    assert Present(right, newest).unix == right


@given(
    steps=st.lists(
        st.tuples(st.floats(-3 * FUTURE_S_MAX, 3 * FUTURE_S_MAX), st.integers(-3, 3), st.booleans()),
        max_size=30,
    )
)
@settings(max_examples=200, deadline=None)
def test_no_row_of_adoptions_pushes_the_bound_past_the_clock(steps: list[tuple[float, int, bool]]) -> None:
    """An attacker has keys of his own, and signs for each the latest seq that is adopted."""
    newest, clock_max = None, 0.0
    clock = BUILD_UNIX + 400.0 * FUTURE_S_MAX
    for turn, off, is_at_the_bound in steps:
        clock += turn
        clock_max = max(clock, clock_max)
        present = Present(clock, newest)
        from_unix = present.bound_unix if is_at_the_bound else present.unix
        seq = max(0, int((from_unix + FUTURE_S_MAX) * 1_000_000) + off)
        if not present.is_ahead(seq):
            newest = seq if newest is None else max(newest, seq)
        assert Present(clock, newest).bound_unix <= clock_max + 1e-6


def test_readers_prefer_any_saner_item_to_one_from_the_future_and_else_the_newer() -> None:
    secret = SecretKey.generate(b"\x01" * 32)
    now = BUILD_UNIX + 1_000.0
    ahead = (now + FUTURE_S_MAX) * 1_000_000
    old, new, odd, odder = (
        MutableItem.signed(secret, seq, b"v") for seq in (7, int(now * 1_000_000), int(ahead) + 1, int(ahead) + 2)
    )
    present = Present(now)
    assert present.prefers(new, old)
    assert not present.prefers(old, new)
    assert present.prefers(old, odd)
    assert not present.prefers(odd, old)
    assert present.prefers(odder, odd)
    assert present.of_key(odd.seq).prefers(odd, new)


@given(SEQS, VALUES)
@settings(max_examples=30)
def test_item_file_round_trip(seq: int, value: bytes) -> None:
    """The layout is pkarr's: key, signature, seq, value."""
    item = MutableItem.signed(SECRET, seq, value)
    data = item.to_bytes()
    assert data == item.key.raw + item.signature + seq.to_bytes(8) + value
    assert MutableItem.read_file(data) == item


@given(st.binary(max_size=1300))
def test_any_item_file_ends_in_an_item_or_a_strangers_error(data: bytes) -> None:
    """Item files come by mail."""
    with pytest.raises(StrangerError):
        MutableItem.read_file(data)


def test_cut_item_file_is_refused_at_every_length() -> None:
    """Whole, byte by byte, and with a tail."""
    data = MutableItem.signed(SECRET, 5, b"value").to_bytes()
    for size in range(len(data)):
        with pytest.raises((FormatError, BadItem)):
            MutableItem.read_file(data[:size])
    with pytest.raises(BadItem, match="signature-wrong"):
        MutableItem.read_file(data + b"\0")


def test_salted_item_has_no_item_file() -> None:
    """The file has no place for the salt, and without it the signature would not hold."""
    with pytest.raises(UsageError, match="with a salt"):
        MutableItem.signed(SECRET, 5, b"value", b"salt").to_bytes()


def test_too_much_is_not_signed() -> None:
    """The publisher hears of a limit before strangers do."""
    MutableItem.signed(SECRET, 1, bytes(VALUE_BYTES_WRITE_MAX), bytes(SALT_BYTES_MAX))
    with pytest.raises(UsageError, match="the value has 997 bytes, 996 can be published"):
        MutableItem.signed(SECRET, 1, bytes(VALUE_BYTES_WRITE_MAX + 1))
    with pytest.raises(UsageError, match="salt-too-large"):
        MutableItem.signed(SECRET, 1, b"", bytes(SALT_BYTES_MAX + 1))
    for seq in (-1, SEQ_RESERVED, SEQ_RESERVED + 1):
        with pytest.raises(UsageError, match="cannot sign: seq-"):
            MutableItem.signed(SECRET, seq, b"")


@given(st.binary(max_size=VALUE_BYTES_READ_MAX), st.integers(0, 159))
def test_immutable_item_is_found_under_its_own_hash_only(value: bytes, bit: int) -> None:
    """One wrong bit of the target is another item."""
    item = ImmutableItem(value)
    assert ImmutableItem.verified(item.target, value) == item
    other = (int.from_bytes(item.target) ^ 1 << bit).to_bytes(20)
    with pytest.raises(BadItem, match="target-wrong"):
        ImmutableItem.verified(other, value)


def test_immutable_item_has_a_limit() -> None:
    """No reply could carry more."""
    with pytest.raises(BadItem, match="value-too-large"):
        ImmutableItem(bytes(VALUE_BYTES_READ_MAX + 1))
