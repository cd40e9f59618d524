"""The content of a publication of the signer: its own change, made on top of what is published now.

Guarantees: a record that another publisher has put there stays, also where it came long before this change; where both
have changed one RRset, the signer's is published, because its clients were told that it is taken; an edition that is
older than the last one from here takes back nothing of that. Does not know files, requests, or the overlay.
"""

from __future__ import annotations

from collections.abc import Callable

from p2pdns.dns.name import Name
from p2pdns.publishing.changes import Conflict, WholeZone
from p2pdns.publishing.editions import Draft, Found
from p2pdns.signer.last import Last


class OwnChange:
    """The change from the zone that was published here last to a newer one.

    `on_conflict` is told where it takes the place of another publisher's.
    """

    def __init__(self, apex: Name, last: Last, value: Draft, on_conflict: Callable[[Conflict], None]) -> None:
        self._apex = apex
        self._value = value
        self._last_seq = last.seq
        self._on_conflict = on_conflict
        self._content = WholeZone(apex, value, before=last.draft)
        self._is_first = True

    def value_above(self, current: Found | None) -> Draft:
        """Return what to sign above an edition."""
        is_first, self._is_first = self._is_first, False
        if is_first and current is not None and current.seq < self._last_seq:
            # What this one lacks was published here since: it is no change of another publisher's.
            self._content = WholeZone(self._apex, self._value)
        try:
            return self._content.value_above(current)
        except Conflict as conflict:
            if not is_first:
                raise
            self._on_conflict(conflict)
            self._content = WholeZone(self._apex, self._value)
            return self._content.value_above(current)

    def value_again(self, missed: Found) -> Draft:
        """Return what to sign above an own edition that the look-up has missed."""
        return self._content.value_again(missed)
