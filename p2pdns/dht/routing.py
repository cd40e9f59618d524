"""Node ids, XOR distance, contacts with their round-trip times, buckets, and the routing table.

Guarantees: `RoutingTable.closest` is exact (equal to sorting every contact); the table holds only contacts that
answered us, one id an address and one address an id; a contact leaves only after repeated silence or for one that
is measurably better, and never more than half of a bucket for the latter. Does not know the clock (`now` is an
argument), sockets, or what a look-up does. The buckets are those of the `kademlia` package, with everything
replaced that reads a clock or promotes strangers.
"""

from __future__ import annotations

import ipaddress
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

from kademlia.routing import KBucket

from p2pdns.addresses import Address, AddressClass, class_of
from p2pdns.dht import krpc

ID_BYTES = 20
ID_BITS = 160
K = 20  # Copies of an item and width of a look-up: 20 replicas survive a day of churn, 10 do not always.
REPLACEMENTS_MAX = 20  # A bucket's worth of contacts that answered and found no room.
FAILURES_MAX = 3  # Look-ups in a row that a contact left unanswered before it goes; one lost burst is not a death.
RTT_GAIN_MIN = 0.5  # A newcomer must be twice as fast to push a contact out; less would churn on noise.
LOST_MAX = 64  # Contacts gone for silence that are tried again now and then: after a partition they are the way back.
RTT_SAMPLES_MIN = 2  # One sample says nothing about variance, and the first often holds a start-up's stall.
SPARSE_CONTACTS_MAX = 40  # Below this many contacts the table is too small to estimate a density from.
HOSTS_REMEMBERED_MAX = 4_096  # Hosts whose reach is remembered: a full table and its guests.
_CRC32C_POLYNOMIAL = 0x82F63B78
_BEP42_MASK_V4 = 0x030F3FFF
_BEP42_MASK_V6 = 0x0103070F1F3F7FFF


def distance(one: bytes, other: bytes) -> int:
    """Return the XOR distance of two ids.

    >>> distance(bytes(20), bytes(19) + b"\\x05")
    5
    """
    return int.from_bytes(one) ^ int.from_bytes(other)


# BEP 42


def _crc32c_table() -> tuple[int, ...]:
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (_CRC32C_POLYNOMIAL if byte & 1 else 0)
        table.append(byte)
    return tuple(table)


_CRC32C = _crc32c_table()


def crc32c(data: bytes) -> int:
    """Return the CRC-32C (Castagnoli) of `data`.

    >>> hex(crc32c(b"123456789"))
    '0xe3069283'
    """
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ _CRC32C[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


@lru_cache(maxsize=HOSTS_REMEMBERED_MAX)
def _bep42_crc(host: str, random_byte: int) -> int:
    packed = ipaddress.ip_address(host.partition("%")[0]).packed
    if len(packed) == 4:
        number = int.from_bytes(packed) & _BEP42_MASK_V4 | (random_byte & 7) << 29
        return crc32c(number.to_bytes(4))
    number = int.from_bytes(packed[:8]) & _BEP42_MASK_V6 | (random_byte & 7) << 61
    return crc32c(number.to_bytes(8))


def id_for(host: str, random_bytes: bytes) -> bytes:
    """Return a node id that BEP 42 allows at `host`, made of 20 random bytes."""
    if class_of(host) is not AddressClass.PUBLIC:
        # Exempt, and better so: the rule would crowd all nodes of one host into eight spots of the id space.
        return random_bytes
    crc = _bep42_crc(host, random_bytes[19] & 7)
    head = (crc >> 8).to_bytes(3)
    return head[:2] + bytes([head[2] & 0xF8 | random_bytes[2] & 0x07]) + random_bytes[3:]


def is_id_allowed(node_id: bytes, host: str) -> bool:
    """Return whether BEP 42 allows `node_id` at `host`; addresses that are not public are exempt."""
    if class_of(host) is not AddressClass.PUBLIC:
        return True
    return int.from_bytes(node_id[:3]) >> 3 == _bep42_crc(host, node_id[19] & 7) >> 11


# Who may be told of whom

_REACH = {
    AddressClass.PUBLIC: 0,
    AddressClass.PRIVATE: 1,
    AddressClass.LINK_LOCAL: 2,
    AddressClass.LOOPBACK: 3,
}


@lru_cache(maxsize=HOSTS_REMEMBERED_MAX)
def reach_of(host: str) -> int | None:
    """Return how narrow the space is in which `host` means something: 0 for everywhere, None for nowhere."""
    return _REACH.get(class_of(host))


def is_for(host: str, peer_host: str) -> bool:
    """Return whether a contact at `host` may be learnt from, or told to, a peer at `peer_host`.

    Public contacts are everybody's. A private one means something in private space only, a loopback one on its own
    machine only; told from elsewhere it would make us send to our own network on a stranger's word.
    """
    return is_within(reach_of(host), reach_of(peer_host))


def is_within(reach: int | None, peer_reach: int | None) -> bool:
    """Return the same for the two reaches."""
    if not reach:
        return reach == 0
    return peer_reach == 3 if reach == 3 else bool(peer_reach)


# Contacts


class SavedContact(NamedTuple):
    """A contact as it survives a restart; `rtt_ms` is None when unmeasured, `known_s` is how long it was known."""

    node_id: bytes
    address: Address
    rtt_ms: float | None = None
    known_s: float = 0.0


class Contact:
    """What we know of another node. `id` and `long_id` are the names that the buckets go by."""

    __slots__ = (
        "address",
        "answered_at",
        "failures",
        "first_at",
        "id",
        "is_allowed",
        "long_id",
        "reach",
        "rtt_count",
        "rttvar",
        "srtt",
        "wire",
    )

    def __init__(self, wire: krpc.Contact, now: float) -> None:
        self.wire = wire
        self.id = wire.node_id
        self.long_id = int.from_bytes(wire.node_id)
        self.address = wire.address
        self.srtt: float | None = None
        self.rttvar = 0.0
        self.rtt_count = 0
        self.failures = 0
        self.first_at = now
        self.answered_at = now
        self.reach = reach_of(wire.address[0])
        self.is_allowed = is_id_allowed(wire.node_id, wire.address[0])

    def __eq__(self, other: object) -> bool:
        """Contacts are the same when id and address are."""
        return isinstance(other, Contact) and self.wire == other.wire

    def __hash__(self) -> int:
        """Return a hash over id and address."""
        return hash(self.wire)

    def __repr__(self) -> str:
        """Return id and address, for test output."""
        return f"Contact({self.id.hex()}, {self.address[0]}:{self.address[1]})"

    def answered(self, rtt: float | None, now: float) -> None:
        """Note an answer, and its round-trip time where one was measured (RFC 6298, without its floor)."""
        self.failures = 0
        self.answered_at = now
        if rtt is None:
            return
        self.rtt_count += 1
        if self.srtt is None:
            self.srtt = rtt
            self.rttvar = rtt / 2
        else:
            self.rttvar += (abs(self.srtt - rtt) - self.rttvar) / 4
            self.srtt += (rtt - self.srtt) / 8

    @property
    def timeout(self) -> float | None:
        """The time after which an answer is late, None while too little was measured; bounds are the asker's."""
        return self.srtt + 4 * self.rttvar if self.srtt is not None and self.rtt_count >= RTT_SAMPLES_MIN else None


def _rank(contact: Contact) -> tuple[int, bool, float]:
    """Return a key that sorts the better contact first: reliable, allowed by BEP 42, near in time."""
    return contact.failures, not contact.is_allowed, contact.srtt if contact.srtt is not None else float("inf")


class Bucket(KBucket):
    """The contacts in one range of ids, and those that would like to be among them."""

    def __init__(self, lower: int, upper: int, size: int, now: float) -> None:
        # The stock constructor calls touch_last_updated without a time; the time must be there first.
        self.last_updated = now
        self.lower = lower
        self.forgotten: list[Contact] = []
        super().__init__(lower, upper, size)
        self.max_replacement_nodes = REPLACEMENTS_MAX

    def touch_last_updated(self, now: float | None = None) -> None:
        """Note that the range was looked up at `now`."""
        if now is not None:
            self.last_updated = now

    def contacts(self) -> list[Contact]:
        """Return the contacts of the bucket, oldest entry first."""
        return list(self.nodes.values())

    def split(self) -> tuple[Bucket, Bucket]:
        """Return the lower and the upper half with everything that was in here."""
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
        worst = max(members, key=_rank)
        if (worst.failures, not worst.is_allowed) > (newcomer.failures, not newcomer.is_allowed):
            return worst
        # The older half stays whatever its round-trip time: else whoever sits close to us could take the whole bucket.
        younger = sorted(members, key=lambda member: member.first_at)[len(members) // 2 :]
        slowest = max(younger, key=lambda member: member.srtt or 0.0)
        if newcomer.srtt is None or slowest.srtt is None or newcomer.failures or not newcomer.is_allowed:
            return None
        return slowest if newcomer.srtt < RTT_GAIN_MIN * slowest.srtt else None

    def keep_as_replacement(self, contact: Contact) -> None:
        """Keep a contact for when there is room; who goes for it is put on `forgotten`."""
        self.replacement_nodes.pop(contact.id, None)
        self.replacement_nodes[contact.id] = contact
        while len(self.replacement_nodes) > self.max_replacement_nodes:
            # Of contacts that all answered once, the one heard from longest ago is the likeliest to be gone.
            oldest = min(self.replacement_nodes.values(), key=lambda spare: (-spare.failures, spare.answered_at))
            self.forgotten.append(self.replacement_nodes.pop(oldest.id))

    def remove_node(self, contact: Contact) -> None:
        """Drop a contact; the best of the replacements takes its place (stock: the newest, whoever that is)."""
        self.replacement_nodes.pop(contact.id, None)
        if self.nodes.pop(contact.id, None) is not None and self.replacement_nodes:
            best = min(self.replacement_nodes.values(), key=_rank)
            del self.replacement_nodes[best.id]
            self.nodes[best.id] = best

    @property
    def is_full(self) -> bool:
        """Whether the next contact needs a split, a replacement, or to wait."""
        return len(self.nodes) >= self.ksize


class RoutingTable:
    """The contacts of one node: dense near its own id, thinner with distance.

    `far_sizes` enlarges the farthest buckets, farthest first (128, 64, 32 cost upkeep and save a hop).
    """

    def __init__(self, own_id: bytes, now: float, *, size: int = K, far_sizes: Sequence[int] = ()) -> None:
        self.own_id = own_id
        self._own_number = int.from_bytes(own_id)
        self._size = size
        self._far_sizes = tuple(far_sizes)
        self.buckets = [Bucket(0, 2**ID_BITS - 1, self._size_at(0), now)]
        self._by_address: dict[Address, Contact] = {}
        self.lost: deque[Address] = deque(maxlen=LOST_MAX)

    def __len__(self) -> int:
        """Return the number of contacts, replacements left out."""
        return sum(len(bucket.nodes) for bucket in self.buckets)

    def __iter__(self) -> Iterator[Contact]:
        """Yield every contact, replacements left out."""
        for bucket in self.buckets:
            yield from bucket.contacts()

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

    def get(self, wire: krpc.Contact) -> Contact | None:
        """Return what is known of a contact, replacements included; None for an unknown one or another address."""
        contact = self._by_address.get(wire.address)
        return contact if contact is not None and contact.id == wire.node_id else None

    def has_address(self, address: Address) -> bool:
        """Return whether some contact at this address is known."""
        return address in self._by_address

    def wants(self, node_id: bytes, address: Address) -> bool:
        """Return whether there would be room for this contact if it answered, so that asking it is worth a datagram."""
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

    def answered(self, wire: krpc.Contact, rtt: float | None, now: float, *, known_s: float = 0.0) -> Contact | None:
        """Note that a contact answered us, and take it in; None when it is not to be known.

        Who says it has the id or the address of another contact waits until that one has failed to answer.
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
        contact = Contact(wire, now - known_s)
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
        table.lost.extend(self.lost)
        # Members first, so that replacements stay what they were where there is no room for all.
        spare = [contact for bucket in self.buckets for contact in bucket.replacement_nodes.values()]
        for contact in (*self, *spare):
            if contact.id != own_id:
                table._add(contact, now)
        return table

    def failed(self, wire: krpc.Contact) -> None:
        """Note that a contact left a request and its retransmit unanswered; repeated silence ends its stay."""
        contact = self.get(wire)
        if contact is not None:
            contact.failures += 1
            if contact.failures >= FAILURES_MAX:
                self._drop(contact)
                self.lost.append(contact.address)

    def _drop(self, contact: Contact) -> None:
        self.bucket_of(contact.id).remove_node(contact)
        self._by_address.pop(contact.address, None)

    def closest(self, target: bytes, count: int = K, *, is_reliable: bool = False) -> list[Contact]:
        """Return the `count` contacts nearest to `target`, nearest first; exact.

        `is_reliable` leaves out those whose last request went unanswered.
        """
        number = int.from_bytes(target)
        found: list[Contact] = []
        # A bucket is a subtree of the id space: everything in one is nearer than everything in another, so whole
        # buckets come in the order of their nearest possible id. Going to and fro beside the target's own is wrong.
        for bucket in sorted(self.buckets, key=lambda bucket: _gap(bucket.range, number)):
            members: Iterable[Contact] = bucket.nodes.values()
            if is_reliable:
                members = [contact for contact in members if not contact.failures]
            found += sorted(members, key=lambda contact: contact.long_id ^ number)
            if len(found) >= count:
                break
        return found[:count]

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
        """Note that a look-up went through the bucket of `target`; our own may be wide, and it saw one place there."""
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


def _gap(bounds: tuple[int, int], number: int) -> int:
    """Return the smallest XOR distance from `number` to any id in a bucket's range."""
    lower, upper = bounds
    # The range is a subtree: its low bits are free, so only the bits above them count.
    free = (lower ^ upper).bit_length()
    return (lower ^ number) >> free << free


def random_id_in(bucket: Bucket, random_bytes: bytes) -> bytes:
    """Return an id in a bucket's range, made of 20 random bytes."""
    lower, upper = bucket.range
    free = (lower ^ upper).bit_length()
    return bytes((lower | int.from_bytes(random_bytes) & (1 << free) - 1).to_bytes(ID_BYTES))
