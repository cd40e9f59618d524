"""The results of reading a line of a zone file: a record, a remark, or an error.

Does not know text, or the rules of a zone.
"""

from __future__ import annotations

from dataclasses import dataclass

from p2pdns.dns.message import RR
from p2pdns.errors import ZoneFileError


@dataclass(frozen=True, slots=True)
class ReadRecord:
    """A record and its first line; `refusal` is the reason why no zone can have it, None where a zone can.

    Without `has_ttl`, the record got no TTL from the lines up to it, and its own does not count.
    """

    record: RR
    line: int
    refusal: str | None = None
    has_ttl: bool = True


@dataclass(frozen=True, slots=True)
class Remark:
    """A mistake in a line, or a warning about it."""

    line: int
    what: str
    hint: str | None = None


class LineError(Exception):
    """A line that cannot be read; with `is_garbage`, it does not even look like a record."""

    def __init__(self, what: str, hint: str | None = None, *, line: int = 0, is_garbage: bool = False) -> None:
        super().__init__(what)
        self.what = what
        self.hint = hint
        self.line = line
        self.is_garbage = is_garbage
        self.more_lines = 0  # Lines of garbage that follow directly.

    def for_user(self, path: str) -> ZoneFileError:
        """Return the mistake in the form that users see."""
        count = "line" if self.more_lines == 1 else self.more_lines
        more = f", nor the {count} behind it" if self.more_lines else ""
        return ZoneFileError(self.what + more, path=path, line=self.line, hint=self.hint)
