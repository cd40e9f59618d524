"""Block lists: millions of blocked names in little memory, and the reader of the lines of a list.

Guarantees: a name is blocked if it or a name above it was added, and neither it nor a name above it is an exception;
by accident of its hash one other name in 2⁶⁴⁻²² is blocked too; an added name costs some 12 bytes. Does not know files,
nor the answer for a blocked name.
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

NAMES_MAX = 4_194_304  # 50 MB; the longest published lists have a quarter of it.
EXCEPTIONS_MAX = 65_536  # 5 MB; people write some tens, and the longest list of exceptions has some thousand.
FOUND_MAX = 4_096  # Names whose result is remembered, some 250 bytes each.
HASH_BYTES = 8
BUCKETS = 1 << 16  # By the first two bytes of a hash; a bucket of a million names holds some fifteen.
_REST_BYTES = HASH_BYTES - 2
_NAME = re.compile(r"(?=.{1,253}\Z)[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*", re.ASCII)
# A rule for a whole name in the syntax of ad blockers: `||ads.example^`, `@@` before an exception, and at the end the
# options that make no difference for a whole name.
_RULE = re.compile(r"(?P<exception>@@)?\|\|(?P<name>[^\^|*/$]+)\^?\|?(\$(important|all|document))?\Z")
# A line of dnsmasq: at and below the names between /, an address is answered, or no upstream is asked (local, server).
_DNSMASQ = re.compile(r"(?P<option>address|local|server)=/(?P<names>[^#]*)/(?P<value>[^/]*)\Z")
# The addresses by which a hosts file blocks a name.
_NOWHERE = frozenset({"0.0.0.0", "127.0.0.1", "::", "::1"})
# Every hosts file has these names of the machine itself and of its link; they are not to be blocked.
_OWN_NAMES = frozenset(
    [
        *("localhost", "localhost.localdomain", "local", "broadcasthost", "0.0.0.0", "ip6-localhost", "ip6-loopback"),
        *("ip6-localnet", "ip6-mcastprefix", "ip6-allnodes", "ip6-allrouters", "ip6-allhosts"),
    ]
)


def _hash_of(text: bytes) -> bytes:
    # The hash needs no key: an author of a list who makes two names collide could as well list both.
    return hashlib.blake2b(text, digest_size=HASH_BYTES).digest()


class BlockedNames:
    """The names of all lists together."""

    def __init__(self, names: Iterable[str] = ()) -> None:
        self._buckets: list[bytearray | None] = [None] * BUCKETS
        self._count = 0
        self._labels_max = 0
        self._exceptions: set[bytes] = set()
        # Results by the labels of a name from the root: hundreds of names in a message have the same end.
        self._found: dict[tuple[bytes, ...], _Found] = {}
        for name in names:
            self.add(name)

    def __len__(self) -> int:
        return self._count

    @property
    def exception_count(self) -> int:
        return len(self._exceptions)

    @property
    def is_full(self) -> bool:
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
        # Listed names have a few labels, but a message of an upstream may have many owners of a hundred labels.
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
        # A dot inside a label is not escaped: at worst, a name is blocked whose text is that of a listed name.
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
    # A match that begins in the middle of an entry is not an entry.
    while at >= 0 and at % _REST_BYTES:
        at = bucket.find(rest, at + 1)
    return at >= 0


class Line(NamedTuple):
    """A line of a list as read: names to block, names that are exceptions, and the fault of the line, empty if none."""

    names: list[str]
    exceptions: list[str]
    fault: str


def read_line(line: str) -> Line:
    """Read a line of a list in any of four forms.

    A name, or `*.` and a name; an address that leads nowhere and then names, as in a hosts file; `||NAME^`, or
    `@@||NAME^` for an exception, as ad blockers write it; `address=/NAME/`, `local=/NAME/` or `server=/NAME/`, as
    dnsmasq does.

    >>> read_line("0.0.0.0 Ads.Example # a comment").names, read_line("@@||cdn.example^").exceptions
    (['ads.example'], ['cdn.example'])
    """
    text = line.strip().lower()
    if not text or text[0] in "#!" or (text[0] == "[" and text[-1] == "]"):
        return _faulty("")
    if "||" in text or text.startswith("@@"):
        rule = _RULE.fullmatch(text)
        if rule is None:
            return _faulty("a rule for parts of pages, not for a whole name")
        return _line_of([rule["name"]], is_exception=bool(rule["exception"]))
    if (setting := _DNSMASQ.fullmatch(text)) is not None:
        return _read_setting(setting)
    # A # inside a word begins no comment.
    words = re.split(r"(?:^|\s)#", text, maxsplit=1)[0].split()
    if words[0] in _NOWHERE:
        return _line_of(words[1:])
    if _is_address(words[0]):
        if len(words) > 1 and set(words[1:]) <= _OWN_NAMES:
            return _faulty("")
        return _faulty(f"{words[0]} is an address that leads somewhere, and this is a list of names to block")
    if len(words) > 1:
        return _faulty("neither a name alone nor an address and names")
    return _line_of(words)


def _read_setting(setting: re.Match[str]) -> Line:
    value, names = setting["value"], setting["names"].split("/")
    if setting["option"] == "address" and value not in _NOWHERE and value not in ("", "#"):
        return _faulty(f"{first_token(value)} leads somewhere, and this is a list of names to block")
    if setting["option"] == "address" or not value:
        return _line_of(names)
    # To dnsmasq # means "as any other name": an exception.
    if value == "#":
        return _line_of(names, is_exception=True)
    return _faulty("a server for names, and this is a list of names to block")


def _faulty(fault: str) -> Line:
    return Line([], [], fault)


def _line_of(words: Iterable[str], *, is_exception: bool = False) -> Line:
    """Return a line with the names up to the first word that is no name, and the fault of that word."""
    names: list[str] = []
    fault = ""
    for word in words:
        name = word.removeprefix("*.").removesuffix(".")
        if name in _OWN_NAMES:
            continue
        if not _NAME.fullmatch(name):
            fault = f'"{first_token(word)}" is not a name'
            break
        names.append(name)
    return Line([], names, fault) if is_exception else Line(names, [], fault)


def _is_address(word: str) -> bool:
    # A word that ends in a letter is no IPv4 address; to find that out, `ip_address` takes twenty times as long.
    if word[-1].isalpha() and ":" not in word:
        return False
    try:
        ipaddress.ip_address(word)
    except ValueError:
        return False
    return True
