"""Caches of pure functions of one argument, each of which keeps a bounded number of results.

Guarantees: a cached function returns what the function returns; no cache keeps more results than its bound. Does not
know the functions. A hit costs six tenths of one of `functools.lru_cache`. A full cache is emptied, which costs nothing
as long as the bound is above what a node meets at a time. A process with many nodes can raise all bounds.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from typing import ClassVar, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class _Results(dict[K, V]):
    __slots__ = ("_count_max", "_function")

    count_min: ClassVar[int] = 0

    def __init__(self, function: Callable[[K], V], count_max: int) -> None:
        super().__init__()
        self._function = function
        self._count_max = count_max

    def __missing__(self, argument: K) -> V:
        result = self._function(argument)
        if len(self) >= max(self._count_max, _Results.count_min):
            self.clear()
        self[argument] = result
        return result


def remembered(count_max: int) -> Callable[[Callable[[K], V]], Callable[[K], V]]:
    """Return a decorator that keeps the results of a function for `count_max` arguments.

    >>> squares = []
    >>> @remembered(2)
    ... def square(number):
    ...     squares.append(number)
    ...     return number * number
    >>> square(3), square(3), square(4), square(5), square(3), squares
    (9, 9, 16, 25, 9, [3, 4, 5, 3])
    """

    def decorated(function: Callable[[K], V]) -> Callable[[K], V]:
        return _Results(function, count_max).__getitem__

    return decorated


def remembered_count(function: Callable[[K], V]) -> int:
    """Return how many results of a decorated function are kept."""
    return len(function.__self__)  # type: ignore[attr-defined]  # It is a method of the results.


@contextmanager
def at_least(count: int) -> Iterator[None]:
    """Have every cache keep so many results for a while: a simulated world has more hosts than a node meets."""
    before, _Results.count_min = _Results.count_min, count
    try:
        yield
    finally:
        _Results.count_min = before
