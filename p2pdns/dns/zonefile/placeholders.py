"""`{zone:NAME}` in zone files: a placeholder for the zone key that has this name.

Guarantees: a key is filled in where a name can stand and nowhere else, and every line keeps its number. Each
placeholder that cannot be filled is a mistake with its line. Does not know the keys behind the names, or the records.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from p2pdns.dns.zonefile.lines import normalised
from p2pdns.errors import ZoneFileError, did_you_mean
from p2pdns.naming import ZONE_KEY_CHARACTERS

# Comments, strings in quotes and escaped characters are text, so braces inside them are no placeholder.
_PLACEHOLDER = re.compile(
    r'(?P<kept>;[^\n]*|"(?:[^"\\\n]|\\[^\n])*"?|\\.)|\{zone:(?P<name>[^\s{}"();]*)(?P<end>\}?)',
    re.IGNORECASE | re.DOTALL,
)
_PLACEHOLDER_HINT = "{zone:NAME}. stands for a key as the last label of a name; in quotes it is text"
_BEFORE_LABEL = ' \t\n()."'
_ANY_KEY = "y" * ZONE_KEY_CHARACTERS  # Filled in where no key is known, so that the rest of the file can be read.


@dataclass(frozen=True)
class FilledText:
    """A text with its placeholders filled, and the mistakes of those that could not be filled."""

    text: str
    mistakes: tuple[ZoneFileError, ...]


def placeholders(text: str) -> tuple[str, ...]:
    """Return the names in the placeholders, in lower case, each once, in the order of the text.

    >>> placeholders('www CNAME www.{zone:Bob}. ; {zone:carol}')
    ('bob',)
    """
    names = (match["name"].lower() for match in _PLACEHOLDER.finditer(normalised(text)) if match["kept"] is None)
    return tuple(dict.fromkeys(name for name in names if name))


def escaped(text: str) -> str:
    r"""Return the text with what would be a placeholder written as the name that it is.

    >>> print(escaped("www CNAME {zone:bob}."))
    www CNAME \{zone:bob}.
    """
    return _PLACEHOLDER.sub(lambda match: match[0] if match["kept"] is not None else f"\\{match[0]}", text)


def fill(text: str, keys: Mapping[str, str], *, path: str) -> FilledText:
    """Return the text with each `{zone:NAME}` replaced by the key of that name; `keys` has names in lower case.

    Where a name has no key, or where no name of another zone can stand, that is a mistake, and some other key is
    filled in. Comments and strings in quotes stay as they are.

    >>> fill("bob NS {zone:bob}.", {"bob": "tkrq"}, path="a.zone").text
    'bob NS tkrq.'
    """
    text = normalised(text)
    parts = []
    mistakes: list[ZoneFileError] = []
    unfilled: set[str] = set()
    copied = 0
    for match in _PLACEHOLDER.finditer(text):
        if match["kept"] is not None:
            continue
        key = keys.get(match["name"].lower())
        trouble = _placeholder_trouble(text, match)
        # One flag fills a name in every line, so a name without a key is one mistake, at its first line.
        if trouble is None and key is None and match["name"].lower() not in unfilled:
            unfilled.add(match["name"].lower())
            name = match["name"]
            near = did_you_mean(name.lower(), keys, shown="{{zone:{}}}")
            hint = near or f"--zone {name}=KEY, or p2pdns name add {name} KEY"
            trouble = f"{match[0]} is not filled: no zone key goes by that name here", hint
        if trouble is not None:
            line = text.count("\n", 0, match.start()) + 1
            mistakes.append(ZoneFileError(trouble[0], path=path, line=line, hint=trouble[1]))
        parts += [text[copied : match.start()], key or _ANY_KEY]
        copied = match.end()
    return FilledText("".join([*parts, text[copied:]]), tuple(mistakes))


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
