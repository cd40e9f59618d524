"""Which contacts may be named to a peer: all peers may hear of public ones, the others are valid in their space only.

Guarantees: a contact that a peer names never makes us send into a space that the peer is not in. Does not know ids,
nor the state of a contact.
"""

from __future__ import annotations

from p2pdns.addresses import AddressClass, class_of
from p2pdns.remembered import remembered

HOSTS_REMEMBERED_MAX = 4_096  # Hosts whose reach is remembered: a full table and its guests.

_REACH = {AddressClass.PUBLIC: 0, AddressClass.PRIVATE: 1, AddressClass.LINK_LOCAL: 2, AddressClass.LOOPBACK: 3}


@remembered(HOSTS_REMEMBERED_MAX)
def reach_of(host: str) -> int | None:
    """Return how narrow the space is in which `host` is valid: 0 for everywhere, None for nowhere."""
    return _REACH.get(class_of(host))


def is_for(host: str, peer_host: str) -> bool:
    """Return whether a contact at `host` may be learnt from, or told to, a peer at `peer_host`.

    A private contact is valid in private space only, a loopback one on its own machine only; named from elsewhere it
    would make us send to our own network at a stranger's request.
    """
    return is_within(reach_of(host), reach_of(peer_host))


def is_within(reach: int | None, peer_reach: int | None) -> bool:
    """As `is_for`, for the two reaches."""
    if not reach:
        return reach == 0
    return peer_reach == 3 if reach == 3 else bool(peer_reach)
