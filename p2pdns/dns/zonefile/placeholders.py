"""Placeholders in zone files: `{zone:NAME}` for a zone key, `{public_ipv4}` and `{public_ipv6}` for an address.

Guarantees: a key is filled in where a name can stand, an address where an address can, and neither anywhere else; every
line keeps its number. Each placeholder that cannot be filled is a mistake with its line. Does not know the keys behind
the names, where an address comes from, or the records.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from p2pdns.dns.zonefile.lines import normalised
from p2pdns.errors import ZoneFileError, did_you_mean
from p2pdns.naming import ZONE_KEY_CHARACTERS

# Comments, strings in quotes and escaped characters are text, so braces inside them are no placeholder.
_KEPT = r'(?P<kept>;[^\n]*|"(?:[^"\\\n]|\\[^\n])*"?|\\.)'
_BRACED = r'\{(?:zone:(?P<name>[^\s{}"();]*)|(?P<public>public_[^\s{}"();,]*))(?P<end>\}?)'
_PLACEHOLDER = re.compile(f"{_KEPT}|{_BRACED}", re.IGNORECASE | re.DOTALL)
_PLACEHOLDER_HINT = "{zone:NAME}. stands for a key as the last label of a name; in quotes it is text"
PUBLIC = {"public_ipv4": "192.0.2.1", "public_ipv6": "2001:db8::1"}
"""The placeholders for a public address, each with an address for documentation (RFC 5737, RFC 3849)."""
_PUBLIC_HINT = "{public_ipv4} and {public_ipv6} stand for an address, as in: home A {public_ipv4}"
# An address is a word of its own, or one of a list as in ipv4hint={public_ipv4},192.0.2.7.
_BEFORE_ADDRESS, _BEHIND_ADDRESS = " \t(=,", " \t\n);,"
_BEFORE_LABEL = ' \t\n()."'
_ANY_KEY = "y" * ZONE_KEY_CHARACTERS  # Filled in where no key is known, so that the rest of the file can be read.


@dataclass(frozen=True)
class FilledText:
    """A text with its placeholders filled, and the mistakes of those that could not be filled."""

    text: str
    mistakes: tuple[ZoneFileError, ...]


@dataclass(frozen=True)
class Unfilled:
    """Why there is no address for a placeholder, with a hint."""

    what: str
    hint: str


Addresses = Mapping[str, str | Unfilled]
"""What each placeholder of `PUBLIC` stands for."""

# Most readers of zone files have no daemon to ask, and an address for documentation must not be signed.
_UNKNOWN = Unfilled("the address is not known here", "write the address itself; publish asks the running daemon for it")
NO_ADDRESSES: Addresses = dict.fromkeys(PUBLIC, _UNKNOWN)


def placeholders(text: str) -> tuple[str, ...]:
    """Return the names in the placeholders, in lower case, each once, in the order of the text.

    >>> placeholders('www CNAME www.{zone:Bob}. ; {zone:carol}')
    ('bob',)
    """
    return tuple(dict.fromkeys(match["name"].lower() for match in _found(normalised(text)) if match["name"]))


def escaped(text: str) -> str:
    r"""Return the text with what would be a placeholder written as the name that it is.

    >>> print(escaped("www CNAME {zone:bob}."))
    www CNAME \{zone:bob}.
    """
    return _PLACEHOLDER.sub(lambda match: match[0] if match["kept"] is not None else f"\\{match[0]}", text)


def public_placeholders(text: str) -> tuple[str, ...]:
    """Return the placeholders for a public address, each once, in the order of the text.

    >>> public_placeholders('@ A {public_ipv4}\\n@ AAAA {Public_IPv6} ; {public_ipv4}')
    ('public_ipv4', 'public_ipv6')
    """
    words = (match["public"].lower() for match in _found(normalised(text)) if match["public"])
    return tuple(dict.fromkeys(word for word in words if word in PUBLIC))


def _found(text: str) -> Iterator[re.Match[str]]:
    return (match for match in _PLACEHOLDER.finditer(text) if match["kept"] is None)


def fill(text: str, keys: Mapping[str, str], addresses: Addresses = NO_ADDRESSES, *, path: str) -> FilledText:
    """Return the text with each placeholder replaced by what it stands for; `keys` has names in lower case.

    Where a placeholder has nothing to stand for, or stands where its value cannot, that is a mistake, and some other
    value is filled in. Comments and strings in quotes stay as they are.

    >>> fill("bob NS {zone:bob}.", {"bob": "tkrq"}, path="a.zone").text
    'bob NS tkrq.'
    """
    text = normalised(text)
    parts = []
    mistakes: list[ZoneFileError] = []
    unfilled: set[str] = set()
    copied = 0
    for match in _found(text):
        word = (match["name"] if match["public"] is None else match["public"]).lower()
        if match["public"] is None:
            value, missing = keys.get(word) or _ANY_KEY, _key_missing(match, keys)
            misplaced = _placeholder_trouble(text, match)
        else:
            known = addresses.get(word)
            value, missing = known if isinstance(known, str) else PUBLIC.get(word, "192.0.2.1"), None
            if isinstance(known, Unfilled):
                missing = f"{match[0]} is not filled: {known.what}", known.hint
            misplaced = _address_trouble(text, match)
        trouble = misplaced
        # One flag or one report fills a placeholder in every line, so one that is not filled is one mistake.
        if trouble is None and missing is not None and match[0].lower() not in unfilled:
            unfilled.add(match[0].lower())
            trouble = missing
        if trouble is not None:
            line = text.count("\n", 0, match.start()) + 1
            mistakes.append(ZoneFileError(trouble[0], path=path, line=line, hint=trouble[1]))
        parts += [text[copied : match.start()], value]
        copied = match.end()
    return FilledText("".join([*parts, text[copied:]]), tuple(mistakes))


def _key_missing(match: re.Match[str], keys: Mapping[str, str]) -> tuple[str, str] | None:
    name = match["name"]
    if keys.get(name.lower()) is not None:
        return None
    near = did_you_mean(name.lower(), keys, shown="{{zone:{}}}")
    hint = near or f"--zone {name}=KEY, or p2pdns name add {name} KEY"
    return f"{match[0]} is not filled: no zone key goes by that name here", hint


def _address_trouble(text: str, match: re.Match[str]) -> tuple[str, str] | None:
    word = match["public"].lower()
    if word not in PUBLIC or not match["end"]:
        return f'cannot read "{match[0]}"', _PUBLIC_HINT
    before, behind = text[: match.start()][-1:], text[match.end() : match.end() + 1]
    if before not in _BEFORE_ADDRESS or behind not in _BEHIND_ADDRESS or not before:
        return f"{match[0]} stands where no address can", _PUBLIC_HINT
    return None


def _placeholder_trouble(text: str, match: re.Match[str]) -> tuple[str, str] | None:
    """Return the mistake in the place or the form of a placeholder, with a hint; None where there is none."""
    if not match["name"] or not match["end"]:
        return f'cannot read "{match[0]}"', _PLACEHOLDER_HINT
    if match.start() and text[match.start() - 1] not in _BEFORE_LABEL:
        return f"{match[0]} stands inside a label", _PLACEHOLDER_HINT
    if text[match.end() : match.end() + 1] != ".":
        # Every reader of zone files takes a key without a final dot for a name of this zone, which is never meant.
        return f"{match[0]} has no final dot, so it would be a name inside this zone", f"write {match[0]}."
    return None
