"""What is known of another node: its id and address, when it answered, how long that took, how often it was silent.

Guarantees: told the time; the estimate of a round-trip time is that of RFC 6298 without its floor. Does not know which
bucket it is in.
"""

from __future__ import annotations

from typing import NamedTuple

from p2pdns.addresses import Address
from p2pdns.dht import krpc
from p2pdns.dht.routing.ids import is_id_allowed
from p2pdns.dht.routing.reach import reach_of

RTT_SAMPLES_MIN = 2  # One sample says nothing about variance, and the first often holds a start-up's stall.


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

    def __init__(self, wire: krpc.NodeInfo, now: float) -> None:
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


def rank(contact: Contact) -> tuple[int, bool, float]:
    """Return a key that sorts the better contact first: reliable, allowed by BEP 42, near in time."""
    return contact.failures, not contact.is_allowed, contact.srtt if contact.srtt is not None else float("inf")
