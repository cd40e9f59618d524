"""Announced peers (BEP 5), which every node of Mainline keeps for others, bounded in count and time.

Guarantees: at most `HASHES_MAX` hashes of `PEERS_MAX` peers, each for `PEER_S` after its last announcement. Does not
know tokens, nor a use of peers: p2pdns itself has none.
"""

from __future__ import annotations

from collections import OrderedDict

from p2pdns.addresses import Address

HASHES_MAX = 500  # About 1 MB with all their peers.
PEERS_MAX = 100  # A hash; a reply holds fewer.
PEER_S = 1_800.0  # Clients announce every 5 to 30 minutes.
PEERS_IN_REPLY_MAX = 50  # 8 bytes each: a third of a datagram.


class PeerStore:
    """Peers by info hash; the hash announced longest ago goes first."""

    def __init__(self) -> None:
        self._peers: OrderedDict[bytes, OrderedDict[Address, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._peers)

    def announce(self, info_hash: bytes, peer: Address, now: float) -> None:
        """Remember that a peer has announced a hash."""
        peers = self._peers.setdefault(info_hash, OrderedDict())
        self._peers.move_to_end(info_hash)
        peers[peer] = now
        peers.move_to_end(peer)
        if len(peers) > PEERS_MAX:
            peers.popitem(last=False)
        if len(self._peers) > HASHES_MAX:
            self._peers.popitem(last=False)

    def peers(self, info_hash: bytes, now: float) -> tuple[Address, ...]:
        """Return the peers that announced lately, newest first."""
        peers = self._peers.get(info_hash)
        if peers is None:
            return ()
        while peers and now - next(iter(peers.values())) > PEER_S:
            peers.popitem(last=False)
        if not peers:
            del self._peers[info_hash]
        return tuple(reversed(peers))[:PEERS_IN_REPLY_MAX]
