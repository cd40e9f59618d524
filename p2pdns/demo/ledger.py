"""The cost of a row's look-ups, as the engine reports it.

Guarantees: the cost of a row was spent after its question and before the next one. Does not know the questions.
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
    """The cost of one or more look-ups."""

    rpcs: int
    peers: int


class Ledger:
    """The difference between two readings of the engine's list of look-ups."""

    def __init__(self, control: ControlClient) -> None:
        self._control = control
        self._before: dict[str, int] = {}
        self._met: set[str] = set()

    def _reports(self, key: str) -> list[dict[str, Any]]:
        reports = self._control.call("lookups")["lookups"]
        return [report for report in reports if report["key"] == key and not report.get("is_refresh")]

    def begin(self, *keys: str) -> None:
        """Note the look-ups of these keys so far."""
        self._before = {key: len(self._reports(key)) for key in keys}

    def spent(self) -> Spent | None:
        """Return the cost since `begin`; None when the answer came from the cache.

        The first question for a key is answered before its look-up is complete, so this waits for the end of it.
        """
        deadline = time.monotonic() + COMPLETE_S_MAX
        new = []
        for key, before in self._before.items():
            is_first = key not in self._met
            self._met.add(key)
            while not (reports := self._reports(key)[before:]) and is_first and time.monotonic() < deadline:
                time.sleep(LOOK_AGAIN_S)
            new += reports
        rpcs, peers = ([report[what] for report in new] for what in ("rpcs", "peers"))
        return Spent(sum(rpcs), max(peers)) if new else None
