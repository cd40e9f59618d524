"""Replies that wait until their receivers have shown that they are at the addresses that their queries came from.

Guarantees: a held reply is sent when its address has answered a ping of ours, and never otherwise; the replies held
are bounded in addresses, in number for each, and in time. Does not know when a challenge is due (`dht.guard` does).
"""

from __future__ import annotations

from p2pdns.addresses import Address
from p2pdns.dht import krpc
from p2pdns.dht.node.core import Core
from p2pdns.dht.node.requests import OutgoingRequest

# Of the 128 requests that may be in flight: a flood of sources that never answer leaves three quarters to look-ups.
CHALLENGES_MAX = 32
HELD_MAX = 4  # Replies for one address; a look-up that starts asks one node no more than a few things at once.


class Challenges:
    """The replies that are held, by the address that was sent a ping."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._held: dict[Address, list[bytes]] = {}

    @property
    def has_room(self) -> bool:
        return len(self._held) < CHALLENGES_MAX and self._core.turns.room() > 0

    def join(self, address: Address, data: bytes) -> bool:
        """Hold a further reply for an address that was challenged already; False where it was not."""
        waiting = self._held.get(address)
        if waiting is None:
            return False
        self._core.counters["reply-held"] += 1
        waiting.append(data)
        del waiting[:-HELD_MAX]
        return True

    def hold(self, address: Address, data: bytes, now: float) -> None:
        """Hold a reply and send its receiver a ping."""

        def send(*_: object) -> None:
            self._core.out += [(held, address) for held in self._held.pop(address, ())]

        def drop(*_: object) -> bool:
            # An address that may be a victim gets no second ping.
            self._held.pop(address, None)
            return False

        self._held[address] = [data]
        self._core.counters["reply-held"] += 1
        # A node of any id proves the address, and an error comes from the same address as a reply would.
        self._core.ask(OutgoingRequest(krpc.Ping(), address, None, send, send, drop, is_urgent=True), now)
