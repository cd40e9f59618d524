"""Logical lines of a zone file: one line of text, or several inside parentheses.

Guarantees: every line of the text is in exactly one `LogicalLine`, in order. A mistake hides nothing below it: a
parenthesis that is not closed ends with its line. The work is linear in the text, except that up to `RECORD_LINES_MAX`
lines behind such a parenthesis are read twice. Does not know the records in a line.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

RECORD_LINES_MAX = 2_000  # RDATA of 65,535 bytes takes 1,366 lines of base64, and not every line is full.
RECORD_CHARACTERS_MAX = 1_048_576  # The same RDATA with every byte written as \DDD, three times over.

_PIECE = re.compile(r';.*|"(?:[^"\\]|\\.)*(?P<end>["\\]?)|\\.?|(?P<round>[()])')
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f]")
_NEED_A_LOOK = frozenset('()"\\')


@dataclass(frozen=True, slots=True)
class LogicalLine:
    """The text of one record; `number` is its first line, `trouble` is (line, what, hint) where it cannot be read."""

    number: int
    text: str
    trouble: tuple[int, str, str] | None = None


def normalised(text: str) -> str:
    """Return a text with \\n at the end of each line and without a byte order mark."""
    return text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")


def logical_lines(text: str) -> Iterator[LogicalLine]:
    """Yield the logical lines of a normalised text.

    >>> [line.number for line in logical_lines("a TXT (\\n x )\\nb TXT y")]
    [1, 3]
    """
    lines = text.split("\n")
    index = 0
    while index < len(lines):
        line = _logical_line(lines, index)
        yield line
        index += line.text.count("\n") + 1


def _logical_line(lines: list[str], start: int) -> LogicalLine:
    number = start + 1
    trouble: tuple[int, str, str] | None = None
    depth = size = 0
    for index in range(start, min(len(lines), start + RECORD_LINES_MAX)):
        line = lines[index]
        size += len(line) + 1
        if size > RECORD_CHARACTERS_MAX:
            break
        found, depth = _after(line, depth)
        if found is not None and trouble is None:
            trouble = (index + 1, *found)
        if depth == 0:
            return LogicalLine(number, "\n".join(lines[start : index + 1]), trouble)
    if size > RECORD_CHARACTERS_MAX:
        what = f"a record of more than {RECORD_CHARACTERS_MAX} characters"
        return LogicalLine(number, lines[start], (number, what, "is it the right file?"))
    return LogicalLine(number, lines[start], (number, "the parentheses are not closed", "put ) behind the last value"))


def _after(line: str, depth: int) -> tuple[tuple[str, str] | None, int]:
    """Return the mistake in a line, and the depth of parentheses at its end."""
    trouble: tuple[str, str] | None = None
    if not line.isprintable() and (odd := _CONTROL.search(line)):
        trouble = (f"a control character, 0x{ord(odd[0]):02x}, in column {odd.start() + 1}", "is it the right file?")
    if _NEED_A_LOOK.isdisjoint(line):
        return trouble, depth
    for piece in _PIECE.finditer(line):
        if piece["round"] == "(":
            depth += 1
        elif piece["round"] == ")":
            if depth == 0:
                return ("a closing parenthesis without an opening one", "remove it, or put ( before the values"), 0
            depth -= 1
        elif piece[0][0] == '"' and piece["end"] != '"':
            hint = 'a string in quotes ends on its own line, and " in it is written \\"'
            trouble = ("the quotes are not closed", hint)
        elif piece[0] == "\\":
            trouble = ("a backslash at the end of the line", "it is followed by three digits or by one character")
    return trouble, depth
