"""The rules for every world, whatever happens in it.

Guarantees: each check reads public data of the production code, and puts a fault into words. Does not know its cause.
"""

from __future__ import annotations

from collections.abc import Iterator

from p2pdns.dht.storage import BYTES_MAX, ITEMS_MAX
from p2pdns.limits import QUESTION_RPCS_MAX
from p2pdns.sim.world import Look, World

# A routing table has at most 160 ranges of 20 contacts. A world fills about as many of them as its number of machines
# has bits, so a table above this bound is wrong in every world.
CONTACTS_MAX = 160 * 20


def look_findings(look: Look) -> Iterator[str]:
    """Yield the faults of a look-up that no trouble of the network excuses."""
    outcome = look.outcome
    if outcome.rpc_count > QUESTION_RPCS_MAX:
        yield f"a look-up sent {outcome.rpc_count} RPCs, {QUESTION_RPCS_MAX} allowed"
    if look.shown_seq is not None and look.shown_seq > look.wanted_seq:
        yield "a look-up showed an edition that nobody has published"
    if outcome.dropped:
        yield f"in a world without liars items did not verify: {dict(outcome.dropped)}"


def world_findings(world: World) -> Iterator[str]:
    """Yield the tables that are beyond their bounds, and the troubles that the machines report."""
    for engine in world.living:
        node = engine.node
        if node.contact_count > CONTACTS_MAX:
            yield f"{engine.address[0]} has {node.contact_count} contacts, {CONTACTS_MAX} allowed"
        if len(node.storage) > ITEMS_MAX or node.storage.size_bytes > BYTES_MAX:
            yield f"{engine.address[0]} stores {len(node.storage)} items of {node.storage.size_bytes} bytes"
    yield from world.troubles
