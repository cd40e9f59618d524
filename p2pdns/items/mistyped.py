"""Mistyped zone keys, with a character lost or a dot inside, and keys with something round them: `pk:KEY`, `KEY:443`.

Guarantees: the fault of a label is a short text, which is empty where the label is not like a key. A text with a name
in it is reduced to that name, and any other text is left as it is. Does not know whether a zone exists.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

from p2pdns.errors import FormatError
from p2pdns.items.keys import ZoneKey
from p2pdns.naming import ZONE_KEY_ALPHABET, ZONE_KEY_CHARACTERS, is_zone_key_label

MISTYPED_CHARACTERS_MIN, MISTYPED_CHARACTERS_MAX = 50, 54  # Two characters lost or doubled.
PARTS_MAX = 4  # Labels into which dots cut a key.
# A shorter part may be a top-level domain: with it, the parts count as a key only where they make a valid one.
PART_CHARACTERS_MIN = 10
LABELS_REMEMBERED_MAX = 4_096  # Labels judged, 300 bytes each.
# Private networks append these to names without a final dot; no public name ends in them.
PRIVATE_TOPS = frozenset(b"corp domain home host intranet lan local localdomain localnet private workgroup".split())

_BLANKS = " \t\r\n\v\f_.,;\"'`<>()[]{}"
_DRESS = re.compile(r"(?:pk:/{0,3}|[a-z][a-z0-9+.-]*:/{1,3})+", re.IGNORECASE)
_PORT = re.compile(r":[0-9]{0,5}$")


def undressed(text: str) -> str:
    """Return the name in a text that was typed or pasted: without blanks, `pk:`, scheme, user, port and path.

    >>> undressed(" https://www.Example:443/path ? "), undressed("pk:abc"), undressed("1/25.2.0.192.in-addr.arpa")
    ('www.Example', 'abc', '1/25.2.0.192.in-addr.arpa')
    """
    text = text.strip()
    dress = _DRESS.match(text)
    inner = text[dress.end() :] if dress else text
    host = _PORT.sub("", re.split(r"[/?#]", inner, maxsplit=1)[0].rpartition("@")[2])
    # A word of a command line that was not UTF-8 has characters that cannot be encoded again.
    last = host.removesuffix(".").rpartition(".")[2].encode("utf-8", "replace")
    # A name may have a slash in it (RFC 2317), and any other byte, so only the surroundings of a key are removed.
    return host if dress or is_zone_key_label(last) else text


@lru_cache(maxsize=LABELS_REMEMBERED_MAX)
def fault_of(label: bytes) -> str:
    """Return the fault of a label that is like a zone key; empty where it is a key's label, or not like one.

    >>> fault_of(b"y" * 51), fault_of(b"y" * 51 + b"l"), fault_of(b"y" * 52), fault_of(b"www")
    ('51 characters; a zone key has 52', '"l" is in no zone key', '', '')
    """
    if len(label) < MISTYPED_CHARACTERS_MIN or is_zone_key_label(label):
        return ""
    text = label.decode("utf-8", "replace").lower()
    if text.startswith("xn--"):
        # A key with one letter of another alphabet becomes an xn-- label: its 51 other letters, "-" and a code.
        text = text[4:].rpartition("-")[0] + "\ufffd"
    if fault := _fault_of(text):
        return fault
    bare = undressed(text.strip(_BLANKS)).strip(_BLANKS).rpartition(".")[2]
    if bare != text and (is_zone_key_label(bare.encode()) or _fault_of(bare)):
        return _fault_of(bare) or "a zone key stands there with something round it"
    return ""


def _fault_of(text: str) -> str:
    strange = [character for character in text if character not in ZONE_KEY_ALPHABET]
    if not strange and MISTYPED_CHARACTERS_MIN <= len(text) <= MISTYPED_CHARACTERS_MAX:
        is_whole = len(text) == ZONE_KEY_CHARACTERS
        return "" if is_whole else f"{len(text)} characters; a zone key has {ZONE_KEY_CHARACTERS}"
    if len(strange) == 1 and len(text) == ZONE_KEY_CHARACTERS:
        shown = f'"{strange[0]}"' if " " <= strange[0] < "\x7f" else "a character outside ASCII"
        return f"{shown} is in no zone key"
    return ""


def fault_at_end(labels: Sequence[bytes]) -> tuple[str, int]:
    """Return the fault of the last labels of a name and their count; empty and 0 where they are not like a key."""
    if not labels:
        return "", 0
    if fault := fault_of(labels[-1]):
        return fault, 1
    for count in range(2, min(PARTS_MAX, len(labels)) + 1):
        parts = labels[-count:]
        whole = b"".join(parts)
        if len(whole) > ZONE_KEY_CHARACTERS:
            break
        if is_zone_key_label(whole) and (min(map(len, parts)) >= PART_CHARACTERS_MIN or is_key(whole)):
            return f"a zone key of {ZONE_KEY_CHARACTERS} characters has no dot in it", count
    return "", 0


@lru_cache(maxsize=LABELS_REMEMBERED_MAX)
def key_inside(label: bytes) -> bool:
    """Return whether a label is a valid zone key with something round it, such as `pk:KEY` or `KEY:443/index`."""
    if len(label) <= ZONE_KEY_CHARACTERS:
        return False
    text = label.decode("latin-1").strip(_BLANKS)
    return is_key(undressed(text).strip(_BLANKS).rpartition(".")[2].encode("latin-1"))


def is_key(label: bytes) -> bool:
    """Return whether a label is a valid zone key."""
    try:
        return bool(ZoneKey.of_label(label))
    except FormatError:
        return False
