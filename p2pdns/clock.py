"""The two clocks: seconds since boot, and Unix time.

Guarantees: `boot_now` never goes back and counts the time a laptop sleeps, where the system can tell
(CLOCK_BOOTTIME). Does not know who asks: nothing on the floors of the core imports this module, the shells
hand them `now` as a number.
"""

from __future__ import annotations

import time

_BOOT_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def boot_now() -> float:
    """Return the seconds since boot, sleep included; only differences mean anything."""
    return time.clock_gettime(_BOOT_CLOCK)


def unix_now() -> float:
    """Return the seconds since 1970 by the wall clock, which may be wrong and may jump."""
    return time.time()
