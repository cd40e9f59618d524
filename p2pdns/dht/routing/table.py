"""The routing table of one node: its contacts in buckets, dense near its own id and thinner with distance.

Guarantees: `RoutingTable.closest` is exact (equal to sorting every contact); the table holds only contacts that
answered us, one id an address and one address an id; a contact leaves only after repeated silence or for a better one.
Does not know the clock (`now` is an argument), sockets, or what a look-up does.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain

from p2pdns.addresses import Address
from p2pdns.dht import krpc
from p2pdns.dht.routing.bucket import Bucket
from p2pdns.dht.routing.contact import Contact, SavedContact
from p2pdns.dht.routing.ids import ID_BITS

K = 20  # Copies of an item and width of a look-up: 20 replicas survive a day of churn, 10 do not always.
FAILURES_MAX = 3  # Look-ups in a row that a contact left unanswered before it goes; one lost burst is not a death.
LOST_MAX = 64  # Contacts dropped for silence that are tried again: after a partition they are the way back.
SPARSE_CONTACTS_MAX = 40  # Below this many contacts the table is too small to estimate a density from.


class RoutingTable:
    """The contacts of one node. Its length and its iteration leave replacements out.

    `far_sizes` enlarges the farthest buckets, farthest first (128, 64, 32 cost upkeep and save a hop).
    """

    def __init__(self, own_id: bytes, now: float, *, size: int = K, far_sizes: Sequence[int] = ()) -> None:
        self.own_id = own_id
        self._own_number = int.from_bytes(own_id)
        self._size = size
        self._far_sizes = tuple(far_sizes)
        self.buckets = [Bucket(0, 2**ID_BITS - 1, self._size_at(0), now)]
        self._by_address: dict[Address, Contact] = {}
        self.lost: list[Address] = []  # Latest last.

    def __len__(self) -> int:
        return sum(len(bucket.nodes) for bucket in self.buckets)

    def __iter__(self) -> Iterator[Contact]:
        return chain.from_iterable([bucket.nodes.values() for bucket in self.buckets])

    def _size_at(self, depth: int) -> int:
        return self._far_sizes[depth] if depth < len(self._far_sizes) else self._size

    def _index_of(self, number: int) -> int:
        # Only the bucket round our own id is ever split, so there are few, and most contacts are far.
        low, high = 0, len(self.buckets) - 1
        while low < high:
            middle = (low + high + 1) // 2
            if self.buckets[middle].lower <= number:
                low = middle
            else:
                high = middle - 1
        return low

    def bucket_of(self, node_id: bytes) -> Bucket:
        """Return the bucket that an id falls into."""
        return self.buckets[self._index_of(int.from_bytes(node_id))]

    def get(self, wire: krpc.NodeInfo) -> Contact | None:
        """Return a contact, replacements included; None if the id is unknown or has another address."""
        return self.contact_at(wire.address, wire.node_id)

    def contact_at(self, address: Address, node_id: bytes) -> Contact | None:
        """As `get`, where no value was made of the two."""
        contact = self._by_address.get(address)
        return contact if contact is not None and contact.id == node_id else None

    def has_address(self, address: Address) -> bool:
        """Return whether some contact at this address is known."""
        return address in self._by_address

    def wants(self, node_id: bytes, address: Address) -> bool:
        """Return whether there would be room for this contact if it answered, so that it is worth a ping."""
        if node_id == self.own_id or address in self._by_address:
            return False
        bucket = self.bucket_of(node_id)
        if node_id in bucket.nodes or node_id in bucket.replacement_nodes:
            return False
        return not bucket.is_full or self.is_own(bucket) or any(c.failures for c in bucket.nodes.values())

    def is_own(self, bucket: Bucket) -> bool:
        """Return whether our own id lies in a bucket's range."""
        lower, upper = bucket.range
        return bool(lower <= self._own_number <= upper)

    def answered(self, wire: krpc.NodeInfo, rtt: float | None, now: float) -> Contact | None:
        """Note that a contact answered us, and take it in; None when it is refused.

        A node with the id or the address of another contact is refused until that one has failed to answer.
        """
        if wire.node_id == self.own_id:
            return None
        contact = self._by_address.get(wire.address)
        if contact is not None:
            if contact.id == wire.node_id:
                contact.answered(rtt, now)
                return contact
            if not contact.failures:
                return None
            self._drop(contact)
        bucket = self.bucket_of(wire.node_id)
        holder = bucket.nodes.get(wire.node_id) or bucket.replacement_nodes.get(wire.node_id)
        if holder is not None:
            if not holder.failures:
                return None
            self._drop(holder)
        contact = Contact(wire, now)
        contact.answered(rtt, now)
        self._add(contact, now)
        return contact

    def _add(self, contact: Contact, now: float) -> None:
        bucket = self.bucket_of(contact.id)
        while bucket.is_full and self.is_own(bucket) and bucket.range[0] != bucket.range[1]:
            self._split(bucket, now)
            bucket = self.bucket_of(contact.id)
        self._by_address[contact.address] = contact
        bucket.add_node(contact)
        self._forget(bucket)

    def _forget(self, bucket: Bucket) -> None:
        for contact in bucket.forgotten:
            del self._by_address[contact.address]
        bucket.forgotten.clear()

    def _split(self, bucket: Bucket, now: float) -> None:
        index = self.buckets.index(bucket)
        depth = len(self.buckets) - 1
        halves = bucket.split()
        for half in halves:
            half.ksize = self._size_at(depth + 1 if self.is_own(half) else depth)
        self.buckets[index : index + 1] = halves
        for half in halves:
            # A smaller size may leave one too many, which waits among the replacements or splits on.
            while len(half.nodes) > half.ksize:
                half.keep_as_replacement(half.nodes.popitem()[1])
            self._forget(half)

    def moved_to(self, own_id: bytes, now: float) -> RoutingTable:
        """Return a table round another id with the contacts of this one."""
        table = RoutingTable(own_id, now, size=self._size, far_sizes=self._far_sizes)
        table.lost = list(self.lost)
        # Members first, so that replacements stay what they were where there is no room for all.
        spare = [contact for bucket in self.buckets for contact in bucket.replacement_nodes.values()]
        for contact in (*self, *spare):
            if contact.id != own_id:
                table._add(contact, now)
        return table

    def failed(self, wire: krpc.NodeInfo) -> None:
        """Note that a contact left a request and its retransmit unanswered; repeated silence ends its stay."""
        contact = self.get(wire)
        if contact is not None:
            contact.failures += 1
            if contact.failures >= FAILURES_MAX:
                self._drop(contact)
                self.lost.append(contact.address)
                del self.lost[:-LOST_MAX]

    def _drop(self, contact: Contact) -> None:
        self.bucket_of(contact.id).remove_node(contact)
        self._by_address.pop(contact.address, None)

    def closest(self, target: bytes, count: int = K, *, is_reliable: bool = False) -> list[Contact]:
        """Return the `count` contacts nearest to `target`, nearest first; exact.

        `is_reliable` leaves out those whose last request went unanswered.
        """
        number = int.from_bytes(target)
        found: list[Contact] = []
        # A bucket is a subtree of the id space: all ids in one are nearer than all in another, so buckets come whole,
        # sorted by their nearest possible id, and not outward from the target's bucket.
        # No two buckets have one gap, so no two are compared.
        for _, bucket in sorted([((one.lower ^ number) & one.mask, one) for one in self.buckets]):
            members = bucket.nodes.values()
            # No two contacts have one id, so no two have one distance; to sort numbers is quicker than to call a key.
            if is_reliable:
                by_distance = {one.long_id ^ number: one for one in members if not one.failures}
            else:
                by_distance = {one.long_id ^ number: one for one in members}
            found += [by_distance[distance] for distance in sorted(by_distance)]
            if len(found) >= count:
                break
        return found[:count]

    def nearer_count(self, target: bytes, count: int) -> int:
        """Return how many of the `count` reliable contacts nearest to `target` are nearer to it than this node."""
        number = int.from_bytes(target)
        near = self.closest(target, count, is_reliable=True)
        return sum(contact.long_id ^ number < self._own_number ^ number for contact in near)

    def k_distance(self, k: int = K) -> int | None:
        """Return an estimate of how far the k-th nearest node is from a random target; None for a small table.

        The table is complete round our own id only. The j-th nearest of n nodes is about j/n of the space away, so a
        line through the origin is fitted to the distances of the k nearest (least squares).
        """
        if len(self) < SPARSE_CONTACTS_MAX:
            return None
        nearest = self.closest(self.own_id, k)
        weighted = sum(j * (contact.long_id ^ self._own_number) for j, contact in enumerate(nearest, 1))
        return k * weighted // sum(j * j for j in range(1, len(nearest) + 1))

    def touch(self, target: bytes, now: float) -> None:
        """Note that a look-up went through the bucket of `target`; our own is wide, and the look-up saw one place."""
        if not self.is_own(bucket := self.bucket_of(target)):
            bucket.touch_last_updated(now)

    def stale_buckets(self, now: float, age_s: float) -> list[Bucket]:
        """Return the buckets that were left alone for `age_s`."""
        return [bucket for bucket in self.buckets if now - bucket.last_updated >= age_s]

    def saved(self, now: float) -> list[SavedContact]:
        """Return the contacts to keep over a restart, best first: reliable ones, known longest, then fastest."""
        best = sorted(self, key=lambda c: (c.failures, c.first_at, c.srtt if c.srtt is not None else float("inf")))
        return [
            SavedContact(
                contact.id,
                contact.address,
                None if contact.srtt is None else round(contact.srtt * 1000, 3),
                round(max(0.0, now - contact.first_at), 3),
            )
            for contact in best
        ]
