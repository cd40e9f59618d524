"""How much of a store each prefix takes, and which items go first when there is no room for another.

An item belongs to the prefix that brought it. The prefix that takes the most gives up one item after the other, and
only for a prefix that would then still take less: so a store that is full of an attacker's items gives up those,
however many prefixes he has, as long as the others have few each. Among equals the earlier item stays.

Guarantees: no item of this node's own goes; the sums are exact. Does not know the content of an item, nor its age.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol, TypeVar

PREFIX_SHARE_MAX = 0.05  # Of items and of bytes, once the store is half full.
IMMUTABLE_SHARE_MAX = 0.5  # They cost no key and no signature; zones are mutable items.
ESTABLISHED_SHARE_MAX = 0.875  # The last eighth is for newcomers: established items must not lock them out for ever.
OWN = ""  # The prefix of this node itself: no quota, never evicted.


class Charged(Protocol):
    """An item of a prefix; the item with the least `worth` goes first."""

    prefix: str

    @property
    def size_bytes(self) -> int: ...

    @property
    def worth(self) -> tuple[float, int]: ...


T = TypeVar("T", bound=Charged)


@dataclass(slots=True)
class Usage:
    """A number of items and their bytes."""

    count: int = 0
    size_bytes: int = 0

    def add(self, count: int, size_bytes: int) -> None:
        """Add so much, or take it away."""
        self.count += count
        self.size_bytes += size_bytes


class Shares:
    """The limits of one store, and how much of them is taken."""

    def __init__(self, items_max: int, bytes_max: int) -> None:
        self.items_max = items_max
        self.bytes_max = bytes_max
        self.total = Usage()
        self.immutable = Usage()  # Without our own.
        self.by_prefix: dict[str, Usage] = {}

    def charge(self, prefix: str, size_bytes: int, sign: int, *, is_immutable: bool) -> None:
        """Enter an item (`sign` 1), or take it out again (-1)."""
        used = self.by_prefix.setdefault(prefix, Usage())
        for usage in (used, self.total):
            usage.add(sign, sign * size_bytes)
        if is_immutable and prefix != OWN:
            self.immutable.add(sign, sign * size_bytes)
        if not used.count:
            del self.by_prefix[prefix]

    def fits(self, items: int, size_bytes: int) -> bool:
        """Return whether so much more has room."""
        return self.total.count + items <= self.items_max and self.total.size_bytes + size_bytes <= self.bytes_max

    def fits_as_immutable(self, items: int, size_bytes: int) -> bool:
        """Return whether so much more is within what immutable items may take together."""
        return (
            self.immutable.count + items <= IMMUTABLE_SHARE_MAX * self.items_max
            and self.immutable.size_bytes + size_bytes <= IMMUTABLE_SHARE_MAX * self.bytes_max
        )

    @property
    def is_half_full(self) -> bool:
        return 2 * self.total.count >= self.items_max or 2 * self.total.size_bytes >= self.bytes_max

    def is_over_quota(self, prefix: str, more_items: int = 0, more_bytes: int = 0) -> bool:
        """Return whether a prefix takes, or with so much more would take, over a twentieth of the store."""
        used = self.by_prefix.get(prefix)
        if used is None or prefix == OWN:
            return False
        return (
            used.count + more_items > PREFIX_SHARE_MAX * self.items_max
            or used.size_bytes + more_bytes > PREFIX_SHARE_MAX * self.bytes_max
        )

    def level(self, prefix: str, more_items: int = 0, more_bytes: int = 0) -> float:
        """Return which part of the store a prefix takes, or would take with so much more."""
        used = self.by_prefix.get(prefix) or Usage()
        return self._part(used.count + more_items, used.size_bytes + more_bytes)

    def _part(self, count: int, size_bytes: int) -> float:
        return max(count / self.items_max, size_bytes / self.bytes_max)

    def above_the_established(self, established: list[T]) -> list[T]:
        """Return which of the established items take the newcomers' part; mostly none."""
        count, size_bytes = len(established), sum(one.size_bytes for one in established)
        items, limit = ESTABLISHED_SHARE_MAX * self.items_max, ESTABLISHED_SHARE_MAX * self.bytes_max
        if count <= items and size_bytes <= limit:
            return []
        above = []
        for one, _ in self.in_order(established):
            if count <= items and size_bytes <= limit:
                break
            above.append(one)
            count, size_bytes = count - 1, size_bytes - one.size_bytes
        return above

    def in_order(self, held: Iterable[T]) -> Iterator[tuple[T, float]]:
        """Yield the items in the order in which they go, with the level of their prefix.

        The prefix that takes most of the store comes first; of its items, those with the least `worth`.
        """
        groups: dict[str, list[T]] = {}
        for one in held:
            groups.setdefault(one.prefix, []).append(one)
        taken = {
            prefix: Usage(used.count, used.size_bytes) for prefix, used in self.by_prefix.items() if prefix in groups
        }
        # Among equals the number keeps the order of `groups`, so that the same history has the same end.
        heap = [
            (-self._part(taken[prefix].count, taken[prefix].size_bytes), n, prefix) for n, prefix in enumerate(groups)
        ]
        heapq.heapify(heap)
        sorted_groups: dict[str, list[T]] = {}
        while heap:
            level, number, prefix = heap[0]
            group = sorted_groups.get(prefix)
            if group is None:
                group = sorted_groups[prefix] = sorted(groups[prefix], key=lambda one: one.worth, reverse=True)
            one = group.pop()
            yield one, -level
            taken[prefix].add(-1, -one.size_bytes)
            if group:
                heapq.heapreplace(heap, (-self._part(taken[prefix].count, taken[prefix].size_bytes), number, prefix))
            else:
                heapq.heappop(heap)
