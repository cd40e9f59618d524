"""The nodes nearest to a zone, and which edition each of them has: why some readers see an old zone.

Guarantees: an edition counts only if the node has returned the item, signed; each of the nearest nodes is asked for
itself, without a seq that it could repeat. Does not know who asks.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from p2pdns.addresses import Address
from p2pdns.dht.lookup.verdict import Verdict
from p2pdns.dht.node.values import Inquiry, InquiryOutcome
from p2pdns.dht.routing.ids import is_id_allowed
from p2pdns.errors import BadItem
from p2pdns.items.item import MutableItem
from p2pdns.items.keys import ZoneId
from p2pdns.items.shards.content import content_of
from p2pdns.items.shards.partial import PartialZone
from p2pdns.overlay.parts import key_of, parts_of
from p2pdns.overlay.ports import Asks


@dataclass(frozen=True, slots=True)
class Holder:
    """One of the nodes nearest to a zone. `seq` is None where it returned no item that verifies.

    `is_silent`: it answered the look-up, and not this question. `seq_named` is a seq without an item, which proves
    nothing; `dropped` says why an item was not believed; `is_allowed`: BEP 42 allows its id.
    """

    address: Address
    node_id: bytes
    is_allowed: bool
    seq: int | None
    seq_named: int | None
    rtt_s: float | None
    is_silent: bool
    dropped: str | None


@dataclass(frozen=True, slots=True)
class Holders:
    """The nodes nearest to a zone, nearest first, and how the look-up ended that found them.

    Where the newest item `is_divided`, they are those of the head. Each shard has others.
    """

    verdict: Verdict
    nearest: tuple[Holder, ...]
    is_divided: bool = False

    @property
    def newest_seq(self) -> int | None:
        return max((one.seq for one in self.nearest if one.seq is not None), default=None)


async def holders_of(network: Asks, zone_id: ZoneId) -> Holders:
    """Find the nodes nearest to a zone, and ask each of them for its item."""
    (part,) = parts_of(zone_id)
    found = await network.get(part, on_item=lambda item: None)
    key = key_of(zone_id)
    asked = [Inquiry(contact, key, part.salt, sends_again=True) for contact in found.nearest]
    outcomes = await asyncio.gather(*(network.inquire(inquiry) for inquiry in asked))
    nearest = [_holder(inquiry, outcome) for inquiry, outcome in zip(asked, outcomes, strict=True)]
    items = [outcome.item for outcome in outcomes if outcome.item is not None]
    newest = max(items, key=lambda item: item.seq, default=None)
    return Holders(found.verdict, tuple(nearest), newest is not None and _is_head(newest))


def _is_head(item: MutableItem) -> bool:
    try:
        return isinstance(content_of(item), PartialZone)
    except BadItem:
        return False


def _holder(inquiry: Inquiry, outcome: InquiryOutcome) -> Holder:
    contact = inquiry.contact
    return Holder(
        contact.address,
        contact.node_id,
        is_id_allowed(contact.node_id, contact.address[0]),
        None if outcome.item is None else outcome.item.seq,
        outcome.seq_named,
        outcome.rtt_s,
        not outcome.has_answered,
        outcome.dropped,
    )
