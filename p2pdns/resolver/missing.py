"""What a client is told where a look-up has found nothing: the EDE code and the words.

Guarantees: each reason has words, and none of them says that a name does not exist. Does not know what follows.
"""

from __future__ import annotations

from p2pdns.dns.registry import Ede
from p2pdns.items.shards.partial import Needed
from p2pdns.items.succession import HOPS_MAX
from p2pdns.resolver.steps import WORDS, Missing

MISSING = {
    Missing.ABSENT: (Ede.NO_REACHABLE_AUTHORITY, "contacts answered, and none has an item of this key"),
    Missing.UNREACHABLE: (Ede.NETWORK_ERROR, "no contact of the overlay answered"),
    Missing.BUDGET: (Ede.NO_REACHABLE_AUTHORITY, "the question has used up the look-ups it may cause"),
    Missing.OLDER: (Ede.NO_REACHABLE_AUTHORITY, "only older items can be had than one that was shown here before"),
    Missing.ODD: (Ede.NO_REACHABLE_AUTHORITY, WORDS[Missing.ODD]),
    Missing.CONFLICT: (Ede.NO_REACHABLE_AUTHORITY, WORDS[Missing.CONFLICT]),
    Missing.ENDLESS: (
        Ede.NO_REACHABLE_AUTHORITY,
        f"more than {HOPS_MAX} keys follow this one, or they come back to one",
    ),
    Missing.BROKEN: (Ede.NO_REACHABLE_AUTHORITY, "the item of this pin breaks a rule of divided zones"),
    Missing.DEADLINE: (Ede.NO_REACHABLE_AUTHORITY, "the look-up took longer than the question may"),
}

# Reasons why a newer head is looked for, which may pin other items: the network was asked for this one.
LOOKED_FOR = (Missing.ABSENT, Missing.UNREACHABLE, Missing.BROKEN)
# Reasons that may be over soon. What was found of the pinned items stays at hand, so the next question goes on there.
BRIEF = (Missing.DEADLINE, Missing.BUDGET)


def said_of_pinned(needed: Needed, reason: Missing) -> tuple[Ede, str]:
    """Return the code and the words where pinned items are missing: the first of them is named."""
    code, text = MISSING[reason]
    return code, f"{needed}: {'contacts answered, and none has this item' if reason is Missing.ABSENT else text}"
