"""Times of publications in words, for messages.

Guarantees: a publication is allowed in the minute that is named. Does not know any clock: a date is computed from a
number, without the system's library of time, which this room may not use.
"""

from __future__ import annotations

from p2pdns.items.item import SEQ_PER_SECOND, SIGN_AHEAD_S_MAX

MINUTE_S, HOUR_S, DAY_S = 60, 3_600, 86_400
# The Gregorian calendar repeats itself after 400 years. Years begin on 1 March here, so that the leap day is the last
# day of a year. From 1 March of the year 0 to 1970 there are `_DAYS_TO_1970` days.
_CYCLE_DAYS, _DAYS_TO_1970 = 146_097, 719_468


def date_of(seq: int) -> str:
    """Return the time that a seq claims.

    >>> date_of(1_800_000_000_000_000)
    '2027-01-15 08:00:00 UTC'
    """
    at = seq // SEQ_PER_SECOND
    return f"{_day(at)} {_clock(at)}:{at % MINUTE_S:02} UTC"


def publish_again_after(last: int, now: float) -> str:
    """Return when a seq above `last` is no more than an hour ahead; with the date where that is not within a day.

    >>> publish_again_after(1_800_000_000_000_000, 1_799_928_000.0)
    'publish again after 07:00 UTC, in 19 h 0 min'
    >>> publish_again_after(1_800_000_000_000_000, 1_799_000_000.0)
    'publish again after 2027-01-15 07:00 UTC, in 11 d 12 h 47 min'
    """
    # The first whole minute at which it is allowed.
    at = -((SIGN_AHEAD_S_MAX * SEQ_PER_SECOND - last) // (MINUTE_S * SEQ_PER_SECOND)) * MINUTE_S
    left_s = max(0, at - int(now))
    when = _clock(at) if left_s <= DAY_S else f"{_day(at)} {_clock(at)}"
    return f"publish again after {when} UTC, in {_span(left_s)}"


def _day(at: int) -> str:
    cycle, day = divmod(at // DAY_S + _DAYS_TO_1970, _CYCLE_DAYS)
    # 1,460, 36,524 and 146,096 are the last days of 4, 100 and 400 years: each has or lacks its leap day.
    year = (day - day // 1_460 + day // 36_524 - day // 146_096) // 365
    day_of_year = day - (365 * year + year // 4 - year // 100)
    # From March on, five months have 153 days.
    month = (5 * day_of_year + 2) // 153
    day_of_month = day_of_year - (153 * month + 2) // 5 + 1
    is_next_year = month >= 10
    return f"{year + 400 * cycle + is_next_year}-{month - 9 if is_next_year else month + 3:02}-{day_of_month:02}"


def _clock(at: int) -> str:
    return f"{at % DAY_S // HOUR_S:02}:{at % HOUR_S // MINUTE_S:02}"


def _span(seconds: int) -> str:
    minutes = -(-seconds // MINUTE_S)
    days, hours = minutes // (DAY_S // MINUTE_S), minutes // (HOUR_S // MINUTE_S) % 24
    parts = [f"{days} d"] if days else []
    parts += [f"{hours} h"] if days or hours else []
    return " ".join([*parts, f"{minutes % 60} min"])
