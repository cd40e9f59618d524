"""The time that replies take, measured so that a few slow contacts cannot prolong all our timeouts.

Guarantees: fewer than half of the prefixes cannot raise the typical time above that of the others. Does not know the
requests, nor the times of a single contact (`routing` does).
"""

from __future__ import annotations

from statistics import median_low

from p2pdns.addresses import Address, prefix_of

PREFIXES_MAX = 64  # The latest prefixes that answered: a table's worth, so that a way that changed is noticed.
SAMPLES_MAX = 5  # Replies of one prefix whose median is its time: two stalls of a busy peer change nothing.
REPLIES_MIN = 8  # Fewer say nothing.
REFRESHED_AFTER = 8  # Replies between two sortings.


class ReplyTimes:
    """The times of the latest replies, by prefix. `typical_s` is the median over the prefixes, None at first."""

    def __init__(self) -> None:
        # Tuples, because a deque takes 600 bytes however short it is.
        self._by_prefix: dict[str, tuple[float, ...]] = {}
        self._reply_count = 0
        self.typical_s: float | None = None

    def note(self, address: Address, rtt_s: float) -> None:
        """Note the time that a reply took."""
        prefix = prefix_of(address)
        times = (*self._by_prefix.pop(prefix, ()), rtt_s)
        self._by_prefix[prefix] = times[-SAMPLES_MAX:]
        if len(self._by_prefix) > PREFIXES_MAX:
            del self._by_prefix[next(iter(self._by_prefix))]
        self._reply_count += 1
        if self._reply_count >= REPLIES_MIN and self._reply_count % REFRESHED_AFTER == 0:
            middles = [sorted(times)[(len(times) - 1) // 2] for times in self._by_prefix.values()]
            self.typical_s = median_low(middles)
