"""Zones that have committed themselves to a next key, and what a thief of the old key makes of them."""

from __future__ import annotations

from p2pdns.dns.message import RR, Message
from p2pdns.dns.message.wire import compose
from p2pdns.dns.registry import Class, Type
from p2pdns.items.item import MutableItem
from p2pdns.items.keys import SecretKey, ZoneId
from p2pdns.items.succession import Commitment, commitment_to, succession_values

OLD, NEXT, THIEFS, LAST = (SecretKey.generate(bytes([number]) * 32) for number in (11, 12, 13, 14))
KEY = OLD.zone_key
OLD_ID, NEXT_ID, LAST_ID = (ZoneId.of_key(secret.zone_key) for secret in (OLD, NEXT, LAST))
# What the owner has committed the zone to, and what a thief would like it to be.
COMMITTED, ANOTHER = commitment_to(KEY, NEXT), commitment_to(KEY, THIEFS)
VALUES, THIEFS_VALUES = succession_values(KEY, NEXT), succession_values(KEY, THIEFS)
WORDS = {None: "none", COMMITTED: "the owner's", ANOTHER: "another"}.get


def committed_item(
    commitment: object, *, seq: int = 1, address: str = "192.0.2.1", secret: SecretKey = OLD
) -> MutableItem:
    """Return an item with an address at `www`, and the commitment at its apex; None is none."""
    apex = secret.zone_key.apex
    rdata = bytes(map(int, address.split(".")))
    records = [RR(apex.child(b"www"), Type.A, Class.IN, 300, rdata)]
    if commitment is not None:
        assert isinstance(commitment, Commitment)
        records += commitment.record_of(secret.zone_key).records()
    return MutableItem.signed(secret, seq, compose(Message(0, 0x8000, None, tuple(records), (), ())))
