"""Bencode: one canonical form out, bounded and unambiguous in."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pdns.dht import bencode
from p2pdns.dht.bencode import Encodable, Value, decode, encode
from p2pdns.errors import FormatError

INTEGERS = st.integers(min_value=-(10**bencode.INTEGER_DIGITS_MAX) + 1, max_value=10**bencode.INTEGER_DIGITS_MAX - 1)
VALUES: st.SearchStrategy[Value] = st.recursive(
    st.binary(max_size=40) | INTEGERS,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.binary(max_size=6), inner, max_size=5),
    max_leaves=25,
)

# One row, one form: what is read is written back the same.
CANONICAL: list[tuple[bytes, Value]] = [
    (b"0:", b""),
    (b"4:spam", b"spam"),
    (b"10:0123456789", b"0123456789"),
    (b"i0e", 0),
    (b"i-1e", -1),
    (b"i99999999999999999999e", 10**20 - 1),
    (b"i-99999999999999999999e", 1 - 10**20),
    (b"le", []),
    (b"de", {}),
    (b"l4:spami7ee", [b"spam", 7]),
    (b"d1:a1:b2:aali1eee", {b"a": b"b", b"aa": [1]}),
    (b"d0:i1ee", {b"": 1}),
]

# Each row is a reading that would give one value two spellings, or cost more than a datagram is worth.
REFUSED = [
    (b"", "bencode-truncated"),
    (b"i1", "bencode-integer"),
    (b"ie", "bencode-integer"),
    (b"i-e", "bencode-integer"),
    (b"i--1e", "bencode-integer"),
    (b"i+1e", "bencode-integer"),
    (b"i03e", "bencode-integer"),
    (b"i-0e", "bencode-integer"),
    (b"i-01e", "bencode-integer"),
    (b"i 1e", "bencode-integer"),
    (b"i1_0e", "bencode-integer"),
    (b"i1.5e", "bencode-integer"),
    (b"i" + b"9" * 21 + b"e", "bencode-integer"),
    (b"i-" + b"9" * 21 + b"e", "bencode-integer"),
    (b"i" + b"9" * 60_000 + b"e", "bencode-integer"),
    (b"5:spam", "bencode-truncated"),
    (b"4spam", "bencode-length"),
    (b"04:spam", "bencode-length"),
    (b"00:", "bencode-length"),
    (b"1_0:0123456789", "bencode-length"),
    (b"000000004:spam", "bencode-length"),
    (b"999999:x", "bencode-length"),
    (b"d4:aaaa1:x0e", "bencode-length"),
    (b"d4:aaaa1e", "bencode-length"),
    (b"d2048:a0:e", "bencode-truncated"),
    (b"d1:a2048:e", "bencode-truncated"),
    (b"-1:x", "bencode-type"),
    (b"l", "bencode-truncated"),
    (b"l1:a", "bencode-truncated"),
    (b"d1:a", "bencode-truncated"),
    (b"d1:ae", "bencode-type"),
    (b"di1e1:ae", "bencode-length"),
    (b"d1:ai1e1:ai2ee", "bencode-duplicate-key"),
    (b"x", "bencode-type"),
    (b"e", "bencode-type"),
    (b"\xb2:xx", "bencode-type"),
    (b"i1ei2e", "bencode-tail"),
    (b"0:0:", "bencode-tail"),
    (b"l" * 17 + b"e" * 17, "bencode-too-deep"),
    (b"d1:a" * 17 + b"0:" + b"e" * 17, "bencode-too-deep"),
    (b"l" + b"0:" * 2048 + b"e", "bencode-too-many-items"),
    (b"d" + b"".join(b"4:%04d0:" % n for n in range(2048)) + b"e", "bencode-too-many-items"),
    (b"l" * 65_535, "bencode-too-deep"),
    (b"l" + b"0" * 65_535, "bencode-too-long"),
]


@pytest.mark.parametrize(("data", "value"), CANONICAL)
def test_canonical_form_is_read_and_written(data: bytes, value: Encodable) -> None:
    assert decode(data) == value
    assert encode(value) == data


@pytest.mark.parametrize(("data", "reason"), REFUSED, ids=[repr(data[:20]) for data, _ in REFUSED])
def test_second_spellings_and_excesses_are_refused(data: bytes, reason: str) -> None:
    with pytest.raises(FormatError) as caught:
        decode(data)
    assert caught.value.reason == reason


def test_keys_out_of_order_are_read_and_written_in_order() -> None:
    value = decode(b"d1:b1:x1:a1:ye")
    assert value == {b"a": b"y", b"b": b"x"}
    assert encode(value) == b"d1:a1:y1:b1:xe"


def test_depth_and_count_at_their_limits_are_read() -> None:
    assert decode(b"l" * 16 + b"e" * 16)
    members = decode(b"l" + b"0:" * (bencode.ITEM_COUNT_MAX - 1) + b"e")
    assert isinstance(members, list)
    assert len(members) == bencode.ITEM_COUNT_MAX - 1


@pytest.mark.parametrize("value", [True, None, "text", 1.5, [None]])
def test_our_own_mistakes_are_type_errors(value: Encodable) -> None:
    with pytest.raises(TypeError):
        encode(value)


@given(VALUES)
def test_every_value_comes_back(value: Encodable) -> None:
    assert decode(encode(value)) == value


@given(VALUES)
def test_every_cut_is_refused(value: Encodable) -> None:
    data = encode(value)
    for end in range(len(data)):
        with pytest.raises(FormatError):
            decode(data[:end])


@given(VALUES, st.binary(min_size=1, max_size=8))
def test_every_tail_is_refused(value: Encodable, tail: bytes) -> None:
    with pytest.raises(FormatError):
        decode(encode(value) + tail)


@given(st.binary(max_size=80) | st.text(alphabet="0123456789ilde:-a", max_size=40).map(str.encode))
def test_any_bytes_end_in_a_value_of_one_spelling_or_a_format_error(data: bytes) -> None:
    try:
        value = decode(data)
    except FormatError:
        return
    # Sorting keys is the only thing that writing may change.
    assert sorted(encode(value)) == sorted(data)
    assert decode(encode(value)) == value
