"""A k-bucket: the contacts in one range of ids, and their replacements.

Guarantees: a contact leaves only for one that is better in rank, or measurably faster, and of the latter kind never
more than half of a bucket. It is the bucket of the `kademlia` package without the methods that read a clock or promote
strangers. Does not know the other buckets.
"""

from __future__ import annotations

from kademlia.routing import KBucket

from p2pdns.dht.routing.contact import Contact, rank
from p2pdns.dht.routing.ids import ID_BYTES

REPLACEMENTS_MAX = 20  # A bucket's worth of contacts that answered and found no room.
RTT_GAIN_MIN = 0.5  # A newcomer must be twice as fast to push a contact out; less would churn on noise.


class Bucket(KBucket):
    """The contacts in one range of ids, and the replacements, which answered and found no room."""

    def __init__(self, lower: int, upper: int, size: int, now: float) -> None:
        # The stock constructor calls touch_last_updated without a time; the time must be there first.
        self.last_updated = now
        self.lower = lower
        # The range is a subtree: its low bits are free. Masked by this, the XOR of an id and `lower` is the smallest
        # distance from the id to any id in the range.
        self.mask = -1 << (lower ^ upper).bit_length()
        self.forgotten: list[Contact] = []
        super().__init__(lower, upper, size)
        # Plain ones keep the order of entry as well, in half of the memory.
        self.nodes: dict[bytes, Contact] = {}
        self.replacement_nodes: dict[bytes, Contact] = {}
        self.max_replacement_nodes = REPLACEMENTS_MAX

    def touch_last_updated(self, now: float | None = None) -> None:
        """Note that the range was looked up at `now`."""
        if now is not None:
            self.last_updated = now

    def contacts(self) -> list[Contact]:
        """Return the contacts of the bucket, oldest entry first."""
        return list(self.nodes.values())

    def split(self) -> tuple[Bucket, Bucket]:
        """Return the lower and the upper half with all contacts and replacements."""
        (lower, upper), now, size = self.range, self.last_updated, self.ksize
        middle = (lower + upper) // 2
        halves = (Bucket(lower, middle, size, now), Bucket(middle + 1, upper, size, now))
        for kept in (self.nodes, self.replacement_nodes):
            for contact in kept.values():
                halves[contact.long_id > middle].add_node(contact)
        return halves

    def add_node(self, contact: Contact) -> bool:
        """Take in a contact that answered; return False when it is among the replacements only."""
        if contact.id in self.nodes or len(self.nodes) < self.ksize:
            self.replacement_nodes.pop(contact.id, None)
            self.nodes[contact.id] = contact
            return True
        worst = self._replaceable(contact)
        if worst is not None:
            del self.nodes[worst.id]
            self.nodes[contact.id] = contact
            contact = worst
        self.keep_as_replacement(contact)
        return worst is not None

    def _replaceable(self, newcomer: Contact) -> Contact | None:
        members = self.contacts()
        worst = max(members, key=rank)
        if (worst.failures, not worst.is_allowed) > (newcomer.failures, not newcomer.is_allowed):
            return worst
        # The older half stays whatever its round-trip time, or an attacker close to us could take the whole bucket.
        younger = sorted(members, key=lambda member: member.first_at)[len(members) // 2 :]
        slowest = max(younger, key=lambda member: member.srtt or 0.0)
        if newcomer.srtt is None or slowest.srtt is None or newcomer.failures or not newcomer.is_allowed:
            return None
        return slowest if newcomer.srtt < RTT_GAIN_MIN * slowest.srtt else None

    def keep_as_replacement(self, contact: Contact) -> None:
        """Keep a contact for when there is room; the one that goes for it is put on `forgotten`."""
        self.replacement_nodes.pop(contact.id, None)
        self.replacement_nodes[contact.id] = contact
        while len(self.replacement_nodes) > self.max_replacement_nodes:
            # Of contacts that all answered once, the one heard from longest ago is the likeliest to be gone.
            oldest = min(self.replacement_nodes.values(), key=lambda spare: (-spare.failures, spare.answered_at))
            self.forgotten.append(self.replacement_nodes.pop(oldest.id))

    def remove_node(self, contact: Contact) -> None:
        """Drop a contact; the best of the replacements takes its place (in `kademlia` the newest)."""
        self.replacement_nodes.pop(contact.id, None)
        if self.nodes.pop(contact.id, None) is not None and self.replacement_nodes:
            best = min(self.replacement_nodes.values(), key=rank)
            del self.replacement_nodes[best.id]
            self.nodes[best.id] = best

    @property
    def is_full(self) -> bool:
        return len(self.nodes) >= self.ksize


def random_id_in(bucket: Bucket, random_bytes: bytes) -> bytes:
    """Return an id in a bucket's range, made of 20 random bytes."""
    lower, upper = bucket.range
    free = (lower ^ upper).bit_length()
    return bytes((lower | int.from_bytes(random_bytes) & (1 << free) - 1).to_bytes(ID_BYTES))
