"""Limits of the time for which an answer is valid and kept: TTLs, negative and stale answers, failures.

The engine holds to these limits when it writes an answer; the front enforces them again and does not trust the engine.
Imports nothing. Does not know the content of an answer.
"""

from __future__ import annotations

TTL_LIMIT = 2**31  # RFC 2181 §8: a TTL with the top bit set counts as 0.
PROVISIONAL_TTL_S = 5  # For an answer given before its look-up was complete: the look-up may still find a newer item.
UNCONFIRMED_TTL_S = 30  # For an answer that the overlay has not confirmed: the zone is looked up again soon.
STALE_TTL_S = 30  # RFC 8767 §4
STALE_S_MAX = 86_400.0  # For how long an answer is given after its expiry; RFC 8767 §5 suggests one to three days.
NEGATIVE_TTL_S_MAX = 3_600  # RFC 2308 §5 suggests one to three hours: a new name should be seen within the day.
REFUSAL_TTL_S = 30  # A refusal comes from the configuration, and repeating it costs nothing.
FAILURE_S_BRIEF = 1.0  # RFC 9520 §3.2 asks for a second at least: the look-up goes on and may end a moment later.
FAILURE_S_MIN = 5.0  # For the first of several failures, where nothing gives a time.
FAILURE_S_MAX = 300.0  # RFC 9520 §3.2: a failure is remembered for five minutes at most.
CLIENT_TIMER_S = 1.8  # RFC 8767 §5: a stale answer goes out before common stubs ask again, which they do after 2 s.


def sane_ttl(ttl: int) -> int:
    """Return the TTL that a TTL field on the wire stands for (RFC 2181 §8).

    >>> sane_ttl(300), sane_ttl(2**31)
    (300, 0)
    """
    return ttl if ttl < TTL_LIMIT else 0


def negative_ttl(ttl: int, soa_rdata: bytes) -> int:
    """Return the TTL of a negative answer: the lesser of the SOA's own TTL and its minimum field (RFC 2308 §3).

    >>> negative_ttl(300, bytes(20) + (60).to_bytes(4))
    60
    """
    return min(ttl, int.from_bytes(soa_rdata[-4:]))
