"""Texts that are names: names in a configuration, suffixes, petnames, and the shape of zone keys.

Guarantees: an accepted name has ASCII letters only, and none of its labels begins or ends with a hyphen (RFC 5891
§4.2.3.1); a petname or a suffix never looks like a zone key, and comes back in lower case. Does not know what a name
stands for, whether a zone key is valid (items/keys), nor names of DNS messages (dns/name).
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from p2pdns.errors import ConfigError

ZONE_KEY_CHARACTERS = 52  # 32 bytes in z-base-32.
ZONE_KEY_ALPHABET = "ybndrfg8ejkmcpqxot1uwisza345h769"  # z-base-32.
DEFAULT_SUFFIXES = ("p2p.alt", "p2pdns.internal")
SUFFIX_CHARACTERS_MAX = 100  # A name has 255: a zone key takes 53 of them, and the labels below it need room too.
NAME_CHARACTERS_MAX = 253  # RFC 1035 §2.3.4 in text, without escapes and final dot.

_ZONE_KEY_BYTES = frozenset((ZONE_KEY_ALPHABET + ZONE_KEY_ALPHABET.upper()).encode())
_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?", re.IGNORECASE | re.ASCII)


def is_zone_key_label(label: bytes) -> bool:
    """Return whether a label has the shape of a zone key, valid or not: 52 letters of z-base-32, in any case.

    >>> is_zone_key_label(b"y" * 52), is_zone_key_label(b"Y" * 52), is_zone_key_label(b"l" * 52)
    (True, True, False)
    """
    return len(label) == ZONE_KEY_CHARACTERS and _ZONE_KEY_BYTES.issuperset(label)


def is_zone_key_text(text: str) -> bool:
    """Return whether a text has the shape of a zone key."""
    return is_zone_key_label(text.encode("utf-8", "replace"))


def is_plain_name(text: str) -> bool:
    """Return whether a text is a name without a final dot, of labels of letters, digits, hyphens and underscores.

    >>> is_plain_name("_dns.home.arpa"), is_plain_name("-x.arpa"), is_plain_name("a..b")
    (True, False, False)
    """
    return len(text) <= NAME_CHARACTERS_MAX and all(_LABEL.fullmatch(label) for label in text.split("."))


def read_suffix(text: str) -> str:
    """Return a suffix in lower case, without dots at its ends."""
    suffix = text.strip(".")
    # The check comes before `lower`, which turns some letters outside ASCII into ASCII ones.
    if not is_plain_name(suffix) or len(suffix) > SUFFIX_CHARACTERS_MAX:
        raise ConfigError(f'"{text}" is not a suffix', hint='labels of letters, digits and "-", as p2p.alt')
    if is_zone_key_text(suffix.rpartition(".")[2]):
        raise ConfigError(f'"{text}" ends in a zone key', hint="zone keys are answered without a suffix")
    return suffix.lower()


def read_petname(text: str) -> str:
    """Return a petname in lower case: one label that does not have the shape of a zone key.

    >>> read_petname("Alice")
    'alice'
    """
    if not _LABEL.fullmatch(text):
        raise ConfigError(f'"{text}" is not a petname', hint='one label of letters, digits, "-" and "_", 63 at most')
    if is_zone_key_text(text):
        raise ConfigError(f'"{text}" looks like a zone key', hint="a petname must be told from a zone key at a glance")
    return text.lower()


def refuse_suffix_word(petname: str, suffixes: Iterable[str]) -> None:
    """Raise a ConfigError for a petname that is a label of a suffix: `resolve www.p2p.alt` must keep its meaning."""
    for text in suffixes:
        if petname in text.split("."):
            raise ConfigError(f'"{petname}" is a word of the suffix {text}', hint="choose another name")
