"""Shares of a count with their uncertainty.

Guarantees: an interval lies within 0 and 1, also where nothing or everything was counted. Does not know what was
counted, nor whether the cases were independent.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

Z_95 = 1.959964  # The quantile of the normal distribution beyond which 2.5 % lie on each side.


@dataclass(frozen=True)
class Shared:
    """How many of so many, and between which shares the true one lies with 95 % confidence (Wilson)."""

    count: int
    of: int
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.count} of {self.of} ({self.low * 100:.1f}-{self.high * 100:.1f} %)"


def shared(count: int, of: int) -> Shared:
    """Return a count with its interval.

    >>> str(shared(0, 40)), str(shared(20, 40)), str(shared(0, 0))
    ('0 of 40 (0.0-8.8 %)', '20 of 40 (35.2-64.8 %)', '0 of 0 (0.0-100.0 %)')
    """
    if not of:
        return Shared(count, of, 0.0, 1.0)
    share, square = count / of, Z_95 * Z_95
    middle = (share + square / (2 * of)) / (1 + square / of)
    half = Z_95 * math.sqrt(share * (1 - share) / of + square / (4 * of * of)) / (1 + square / of)
    return Shared(count, of, max(0.0, middle - half), min(1.0, middle + half))
