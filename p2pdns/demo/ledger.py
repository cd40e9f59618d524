"""What the look-ups of a row have cost, by the engine's own account.

Guarantees: a cost that is shown was spent between the question of a row and the next one. Does not know what was asked.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from p2pdns.admin.control import ControlClient

COMPLETE_S_MAX = 5.0  # A look-up ends after 4 s at the latest.
LOOK_AGAIN_S = 0.01


@dataclass(frozen=True)
class Spent:
    """What one or more look-ups for a key took."""

    rpcs: int
    peers: int


class Ledger:
    """Reads the engine's list of look-ups and tells what is new in it."""

    def __init__(self, control: ControlClient) -> None:
        self._control = control
        self._before: dict[str, int] = {}
        self._met: set[str] = set()

    def _reports(self, key: str) -> list[dict[str, Any]]:
        reports = self._control.call("lookups")["lookups"]
        return [report for report in reports if report["key"] == key and not report.get("is_refresh")]

    def begin(self, *keys: str) -> None:
        """Note what has been spent for these keys so far."""
        self._before = {key: len(self._reports(key)) for key in keys}

    def spent(self) -> Spent | None:
        """Return what was spent since `begin`; None when the answer came from the cache.

        The first question for a key is answered before its look-up is complete, so its end is waited for.
        """
        deadline = time.monotonic() + COMPLETE_S_MAX
        new = []
        for key, before in self._before.items():
            is_first = key not in self._met
            self._met.add(key)
            while not (reports := self._reports(key)[before:]) and is_first and time.monotonic() < deadline:
                time.sleep(LOOK_AGAIN_S)
            new += reports
        if not new:
            return None
        return Spent(sum(report["rpcs"] for report in new), max(report["peers"] for report in new))
