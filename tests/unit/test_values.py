"""Frozen values that are made often."""

from __future__ import annotations

import pytest

from p2pdns.values import Value, replace


class Noted(Value, frozen=True):
    """A value of three fields."""

    number: int
    text: str = "none"
    parts: tuple[int, ...] = ()


def test_a_value_has_its_fields_its_defaults_and_a_text_that_shows_both() -> None:
    value = Noted(7, parts=(1, 2))
    assert (value.number, value.text, value.parts) == (7, "none", (1, 2))
    assert repr(value) == "Noted(number=7, text='none', parts=(1, 2))"


def test_values_with_equal_fields_are_equal_and_one_key() -> None:
    assert Noted(7) == Noted(7, "none", ())
    assert len({Noted(7), Noted(7), Noted(8)}) == 2
    assert replace(Noted(7), text="one") == Noted(7, "one")


def test_a_value_does_not_change() -> None:
    with pytest.raises(AttributeError):
        Noted(7).number = 8  # type: ignore[misc]


def test_a_value_wants_what_has_no_default() -> None:
    with pytest.raises(TypeError):
        Noted()  # type: ignore[call-arg]
