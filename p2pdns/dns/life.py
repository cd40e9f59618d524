"""How long an answer lives: the bounds of its TTLs, and of how long it is kept: negative, stale, or a failure.

Engine and front both keep them: the engine writes an answer so, and the front trusts no engine to have done it.
Imports nothing. Does not know what an answer says.
"""

from __future__ import annotations

TTL_LIMIT = 2**31  # RFC 2181 §8: a TTL with the top bit set counts as 0.
PROVISIONAL_TTL_S = 5  # Of an answer that was given before its look-up was complete: what that finds may replace it.
UNCONFIRMED_TTL_S = 30  # The zone is asked for again soon, and until then nobody should rely on it for longer.
STALE_TTL_S = 30  # RFC 8767 §4
STALE_S_MAX = 86_400.0  # For how long an answer is shown past its expiry; RFC 8767 §5 suggests one to three days.
NEGATIVE_TTL_S_MAX = 3_600  # RFC 2308 §5 suggests one to three hours: what appears should not stay unseen for a day.
REFUSAL_TTL_S = 30  # A refusal comes of the configuration, and costs nothing to say again.
FAILURE_S_BRIEF = 1.0  # RFC 9520 §3.2 asks for a second at least: the look-up goes on, and may be done a moment later.
FAILURE_S_MIN = 5.0  # A failure that nobody gave a time for; the first of a row of them.
FAILURE_S_MAX = 300.0  # RFC 9520 §3.2: a failure is remembered for five minutes at most.
CLIENT_TIMER_S = 1.8  # RFC 8767 §5: a stale answer goes out before common stubs ask again, which they do after 2 s.


def sane_ttl(ttl: int) -> int:
    """Return the TTL that one on the wire means (RFC 2181 §8).

    >>> sane_ttl(300), sane_ttl(2**31)
    (300, 0)
    """
    return ttl if ttl < TTL_LIMIT else 0


def negative_ttl(ttl: int, soa_rdata: bytes) -> int:
    """Return for how long an absence lasts that an SOA tells of: its own TTL or its minimum, the lesser (RFC 2308 §3).

    >>> negative_ttl(300, bytes(20) + (60).to_bytes(4))
    60
    """
    return min(ttl, int.from_bytes(soa_rdata[-4:]))
