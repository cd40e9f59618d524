"""What a query came over: UDP or TCP, and what follows from that.

Guarantees: everything that the front decides by the transport is decided by a property of this value, so that a further
transport is one more value. Does not know sockets.
"""

from __future__ import annotations

from dataclasses import dataclass

from p2pdns.dns.labels import MESSAGE_BYTES_MAX
from p2pdns.dns.registry import UDP_SIZE_BYTES_MIN


# Compared by identity: every query passes several of these comparisons.
@dataclass(frozen=True, slots=True, eq=False)
class Transport:
    """One transport of DNS."""

    name: str
    is_stream: bool  # Queries come in order and are never lost, so that none is asked again.
    proves_address: bool  # The client reads what is sent to its address: nobody else has written it.
    plain_bytes_max: int  # The longest response to a query that says no size of its own (by EDNS).


UDP = Transport("udp", is_stream=False, proves_address=False, plain_bytes_max=UDP_SIZE_BYTES_MIN)
TCP = Transport("tcp", is_stream=True, proves_address=True, plain_bytes_max=MESSAGE_BYTES_MAX)
