"""When a zone file that is watched is published again: the rules, without the file, the clock or the overlay.

Guarantees: several saves at once are one publication; there is time between two publications; an address counts as
changed only when it was reported twice in a row; what has failed is tried again, and what was refused waits for the
next save. Does not know why anything failed.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping

SETTLE_S = 1.0  # Editors write a file in steps, and some people save after each word.
SETTLE_S_MAX = 5.0  # A program that never stops writing must not put a publication off for ever.
# A publication is a look-up, twenty puts and a second look-up, nodes ration what they take, and readers keep the zone
# for its TTL: more of them would only cost.
PUBLISH_S_MIN = 10.0
ASK_S = 60.0  # Lines at home get another address once a day; a minute is little beside the TTL of such a record.
RETRY_S, RETRY_S_MAX = 10.0, 60.0  # The daemon may be away for an update, or for a night.


class ZoneWatch:
    """One zone file after its first publication. What was `seen` of it is compared, and never read.

    `addresses` are what its placeholders for an address stand for.

    >>> watch = ZoneWatch("www A 192.0.2.1", {}, 0.0)
    >>> watch.saw("www A 192.0.2.2", 20.0)
    >>> watch.due_at
    21.0
    """

    def __init__(self, seen: Hashable, addresses: Mapping[str, str], now: float) -> None:
        self.addresses = dict(addresses)
        self.ask_at = now + ASK_S
        self._seen = self._tried = seen
        self._put_at = now
        self._first_save_at: float | None = None
        self._last_save_at = now
        self._moved_at: float | None = None
        self._retry_at: float | None = None
        self._failure_count = 0
        self._reported: dict[str, str] = {}

    def saw(self, seen: Hashable, now: float) -> None:
        """Note what is in the file now, with all else that a publication depends on; None where it cannot be read."""
        if seen == self._seen:
            return
        self._seen = seen
        if seen == self._tried:
            # The change was undone.
            self._first_save_at = None
            return
        self._last_save_at = now
        if self._first_save_at is None:
            self._first_save_at = now

    def asks(self, now: float) -> bool:
        """Return whether it is time to ask for the public address."""
        return bool(self.addresses) and now >= self.ask_at

    def reported(self, addresses: Mapping[str, str | None], now: float) -> None:
        """Note the public addresses as they are reported; None where none is known."""
        self.ask_at = now + ASK_S
        for word, before in self.addresses.items():
            address = addresses.get(word)
            is_second = self._reported.pop(word, None) == address
            if address is None or address == before:
                continue
            if is_second:
                self.addresses[word] = address
                self._moved_at = now
            else:
                self._reported[word] = address

    @property
    def due_at(self) -> float | None:
        """When to publish again; None while there is no reason to."""
        reasons = [at for at in (self._moved_at, self._retry_at) if at is not None]
        if self._first_save_at is not None:
            reasons.append(min(self._last_save_at + SETTLE_S, self._first_save_at + SETTLE_S_MAX))
        return max(min(reasons), self._put_at + PUBLISH_S_MIN) if reasons else None

    def again(self, now: float) -> None:
        """Publish what is in the file once more: what stood against it may have gone."""
        self._retry_at = now

    def begins(self) -> None:
        """Note that what was seen last is published now."""
        self._tried = self._seen
        self._first_save_at = self._moved_at = self._retry_at = None

    def published(self, addresses: Mapping[str, str], now: float) -> None:
        """Note that it was published with these addresses."""
        self.addresses = dict(addresses)
        self._put_at = now
        self._failure_count = 0

    def failed(self, now: float) -> None:
        """Note that it was not, for a reason that may pass."""
        self._put_at = now
        self._retry_at = now + min(RETRY_S_MAX, RETRY_S * 2.0**self._failure_count)
        self._failure_count = min(self._failure_count + 1, 8)
