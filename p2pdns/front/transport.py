"""The transports of queries: UDP and TCP.

Guarantees: each decision of the front that depends on the transport reads a property of this value, so a further
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
    is_stream: bool  # Queries come in order and none is lost, so a client never repeats one.
    proves_address: bool  # The client has shown that it receives what is sent to its address.
    plain_bytes_max: int  # The longest response to a query without EDNS, which states no size.


UDP = Transport("udp", is_stream=False, proves_address=False, plain_bytes_max=UDP_SIZE_BYTES_MIN)
TCP = Transport("tcp", is_stream=True, proves_address=True, plain_bytes_max=MESSAGE_BYTES_MAX)
