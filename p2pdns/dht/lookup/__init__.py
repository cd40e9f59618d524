"""One iterative look-up: a shortlist by distance, α requests in flight, and when it is over.

In here: `search` (the look-up, its requests and the item found), `shortlist` (who may be asked, and who counts) and
`verdict` (how it ended); users import from this page.

Guarantees: see `search`. Does not know datagrams, transactions, the clock or the routing table.
"""

from p2pdns.dht.lookup.search import (
    ALPHA,
    ALPHA_MAX,
    DOUBTFUL_SILENT_MIN,
    K_DISTANCE_FACTOR_MAX,
    NODES_MIN,
    SPARE,
    Item,
    Lookup,
    Sought,
)
from p2pdns.dht.lookup.shortlist import (
    ADDRESS_IDS_MAX,
    HOST_CONTACTS_MAX,
    HOST_DATAGRAMS_MAX,
    PREFIX_CONTACTS_MAX,
    SHORTLIST_MAX,
    SOURCE_SILENT_MAX,
    Candidate,
    CandidateState,
    Request,
)
from p2pdns.dht.lookup.verdict import Verdict

__all__ = [
    "ADDRESS_IDS_MAX",
    "ALPHA",
    "ALPHA_MAX",
    "DOUBTFUL_SILENT_MIN",
    "HOST_CONTACTS_MAX",
    "HOST_DATAGRAMS_MAX",
    "K_DISTANCE_FACTOR_MAX",
    "NODES_MIN",
    "PREFIX_CONTACTS_MAX",
    "SHORTLIST_MAX",
    "SOURCE_SILENT_MAX",
    "SPARE",
    "Candidate",
    "CandidateState",
    "Item",
    "Lookup",
    "Request",
    "Sought",
    "Verdict",
]
