"""Frozen values that are made often."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import p2pdns.dht.krpc
import p2pdns.dns.message
import p2pdns.front.gate
import p2pdns.link
import p2pdns.resolver.steps  # noqa: F401 - each of these makes values
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


def kinds_of(kind: type[Value]) -> Iterator[type[Value]]:
    """Yield the classes below a class of values."""
    for below in kind.__subclasses__():
        yield below
        yield from kinds_of(below)


def test_every_class_of_values_is_frozen_though_each_has_to_say_so() -> None:
    kinds = [kind for kind in kinds_of(Value) if kind.__module__.startswith("p2pdns.")]
    assert len(kinds) > 20
    assert [kind for kind in kinds if not kind.__struct_config__.frozen] == []


def test_a_value_wants_what_has_no_default() -> None:
    with pytest.raises(TypeError):
        Noted()  # type: ignore[call-arg]
