"""Lanes: what waits for a place, in turns of the hosts, and in each host of its lanes.

Guarantees: a host waits for no more than one turn of each other host, whatever those have brought, and a lane for no
more than one turn of each other lane of its host; within a lane the order is that of arrival; one search looks at a
bounded number of them and goes on behind these the next time. Does not know what a place is, nor when one is free.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

# Of one search: a host or lane that may have no further place takes a microsecond. Where thousands of forged addresses
# wait, the search for each free place would take milliseconds.
LOOKED_AT_MAX = 64

T = TypeVar("T")


class Lanes(Generic[T]):
    """What waits, by host and lane; in one lane a key stands once."""

    def __init__(self) -> None:
        self._hosts: OrderedDict[str, OrderedDict[str, dict[bytes, T]]] = OrderedDict()

    def __len__(self) -> int:
        """Return how many hosts have something that waits."""
        return len(self._hosts)

    def is_empty(self, host: str, lane: str) -> bool:
        """Return whether nothing waits in a lane."""
        return lane not in self._hosts.get(host, ())

    def add(self, host: str, lane: str, key: bytes, what: T) -> None:
        """Put something at the end of a lane, or in place of what has the same key there."""
        self._hosts.setdefault(host, OrderedDict()).setdefault(lane, {})[key] = what

    def discard(self, host: str, lane: str, key: bytes) -> None:
        """Take something away, if it is there."""
        lanes = self._hosts.get(host)
        waiting = lanes.get(lane) if lanes else None
        if lanes is None or waiting is None:
            return
        waiting.pop(key, None)
        if not waiting:
            del lanes[lane]
            if not lanes:
                del self._hosts[host]

    def take(self, may_host: Callable[[str], bool], may: Callable[[T], bool]) -> tuple[bytes, T] | None:
        """Return the next one that may have a place, taken out; None when none is found."""
        left = LOOKED_AT_MAX
        for _ in range(min(left, len(self._hosts))):
            host, lanes = next(iter(self._hosts.items()))
            # It had its turn, whether or not it could use it.
            self._hosts.move_to_end(host)
            left -= 1
            if not may_host(host):
                continue
            for _ in range(min(max(left, 1), len(lanes))):
                lane, waiting = next(iter(lanes.items()))
                lanes.move_to_end(lane)
                left -= 1
                key, what = next(iter(waiting.items()))
                if may(what):
                    self.discard(host, lane, key)
                    return key, what
        return None
