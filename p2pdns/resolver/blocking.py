"""Names that are blocked: a set of millions of them in little memory, and the lines of the lists they come from.

Guarantees: a name is blocked when it or a name above it was added and neither it nor a name above it is an exception;
no other is, but for one in 2⁶⁴⁻²² by accident of its hash; a name added costs some 12 bytes. Does not know files, nor
what is answered for a blocked name.
"""

from __future__ import annotations

import hashlib
import ipaddress
import re
from collections.abc import Iterable
from enum import Enum
from typing import NamedTuple

from p2pdns.dns.name import Name
from p2pdns.errors import first_token

NAMES_MAX = 4_194_304  # 50 MB; the longest lists that people keep have a quarter of it.
EXCEPTIONS_MAX = 65_536  # 5 MB; people write some tens, and the longest list of exceptions has some thousand.
FOUND_MAX = 4_096  # Names looked up and remembered, some 250 bytes each.
HASH_BYTES = 8
BUCKETS = 1 << 16  # By the first two bytes of a hash; a bucket of a million names holds some fifteen.
_REST_BYTES = HASH_BYTES - 2
_NAME = re.compile(r"(?=.{1,253}\Z)[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*", re.ASCII)
# A rule for a whole name, as blockers in browsers write it: `||ads.example^`, `@@` before an exception, and behind it
# options that change nothing about a name as a whole.
_RULE = re.compile(r"(?P<exception>@@)?\|\|(?P<name>[^\^|*/$]+)\^?\|?(\$(important|all|document))?\Z")
# A line of dnsmasq: what is answered (address) or not asked of others (local, server) at and below the names between /.
_DNSMASQ = re.compile(r"(?P<option>address|local|server)=/(?P<names>[^#]*)/(?P<value>[^/]*)\Z")
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
        self._exceptions: set[bytes] = set()
        # What was found of names looked up, by their labels from the root: hundreds in a message have the same end.
        self._found: dict[tuple[bytes, ...], _Found] = {}
        for name in names:
            self.add(name)

    def __len__(self) -> int:
        """Return how many names there are."""
        return self._count

    @property
    def exception_count(self) -> int:
        """How many names are exceptions."""
        return len(self._exceptions)

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

    def add_exception(self, name: str) -> bool:
        """Never block a name, in lower case and without final dot, nor anything below it; return whether it fits."""
        if len(self._exceptions) >= EXCEPTIONS_MAX:
            return False
        self._found.clear()
        self._labels_max = max(self._labels_max, name.count(".") + 1)
        self._exceptions.add(_hash_of(name.encode()))
        return True

    def covering(self, name: Name) -> Name | None:
        """Return the name at or above this one that is blocked, or None.

        >>> BlockedNames(["ads.example"]).covering(Name.read("x.Ads.Example"))
        <Name Ads.Example.>
        """
        if not self._count:
            return None
        key = name.canonical_key()
        blocked: Name | None = None
        # Listed names have a few labels, and an upstream may name many owners that have a hundred.
        for count in range(min(len(key), self._labels_max), 0, -1):
            labels = key[:count]
            found = self._found.get(labels)
            if found is None:
                found = self._remembered(labels)
            if found is _Found.EXCEPTION:
                return None
            if found is _Found.BLOCKED and blocked is None:
                if not self._exceptions:
                    return name.ancestor(count)
                blocked = name.ancestor(count)
        return blocked

    def _remembered(self, labels: tuple[bytes, ...]) -> _Found:
        # A dot inside a label makes a text that is no name's; nobody can have listed it.
        digest = _hash_of(b".".join(reversed(labels)))
        bucket = self._buckets[int.from_bytes(digest[:2])]
        if len(self._found) >= FOUND_MAX:
            self._found.clear()
        found = _Found.NEITHER
        if digest in self._exceptions:
            found = _Found.EXCEPTION
        elif bucket is not None and _has(bucket, digest[2:]):
            found = _Found.BLOCKED
        self._found[labels] = found
        return found


class _Found(Enum):
    NEITHER = 0
    BLOCKED = 1
    EXCEPTION = 2


def _has(bucket: bytearray, rest: bytes) -> bool:
    at = bucket.find(rest)
    # What begins in the midst of another entry is none.
    while at >= 0 and at % _REST_BYTES:
        at = bucket.find(rest, at + 1)
    return at >= 0


class Line(NamedTuple):
    """What a line of a list says: names to block, names that are exceptions, and what is wrong with it, else empty."""

    names: list[str]
    exceptions: list[str]
    fault: str


def read_line(line: str) -> Line:
    """Return what a line of a list says, in any of the four forms in which lists are kept.

    A name, or one behind `*.`; an address that leads nowhere and names, as in a hosts file; `||NAME^`, or `@@||NAME^`
    for an exception, as for blockers in browsers; `address=/NAME/`, `local=/NAME/` or `server=/NAME/` of dnsmasq.

    >>> read_line("0.0.0.0 Ads.Example # a comment").names, read_line("@@||cdn.example^").exceptions
    (['ads.example'], ['cdn.example'])
    """
    text = line.strip().lower()
    if not text or text[0] in "#!" or (text[0] == "[" and text[-1] == "]"):
        return Line([], [], "")
    if "||" in text or text.startswith("@@"):
        rule = _RULE.fullmatch(text)
        if rule is None:
            return Line([], [], "a rule for parts of pages, not for a whole name")
        names, fault = _names_of([rule["name"]])
        return Line([], names, fault) if rule["exception"] else Line(names, [], fault)
    if (setting := _DNSMASQ.fullmatch(text)) is not None:
        return _read_setting(setting)
    # A mark of comment inside a word is part of it.
    words = re.split(r"(?:^|\s)#", text, maxsplit=1)[0].split()
    if words[0] in _NOWHERE:
        names, fault = _names_of(words[1:])
        return Line(names, [], fault)
    if _is_address(words[0]):
        if len(words) > 1 and set(words[1:]) <= _OWN_NAMES:
            return Line([], [], "")
        return Line([], [], f"{words[0]} is an address that leads somewhere, and this is a list of names to block")
    if len(words) > 1:
        return Line([], [], "neither a name alone nor an address and names")
    names, fault = _names_of(words)
    return Line(names, [], fault)


def _read_setting(setting: re.Match[str]) -> Line:
    value = setting["value"]
    names, fault = _names_of(setting["names"].split("/"))
    if setting["option"] == "address":
        if value not in _NOWHERE and value not in ("", "#"):
            fault = f"{first_token(value)} leads somewhere, and this is a list of names to block"
            return Line([], [], fault)
        return Line(names, [], fault)
    if value == "#":
        # "As any other name", which is how exceptions are written there.
        return Line([], names, fault)
    if value:
        return Line([], [], "a server for names, and this is a list of names to block")
    return Line(names, [], fault)


def _names_of(words: Iterable[str]) -> tuple[list[str], str]:
    """Return the names among some words up to the first that is none, and what is wrong with that."""
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
