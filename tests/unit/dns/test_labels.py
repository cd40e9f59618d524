"""Names and questions on the wire: where they end, and what is none."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from p2pdns.dns.labels import folded_question, name_end, owner_end, question_end
from p2pdns.dns.name import Name
from p2pdns.errors import FormatError
from tests.conformance.wire import question

LONGEST = (b"\x3f" + b"a" * 63) * 3 + b"\x3d" + b"a" * 61 + b"\x00"


def end_of(wire: bytes, read: Callable[[bytes, int], int]) -> int | None:
    """Return where a name ends, by either way to find out; None where it is none."""
    try:
        return read(wire, 1)
    except FormatError:
        return None


@pytest.mark.parametrize(
    ("wire", "end"),
    [
        (b"\x00", 2),
        (b"\x01\x00\x00tail", 4),
        (b"\x03www\x02ab\x00\x03www\x00", 9),
        (LONGEST, 256),
        ((b"\x3f" + b"a" * 63) * 3 + b"\x3e" + b"a" * 62 + b"\x00", None),
        (b"\x01a" * 127 + b"\x00", 256),
        (b"\x01a" * 128 + b"\x00", None),
        (b"\x01a" * 30_000 + b"\x00", None),
        (b"", None),
        (b"\x03ww", None),
        (b"\x03www", None),
        (b"\x01a\x40", None),
        (b"\x01a\xc0\x0c", None),
    ],
    ids=lambda value: f"{value[:4].hex()} of {len(value)}" if isinstance(value, bytes) else str(value),
)
def test_where_a_name_ends_is_where_reading_it_ends(wire: bytes, end: int | None) -> None:
    assert end_of(b"x" + wire, lambda data, at: Name.parse(data, at)[1]) == end
    assert end_of(b"x" + wire, name_end) == end


@pytest.mark.parametrize(
    ("wire", "end"),
    [(b"\x00", 1), (b"\x03www\x00rest", 5), (b"\xc0\x0c", 2), (b"\x03www\xc0\xff", 6), (LONGEST + b"rest", 255)],
)
def test_an_owner_ends_behind_its_root_or_its_first_pointer_wherever_that_leads(wire: bytes, end: int) -> None:
    assert owner_end(wire, 0) == end


@pytest.mark.parametrize(
    ("wire", "reason"), [(b"", "truncated-name"), (b"\x03ww", "truncated-name"), (b"\x40", "label-type")]
)
def test_what_is_no_owner_has_a_reason(wire: bytes, reason: str) -> None:
    with pytest.raises(FormatError, match=reason):
        owner_end(wire, 0)


def test_folding_leaves_type_and_class_alone() -> None:
    # Type 65 (HTTPS) has the byte of a capital A.
    assert folded_question(question("WWW", 65)) == question("www", 65)


@pytest.mark.parametrize(
    ("wire", "reason"),
    [
        (b"", "truncated-name"),
        (b"\x05a", "truncated-name"),
        (b"\x01a\x00\x00\x01", "question-cut"),
        (b"\xc0\x0c\x00\x01\x00\x01", "compressed-name"),
        (b"\x40" + b"a" * 64 + b"\x00\x00\x01\x00\x01", "label-type"),
        ((b"\x3f" + b"a" * 63) * 4 + b"\x00\x00\x01\x00\x01", "name-too-long"),
    ],
    ids=["empty", "short label", "no class", "pointer", "label of 64", "name of 257"],
)
def test_what_is_no_question_has_a_reason(wire: bytes, reason: str) -> None:
    with pytest.raises(FormatError, match=reason):
        question_end(wire, 0)


def test_a_name_of_255_bytes_is_a_name() -> None:
    assert question_end(LONGEST + b"\x00\x01\x00\x01", 0) == 259
