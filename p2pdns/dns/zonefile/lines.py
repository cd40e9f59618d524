"""Lines of a zone file as a record sees them: one, or several where parentheses hold them together.

Guarantees: every line of the text is in exactly one `LogicalLine`, in order; one mistake hides nothing that stands
below it: a parenthesis that nothing closes ends with its line. The work is linear in the text but for the lines
behind such parentheses, which are looked at once more, `RECORD_LINES_MAX` at most. Does not know what a line says.
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
    """What one record is written in; `number` is its first line, `trouble` what keeps it from being read.

    The trouble is (line, what, hint).
    """

    number: int
    text: str
    trouble: tuple[int, str, str] | None = None


def normalised(text: str) -> str:
    """Return a text with \\n at the end of each line and without a byte order mark."""
    return text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")


def logical_lines(text: str) -> Iterator[LogicalLine]:
    """Yield the lines of a text that was normalised.

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
    """Return what is wrong with a line, and how deep in parentheses its end is."""
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
            trouble = (
                "the quotes are not closed",
                'a string in quotes ends on its own line, and " in it is written \\"',
            )
        elif piece[0] == "\\":
            trouble = ("a backslash at the end of the line", "it is followed by three digits or by one character")
    return trouble, depth
