"""A request of ours that is in flight.

Guarantees: its sender is told once of the reply or of the refusal, and of every timeout before that. Does not know how
a reply is matched to its request (`core` does), nor what the reply means.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum

from p2pdns.addresses import Address
from p2pdns.dht import krpc


class Stage(IntEnum):
    """How far a request has come."""

    FIRST_WAIT = 0
    SECOND_WAIT = 1  # It was sent again.
    GIVEN_UP = 2  # A late reply still counts.
    OVER = 3


@dataclass(slots=True, eq=False)
class OutgoingRequest:
    """One message to one address, and what to call with its end. `node_id` None accepts a reply under any id.

    `on_reply` is told the size of the reply in bytes as well. `on_timeout` is told whether the message was sent again
    already; the first time its return value says whether to do that.
    """

    message: krpc.Request
    address: Address
    node_id: bytes | None
    on_reply: Callable[[krpc.Reply, int, float], None]
    on_error: Callable[[krpc.Error, float], object]
    on_timeout: Callable[[bool, float], bool]
    is_urgent: bool = False
    sent_at: float = 0.0
    resent_at: float = 0.0
    stage: Stage = Stage.FIRST_WAIT
    transactions: list[bytes] = field(default_factory=list)
