"""The first refresh of all buckets: by these searches a node that has joined knows more than its own neighbourhood.

A table has room for some contacts of each *part* of the id space: part 0 is the far half of it, part 1 the far half of
the near half, and so on. A search for our own id meets few contacts of most parts; in an overlay of fifty that may be
a quarter of all. So each part is searched, the far ones first, at places as far from each other as may be, until it is
full or a search finds no new contact there. At the end comes our own id again, because the contacts found on the way
may know of nearer ones.

Guarantees: at most `SEARCHES_MAX` searches, one at a time, whatever strangers tell. Does not know how a search goes,
nor how a table stays full later (`bootstrap` does).
"""

from __future__ import annotations

from collections.abc import Callable

from p2pdns.dht.lookup.verdict import Verdict
from p2pdns.dht.node.core import CONTACTS_IN_REPLY, Core
from p2pdns.dht.routing.ids import ID_BITS, ID_BYTES

# The public network has about 20 parts with contacts in them, and far buckets of 128, 64 and 32 take ten searches more.
SEARCHES_MAX = 32
PLACE_BITS = 5  # So many places in a part are told apart; no part is searched more often.


class BucketRefresh:
    """The parts left to search. `find(target, on_done, now)` starts a search and calls `on_done` at its end."""

    def __init__(self, core: Core, find: Callable[[bytes, Callable[[Verdict, float], None], float], None]) -> None:
        self._core = core
        self._find = find
        self._is_running = False
        self._left = 0
        self._part = 0
        self._tried_count = 0
        self._known_count = 0

    def begin(self, now: float) -> None:
        """Search all parts; if that is under way already, begin again with the farthest."""
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
            bucket = core.table.bucket_of(target)
            if core.table.is_own(bucket) or not bucket.is_full:
                self._left -= 1
                self._tried_count += 1
                self._find(target, self._searched, now)
                return
            self._take(self._part + 1)
        self._is_running = False
        self._find(core.node_id, lambda verdict, then: None, now)

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
