"""One zone that moves to its next key: the commitment in its publications, and then the next key, revealed.

Guarantees: no key is in a file; when this returns, the zone stands under the next key, and more than half of the other
nodes hold each value. Does not know the readers.
"""

from __future__ import annotations

import os

from p2pdns.admin.publishing import publish_through, reveal_through
from p2pdns.demo.swarm import SwarmNode
from p2pdns.dns.message import RRset
from p2pdns.dns.registry import Type
from p2pdns.errors import Unavailable
from p2pdns.items.item import MutableItem
from p2pdns.items.keys import SEED_BYTES, SecretKey
from p2pdns.items.packet import compose_packet, zone_of
from p2pdns.items.succession import commitment_to, succession_values

# What only the zone of the next key has, so that its answer comes from there.
OWNER, TTL_S, ADDRESS = b"since", 60, bytes([203, 0, 113, 9])


def move_to_next_key(publisher: SwarmNode, secret: SecretKey, item: MutableItem) -> None:
    """Publish a zone with a commitment, then under its next key with one record more, and reveal that key."""
    next_secret, old_key = SecretKey.generate(os.urandom(SEED_BYTES)), secret.zone_key
    made = (commitment_to(old_key, next_secret).record_of(old_key),)
    committed = _published(publisher, secret, compose_packet(zone_of(item), old_key.apex, made=made))
    apex = next_secret.zone_key.apex
    news = RRset(apex.child(OWNER), Type.A, TTL_S, (ADDRESS,))
    _published(publisher, next_secret, compose_packet([*zone_of(item).at(apex).rrsets.values(), news], apex))
    copies = reveal_through(publisher.control, old_key, succession_values(old_key, next_secret), committed)
    if not all(one.is_enough for one in copies):
        raise Unavailable(
            "too few nodes hold what reveals the next key", place=str(old_key), hint=publisher.last_words()
        )


def _published(publisher: SwarmNode, secret: SecretKey, value: bytes) -> MutableItem:
    stored = publish_through(publisher.control, secret, value)
    if not stored.is_done or stored.item is None:
        raise Unavailable(f"only {stored}", place=str(secret.zone_key), hint=publisher.last_words())
    return stored.item
