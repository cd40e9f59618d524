"""The way of one look-up through a simulated world.

Guarantees: it watches and decides nothing; at most `HOPS_MAX` hops are kept. Does not know what a datagram means, only
whether the target's bytes are in it.
"""

from __future__ import annotations

from collections.abc import Iterable

from p2pdns.addresses import Address
from p2pdns.dht.routing.ids import ID_BYTES
from p2pdns.limits import QUESTION_RPCS_MAX
from p2pdns.sim.engine import VirtualEngine
from p2pdns.sim.network import Datagram, Fate
from p2pdns.sim.report import Ring

HOPS_MAX = QUESTION_RPCS_MAX  # No look-up asks more machines.


def place_of(node_id: bytes) -> float:
    """Return where an id is on the circle, from 0 to 1.

    >>> place_of(bytes([128]) + bytes(19))
    0.5
    """
    return int.from_bytes(node_id) / (1 << 8 * ID_BYTES)


class Watch:
    """A rule of the network that notes which machines the first asker of a target asks for it, and leaves all be."""

    def __init__(self, target: bytes) -> None:
        self.asker: Address | None = None
        self.asked_at: dict[Address, float] = {}
        self._target = target

    def __call__(self, datagram: Datagram) -> Fate | None:
        if self._target in datagram.data and len(self.asked_at) < HOPS_MAX:
            self.asker = self.asker or datagram.sender
            if datagram.sender == self.asker:
                self.asked_at.setdefault(datagram.receiver, datagram.sent_at)
        return None

    def ring(self, engines: Iterable[VirtualEngine], first_s: float | None) -> Ring | None:
        """Return the way among these machines; `first_s` is when the first valid item came, after the first request."""
        places = {engine.address: place_of(engine.node.node_id) for engine in engines}
        if self.asker not in places:
            return None
        began = min(self.asked_at.values())
        asked = [(places[at], sent - began) for at, sent in self.asked_at.items() if at in places]
        alive = [places[engine.address] for engine in engines if engine.is_up]
        return Ring(
            alive=alive,
            dead=[places[engine.address] for engine in engines if not engine.is_up],
            target=place_of(self._target),
            reader=places[self.asker],
            asked=asked,
            first=len(asked) if first_s is None else sum(after <= first_s for _, after in asked),
        )
