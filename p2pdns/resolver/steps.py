"""The values between a resolution and its driver: steps, their outcomes, and the resolved answer.

Guarantees: frozen values only. Does not know the resolution or its driver.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum

from p2pdns.dns.message import RR, Message, Question
from p2pdns.dns.registry import Explanations
from p2pdns.items.item import MutableItem
from p2pdns.items.keys import ZoneId
from p2pdns.items.shards.content import ZoneContent
from p2pdns.items.shards.partial import Needed
from p2pdns.items.shards.pinned import SaltLetter
from p2pdns.limits import QUESTION_LOOKUPS_MAX, QUESTION_RPCS_MAX
from p2pdns.values import Value


@dataclass(frozen=True, slots=True)
class Fetch:
    """The step "find a zone"; with `settled`, by a complete look-up.

    `looks_again`: by one look-up more, even of a zone that was confirmed lately, because its shards cannot be found.
    """

    zone_id: ZoneId
    settled: bool
    looks_again: bool = False


@dataclass(frozen=True, slots=True)
class FetchPinned:
    """The step "find these items of a divided zone, all of them, and then the zone again".

    `pinned_by` is the zone whose head pins them: `zone_id`, or the one that has followed it.
    """

    zone_id: ZoneId
    pinned_by: ZoneId
    needed: Needed
    settled: bool

    @property
    def is_of_manifest(self) -> bool:
        """Whether a manifest is wanted: it counts as one look-up together with its shard."""
        return self.needed.items[0].letter is SaltLetter.MANIFEST


class Budget(Value, frozen=True):
    """The rest of a question's budget, and the client that it is charged to.

    A prefetch first confirms a known item; `looks_again` is of `Fetch`.
    """

    deadline: float
    rpc_max: int = QUESTION_RPCS_MAX
    cold_get_max: int = QUESTION_LOOKUPS_MAX
    client_prefix: str = ""
    is_privileged: bool = True
    is_prefetch: bool = False
    client_seat: str = ""
    looks_again: bool = False


class Forward(Value, frozen=True):
    """The step "ask an upstream"."""

    question: Question


class Answered(Value, frozen=True):
    """The last step: the answer."""

    answer: Resolved


Step = Fetch | FetchPinned | Forward | Answered


@dataclass(frozen=True, slots=True)
class Found:
    """An item of the fetched zone, and its state.

    `settled`: a negative answer and a delegation may rest on it. `confirmed_at`: when a complete look-up last confirmed
    it as the newest. `unconfirmed`: that is too long ago, and the last look-up did not confirm it again; no new denial
    may rest on it. `fresh`: the publisher renewed it in time. `previous`: an older, settled state of the zone, if this
    one is not settled. `good_until`: when a cached answer ends, whatever its TTLs. `lookup`: the number of the look-up
    that the question waited for (0: none), which has sent `rpc_count` so far. `notes`: reservations about the item, in
    words for the client. `followed`: the zones of the keys that have followed the one that was asked for, the last of
    them answers; `earlier`: the number and the RPCs of each look-up of a key before it. `pinned_lookup`: the number of
    the look-up for pinned items that the question waited for first (0: none); it is one of `earlier`.
    """

    item: MutableItem
    zone: ZoneContent
    settled: bool
    confirmed_at: float
    fresh: bool
    unconfirmed: bool = False
    previous: ZoneContent | None = None
    lookup: int = 0
    rpc_count: int = 0
    good_until: float = math.inf
    notes: tuple[str, ...] = ()
    followed: tuple[ZoneId, ...] = ()
    earlier: tuple[tuple[int, int], ...] = ()
    pinned_lookup: int = 0

    def description(self, now: float) -> str:
        """Return the state of the item in plain words."""
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
    """Why a fetch found no item, or not all pinned items that it was for."""

    ABSENT = "absent"  # Contacts answered, and none had an item.
    UNREACHABLE = "unreachable"  # No contact answered.
    BUDGET = "budget"  # A look-up costs more than the question's budget.
    DEADLINE = "deadline"  # The question's time was over before an item was found.
    OLDER = "older"  # Every item found is older than one that this reader has shown.
    ODD = "odd"  # Every item found lacks the commitment that this reader has kept of the key.
    CONFLICT = "conflict"  # Of the items found, a newer one lacks the commitment of an older one.
    BROKEN = "broken"  # The pinned item was found, and it breaks a rule of divided zones.
    ENDLESS = "endless"  # The keys that have followed each other are too many, or come back to one.


WORDS = {
    Missing.ODD: "the newest item of this zone lacks its commitment to a next key: not adopted",
    Missing.CONFLICT: "this zone has two items of which the newer lacks the older one's commitment",
}


@dataclass(frozen=True, slots=True)
class NotFound:
    """No valid item; there is no other look-up before `retry_at`. See `Found` for the other fields.

    After `FetchPinned`: not all of the pinned items. Those that were found are at hand.
    """

    reason: Missing
    retry_at: float = 0.0
    lookup: int = 0
    rpc_count: int = 0
    followed: tuple[ZoneId, ...] = ()
    earlier: tuple[tuple[int, int], ...] = ()
    pinned_lookup: int = 0


ZoneOutcome = Found | NotFound


class Replied(Value, frozen=True):
    """The reply of an upstream; `ad` only where the configuration trusts its validation."""

    message: Message
    ad: bool = False
    ede: Explanations = ()


@dataclass(frozen=True, slots=True)
class NoReply:
    """No upstream replied, or none is configured (`is_refusal`).

    `is_silence`: the upstreams are silent, which ends when one of them answers again. `is_remembered`: the failure of
    an earlier question, which holds until `retry_at`.
    """

    text: str
    is_refusal: bool = False
    is_remembered: bool = False
    retry_at: float = 0.0
    is_silence: bool = False


UpstreamOutcome = Replied | NoReply
Outcome = ZoneOutcome | UpstreamOutcome


class Resolved(Value, frozen=True):
    """An answer as the client may ask for its names: sections, lifetime, and tags.

    TTLs count from `made_at`. The answer is good until `expiry`, and may be served stale until `stale_until`.
    `cacheable` is false where the answer depends on more tags than the list may have.
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
