"""Addresses that a hostile party has or makes up, and the ids that BEP 42 allows at them.

Guarantees: no address is that of an honest machine of a world, and none that is made up belongs to anybody; the same
draws give the same addresses. Does not know what is done at an address.
"""

from __future__ import annotations

import random
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from p2pdns.addresses import prefix_of
from p2pdns.dht.routing.ids import ID_BITS, ID_BYTES, id_for

# Public space that no block of special use reaches into, beside the `FIRST_OCTETS` of a world's own machines.
HOSTILE_OCTETS = range(128, 169)
INVENTED_OCTETS = range(173, 192)
HEAD_BITS = 21  # BEP 42 fixes so many bits of an id by the address, and one of eight choices.
CHOICES = 8


class AllowedHead(NamedTuple):
    """The first bits of the ids that BEP 42 allows at a host whose last three bits are `choice`."""

    head: int
    host: str
    choice: int

    def id_like(self, wanted: bytes) -> bytes:
        """Return the allowed id that has as much of `wanted` as it can."""
        return id_for(self.host, wanted[:-1] + bytes([wanted[-1] & ~(CHOICES - 1) | self.choice]))


def drawn_hosts(draws: random.Random, octets: range, prefix_count: int, per_prefix: int) -> list[str]:
    """Return addresses in so many blocks of 256, a few in each."""
    blocks = draws.sample(range(len(octets) << 16), prefix_count)
    heads = [f"{octets[block >> 16]}.{block >> 8 & 0xFF}.{block & 0xFF}" for block in blocks]
    return [f"{head}.{last}" for head in heads for last in sorted(draws.sample(range(1, 255), per_prefix))]


class Estate:
    """The hosts of one party, and all ids that it may have there."""

    def __init__(self, hosts: Iterable[str]) -> None:
        heads = [
            (host, choice, id_for(host, bytes(ID_BYTES - 1) + bytes([choice])))
            for host in hosts
            for choice in range(CHOICES)
        ]
        self._allowed = sorted(
            AllowedHead(int.from_bytes(node_id) >> ID_BITS - HEAD_BITS, host, choice) for host, choice, node_id in heads
        )

    def __len__(self) -> int:
        return len(self._allowed)

    def nearest(self, target: bytes, count: int) -> list[AllowedHead]:
        """Return where the `count` ids nearest to a target are allowed, or all, nearest first."""
        head = head_of(target)
        near: Sequence[AllowedHead] = ()
        for bits in range(HEAD_BITS, -1, -1):
            # All heads that have as many bits of the target are one run of the sorted ones.
            free = HEAD_BITS - bits
            first = head >> free << free
            near = self._allowed[self._index_of(first) : self._index_of(first + (1 << free))]
            if len(near) >= count:
                break
        return sorted(near, key=lambda one: (one.head ^ head, one))[:count]

    def _index_of(self, head: int) -> int:
        return bisect_left(self._allowed, (head,))


def head_of(node_id: bytes) -> int:
    """Return the bits of an id that BEP 42 fixes."""
    return int.from_bytes(node_id) >> ID_BITS - HEAD_BITS


def spread(allowed: Iterable[AllowedHead], count: int, *, of_host_max: int, of_prefix_max: int) -> list[AllowedHead]:
    """Return the first ones, with no more of one host or prefix than readers count."""
    taken: list[AllowedHead] = []
    of_place: Counter[str] = Counter()
    for one in allowed:
        prefix = prefix_of((one.host, 1))
        if of_place[one.host] < of_host_max and of_place[prefix] < of_prefix_max:
            of_place.update((one.host, prefix))
            taken.append(one)
            if len(taken) == count:
                break
    return taken
