"""From the id of a zone to the items that it is made of, and back.

Guarantees: overlay, publisher and the reader's state take a zone, its key and its item for one nowhere but here. Today
they are one: the id is the key that signs, and the zone is one item, that of its key without a salt. Blinded or
succeeded keys, and zones of several parts, come in here. Does not know what an item says, nor how it is found.
"""

from __future__ import annotations

from p2pdns.dht.lookup import Item
from p2pdns.dht.node import Wanted
from p2pdns.items.item import MutableItem, mutable_target
from p2pdns.items.keys import ZoneId, ZoneKey


def key_of(zone_id: ZoneId) -> ZoneKey:
    """Return the key that signs a zone."""
    return zone_id.signed_by


def parts_of(zone_id: ZoneId) -> tuple[Wanted, ...]:
    """Return what is wanted of the overlay to have a zone: today one item."""
    key = key_of(zone_id)
    return (Wanted(mutable_target(key.raw), key),)


def zone_id_of(item: MutableItem) -> ZoneId:
    """Return the id of the zone that an item of its key belongs to."""
    return ZoneId.of_key(item.key)


def raw_id_of(key_raw: bytes) -> bytes:
    """Return the same in bytes, for what has not been verified."""
    return key_raw


def is_part(item: Item, zone_id: ZoneId) -> bool:
    """Return whether an item is one of the parts of a zone: a salted one of its key is none."""
    return isinstance(item, MutableItem) and item.key == key_of(zone_id) and not item.salt
