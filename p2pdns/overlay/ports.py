"""The overlay's interfaces to the network and to the reader's state, as Protocols, and the values that cross them.

Guarantees: the node, the simulator and the tests can stand in for each other. Does not know any of them.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from p2pdns.addresses import Address
from p2pdns.dht.lookup.verdict import Verdict
from p2pdns.dht.node.values import Cas, GetOutcome, Inquiry, InquiryOutcome, PutOutcome, Wanted
from p2pdns.items.item import Item, MutableItem
from p2pdns.items.keys import ZoneId, ZoneKey
from p2pdns.items.succession import Commitment, Succession
from p2pdns.timing import Clock, Timer, UnixClock

OnProgress = Callable[[int, int], None]
"""Called with how many other nodes were asked to store, and how many have."""


class Gets(Protocol):
    """The half of the network that looks items up; `p2pdns.net.endpoint.Endpoint`, or a simulated one."""

    def get(
        self, wanted: Wanted, *, on_item: Callable[[Item], None], on_patient: Callable[[], None] | None = None
    ) -> Awaitable[GetOutcome]:
        """Look an item up; `on_item` gets the first valid item and every better one at once.

        `on_patient` is called if nothing was found so far and the rest of the look-up loads the node no more.
        """


class Puts(Protocol):
    """The half of the network that stores items; `p2pdns.net.endpoint.Endpoint`, or a simulated one."""

    def put(
        self, item: Item, *, cas: Cas | None = None, on_progress: OnProgress | None = None
    ) -> Awaitable[PutOutcome]:
        """Have the nodes nearest an item's target keep it; with `cas` only those that hold such a seq, or no item."""


class Inquires(Protocol):
    """The part of the network that asks single nodes; `p2pdns.net.endpoint.Endpoint`, or a simulated one."""

    def inquire(self, inquiry: Inquiry) -> Awaitable[InquiryOutcome]:
        """Ask one node whether it still has an item, and have it keep the item again where the inquiry says so."""


class Keeps(Puts, Inquires, Protocol):
    """What keeping items alive needs of the network."""


class Asks(Gets, Inquires, Protocol):
    """What a count of an item's holders needs of the network."""


@dataclass(frozen=True)
class Held:
    """An item this reader holds, the time when the overlay last confirmed it as the newest, and why it is kept."""

    item: MutableItem
    confirmed_unix: float
    is_own: bool = False
    is_pinned: bool = False


class Mark(NamedTuple):
    """The highest seq of a zone that was ever adopted. A mark that `is_on_disk` outlives this process."""

    seq: int
    is_on_disk: bool = True


@dataclass(frozen=True, slots=True)
class KeptCommitment:
    """The first commitment that this reader has seen of a key, and the key that follows it, once a value told it."""

    commitment: Commitment
    next_key: ZoneKey | None = None


class CommitmentState(Protocol):
    """The commitments that this reader keeps; `p2pdns.state.successions.CommitmentTable`."""

    def kept(self, zone_id: ZoneId) -> KeptCommitment | None:
        """Return the commitment that is kept of a key."""

    async def keep(self, zone_id: ZoneId, commitment: Commitment) -> None:
        """Keep the first commitment of a key; returns after the commit to the disk."""

    async def succeed(self, zone_id: ZoneId, succession: Succession) -> None:
        """Keep the next key of a key; returns after the commit to the disk."""


class ReaderState(Protocol):
    """The part of the reader's state that outlives the process; `p2pdns.state.marks.Reader`."""

    @property
    def commitments(self) -> CommitmentState:
        """The commitments to next keys."""

    @property
    def newest_seq(self) -> int | None:
        """The highest seq ever adopted of all zones, which bounds the time from below."""

    def mark(self, zone_id: ZoneId) -> Mark | None:
        """Return the mark of a zone, whether its item is held or not."""

    def is_protected(self, zone_id: ZoneId) -> bool:
        """Return whether the mark of a zone counts against no client's budget and is never evicted."""

    def keep(self, zone_id: ZoneId) -> None:
        """Store the item of a zone on the disk soon, not only its mark."""

    def held(self, zone_id: ZoneId) -> Held | None:
        """Return the item remembered of a zone."""

    async def adopt(self, item: MutableItem, confirmed_unix: float, *, own: bool = False) -> None:
        """Raise the mark of the item's zone to the item; returns after the commit."""


@dataclass(frozen=True, slots=True)
class LookupReport:
    """One look-up as `lookups` shows it. `at` is Unix time; `first_ms` is None when nothing was found.

    `pinned` says in words which items of a divided zone were wanted; it is empty where the item of the key was. `seq`
    is that of the best item found; `was_stored_here`: the first item came from our own storage; `is_confirmed` is None
    where there was no item to confirm.
    """

    zone_id: ZoneId
    rpcs: int
    retransmits: int
    peers: int
    first_ms: float | None
    complete_ms: float
    verdict: Verdict
    at: float
    is_refresh: bool = False
    number: int = 0
    seq: int | None = None
    answered: tuple[Address, ...] = ()
    dropped: Mapping[str, int] = field(default_factory=dict)
    was_stored_here: bool = False
    is_confirmed: bool | None = None
    pinned: str = ""


class Tell(Protocol):
    """The overlay's report of a fault on this machine; the engine connects it to its log."""

    def __call__(self, event: str, **fields: object) -> None:
        """Report an event by a constant text, with the values that go with it."""


@dataclass(frozen=True, slots=True)
class Means:
    """What the parts of an overlay share: the clocks, the reports of faults, the counters, and tasks of its own."""

    clock: Clock
    unix_clock: UnixClock
    tell: Tell
    counters: Counter[str]
    spawn: Callable[[Coroutine[None, None, None]], asyncio.Task[None]]


def later(seconds: float, callback: Callable[[], None]) -> Timer:
    """Call back after that many seconds, by the running loop."""
    return asyncio.get_running_loop().call_later(seconds, callback)
