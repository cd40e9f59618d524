"""Naming: one rule for petnames, one for suffixes, one for the shape of zone keys, whoever asks."""

from __future__ import annotations

import pytest

from p2pdns.errors import ConfigError
from p2pdns.naming import is_plain_name, is_zone_key_label, read_petname, read_suffix, refuse_suffix_word

KEY = "y" * 52


@pytest.mark.parametrize("text", ["\u017fuffix", "\u212aey", "a\u0661", "", "-a", "a-", "a" * 64, "a.b"])
def test_a_petname_is_ascii_and_one_label(text: str) -> None:
    # Some letters outside ASCII fold into it, and would then be two names for one.
    with pytest.raises(ConfigError, match="is not a petname"):
        read_petname(text)


def test_the_shape_of_a_zone_key_is_52_letters_in_any_case() -> None:
    assert is_zone_key_label(KEY.encode())
    assert is_zone_key_label(b"YBNDRFG8EJKMCPQXOT1UWISZA345H769ybndrfg8ejkmcpqxot1u")
    assert not is_zone_key_label(b"y" * 51)
    assert not is_zone_key_label(b"y" * 53)
    for letter in b"lv02LV-_ ":
        assert not is_zone_key_label(b"y" * 51 + bytes((letter,)))


@pytest.mark.parametrize("text", [KEY, KEY.upper()])
def test_a_petname_never_looks_like_a_zone_key(text: str) -> None:
    with pytest.raises(ConfigError, match="looks like a zone key"):
        read_petname(text)


def test_a_petname_may_have_1_to_63_characters_and_is_kept_in_lower_case() -> None:
    assert [read_petname(text) for text in ("A", "b" * 63, "_x-1")] == ["a", "b" * 63, "_x-1"]


@pytest.mark.parametrize("text", ["", ".", "a..b", "-a.alt", "a-.alt", "\u212aey.alt", "a b", "a." * 50 + "b"])
def test_a_suffix_is_a_short_name_of_plain_labels(text: str) -> None:
    with pytest.raises(ConfigError, match="is not a suffix"):
        read_suffix(text)


def test_a_suffix_may_have_a_zone_key_above_its_end_only() -> None:
    assert read_suffix(f".{KEY}.Alt.") == f"{KEY}.alt"
    with pytest.raises(ConfigError, match="ends in a zone key"):
        read_suffix(f"x.{KEY}")


def test_a_plain_name_has_253_characters_at_most() -> None:
    name = ".".join(["a" * 62] * 4)
    assert (is_plain_name(name + ".b"), is_plain_name(name + ".bc")) == (True, False)


def test_a_petname_is_no_label_of_a_suffix() -> None:
    refuse_suffix_word("alice", ["p2p.alt"])
    with pytest.raises(ConfigError, match=r"is a word of the suffix p2p\.alt"):
        refuse_suffix_word("alt", ["p2p.alt"])
