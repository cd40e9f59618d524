"""A node of the DHT as a datagram machine: no socket, no clock, no randomness of its own.

In here: `values` (settings, what is wanted, outcomes, events), `core` (requests in flight, timers), `requests` (what
every kind of request is told), `turns` (who may send next), `operations`, `getting`, `putting` and `storing` (find,
get, put), `reply_times` (how long replies take), `server` (strangers' queries), `peers` (BEP 5), `nat` (are we
reachable), `identity` (BEP 42), `bootstrap` (joining, refresh), `bucket_refresh` (of all buckets, after a join),
`republish` (others' items whose publisher is away) and `machine`, which joins them; users import from this page.

Guarantees: see `machine`. Does not know what an item says.
"""

from p2pdns.dht.node.machine import Node
from p2pdns.dht.node.values import (
    Event,
    FindDone,
    GetDone,
    GetOutcome,
    GetPatient,
    ItemArrived,
    ItemFound,
    Joined,
    NodeSettings,
    Others,
    Peer,
    PutDone,
    PutOutcome,
    PutProgress,
    Wanted,
)
from p2pdns.dht.routing.contact import SavedContact

__all__ = [
    "Event",
    "FindDone",
    "GetDone",
    "GetOutcome",
    "GetPatient",
    "ItemArrived",
    "ItemFound",
    "Joined",
    "Node",
    "NodeSettings",
    "Others",
    "Peer",
    "PutDone",
    "PutOutcome",
    "PutProgress",
    "SavedContact",
    "Wanted",
]
