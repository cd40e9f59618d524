"""The items of each key in a store, the one that was put longest ago first.

A divided zone is thousands of items of one key. Its shards must not use up what a prefix may bring of new keys, and one
key must not fill a store with salts.

Guarantees: the order is exact, and a key without items takes no room. Does not know the items, nor whose they are.
"""

from __future__ import annotations

# As many as a divided zone has at most, and half of a store.
ITEMS_OF_KEY_MAX = 8_192


class KeyedItems:
    """The targets of each key's items."""

    def __init__(self, count_max: int = ITEMS_OF_KEY_MAX) -> None:
        self._count_max = count_max
        # Dictionaries keep their order: a target that is put again is taken out and put behind the others.
        self._targets: dict[bytes, dict[bytes, None]] = {}

    def has(self, key: bytes) -> bool:
        """Return whether there is an item of a key."""
        return key in self._targets

    def put(self, key: bytes, target: bytes) -> None:
        """Note that an item was put now, for the first time or again."""
        targets = self._targets.setdefault(key, {})
        targets.pop(target, None)
        targets[target] = None

    def remove(self, key: bytes, target: bytes) -> None:
        """Note that an item is gone."""
        targets = self._targets.get(key)
        if targets is not None and target in targets:
            del targets[target]
            if not targets:
                del self._targets[key]

    def leaving(self, key: bytes) -> bytes | None:
        """Return the target of the item that goes for one more of its key: the one put longest ago; mostly None."""
        targets = self._targets.get(key)
        return next(iter(targets)) if targets is not None and len(targets) >= self._count_max else None
