"""Token buckets: one alone, or one for each client prefix.

Guarantees: in any interval at most the burst and the refill of that interval are taken; a clock that goes back refills
nothing; the number of prefixes is bounded. Does not know what is counted, nor what happens to a refused client.
"""

from __future__ import annotations

PREFIXES_MAX = 4_096  # Prefixes whose rate is remembered at a time; about 1 MB.


class RateLimit:
    """A token bucket that refills at `per_second` up to `burst`."""

    __slots__ = ("burst", "level", "per_second", "updated_at")

    def __init__(self, per_second: float, burst: float, now: float) -> None:
        self.per_second = per_second
        self.burst = burst
        self.level = burst
        self.updated_at = now

    def left(self, now: float) -> float:
        """Return how much could be taken at `now`."""
        elapsed = now - self.updated_at
        if elapsed > 0.0:
            self.level = min(self.burst, self.level + elapsed * self.per_second)
            self.updated_at = now
        return self.level

    def take(self, now: float, amount: float = 1.0) -> bool:
        """Take `amount`; return whether there was enough, and take nothing if not."""
        if self.left(now) < amount:
            return False
        self.level -= amount
        return True


class PrefixRates:
    """One `RateLimit` for each prefix.

    When there is no room for another prefix, the one seen longest ago is forgotten, and its bucket with it. With
    `is_lasting`, a flood of new prefixes cannot restore a spent bucket: a prefix is forgotten only when its bucket is
    full again, and prefixes without room share one bucket until then.
    """

    def __init__(
        self, per_second: float, burst: float, prefixes_max: int = PREFIXES_MAX, *, is_lasting: bool = False
    ) -> None:
        self._per_second = per_second
        self._burst = burst
        self._prefixes_max = prefixes_max
        self._is_lasting = is_lasting
        self._limits: dict[str, RateLimit] = {}
        self._others = RateLimit(per_second, burst, 0.0)

    def __len__(self) -> int:
        return len(self._limits)

    def take(self, prefix: str, now: float, amount: float = 1.0) -> bool:
        """Take `amount` from the bucket of `prefix`; return whether there was enough."""
        return self._of(prefix, now).take(now, amount)

    def left(self, prefix: str, now: float) -> float:
        """Return how much `prefix` could take at `now`."""
        limit = self._limits.get(prefix)
        return self._burst if limit is None else limit.left(now)

    def _of(self, prefix: str, now: float) -> RateLimit:
        limit = self._limits.pop(prefix, None)
        if limit is None:
            self._forget_full(now)
            if len(self._limits) >= self._prefixes_max and not self._has_made_room(now):
                return self._others
            limit = RateLimit(self._per_second, self._burst, now)
        self._limits[prefix] = limit
        return limit

    def _forget_full(self, now: float) -> None:
        """Forget the prefixes seen longest ago whose buckets are full again: without a bucket they have as much."""
        while self._limits:
            prefix, limit = next(iter(self._limits.items()))
            if limit.left(now) < self._burst:
                return
            del self._limits[prefix]

    def _has_made_room(self, now: float) -> bool:
        """Forget the prefix seen longest ago, unless the rates are lasting and its bucket is not full."""
        prefix, limit = next(iter(self._limits.items()))
        if self._is_lasting and limit.left(now) < self._burst:
            return False
        del self._limits[prefix]
        return True
