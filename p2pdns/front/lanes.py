"""Lanes: things that wait for a place. The hosts take turns, and the lanes of each host take turns.

Guarantees: while a host waits, each other host gets at most one turn, however much waits for it; the same holds for
the lanes of a host; a lane keeps the order of arrival; one search looks at a bounded number of hosts and lanes, and the
next search goes on behind them. Does not know what a place is, nor when one is free.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

# Hosts and lanes of one search. Each costs a microsecond, and thousands of forged addresses may wait: without a bound,
# the search for each free place would take milliseconds.
LOOKED_AT_MAX = 64

T = TypeVar("T")


class Lanes(Generic[T]):
    """The things that wait, by host and lane; a key stands once in a lane."""

    def __init__(self) -> None:
        self._hosts: OrderedDict[str, OrderedDict[str, dict[bytes, T]]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._hosts)

    def is_empty(self, host: str, lane: str) -> bool:
        """Return whether nothing waits in a lane."""
        return lane not in self._hosts.get(host, ())

    def add(self, host: str, lane: str, key: bytes, what: T) -> None:
        """Put a thing at the end of a lane, or in the place of the one with the same key."""
        self._hosts.setdefault(host, OrderedDict()).setdefault(lane, {})[key] = what

    def discard(self, host: str, lane: str, key: bytes) -> None:
        """Take the thing with that key away, if it is there."""
        lanes = self._hosts.get(host)
        if lanes is None or lane not in lanes:
            return
        waiting = lanes[lane]
        waiting.pop(key, None)
        if not waiting:
            del lanes[lane]
            if not lanes:
                del self._hosts[host]

    def take(self, may_host: Callable[[str], bool], may: Callable[[T], bool]) -> tuple[bytes, T] | None:
        """Take out and return the next thing that may have a place; None when none is found."""
        left = LOOKED_AT_MAX
        for _ in range(min(left, len(self._hosts))):
            host, lanes = next(iter(self._hosts.items()))
            # This was the host's turn, whether or not it may have a place.
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
