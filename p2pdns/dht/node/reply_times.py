"""The time that replies take, measured so that a few slow contacts cannot prolong all our timeouts.

Guarantees: fewer than half of the prefixes cannot raise the typical time above that of the others. Does not know the
requests, nor the times of a single contact (`routing` does).
"""

from __future__ import annotations

import struct
from statistics import median_low

from p2pdns.addresses import Address, prefix_of

PREFIXES_MAX = 64  # The latest prefixes that answered: a table's worth, so that a way that changed is noticed.
SAMPLES_MAX = 5  # Replies of one prefix whose median is its time: two stalls of a busy peer change nothing.
REPLIES_MIN = 8  # Fewer say nothing.
REFRESHED_AFTER = 8  # Replies between two sortings.

_TIME = struct.Struct("d")


class ReplyTimes:
    """The times of the latest replies, by prefix. `typical_s` is the median over the prefixes, None at first."""

    def __init__(self) -> None:
        # Packed, because two times of a prefix take 50 bytes so, 100 as a tuple and 600 as a deque.
        self._by_prefix: dict[str, bytes] = {}
        self._reply_count = 0
        self.typical_s: float | None = None

    def note(self, address: Address, rtt_s: float) -> None:
        """Note the time that a reply took."""
        prefix = prefix_of(address)
        times = self._by_prefix.pop(prefix, b"") + _TIME.pack(rtt_s)
        self._by_prefix[prefix] = times[-SAMPLES_MAX * _TIME.size :]
        if len(self._by_prefix) > PREFIXES_MAX:
            del self._by_prefix[next(iter(self._by_prefix))]
        self._reply_count += 1
        if self._reply_count >= REPLIES_MIN and self._reply_count % REFRESHED_AFTER == 0:
            middles = [_middle(times) for times in self._by_prefix.values()]
            self.typical_s = median_low(middles)


def _middle(packed: bytes) -> float:
    """Return the median of packed times, the lower of two."""
    if len(packed) == _TIME.size:
        return float(_TIME.unpack(packed)[0])
    times = sorted(time for (time,) in _TIME.iter_unpack(packed))
    return float(times[(len(times) - 1) // 2])
