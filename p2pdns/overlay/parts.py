"""From the id of a zone to the items that it is made of, and back.

Guarantees: this is the only module where a zone id, its zone key and its item are the same thing, for the overlay, the
publisher and the reader's state. Today the id is the key that signs, and the zone is one item: that of the key without
a salt. Blinded or succeeded keys and zones of several parts will change this module only. Does not know the content of
an item, nor how it is found.
"""

from __future__ import annotations

from p2pdns.dht.node.values import Wanted
from p2pdns.items.item import Item, MutableItem, mutable_target
from p2pdns.items.keys import ZoneId, ZoneKey


def key_of(zone_id: ZoneId) -> ZoneKey:
    """Return the key that signs a zone."""
    return zone_id.signed_by


def parts_of(zone_id: ZoneId) -> tuple[Wanted, ...]:
    """Return the items to look up for a zone: today one."""
    key = key_of(zone_id)
    return (Wanted(mutable_target(key.raw), key),)


def zone_id_for(key: ZoneKey) -> ZoneId:
    """Return the id of the zone that a key signs."""
    return ZoneId.of_key(key)


def zone_id_of(item: MutableItem) -> ZoneId:
    """Return the id of the zone that an item of its key belongs to."""
    return ZoneId.of_key(item.key)


def raw_id_of(key_raw: bytes) -> bytes:
    """Return the id of a zone as bytes, from a key as bytes that nobody has verified."""
    return key_raw


def is_part(item: Item, zone_id: ZoneId) -> bool:
    """Return whether an item is one of the parts of a zone: an item of its key with a salt is not."""
    return isinstance(item, MutableItem) and item.key == key_of(zone_id) and not item.salt
