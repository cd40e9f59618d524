"""The word of contacts, in one look-up, about the item that a reader holds or has found.

A contact that returns the signed item proves that the network still has it. A contact that names a seq proves nothing:
it may repeat the seq of our own get. So a named seq counts only from several prefixes of public space, and a contact
that named it can be asked once more without the seq, and then has to return the item.

Guarantees: silence, an empty reply, another seq and our own storage confirm nothing. Does not know datagrams, nor
which contacts a look-up asks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from p2pdns.addresses import Address, is_non_public, prefix_of
from p2pdns.items.item import ImmutableItem, Item, MutableItem

# A node without the item can repeat the seq of a get. One host has one prefix, a small network two.
NAMING_PREFIXES_MIN = 3
CHECKS_MAX = 8  # Contacts asked again without the seq: one is enough as a rule, more are needed where contacts lie.
CHECKS_SILENT_MAX = 2  # They have just answered: more silence is deliberate, and only delays the end.


class Confirmation:
    """The contacts of one look-up that returned an item, and those that only named a seq."""

    __slots__ = ("_named", "_returned")

    def __init__(self) -> None:
        self._returned: dict[Address, tuple[int, bytes]] = {}
        self._named: dict[Address, int] = {}

    def item_returned(self, address: Address, item: MutableItem) -> None:
        """Note that a contact returned this item, whose signature holds."""
        self._named.pop(address, None)
        before = self._returned.get(address)
        if before is None or before < (item.seq, item.value):
            self._returned[address] = item.seq, item.value

    def seq_named(self, address: Address, seq: int) -> None:
        """Note that a contact named a seq and returned nothing."""
        if address not in self._returned:
            self._named[address] = seq

    def withdrawn(self, address: Address) -> None:
        """Drop the seq that a contact named: asked again without it, a contact that holds the item returns it."""
        self._named.pop(address, None)

    def is_of(self, item: Item) -> bool:
        """Return whether contacts have confirmed the item. An immutable item has no newer one, so it needs none."""
        if isinstance(item, ImmutableItem):
            return True
        return (item.seq, item.value) in self._returned.values() or self._is_named_widely(item.seq)

    def is_of_seq(self, seq: int) -> bool:
        """Return whether contacts have confirmed some item with this seq."""
        return any(returned == seq for returned, _ in self._returned.values()) or self._is_named_widely(seq)

    def addresses_to_check(self, seq: int) -> list[Address]:
        """Return the contacts to ask again without a seq: those that named this one, then those that named a higher.

        A contact that names a higher seq owes the item, so its word confirms nothing and denies nothing. One of each
        prefix comes before the second of any, so that many contacts of one liar do not stand before all others.
        """
        seen: Counter[str] = Counter()
        ranked: list[tuple[bool, int, Address]] = []
        for address, named in self._named.items():
            if named >= seq:
                ranked.append((named > seq, seen[prefix_of(address)], address))
                seen[prefix_of(address)] += 1
        return [address for *_, address in sorted(ranked, key=lambda entry: entry[:2])]

    def copies_of(self, seq: int) -> int:
        """Return in how many prefixes contacts say that they hold an item with this seq."""
        holders = [address for address, (returned, _) in self._returned.items() if returned == seq]
        return len(_prefixes(holders + [address for address, named in self._named.items() if named == seq]))

    def _is_named_widely(self, seq: int) -> bool:
        # Addresses in a home network and on loopback are free, so only a returned item confirms there.
        named = [at for at, named in self._named.items() if named == seq and not is_non_public(at[0])]
        return len(named) >= NAMING_PREFIXES_MIN and len(_prefixes(named)) >= NAMING_PREFIXES_MIN

    @classmethod
    def merged(cls, parts: Iterable[Confirmation]) -> Confirmation:
        """Return the confirmations of several look-ups for one target as one."""
        whole = cls()
        for part in parts:
            whole._returned.update(part._returned)
            whole._named.update(part._named)
        return whole


def _prefixes(addresses: Iterable[Address]) -> frozenset[str]:
    return frozenset(prefix_of(address) for address in addresses)
