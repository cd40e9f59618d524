"""Caches of pure functions: bounded, and as large as a process with many nodes says."""

from __future__ import annotations

from collections.abc import Callable

from p2pdns.remembered import at_least, remembered, remembered_count


def doubling(calls: list[int], count_max: int) -> Callable[[int], int]:
    """Return a cached function that doubles a number, and notes its calls."""

    @remembered(count_max)
    def double(number: int) -> int:
        calls.append(number)
        return 2 * number

    return double


def test_a_result_is_computed_once_as_long_as_there_is_room() -> None:
    calls: list[int] = []
    double = doubling(calls, 3)
    assert [double(number) for number in (1, 2, 3, 1, 2, 3)] == [2, 4, 6] * 2
    assert calls == [1, 2, 3]


def test_no_more_results_are_kept_than_the_bound() -> None:
    double = doubling([], 3)
    for number in range(20):
        assert double(number) == 2 * number
        assert remembered_count(double) <= 3


def test_a_process_with_many_nodes_keeps_more_for_a_while() -> None:
    double = doubling([], 3)
    with at_least(10):
        for number in range(10):
            double(number)
        assert remembered_count(double) == 10
    double(10)
    assert remembered_count(double) == 1
