"""The words between a resolution and its driver: what it asks for, what it is told, what comes out.

Guarantees: values only, frozen. Does not know who makes them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum

from p2pdns.dns.message import RR, Message, Question
from p2pdns.dns.registry import Explanations
from p2pdns.dns.zone import Zone
from p2pdns.items.item import MutableItem
from p2pdns.items.keys import ZoneId
from p2pdns.limits import QUESTION_LOOKUPS_MAX, QUESTION_RPCS_MAX
from p2pdns.values import Value


@dataclass(frozen=True, slots=True)
class Fetch:
    """Find a zone; `settled` asks for the outcome of a complete look-up."""

    zone_id: ZoneId
    settled: bool


class Budget(Value, frozen=True):
    """What a question may still cause, and on whose account; a prefetch wants what is remembered confirmed first."""

    deadline: float
    rpc_max: int = QUESTION_RPCS_MAX
    cold_get_max: int = QUESTION_LOOKUPS_MAX
    client_prefix: str = ""
    is_privileged: bool = True
    is_prefetch: bool = False
    client_seat: str = ""


class Forward(Value, frozen=True):
    """Ask an ordinary resolver."""

    question: Question


class Answered(Value, frozen=True):
    """The end of a resolution."""

    answer: Resolved


Step = Fetch | Forward | Answered


@dataclass(frozen=True, slots=True)
class Found:
    """An item of the zone asked for, and what is known of it.

    `settled`: a negative answer and a delegation may rest on it. `confirmed_at`: when a complete look-up last said
    that it is the newest. `unconfirmed`: that is too long ago, and at the end of the last look-up no contact confirmed
    it; nothing new may be denied on such an item.
    `fresh`: the publisher still stands behind it. `previous`: an older state of this zone that was settled, while
    this one is not. `good_until`: when whoever keeps an answer asks again, whatever its TTLs. `lookup` numbers the
    look-up that was waited for (0: none), which has sent `rpc_count` so far. `notes` say what does not hold of it, in
    words for whoever asks.
    """

    item: MutableItem
    zone: Zone
    settled: bool
    confirmed_at: float
    fresh: bool
    unconfirmed: bool = False
    previous: Zone | None = None
    lookup: int = 0
    rpc_count: int = 0
    good_until: float = math.inf
    notes: tuple[str, ...] = ()

    def description(self, now: float) -> str:
        """Return in plain words what it is."""
        state = "settled" if self.settled else "provisional"
        if self.unconfirmed:
            state += ", not confirmed again"
        elif self.settled:
            state += f", confirmed {max(0.0, now - self.confirmed_at):.0f} s ago"
        if not self.fresh:
            state += ", past its expiry"
        how = f"look-up {self.lookup}" if self.lookup else "no look-up needed"
        return f"seq {self.item.seq}, {state} ({how})"


class Missing(Enum):
    """Why no item came of a fetch."""

    ABSENT = "absent"  # Contacts answered, and none had it.
    UNREACHABLE = "unreachable"  # No contact answered.
    BUDGET = "budget"  # The question may not spend what a look-up costs.
    DEADLINE = "deadline"  # The question's time was over first.
    OLDER = "older"  # This reader has shown a newer item than any that can be had now.


@dataclass(frozen=True, slots=True)
class NotFound:
    """No valid item; before `retry_at` another look-up will not be made."""

    reason: Missing
    retry_at: float = 0.0
    lookup: int = 0
    rpc_count: int = 0


ZoneOutcome = Found | NotFound


class Replied(Value, frozen=True):
    """What an upstream replied; `ad` only where the configuration trusts its validation."""

    message: Message
    ad: bool = False
    ede: Explanations = ()


@dataclass(frozen=True, slots=True)
class NoReply:
    """No upstream replied, or none is configured (`is_refusal`).

    `is_silence`: it holds until one of them is heard again, which may be at once.
    """

    text: str
    is_refusal: bool = False
    is_remembered: bool = False
    retry_at: float = 0.0
    is_silence: bool = False


UpstreamOutcome = Replied | NoReply
Outcome = ZoneOutcome | UpstreamOutcome


class Resolved(Value, frozen=True):
    """An answer in the words of the question: sections, life, and what it depends on.

    TTLs count from `made_at`; the answer is good until `expiry`, and may be shown as stale until `stale_until`.
    `tags` is empty and `cacheable` false where it depends on more things than a tag list may name.
    """

    question: Question
    rcode: int
    is_authoritative: bool
    answer: tuple[RR, ...]
    authority: tuple[RR, ...]
    additional: tuple[RR, ...]
    ede: Explanations
    ad_eligible: bool
    provisional: bool
    failure: bool
    cacheable: bool
    made_at: float
    expiry: float
    stale_until: float
    tags: tuple[bytes, ...]
    trace: tuple[str, ...]
    rpc_count: int = 0
