"""How a look-up ended, in one word.

Guarantees: there is one word for each end, and only after `complete` does "not found" mean anything. Does not know how
a look-up comes to its end.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum

from p2pdns.dht.lookup.shortlist import Candidate

K_DISTANCE_FACTOR_MAX = 4  # How much farther than estimated the k-th may be before the answer is called sparse.


class Verdict(Enum):
    """Complete, or the reason why not; the values are the words of the control socket."""

    COMPLETE = "complete"
    FOUND = "found"  # It ended at the item that a pin asks for: no other item counts.
    DEADLINE = "deadline"  # Its time was over.
    BUDGET = "budget"  # It had used up its requests.
    SPARSE = "sparse"  # Nearer nodes than those that answered must exist.
    IDS_FORBIDDEN = "ids-forbidden"  # Only nodes answered whose ids BEP 42 forbids.
    NO_CONTACTS = "no-contacts"  # No contact was known.
    NO_ANSWER = "no-answer"  # No contact answered.


def verdict_at(answered: Sequence[Candidate], k: int, k_distance: int) -> Verdict:
    """Return what a look-up is that has come to its end, by the k nearest that answered, one at least.

    `k_distance` is how far the k-th nearest node should be.
    """
    if not answered[0].is_allowed:
        return Verdict.IDS_FORBIDDEN
    is_near = len(answered) >= k and answered[-1].distance <= K_DISTANCE_FACTOR_MAX * k_distance
    return Verdict.COMPLETE if is_near else Verdict.SPARSE
