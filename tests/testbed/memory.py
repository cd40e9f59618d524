"""What a daemon must not lose when it is stopped and started, and whether it has.

Guarantees: a mark or an item that grew older counts as lost; one that grew newer does not. Does not know how the daemon
was stopped.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from deploy.testbed import Container
from tests.testbed.containers import inside


@dataclass(frozen=True)
class Memory:
    """Who a node is, the newest seq that it has seen by zone key, and the seq of what it keeps for all by target."""

    identity: dict[str, Any]
    marks: dict[str, int]
    stored: dict[str, int]

    @classmethod
    def of(cls, place: Container) -> Memory:
        """Return what a daemon remembers: the marks as they are on its disk, the rest as it says."""
        reply = inside(place, control=[{"verb": "status"}, {"verb": "stored"}], marks=None)
        status, kept = reply["control"][0]["status"], reply["control"][1]["stored"]
        identity = {
            "node id": status["node_id"],
            "address": status["dht_address_seen"],
            "items kept alive": status["reader"]["kept_alive"],
            "roll-back protection": status["roll_back_protection"],
        }
        return cls(identity, reply["marks"], {entry["target"]: entry["seq"] for entry in kept})

    def lost_in(self, after: Memory) -> list[str]:
        """Return what is not there any more, or older than it was."""
        lost = [name for name, value in self.identity.items() if after.identity.get(name) != value]
        for kind, before, now in (("mark", self.marks, after.marks), ("item", self.stored, after.stored)):
            # A newer one may have arrived meanwhile.
            lost += [f"{kind} {key}" for key, seq in before.items() if now.get(key, -1) < seq]
        return lost
