"""A contact: the id and address of another node, when it answered, its round-trip time, how often it was silent.

Guarantees: reads no clock; the estimate of a round-trip time is that of RFC 6298 without its floor. Does not know its
bucket.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from p2pdns.addresses import Address
from p2pdns.dht import krpc
from p2pdns.dht.routing.ids import is_id_allowed
from p2pdns.dht.routing.reach import reach_of
from p2pdns.remembered import remembered

CONTACTS_REMEMBERED_MAX = 4_096  # Contacts whose facts are kept: a full table and the replies of some look-ups.
RTT_SAMPLES_MIN = 2  # One sample says nothing about variance, and the first often holds a start-up's stall.


class SavedContact(NamedTuple):
    """A contact as it survives a restart; `rtt_ms` is None when unmeasured, `known_s` is how long it was known."""

    node_id: bytes
    address: Address
    rtt_ms: float | None = None
    known_s: float = 0.0


class _Facts(NamedTuple):
    """What follows from a contact's id and address alone."""

    wire: krpc.NodeInfo
    long_id: int
    reach: int | None
    is_allowed: bool


@remembered(CONTACTS_REMEMBERED_MAX)
def _facts_of(wire: krpc.NodeInfo) -> _Facts:
    host = wire.address[0]
    return _Facts(wire, int.from_bytes(wire.node_id), reach_of(host), is_id_allowed(wire.node_id, host))


@dataclass(slots=True, eq=False)
class Contact:
    """What we know of another node. The buckets of `kademlia` read `id` and `long_id`."""

    wire: krpc.NodeInfo
    first_at: float
    id: bytes = field(init=False)
    long_id: int = field(init=False)
    address: Address = field(init=False)
    reach: int | None = field(init=False)
    is_allowed: bool = field(init=False)
    answered_at: float = field(init=False)
    srtt: float | None = None
    rttvar: float = 0.0
    rtt_count: int = 0
    failures: int = 0

    def __post_init__(self) -> None:
        # The nodes of a simulated world share these values.
        self.wire, self.long_id, self.reach, self.is_allowed = _facts_of(self.wire)
        self.id, self.address = self.wire
        self.answered_at = self.first_at

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Contact) and self.wire == other.wire

    def __hash__(self) -> int:
        return hash(self.wire)

    def __repr__(self) -> str:
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
            return
        if self.rtt_count == RTT_SAMPLES_MIN:
            # Half of the first sample, by RFC 6298. Nearly all contacts of a young table have one, and need no number.
            self.rttvar = self.srtt / 2
        if self.rtt_count >= RTT_SAMPLES_MIN:
            self.rttvar += (abs(self.srtt - rtt) - self.rttvar) / 4
            self.srtt += (rtt - self.srtt) / 8

    @property
    def timeout(self) -> float | None:
        """The time after which an answer is late, None while too little was measured; `core` bounds it."""
        return self.srtt + 4 * self.rttvar if self.srtt is not None and self.rtt_count >= RTT_SAMPLES_MIN else None


def rank(contact: Contact) -> tuple[int, bool, float]:
    """Return a key that sorts the better contact first: reliable, allowed by BEP 42, near in time."""
    return contact.failures, not contact.is_allowed, contact.srtt if contact.srtt is not None else float("inf")
