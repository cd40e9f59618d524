"""`{zone:NAME}` in zone files: the zone keys of others, by a name.

Guarantees: keys are put where names can stand and nowhere else, and every line stays where it was; every placeholder
that cannot be filled is told, with its line. Does not know whose names these are, nor what the file says.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from p2pdns.dns.zonefile.lines import normalised
from p2pdns.errors import KEY_FILE_MARK, ZoneFileError, did_you_mean, together
from p2pdns.naming import ZONE_KEY_CHARACTERS

# What a text passes through on its way to a placeholder: comments, strings in quotes, escaped characters.
_PLACEHOLDER = re.compile(
    r'(?P<kept>;[^\n]*|"(?:[^"\\\n]|\\[^\n])*"?|\\.)|\{zone:(?P<name>[^\s{}"();]*)(?P<end>\}?)',
    re.IGNORECASE | re.DOTALL,
)
_PLACEHOLDER_HINT = "{zone:NAME}. stands for a key as the last label of a name; in quotes it is text"
_BEFORE_LABEL = ' \t\n()."'
_ANY_KEY = "y" * ZONE_KEY_CHARACTERS  # Stands where no key is known, so that the rest of the file can be read.


@dataclass(frozen=True)
class FilledText:
    """A text in which the placeholders are filled, and what is wrong with those that are not."""

    text: str
    mistakes: tuple[ZoneFileError, ...]


def placeholders(text: str) -> tuple[str, ...]:
    """Return the names that `{zone:NAME}` asks for, in lower case, each once, in the order of the text.

    >>> placeholders('www CNAME www.{zone:Bob}. ; {zone:carol}')
    ('bob',)
    """
    names = (match["name"].lower() for match in _PLACEHOLDER.finditer(normalised(text)) if match["kept"] is None)
    return tuple(dict.fromkeys(name for name in names if name))


def filled(text: str, keys: Mapping[str, str], *, path: str) -> str:
    """Return the text with each `{zone:NAME}` replaced by the key of that name, written in lower case in `keys`.

    ZoneFileError with path and line where a name has no key, and where no name of another zone can stand. Comments and
    strings in quotes stay as they are.

    >>> filled("bob NS {zone:bob}.", {"bob": "tkrq"}, path="a.zone")
    'bob NS tkrq.'
    """
    filling = fill(text, keys, path=path)
    if filling.mistakes:
        raise told(together(filling.mistakes), text)
    return filling.text


def fill(text: str, keys: Mapping[str, str], *, path: str) -> FilledText:
    """Return the same without raising: what cannot be filled is a mistake, and some key or other stands there."""
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
        # One word of the command line fills a name wherever it stands, so its first line stands for all of them.
        if trouble is None and key is None and match["name"].lower() not in unfilled:
            unfilled.add(match["name"].lower())
            trouble = _unfilled(match[0], match["name"], keys)
        if trouble is not None:
            line = text.count("\n", 0, match.start()) + 1
            mistakes.append(ZoneFileError(trouble[0], path=path, line=line, hint=trouble[1]))
        parts += [text[copied : match.start()], key or _ANY_KEY]
        copied = match.end()
    return FilledText("".join([*parts, text[copied:]]), tuple(mistakes))


def told(trouble: ZoneFileError, text: str) -> ZoneFileError:
    """Return the error as it may be told about this text."""
    return trouble.without_lines() if KEY_FILE_MARK in text else trouble


def _placeholder_trouble(text: str, match: re.Match[str]) -> tuple[str, str] | None:
    """Return what is wrong with the place or the form of a placeholder, and a hint."""
    if not match["name"] or not match["end"]:
        return f'cannot read "{match[0]}"', _PLACEHOLDER_HINT
    if match.start() and text[match.start() - 1] not in _BEFORE_LABEL:
        return f"{match[0]} stands inside a label", _PLACEHOLDER_HINT
    if text[match.end() : match.end() + 1] != ".":
        # A key without a dot behind it is a name of this zone to every reader of zone files, and never meant.
        return f"{match[0]} has no final dot, so it would be a name inside this zone", f"write {match[0]}."
    return None


def _unfilled(placeholder: str, name: str, keys: Mapping[str, str]) -> tuple[str, str]:
    near = did_you_mean(name.lower(), keys, shown="{{zone:{}}}")
    hint = near or f"--zone {name}=KEY, or p2pdns name add {name} KEY"
    return f"{placeholder} is not filled: no zone key goes by that name here", hint
