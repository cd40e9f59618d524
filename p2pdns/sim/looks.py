"""The rules for a machine between two looks at it: what it stores, whom it knows, and how often it puts its zones.

Guarantees: each rule reads public data of the production code, and says nothing where a trouble may excuse a change.
Does not know which troubles there are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from p2pdns.addresses import Address
from p2pdns.dht.node.values import Peer
from p2pdns.dht.routing.ids import ID_BITS, distance
from p2pdns.dht.routing.table import K
from p2pdns.publishing.cycle import CYCLE_S_MAX

# A put lasts seconds, and a zone may have to wait for its turn.
PUT_SPARE_S = 60.0
PUT_AGAIN_S_MAX = CYCLE_S_MAX + PUT_SPARE_S


@dataclass(frozen=True)
class TableLook:
    """The contacts of a machine at one moment, and its id then."""

    at: float
    own_id: bytes
    peers: Sequence[Peer]


def holding_findings(
    before: Mapping[bytes, int], held: Mapping[bytes, int], is_ahead: Callable[[int], bool]
) -> Iterator[str]:
    """Yield the targets whose stored item has a lower seq than before; one from the future may go for a saner one."""
    for target, seq in held.items():
        seq_before = before.get(target, seq)
        if seq < seq_before and not is_ahead(seq_before):
            yield f"a node stores seq {seq} of {target.hex()[:8]}, and stored {seq_before} before"


def table_findings(before: TableLook, after: TableLook, is_safe: Callable[[Peer], bool]) -> Iterator[str]:
    """Yield the contacts that a table has lost without a reason, between two looks with no trouble between them.

    A contact of the older half of a full range stays, whatever its round-trip time, as long as it answers. Each
    newcomer may be older than some that were here: it may have waited among the replacements, and takes one place in
    the older half. `is_safe` says of a contact that it was up and could be reached all the time.
    """
    if before.own_id != after.own_id:
        return  # With another id the ranges are others as well.
    known_before, known = ({(one.node_id, one.address): one for one in look.peers} for look in (before, after))
    for depth, members in _ranges(before).items():
        if len(members) < K:
            continue
        newcomer_count = sum((one.node_id, one.address) not in known_before for one in _ranges(after).get(depth, ()))
        oldest = sorted(members, key=lambda one: -one.known_s)[: max(0, K // 2 - newcomer_count)]
        for one in oldest:
            is_good = one.is_allowed and not one.failures and is_safe(one)
            if is_good and (one.node_id, one.address) not in known:
                yield f"a table has lost {one.address[0]}, which it knew for {one.known_s:.0f} s and which answers"


def _ranges(look: TableLook) -> dict[int, list[Peer]]:
    ranges: dict[int, list[Peer]] = {}
    for peer in look.peers:
        ranges.setdefault(ID_BITS - distance(look.own_id, peer.node_id).bit_length(), []).append(peer)
    return ranges


def put_findings(key: str, session_s: float, since_put_s: float | None) -> Iterator[str]:
    """Yield whether a publisher has left a zone of its own alone for too long, in this session."""
    alone_s = session_s if since_put_s is None else min(session_s, since_put_s)
    if alone_s > PUT_AGAIN_S_MAX:
        yield f"{key} was not put again for {alone_s:.0f} s, {PUT_AGAIN_S_MAX:.0f} s allowed"


def token_findings(node: Address, is_kept: bool) -> Iterator[str]:
    """Yield whether a node keeps an item that came with the token of another target."""
    if is_kept:
        yield f"{node[0]}: a node keeps an item that came with the token of another target"
