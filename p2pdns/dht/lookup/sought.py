"""What a look-up looks for: the item, which one counts, and the item in a reply.

Guarantees: an item that is returned is verified, and belongs under the target. Does not know contacts.
"""

from __future__ import annotations

from dataclasses import dataclass

from p2pdns.dht import krpc
from p2pdns.errors import BadItem
from p2pdns.items.item import ImmutableItem, Item, MutableItem, Present, SignatureMemo, mutable_target
from p2pdns.items.keys import ZoneKey
from p2pdns.items.shards.pinned import Pinned
from p2pdns.items.succession import Commitment


@dataclass(frozen=True, slots=True)
class Sought:
    """The item that is looked for; a look-up without one looks for contacts.

    `key` None accepts any item that belongs under the target. `present` says which seqs are from the future. With
    `wants_copies` each contact is asked for the item that it holds, whatever others hold. An item that lacks
    `commitment` is odd: it is left out, and counted with those that do not verify. `wants_editions` is for a reader
    that has kept no commitment: it is told of the older items too that were met. With `pinned` only the item with that
    value counts, whatever its seq is.
    """

    key: ZoneKey | None = None
    salt: bytes = b""
    known_seq: int | None = None
    present: Present | None = None
    wants_copies: bool = False
    commitment: Commitment | None = None
    wants_editions: bool = False
    pinned: Pinned | None = None

    def prefers(self, item: MutableItem, other: MutableItem) -> bool:
        """Return whether an item counts before another one."""
        return item.supersedes(other) if self.present is None else self.present.prefers(item, other)

    def is_ahead(self, item: MutableItem) -> bool:
        """Return whether an item is from the future."""
        return self.present is not None and self.present.is_ahead(item.seq)

    def check(self, item: Item) -> None:
        """Raise BadItem for an item that has another value than the pinned one."""
        if self.pinned is not None:
            self.pinned.check(item.value)

    def item_in(self, reply: krpc.Reply, target: bytes, memo: SignatureMemo | None) -> Item | None:
        """Return the item in a reply, None where it has no value; BadItem where it is not one that is looked for."""
        if reply.value is None:
            return None
        value = krpc.string_of(reply.value)
        if value is None:
            raise BadItem("value-not-a-string")
        if reply.key is None and self.key is None:
            return ImmutableItem.verified(target, value)
        if reply.key is None or reply.signature is None or reply.seq is None:
            raise BadItem("item-incomplete")
        # The cheap comparisons first: a foreign key's signature may be perfect.
        if mutable_target(reply.key, self.salt) != target:
            raise BadItem("target-wrong")
        if self.pinned is not None:
            self.pinned.check(value)
        key = self.key or reply.key
        return MutableItem.verified(key, reply.seq, value, reply.signature, self.salt, memo)
