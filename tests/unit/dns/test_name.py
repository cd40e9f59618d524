"""Names: limits, case, order, ancestry, text and wire form."""

from __future__ import annotations

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pdns.dns.name import Name
from p2pdns.errors import FormatError
from tests.unit.dns.strategies import any_names, names


@given(names)
def test_text_and_wire_form_come_back_byte_for_byte(name: Name) -> None:
    assert Name.read(str(name)).labels == name.labels
    assert Name.parse(name.wire()) == (name, len(name.wire()))
    assert Name.parse(b"xx" + name.wire() + b"tail", 2)[0].labels == name.labels
    assert str(name).isascii()
    assert str(name).isprintable()


@given(names)
def test_case_is_kept_and_ignored(name: Name) -> None:
    upper = Name.of(*(label.upper() for label in name.labels))
    assert upper == name
    assert hash(upper) == hash(name)
    assert upper.folded().labels == name.folded().labels
    assert {name: 1}[upper] == 1


def test_case_is_ignored_in_ascii_only() -> None:
    assert Name.of("É".encode("latin-1")) != Name.of("é".encode("latin-1"))
    assert Name.of(b"[") != Name.of(b"{")


def test_order_is_that_of_rfc_4034() -> None:
    """The list of RFC 4034 §6.1, shuffled."""
    expected = [
        "example.",
        "a.example.",
        "yljkjljk.a.example.",
        "Z.a.example.",
        "zABC.a.EXAMPLE.",
        "z.example.",
        "\\001.z.example.",
        "*.z.example.",
        "\\200.z.example.",
    ]
    assert [str(name) for name in sorted(map(Name.read, reversed(expected)))] == expected


@given(names, names)
def test_order_agrees_with_equality(one: Name, other: Name) -> None:
    assert (one < other) + (other < one) + (one == other) == 1


@given(any_names, names)
def test_ancestry_is_by_label(name: Name, apex: Name) -> None:
    assert name.is_at_or_below(Name.root())
    assert name.is_at_or_below(name)
    if len(name.wire()) + len(apex.wire()) - 1 > 255:
        with pytest.raises(FormatError, match="name-too-long"):
            name.under(apex)
        return
    below = name.under(apex)
    assert below.is_at_or_below(apex)
    assert below.relative_to(apex) == name.labels
    assert below.moved(apex, Name.root()) == name
    assert below.ancestor(len(apex.labels)) == apex
    if name.labels:
        assert not apex.is_at_or_below(below)
        assert below.parent().child(below.labels[0]) == below


def test_a_label_that_ends_like_the_apex_is_not_below_it() -> None:
    assert not Name.read("xexample").is_at_or_below(Name.read("example"))
    assert not Name.of(b"a.example").is_at_or_below(Name.read("example"))


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        (".", ()),
        ("a", (b"a",)),
        ("a.b.", (b"a", b"b")),
        (r"a\.b.c", (b"a.b", b"c")),
        (r"\065\000.b", (b"A\x00", b"b")),
        (r"\@.\$\;\"", (b"@", b'$;"')),
        ("*._tcp", (b"*", b"_tcp")),
    ],
)
def test_text_is_read(text: str, labels: tuple[bytes, ...]) -> None:
    assert Name.read(text).labels == labels


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty-name"),
        ("..", "empty-label"),
        ("a..b", "empty-label"),
        (".a", "empty-label"),
        ("a" * 64, "label-too-long"),
        (".".join(["a" * 63] * 3 + ["a" * 62]), "name-too-long"),
        ("a." * 600, "name-too-long"),
        (r"\256", "bad-escape"),
        (r"\25", "bad-escape"),
        ("a\\", "bad-escape"),
        ("ä", "not-ascii"),
        ("a b", "not-ascii"),
        ("a\x00", "not-ascii"),
    ],
)
def test_text_that_is_no_name_is_refused(text: str, reason: str) -> None:
    with pytest.raises(FormatError) as caught:
        Name.read(text)
    assert caught.value.reason == reason


def test_255_bytes_are_a_name_and_256_are_not() -> None:
    longest = Name.of(*[b"a" * 63] * 3, b"a" * 61)
    assert len(longest.wire()) == 255
    assert Name.parse(longest.wire())[0] == longest
    with pytest.raises(FormatError):
        Name.of(*[b"a" * 63] * 3, b"a" * 62)
    with pytest.raises(FormatError, match="name-too-long"):
        Name.parse(b"\x3f" * 256)
    with pytest.raises(FormatError):
        longest.child(b"a")


@given(st.binary(max_size=300))
def test_any_bytes_end_in_a_name_or_a_format_error(wire: bytes) -> None:
    try:
        name, end = Name.parse(wire)
    except FormatError:
        return
    assert name.wire() == wire[:end]


@given(st.text(max_size=60))
def test_any_text_ends_in_a_name_or_a_format_error(text: str) -> None:
    try:
        name = Name.read(text)
    except FormatError:
        return
    assert Name.read(str(name)) == name


@pytest.mark.parametrize(("wire", "reason"), [(b"\xc0\x0c", "compressed-name"), (b"\x40", "label-type")])
def test_only_plain_labels_are_parsed(wire: bytes, reason: str) -> None:
    with pytest.raises(FormatError) as caught:
        Name.parse(wire)
    assert caught.value.reason == reason


def test_a_name_never_changes_and_survives_pickling() -> None:
    name = Name.read("www.example")
    with pytest.raises(AttributeError):
        name.labels = ()
    assert pickle.loads(pickle.dumps(name)) == name
    assert name != "www.example."
    assert Name.read("*.example").is_wildcard
    assert not name.is_wildcard
    assert Name.root().last_label is None
    assert name.last_label == b"example"


def test_a_zone_file_has_names_below_its_apex_without_it_and_all_others_whole() -> None:
    apex = Name.read("example.")
    texts = [Name.read(text).text_in(apex) for text in (r"a\.b.WWW.Example.", "example.", "example.test.", "xexample.")]
    assert texts == [r"a\.b.WWW", "@", "example.test.", "xexample."]
