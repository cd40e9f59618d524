"""How many shards a directory has: the number of bits, with hysteresis.

Guarantees: the same cells, epoch and former bits give the same bits. Does not know the records in a cell.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from p2pdns.dns.name import Name
from p2pdns.items.shards.directory import BITS_MAX, index_of
from p2pdns.items.shards.values import HEAD_BYTES

# Beyond these the shards are doubled, which puts all of them anew: then the mean is 40 %, and far from either bound.
MEAN_FULL_MAX, IN_PARTS_MAX = 0.8, 0.2
# Half as many are enough if they would still be below these.
HALVED_FULL_MAX, HALVED_IN_PARTS_MAX = 0.6, 0.1


@dataclass(frozen=True, slots=True)
class Load:
    """The sizes of the cells below a directory, and what a shard has beside them."""

    owner: Name
    epoch: int
    cells: Mapping[bytes, int]
    base_bytes: int
    value_bytes_max: int
    # The index of each cell among the most shards. Its first bits are the index among fewer, so a cell is hashed once.
    finest: Mapping[bytes, int] = field(init=False)

    def __post_init__(self) -> None:
        finest = {cell: index_of(self.owner, self.epoch, BITS_MAX, cell) for cell in self.cells}
        object.__setattr__(self, "finest", finest)

    def index_of(self, cell: bytes, bits: int) -> int:
        """Return which of 2^bits shards a cell is in."""
        return self.finest[cell] >> (BITS_MAX - bits)

    def shards(self, bits: int) -> list[list[bytes]]:
        """Return the cells of each of 2^bits shards."""
        found: list[list[bytes]] = [[] for _ in range(1 << bits)]
        for cell, index in self.finest.items():
            found[index >> (BITS_MAX - bits)].append(cell)
        return found

    def shard_bytes(self, cells: list[bytes]) -> int:
        """Return the size of the message of a shard with these cells."""
        return self.base_bytes + sum(self.cells[cell] for cell in cells)

    def holds(self, bits: int, full_max: float, in_parts_max: float) -> bool:
        """Return whether 2^bits shards are no fuller than that, and no more of them in parts."""
        full_bytes = full_max * self.value_bytes_max
        total, in_parts = 0.0, 0
        shards = self.shards(bits)
        for cells in shards:
            size = HEAD_BYTES + self.shard_bytes(cells)
            # A large cell alone in its shard is in parts, whatever the count of shards is.
            total += size if len(cells) > 1 else min(size, full_bytes)
            in_parts += len(cells) > 1 and size > self.value_bytes_max
        return total <= full_bytes * len(shards) and in_parts <= in_parts_max * len(shards)


def bits_for(load: Load, former: int | None) -> int:
    """Return the bits for a load, given those of the former division."""
    if former is not None and load.holds(former, MEAN_FULL_MAX, IN_PARTS_MAX):
        if former == 0 or not load.holds(former - 1, HALVED_FULL_MAX, HALVED_IN_PARTS_MAX):
            return former
        return _fewest(load, HALVED_FULL_MAX, HALVED_IN_PARTS_MAX)
    return _fewest(load, MEAN_FULL_MAX, IN_PARTS_MAX)


def _fewest(load: Load, full_max: float, in_parts_max: float) -> int:
    # More shards than cells divide nothing more: twice as many leave two cells apart in most cases.
    most = min(BITS_MAX, max(0, 2 * len(load.cells) - 1).bit_length())
    return next((bits for bits in range(most) if load.holds(bits, full_max, in_parts_max)), most)
