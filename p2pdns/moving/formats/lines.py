"""What the forms have in common: comments, the lines of a form, names that every program reads, followed aliases.

Guarantees: a comment is one line of printable ASCII, short enough for every program. Does not know the forms.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from p2pdns.dns.message import Question, RRset, type_text
from p2pdns.dns.name import Name
from p2pdns.dns.registry import Type
from p2pdns.dns.zone import Zone
from p2pdns.values import replace

# dnsmasq reads the rest of a line of more than 1,024 characters as a line of its own, even behind a "#".
LINE_CHARACTERS_MAX = 1_000
COMMENT_CHARACTERS_MAX = 200  # A comment names a record; its data may be long, and stand in the zone anyway.

# Types that a question for an alias may be about, and that are copied from its target where a program does not follow.
FOLLOWED_TYPES = (Type.A, Type.AAAA, Type.MX, Type.TXT, Type.SRV, Type.CAA, Type.HTTPS, Type.SVCB)

_PLAIN_LABEL = re.compile(rb"[A-Za-z0-9_-]{1,63}")


@dataclass
class Written:
    """The lines of a form, how many records they say, and the records that the form cannot say, with the reason."""

    lines: list[str] = field(default_factory=list)
    record_count: int = 0
    unsaid: list[str] = field(default_factory=list)

    def say(self, line: str) -> None:
        """Add the line of one record."""
        assert "\n" not in line, "a record is a line"
        self.lines.append(line)
        self.record_count += 1

    def leave_out(self, rrset: RRset, why: str) -> None:
        """Note that the records of a set cannot be said."""
        self.unsaid.append(f"{type_text(rrset.rtype)} of {rrset.owner}: {why}")


def comment(mark: str, text: str) -> str:
    r"""Return a comment of one line.

    >>> comment("#", "a\nserver=192.0.2.1")
    '# a?server=192.0.2.1'
    """
    shown = "".join(character if " " <= character <= "~" else "?" for character in text)
    cut = shown if len(shown) <= COMMENT_CHARACTERS_MAX else shown[:COMMENT_CHARACTERS_MAX] + "..."
    return f"{mark} {cut}"


def plain_name(name: Name) -> str | None:
    """Return a name without its final dot, of letters, digits, hyphens and underscores; None for any other name.

    >>> plain_name(Name.of(b"www", b"a")), plain_name(Name.of(b"w w", b"a"))
    ('www.a', None)
    """
    if not name.labels or not all(_PLAIN_LABEL.fullmatch(label) for label in name.labels):
        return None
    # A name that begins with a hyphen could be taken for a flag, and one of digits for an address.
    text = b".".join(name.labels).decode("ascii")
    return None if text[0] == "-" or text.replace(".", "").isdigit() else text


def followed(zone: Zone, alias: Name, types: tuple[Type, ...] = FOLLOWED_TYPES) -> Iterator[RRset]:
    """Yield what an alias leads to inside its zone, as records of the alias itself."""
    for rtype in types:
        for rrset in zone.answer(Question(alias, rtype)).answer:
            if rrset.rtype == rtype:
                yield replace(rrset, owner=alias)


def strings_in(rdata: bytes) -> list[bytes] | None:
    """Return the strings of TXT RDATA, None where it is broken."""
    found, at = [], 0
    while at < len(rdata):
        end = at + 1 + rdata[at]
        if end > len(rdata):
            return None
        found.append(rdata[at + 1 : end])
        at = end
    return found or None
