"""What the look-ups of a row have cost, by the engine's own account.

Guarantees: a cost that is shown was spent between the question of a row and the next one. Does not know what was asked.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from p2pdns.engine.control import ControlClient

COMPLETE_SECONDS_MAX = 5.0  # A look-up ends after 4 s at the latest.
LOOK_AGAIN_SECONDS = 0.01


@dataclass(frozen=True)
class Spent:
    """What one or more look-ups for a key took."""

    rpcs: int
    peers: int


class Ledger:
    """Reads the engine's list of look-ups and tells what is new in it."""

    def __init__(self, control: ControlClient) -> None:
        self._control = control
        self._before = 0
        self._met: set[str] = set()

    def _reports(self, key: str) -> list[dict[str, Any]]:
        reports = self._control.call("lookups")["lookups"]
        return [report for report in reports if report["key"] == key and not report.get("is_refresh")]

    def begin(self, key: str) -> None:
        """Note what has been spent for this key so far."""
        self._before = len(self._reports(key))

    def spent(self, key: str) -> Spent | None:
        """Return what was spent since `begin`; None when the answer came from the cache.

        The first question for a key is answered before its look-up is complete, so its end is waited for.
        """
        is_first = key not in self._met
        self._met.add(key)
        deadline = time.monotonic() + COMPLETE_SECONDS_MAX
        while not (new := self._reports(key)[self._before :]):
            if not is_first or time.monotonic() > deadline:
                return None
            time.sleep(LOOK_AGAIN_SECONDS)
        return Spent(sum(report["rpcs"] for report in new), max(report["peers"] for report in new))
