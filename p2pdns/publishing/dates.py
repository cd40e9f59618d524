"""Times of publications in words, as messages have them.

Guarantees: the minute that is named is never too early. Does not know any clock.
"""

from __future__ import annotations

import time

from p2pdns.items.item import SEQ_PER_SECOND, SIGN_AHEAD_SECONDS_MAX

MINUTE_S, HOUR_S, DAY_S = 60, 3_600, 86_400


def date_of(seq: int) -> str:
    """Return the time that a seq claims.

    >>> date_of(1_800_000_000_000_000)
    '2027-01-15 08:00:00 UTC'
    """
    try:
        return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(seq / SEQ_PER_SECOND))
    except (OverflowError, ValueError, OSError):
        return "a time that no clock shows"


def publish_again_after(last: int, now: float) -> str:
    """Return when a seq above `last` lies no more than an hour ahead, with its date where that is not within a day.

    >>> publish_again_after(1_800_000_000_000_000, 1_799_928_000.0)
    'publish again after 07:00 UTC, in 19 h 0 min'
    >>> publish_again_after(1_800_000_000_000_000, 1_799_000_000.0)
    'publish again after 2027-01-15 07:00 UTC, in 11 d 12 h 47 min'
    """
    # The first whole minute at which it is allowed.
    at = -((SIGN_AHEAD_SECONDS_MAX * SEQ_PER_SECOND - last) // (MINUTE_S * SEQ_PER_SECOND)) * MINUTE_S
    left_s = max(0, at - int(now))
    try:
        when = time.strftime("%H:%M UTC" if left_s <= DAY_S else "%Y-%m-%d %H:%M UTC", time.gmtime(at))
    except (OverflowError, ValueError, OSError):
        return "no time comes at which it could be published again under this key"
    return f"publish again after {when}, in {_span(left_s)}"


def _span(seconds: int) -> str:
    minutes = -(-seconds // MINUTE_S)
    days, hours = minutes // (DAY_S // MINUTE_S), minutes // (HOUR_S // MINUTE_S) % 24
    parts = [f"{days} d"] if days else []
    parts += [f"{hours} h"] if days or hours else []
    return " ".join([*parts, f"{minutes % 60} min"])
