"""Chance of a simulated machine: one seed, one sequence, whatever the sizes asked for."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from p2pdns.sim.chance import Chance


@given(st.lists(st.integers(0, 200), max_size=30))
def test_the_bytes_do_not_depend_on_how_many_are_asked_for_at_a_time(counts: list[int]) -> None:
    parts, whole = Chance("seed"), Chance("seed")
    assert b"".join(parts.randbytes(count) for count in counts) == whole.randbytes(sum(counts))


def test_two_seeds_have_two_sequences_and_no_part_comes_twice() -> None:
    one, other = Chance("1/1"), Chance("1/2")
    drawn = [chance.randbytes(8) for _ in range(500) for chance in (one, other)]
    assert len({*drawn}) == 1_000


def test_numbers_are_from_0_to_below_1_and_half_of_them_below_a_half() -> None:
    chance = Chance("seed")
    numbers = [chance.random() for _ in range(2_000)]
    assert all(0.0 <= number < 1.0 for number in numbers)
    assert 900 < sum(number < 0.5 for number in numbers) < 1_100
