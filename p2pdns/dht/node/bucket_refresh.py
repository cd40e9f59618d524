"""The first refresh of the buckets: by these searches a node that has joined knows more than its own neighbourhood.

A table has room for some contacts of each *part* of the id space: part 0 is the far half of it, part 1 the far half of
the near half, and so on. A search for our own id meets few contacts of most parts; in an overlay of fifty that may be
a quarter of all. So each part is searched, the far ones first, at places as far from each other as may be, until we
know enough contacts there or a search finds no new one. At the end comes our own id again, but only those are asked
that were not asked before: the contacts found on the way may know of nearer ones.

What is *enough* depends on the size of the overlay. In a small one we know all that the table has room for. In a large
one that would be most of the datagrams of a join, and would hardly make look-ups quicker: with eight contacts of each
part, a first item costs a thousand nodes as many requests as with twenty. The rest comes with look-ups and refreshes.

Guarantees: at most `SEARCHES_MAX` searches, one at a time, whatever strangers tell. Does not know how a search goes,
nor how a table stays fresh later (`bootstrap` does).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from functools import partial
from typing import Protocol, TypeAlias

from p2pdns.addresses import Address
from p2pdns.dht import krpc
from p2pdns.dht.lookup.verdict import Verdict
from p2pdns.dht.node.core import CONTACTS_IN_REPLY, Core
from p2pdns.dht.routing.bucket import Bucket
from p2pdns.dht.routing.ids import ID_BITS, ID_BYTES

# The public network has about 20 parts with contacts in them, and far buckets of 128, 64 and 32 take ten searches more.
SEARCHES_MAX = 32
PLACE_BITS = 5  # So many places in a part are told apart; no part is searched more often.
ENOUGH = 8  # Contacts of a part in a large overlay, as many as BEP 5 has in a bucket; of ours, half.
LARGE_PARTS_MIN = 3  # Parts beyond our neighbourhood in a large overlay: it has 160 nodes or more.

OnDone: TypeAlias = Callable[[Verdict, float], None]


class Find(Protocol):
    """Starts a search for contacts near a target, from those of the table and `seeds`, which a peer has named."""

    def __call__(
        self,
        target: bytes,
        seeds: Iterable[krpc.NodeInfo],
        on_done: OnDone,
        now: float,
        *,
        rpc_max: int | None = None,
        source: Address | None = None,
        is_enough: Callable[[], bool] | None = None,
        asked_before: Collection[Address] = (),
    ) -> None:
        """Call `on_done` at the end of the search, which `is_enough` may bring early.

        `source` is the peer that has named the seeds. Who is `asked_before` has just told us what is near the target.
        """


class BucketRefresh:
    """The parts left to search."""

    def __init__(self, core: Core, find: Find) -> None:
        self._core = core
        self._find = find
        self._is_running = False
        self._left = 0
        self._part = 0
        self._tried_count = 0
        self._known_count = 0
        self._neighbours: frozenset[Address] = frozenset()

    def begin(self, now: float) -> None:
        """Search all parts, after a search for our own id; if that is under way already, begin with the farthest."""
        core = self._core
        self._neighbours = frozenset(one.address for one in core.table.closest(core.node_id, core.settings.k))
        self._left = SEARCHES_MAX
        self._take(0)
        if not self._is_running:
            self._is_running = True
            self._go_on(now)

    def _take(self, part: int) -> None:
        self._part = part
        self._tried_count = 0
        self._known_count = self._count(part)

    def _searched(self, verdict: Verdict, now: float) -> None:
        del verdict
        count = self._count(self._part)
        # One reply names every contact of a part that has fewer than a reply holds.
        if count > self._known_count and count >= self._core.contacts_in_reply:
            self._known_count = count
        else:
            self._take(self._part + 1)
        self._go_on(now)

    def _go_on(self, now: float) -> None:
        core = self._core
        while self._left > 1 and self._part <= self._last_part():
            target = self._place(self._tried_count)
            if not self._is_enough(target):
                self._left -= 1
                self._tried_count += 1
                self._find(target, (), self._searched, now, is_enough=partial(self._is_enough, target))
                return
            self._take(self._part + 1)
        self._is_running = False
        neighbours, self._neighbours = self._neighbours, frozenset()
        self._find(core.node_id, (), lambda verdict, then: None, now, asked_before=neighbours)

    def _is_enough(self, target: bytes) -> bool:
        """Return whether we know enough contacts of the part that a target is in; our own bucket is for all."""
        table = self._core.table
        bucket = table.bucket_of(target)
        return not table.is_own(bucket) and len(bucket.nodes) >= self._enough_in(bucket)

    def _enough_in(self, bucket: Bucket) -> int:
        core, k, size = self._core, self._core.settings.k, int(bucket.ksize)
        # Who has enlarged a bucket wants it filled.
        if size > k or len(core.table) < k:
            return size
        kth = core.table.closest(core.node_id, k)[-1]
        return min(size, ENOUGH) if self._part_of(kth.long_id) >= LARGE_PARTS_MIN else size

    def _last_part(self) -> int:
        """Return the part of the last contact that any search for our own id finds: nearer parts are known."""
        # As many contacts as a reply names; the nearest may not know those a little farther away.
        core = self._core
        count = core.contacts_in_reply if len(core.table) >= core.contacts_in_reply else CONTACTS_IN_REPLY
        nearest = core.table.closest(core.node_id, count)
        return self._part_of(nearest[-1].long_id) if len(nearest) == count else 0

    def _part_of(self, number: int) -> int:
        return ID_BITS - (number ^ int.from_bytes(self._core.node_id)).bit_length()

    def _count(self, part: int) -> int:
        """Return how many contacts of a part we know of."""
        return sum(self._part_of(contact.long_id) == part for contact in self._core.table)

    def _place(self, turn: int) -> bytes:
        """Return a random id in the part that is searched: halves of it in turn, then quarters, and so on."""
        free = ID_BITS - 1 - self._part
        place = int.from_bytes(self._core.entropy(ID_BYTES)) & (1 << free) - 1
        if free >= PLACE_BITS:
            turned = int(f"{turn % (1 << PLACE_BITS):0{PLACE_BITS}b}"[::-1], 2)
            place = place & (1 << free - PLACE_BITS) - 1 | turned << free - PLACE_BITS
        own = int.from_bytes(self._core.node_id)
        return (((own >> free) ^ 1) << free | place).to_bytes(ID_BYTES)
