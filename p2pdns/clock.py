"""The two clocks: seconds since boot, and Unix time.

Guarantees: `boot_now` never goes back, and counts the time a laptop sleeps where the system has CLOCK_BOOTTIME. The
core does not import this module: the shells give it `now` as a number.
"""

from __future__ import annotations

import time

_BOOT_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def boot_now() -> float:
    """Return the seconds since boot, sleep included; only differences have a meaning."""
    return time.clock_gettime(_BOOT_CLOCK)


def unix_now() -> float:
    """Return the seconds since 1970 by the wall clock, which may be wrong and may jump."""
    return time.time()
