"""How a look-up ended, in one word.

Guarantees: there is one word for each end, and only after `complete` does "not found" mean anything. Does not know how
a look-up comes to its end.
"""

from __future__ import annotations

from enum import Enum


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
