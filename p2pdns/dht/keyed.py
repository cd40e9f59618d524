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
        # Dictionaries keep their order: a target that is put again is taken out and put behind the others. Rows of the
        # disk are loaded while puts arrive, so they have an order of their own, before that of the puts.
        self._loaded: dict[bytes, dict[bytes, None]] = {}
        self._targets: dict[bytes, dict[bytes, None]] = {}

    def has(self, key: bytes) -> bool:
        """Return whether there is an item of a key."""
        return key in self._targets or key in self._loaded

    def put(self, key: bytes, target: bytes) -> None:
        """Note that an item was put now, for the first time or again."""
        self.remove(key, target)
        self._targets.setdefault(key, {})[target] = None

    def load(self, key: bytes, target: bytes) -> None:
        """Note that an item was put before all that were put in this run, and after all that were loaded so far."""
        self.remove(key, target)
        self._loaded.setdefault(key, {})[target] = None

    def remove(self, key: bytes, target: bytes) -> None:
        """Note that an item is gone."""
        for by_key in (self._loaded, self._targets):
            targets = by_key.get(key)
            if targets is not None and target in targets:
                del targets[target]
                if not targets:
                    del by_key[key]

    def leaving(self, key: bytes) -> bytes | None:
        """Return the target of the item that goes for one more of its key: the one put longest ago; mostly None."""
        loaded, targets = self._loaded.get(key, {}), self._targets.get(key, {})
        return next(iter(loaded or targets), None) if len(loaded) + len(targets) >= self._count_max else None
