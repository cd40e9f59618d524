"""How many requests of one look-up are in flight.

Guarantees: at least as many as α from the ninth request on, and `ALPHA_MAX` at most. Does not know contacts.
"""

from __future__ import annotations

# Chosen with `bench/lookup.py` at 0 and 30 % dead: with α = 8 a first item costs 8 RPCs instead of 4 and comes no
# sooner, with α = 3 the end comes a quarter later.
ALPHA = 4
ALPHA_MAX = 12  # After many silences.
# The requests in flight until an item is found, a reply is late, or `FIRST_RPCS` requests were sent. With four a first
# item costs 1.4 requests more and comes a tenth earlier, among 1,000 placed nodes. An absent key would take longer with
# three until the end.
ALPHA_FIRST = 3
FIRST_RPCS = 8


def width_of(alpha: int, silent_count: int, *, is_beginning: bool) -> int:
    """Return how many requests may be in flight where so many contacts are silent or late.

    Each silence opens one more slot: else many dead contacts would hold all four most of the time.
    """
    first = min(alpha, ALPHA_FIRST) if is_beginning and not silent_count else alpha
    return min(first + silent_count, max(alpha, ALPHA_MAX))
