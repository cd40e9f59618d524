"""`$GENERATE`: one line that stands for many, as in BIND's manual.

Guarantees: the number of lines is known before one is made, and no line is longer than its template allows.
Does not know names, types or values: templates are text.
"""

from __future__ import annotations

import re

from p2pdns.dns.zonefile.entries import LineError

NUMBER_DIGITS_MAX = 10  # Ranges count up to 2**31 - 1 in BIND.
WIDTH_MAX = 127  # As in BIND; a label has 63 bytes.

_NUMBER = rf"\d{{1,{NUMBER_DIGITS_MAX}}}"
_RANGE = re.compile(rf"({_NUMBER})-({_NUMBER})(?:/({_NUMBER}))?", re.ASCII)
_MODIFIER = rf"\{{(?P<offset>[+-]?{_NUMBER})(?:,(?P<width>\d{{1,3}})(?:,(?P<base>[doxXnN]))?)?\}}"
_DOLLAR = re.compile(rf"\\.|\$(?:(?P<twice>\$)|{_MODIFIER}|(?P<bad>\{{))?", re.DOTALL | re.ASCII)


def range_of(text: str) -> range:
    """Return the numbers of a range in text, `START-STOP[/STEP]`.

    >>> list(range_of("1-7/3"))
    [1, 4, 7]
    """
    match = _RANGE.fullmatch(text)
    step = int(match[3] or 1) if match else 0
    if match is None or not step or int(match[1]) > int(match[2]):
        raise LineError("$GENERATE needs a range", "as 1-10 or 0-100/2")
    return range(int(match[1]), int(match[2]) + 1, step)


def substituted(template: str, number: int) -> str:
    r"""Return a template with each $ or `${OFFSET[,WIDTH[,BASE]]}` replaced by the number, in that form.

    `$$` becomes a dollar sign. A backslash and the character behind it stay as they are.

    >>> substituted("h${-1,3,d}.$$.x", 10)
    'h009.$.x'
    """
    return _DOLLAR.sub(lambda match: _replacement(match, number), template)


def _replacement(match: re.Match[str], number: int) -> str:
    if match[0][0] == "\\":
        return match[0]
    if match["twice"]:
        return "$"
    if match["bad"]:
        raise LineError("$GENERATE cannot read what stands behind ${", "write ${OFFSET,WIDTH,BASE}, as ${-1,3,d}")
    value = number + int(match["offset"] or 0)
    width = int(match["width"] or 0)
    base = match["base"] or "d"
    if width > WIDTH_MAX:
        raise LineError(f"$GENERATE has a width of {width}, at most {WIDTH_MAX} are allowed")
    if base not in "nN":
        return format(value, base).zfill(width)
    if value < 0:
        raise LineError("$GENERATE has no nibbles for a number below 0")
    digits = format(value, "x" if base == "n" else "X").zfill((width + 1) // 2)
    text = ".".join(reversed(digits))
    # BIND counts the dots too, and fills an even width with one at the end.
    return f"{text}." if len(text) < width else text
