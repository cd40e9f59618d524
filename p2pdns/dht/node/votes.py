"""The latest word of each prefix on one question, and the word that most prefixes have.

Guarantees: one prefix has one word; the prefixes are bounded, and the one that spoke longest ago is forgotten first.
Does not know the question, nor how many must agree.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable
from typing import Generic, TypeVar

W = TypeVar("W", bound=Hashable)


class Votes(Generic[W]):
    """The words by prefix."""

    __slots__ = ("_by_prefix", "_counts", "_prefixes_max")

    def __init__(self, prefixes_max: int) -> None:
        self._by_prefix: dict[str, W] = {}
        # Kept beside the words, because every reply that tells us our address would have all of them counted.
        self._counts: dict[W, int] = {}
        self._prefixes_max = prefixes_max

    def __len__(self) -> int:
        return len(self._by_prefix)

    def word_of(self, prefix: str) -> W | None:
        """Return the latest word of a prefix."""
        return self._by_prefix.get(prefix)

    def note(self, prefix: str, word: W) -> None:
        """Note the word of a prefix, which is now the latest of all."""
        before = self._by_prefix.pop(prefix, None)
        self._by_prefix[prefix] = word
        if before != word:
            self._counts[word] = self._counts.get(word, 0) + 1
            if before is not None:
                self._withdraw(before)
        if len(self._by_prefix) > self._prefixes_max:
            self._withdraw(self._by_prefix.pop(next(iter(self._by_prefix))))

    def _withdraw(self, word: W) -> None:
        self._counts[word] -= 1
        if not self._counts[word]:
            del self._counts[word]

    def leader(self) -> tuple[W, int]:
        """Return the word that most prefixes have, and their number; of equals, the one that stands longest.

        There must be a word.
        """
        if len(self._counts) == 1:
            return next(iter(self._counts.items()))
        most = max(self._counts.values())
        return next(word for word in self._by_prefix.values() if self._counts[word] == most), most

    def counts(self) -> Counter[W]:
        """Return how many prefixes have each word."""
        return Counter(self._by_prefix.values())
