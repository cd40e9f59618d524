"""A request of ours that is in flight, of the kind that knows what its reply means.

Guarantees: a request is told once of its reply or of a refusal, and of every timeout before that. Does not know how a
reply is matched to it (`core` does); each kind stands beside the code that sends it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from enum import IntEnum

from p2pdns.addresses import Address
from p2pdns.dht import krpc


class Stage(IntEnum):
    """How far a request has come."""

    FIRST_WAIT = 0
    SECOND_WAIT = 1  # It was sent again.
    GIVEN_UP = 2  # A late reply still counts.
    OVER = 3


class OutgoingRequest(ABC):
    """One message to one address. `node_id` is the id that must answer; None where any may."""

    __slots__ = (
        "address",
        "is_urgent",
        "message",
        "node_id",
        "resent_at",
        "sent_at",
        "stage",
        "transactions",
    )

    def __init__(
        self, message: krpc.Request, address: Address, node_id: bytes | None, *, is_urgent: bool = False
    ) -> None:
        self.message = message
        self.address = address
        self.node_id = node_id
        self.is_urgent = is_urgent
        self.sent_at = 0.0
        self.resent_at = 0.0
        self.stage = Stage.FIRST_WAIT
        self.transactions: list[bytes] = []

    @abstractmethod
    def reply_received(self, reply: krpc.Reply, size_bytes: int, now: float) -> None:
        """Take in the reply."""

    @abstractmethod
    def error_received(self, error: krpc.Error, now: float) -> None:
        """Take in a refusal."""

    @abstractmethod
    def timed_out(self, now: float) -> bool:
        """Note a timeout; return whether to send the message again, which is heeded once."""
