"""One iterative look-up: a shortlist by distance, α requests in flight, and when it is over.

In here: `search` (the look-up, its requests and the item found); users import from this page.

Guarantees: see `search`. Does not know datagrams, transactions, the clock or the routing table.
"""

from p2pdns.dht.lookup.search import (
    ADDRESS_IDS_MAX,
    ALPHA,
    ALPHA_MAX,
    DOUBTFUL_SILENT_MIN,
    K_DISTANCE_FACTOR_MAX,
    NODES_MIN,
    RPC_MAX,
    SHORTLIST_MAX,
    SPARE,
    Candidate,
    Item,
    Lookup,
    Request,
    Sought,
    State,
)

__all__ = [
    "ADDRESS_IDS_MAX",
    "ALPHA",
    "ALPHA_MAX",
    "DOUBTFUL_SILENT_MIN",
    "K_DISTANCE_FACTOR_MAX",
    "NODES_MIN",
    "RPC_MAX",
    "SHORTLIST_MAX",
    "SPARE",
    "Candidate",
    "Item",
    "Lookup",
    "Request",
    "Sought",
    "State",
]
