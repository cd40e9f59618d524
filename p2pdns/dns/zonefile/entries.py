"""What a line of a zone file gave: a record, a remark, or an error.

Guarantees: nothing here reads text. Does not know the rules of a zone.
"""

from __future__ import annotations

from dataclasses import dataclass

from p2pdns.dns.message import RR


@dataclass(frozen=True, slots=True)
class ReadRecord:
    """A record, the line it begins at, and why no zone can have it, whatever stands beside it (None where one can).

    `has_ttl` tells a TTL that somebody wrote from one that is still to be found.
    """

    record: RR
    line: int
    refusal: str | None = None
    has_ttl: bool = True


@dataclass(frozen=True, slots=True)
class Remark:
    """A mistake or a warning about a line; the list that it is in says which."""

    line: int
    what: str
    hint: str | None = None


class LineError(Exception):
    """A line that cannot be read, in words; `is_garbage` where it does not even look like a record."""

    def __init__(self, what: str, hint: str | None = None, *, is_garbage: bool = False) -> None:
        super().__init__(what)
        self.what = what
        self.hint = hint
        self.is_garbage = is_garbage
