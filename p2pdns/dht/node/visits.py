"""Visits to read-only nodes: a ping to each that has asked us, once an address translator would have forgotten us.

A node in public space is read-only until a stranger has reached it, and a node that says `ro` is named to nobody
(BEP 43). In Mainline there are nodes that ignore `ro`. In a network of our own there are none, so that without visits
no stranger would ever come, and only nodes that people list by hand would keep items.

Guarantees: one node a prefix and `READERS_MAX` nodes are remembered; each is visited once for each time that it has
asked us and then left us alone for longer than `ASKED_S`. Does not know how a visit is sent.
"""

from __future__ import annotations

from p2pdns.addresses import Address, prefix_of
from p2pdns.dht.krpc.compact import NodeInfo, shared
from p2pdns.dht.node.core import ASKED_S

READERS_MAX = 64  # At a visit a minute that is an hour; the latest are the likeliest to be up.
# Its query and our reply open a way for so long, by the rule that the visited node itself goes by; and a minute more
# for queries that it has sent and that were lost.
LEFT_ALONE_S = ASKED_S + 60.0


class Visits:
    """The read-only nodes that have asked us, the one that is silent for the longest time first."""

    def __init__(self) -> None:
        # A plain dictionary keeps the order of entry as well, in a third of the memory of an `OrderedDict`.
        self._readers: dict[str, tuple[NodeInfo, float]] = {}

    def heard(self, node_id: bytes, address: Address, now: float) -> None:
        """Note a query of a read-only node."""
        prefix = prefix_of(address)
        self._readers.pop(prefix, None)
        self._readers[prefix] = shared(NodeInfo(node_id, address)), now
        if len(self._readers) > READERS_MAX:
            del self._readers[next(iter(self._readers))]

    def next_due(self, now: float) -> tuple[bytes, Address] | None:
        """Return id and address of the node to visit now, and forget it; None where none is due."""
        prefix = next(iter(self._readers), None)
        if prefix is None:
            return None
        reader, asked_at = self._readers[prefix]
        if now - asked_at < LEFT_ALONE_S:
            return None
        del self._readers[prefix]
        return reader.node_id, reader.address
