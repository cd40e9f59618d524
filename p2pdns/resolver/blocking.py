"""Names that are not to be had: a set of millions of them in little memory, and the lines of the lists they come from.

Guarantees: a name is blocked when it or a name above it was added, and no other is, but for one in 2⁶⁴⁻²² by accident
of its hash; a name added costs some 12 bytes. Does not know files, nor what is answered for a blocked name.
"""

from __future__ import annotations

import hashlib
import ipaddress
import re
from collections.abc import Iterable

from p2pdns.dns.name import Name
from p2pdns.errors import first_token

NAMES_MAX = 4_194_304  # 50 MB; the longest lists that people keep have a quarter of it.
FOUND_MAX = 4_096  # Names looked up and remembered, some 250 bytes each.
HASH_BYTES = 8
BUCKETS = 1 << 16  # By the first two bytes of a hash; a bucket of a million names holds some fifteen.
_REST_BYTES = HASH_BYTES - 2
_NAME = re.compile(r"(?=.{1,253}\Z)[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*", re.ASCII)
# What a hosts file sends a name to that is to lead nowhere.
_NOWHERE = frozenset({"0.0.0.0", "127.0.0.1", "::", "::1"})
# Every hosts file names this machine and its link, and means them.
_OWN_NAMES = frozenset(
    [
        *("localhost", "localhost.localdomain", "local", "broadcasthost", "0.0.0.0", "ip6-localhost", "ip6-loopback"),
        *("ip6-localnet", "ip6-mcastprefix", "ip6-allnodes", "ip6-allrouters", "ip6-allhosts"),
    ]
)


def _hash_of(text: bytes) -> bytes:
    # Whoever could find another name with the hash of a listed one could as well have written that name on the list.
    return hashlib.blake2b(text, digest_size=HASH_BYTES).digest()


class BlockedNames:
    """The names of all lists together."""

    def __init__(self, names: Iterable[str] = ()) -> None:
        self._buckets: list[bytearray | None] = [None] * BUCKETS
        self._count = 0
        self._labels_max = 0
        # What was found of names looked up, by their labels from the root: hundreds in a message have the same end.
        self._found: dict[tuple[bytes, ...], bool] = {}
        for name in names:
            self.add(name)

    def __len__(self) -> int:
        """Return how many names there are."""
        return self._count

    @property
    def is_full(self) -> bool:
        """Whether no more names are taken."""
        return self._count >= NAMES_MAX

    def add(self, name: str) -> None:
        """Block a name, in lower case and without final dot, and everything below it."""
        self._found.clear()
        self._labels_max = max(self._labels_max, name.count(".") + 1)
        digest = _hash_of(name.encode())
        index = int.from_bytes(digest[:2])
        bucket = self._buckets[index]
        if bucket is None:
            bucket = self._buckets[index] = bytearray()
        elif _has(bucket, digest[2:]):
            return
        bucket += digest[2:]
        self._count += 1

    def covering(self, name: Name) -> Name | None:
        """Return the name at or above this one that is blocked, or None.

        >>> BlockedNames(["ads.example"]).covering(Name.read("x.Ads.Example"))
        <Name Ads.Example.>
        """
        if not self._count:
            return None
        key = name.canonical_key()
        # Listed names have a few labels, and an upstream may name many owners that have a hundred.
        for count in range(min(len(key), self._labels_max), 0, -1):
            labels = key[:count]
            is_listed = self._found.get(labels)
            if is_listed is None:
                is_listed = self._remembered(labels)
            if is_listed:
                return name.ancestor(count)
        return None

    def _remembered(self, labels: tuple[bytes, ...]) -> bool:
        # A dot inside a label makes a text that is no name's; nobody can have listed it.
        digest = _hash_of(b".".join(reversed(labels)))
        bucket = self._buckets[int.from_bytes(digest[:2])]
        if len(self._found) >= FOUND_MAX:
            self._found.clear()
        found = self._found[labels] = bucket is not None and _has(bucket, digest[2:])
        return found


def _has(bucket: bytearray, rest: bytes) -> bool:
    at = bucket.find(rest)
    # What begins in the midst of another entry is none.
    while at >= 0 and at % _REST_BYTES:
        at = bucket.find(rest, at + 1)
    return at >= 0


def read_line(line: str) -> tuple[list[str], str]:
    """Return the names that a line of a list blocks, and what is wrong with it (empty when nothing is).

    A line is a name, a name behind `*.`, or an address that leads nowhere and names, as in a hosts file.

    >>> read_line("0.0.0.0 Ads.Example # a comment"), read_line("*.ads.example.")
    ((['ads.example'], ''), (['ads.example'], ''))
    """
    words = line.partition("#")[0].lower().split()
    if not words:
        return [], ""
    if words[0] in _NOWHERE:
        words = words[1:]
    elif _is_address(words[0]):
        return [], f"{words[0]} is an address that leads somewhere, and this is a list of names to block"
    elif len(words) > 1:
        return [], "neither a name alone nor an address and names"
    names: list[str] = []
    for word in words:
        name = word.removeprefix("*.").removesuffix(".")
        if name in _OWN_NAMES:
            continue
        if not _NAME.fullmatch(name):
            return names, f'"{first_token(word)}" is not a name'
        names.append(name)
    return names, ""


def _is_address(word: str) -> bool:
    # A name has a letter in its last label; the reader of addresses takes twenty times as long to say no.
    if word[-1].isalpha() and ":" not in word:
        return False
    try:
        ipaddress.ip_address(word)
    except ValueError:
        return False
    return True
