"""Frozen values that are made often."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, dataclass, field, replace

import pytest

from p2pdns.values import quickly_made


@quickly_made
@dataclass(frozen=True, slots=True)
class Quick:
    """One that is made through its slots."""

    number: int
    text: str = "none"
    parts: tuple[int, ...] = ()


def test_a_value_that_is_quickly_made_is_what_a_dataclass_makes() -> None:
    quick = Quick(7, parts=(1, 2))
    assert (quick.number, quick.text, quick.parts) == (7, "none", (1, 2))
    assert repr(quick) == "Quick(number=7, text='none', parts=(1, 2))"
    assert quick == Quick(7, "none", (1, 2))
    assert hash(quick) == hash(Quick(7, "none", (1, 2)))
    assert replace(quick, text="one") == Quick(7, "one", (1, 2))


def test_a_value_that_is_quickly_made_does_not_change() -> None:
    with pytest.raises(FrozenInstanceError):
        Quick(7).number = 8  # type: ignore[misc]


def test_a_value_that_is_quickly_made_wants_what_has_no_default() -> None:
    with pytest.raises(TypeError):
        Quick()  # type: ignore[call-arg]


def test_what_has_more_to_do_than_to_keep_its_fields_is_not_made_quickly() -> None:
    @dataclass(frozen=True, slots=True)
    class Counted:
        number: int
        twice: int = field(init=False)

    @dataclass(frozen=True, slots=True)
    class Checked:
        number: int

        def __post_init__(self) -> None:
            """Have something to do."""

    for kind in (Counted, Checked):
        with pytest.raises(AssertionError):
            quickly_made(kind)
