"""Keys with the time at which each was noted last, for as long as that matters.

Guarantees: a key is recent for `period_s` after it was noted, unless `count_max` others were noted since; a key that
is not takes no room for long. Does not know the clock.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)


class Recent(Generic[K]):
    """The keys noted in the last `period_s`, at most `count_max`; the one noted longest ago goes first."""

    __slots__ = ("_count_max", "_noted_at", "_period_s")

    def __init__(self, period_s: float, count_max: int) -> None:
        self._period_s = period_s
        self._count_max = count_max
        self._noted_at: dict[K, float] = {}

    def __len__(self) -> int:
        return len(self._noted_at)

    def note(self, key: K, now: float) -> None:
        """Note a key."""
        noted_at = self._noted_at
        noted_at.pop(key, None)
        noted_at[key] = now
        if len(noted_at) > self._count_max:
            del noted_at[next(iter(noted_at))]

    def has(self, key: K, now: float) -> bool:
        """Return whether a key was noted less than `period_s` ago."""
        noted_at = self._noted_at.get(key)
        return noted_at is not None and now - noted_at < self._period_s

    def forget_old(self, now: float) -> None:
        """Drop the keys that are not recent."""
        kept = {key: at for key, at in self._noted_at.items() if now - at < self._period_s}
        if len(kept) < len(self._noted_at):
            self._noted_at = kept
