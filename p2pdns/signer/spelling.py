"""The names of the zone in messages: below `KEY`, or below `KEY.suffix` where a client asks so.

Guarantees: names outside the zone stay as they are. Does not know which names are asked.
"""

from __future__ import annotations

from dataclasses import dataclass

from p2pdns.dns.message import RR
from p2pdns.dns.message.rdata import rewrite_wires
from p2pdns.dns.name import Name
from p2pdns.values import replace


@dataclass(frozen=True)
class Spelling:
    """A name that the zone has in a message, and its apex here; they differ where a suffix was asked."""

    asked: Name
    apex: Name

    def inward(self, record: RR) -> RR:
        """Return a record of a request under the apex; FormatError where a name gets too long."""
        return self._moved(record, self.asked, self.apex)

    def outward(self, record: RR) -> RR:
        """Return a record of ours as the client has to see it."""
        return self._moved(record, self.apex, self.asked)

    def _moved(self, record: RR, old: Name, new: Name) -> RR:
        if old.labels == new.labels:
            return record

        def move(wire: bytes) -> bytes:
            name = Name.parse(wire)[0]
            return name.moved(old, new).wire() if name.is_at_or_below(old) else wire

        owner = record.owner.moved(old, new) if record.owner.is_at_or_below(old) else record.owner
        if not record.rdata:
            return replace(record, owner=owner)
        return replace(record, owner=owner, rdata=rewrite_wires(record.rtype, record.rdata, move))
