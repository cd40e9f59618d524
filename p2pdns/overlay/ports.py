"""What the overlay needs of others, as Protocols, and the values it takes and gives.

Guarantees: the node, the simulator and the tests stand in for each other. Does not know any of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from p2pdns.addresses import Address
from p2pdns.dht.lookup import Item, Verdict
from p2pdns.dht.node import GetOutcome, PutOutcome, Wanted
from p2pdns.items.item import MutableItem
from p2pdns.items.keys import ZoneId
from p2pdns.timing import Timer

OnProgress = Callable[[int, int], None]
"""Called with how many other nodes were asked to store, and how many have."""


class Gets(Protocol):
    """The half of the network that looks items up; `p2pdns.net.endpoint.Endpoint`, or a simulated one."""

    def get(
        self,
        wanted: Wanted,
        *,
        on_item: Callable[[Item], None],
        on_patient: Callable[[], None] | None = None,
    ) -> Awaitable[GetOutcome]:
        """Look an item up; every better one is handed out at once.

        `on_patient` is called where nothing was found so far and what follows loads the node no more.
        """


class Puts(Protocol):
    """The half of the network that has items kept; `p2pdns.net.endpoint.Endpoint`, or a simulated one."""

    def put(
        self, item: Item, *, cas: int | None = None, on_progress: OnProgress | None = None
    ) -> Awaitable[PutOutcome]:
        """Have the nodes nearest an item's target keep it; with `cas` only where they hold that seq, or nothing."""


@dataclass(frozen=True)
class Held:
    """An item this reader holds, when the overlay last confirmed that there is nothing newer, and why it is kept."""

    item: MutableItem
    confirmed_unix: float
    is_own: bool = False
    is_pinned: bool = False


class Mark(NamedTuple):
    """The highest seq of a zone that was ever adopted; `is_on_disk`: it outlives this process."""

    seq: int
    is_on_disk: bool = True


class ReaderState(Protocol):
    """What outlives the process; `p2pdns.state.State`."""

    @property
    def newest_seq(self) -> int | None:
        """The highest seq ever adopted of all zones, which bounds the time from below."""

    def mark(self, zone_id: ZoneId) -> Mark | None:
        """Return the mark of a zone, whether its item is held or not."""

    def is_protected(self, zone_id: ZoneId) -> bool:
        """Return whether the mark of a zone counts against nobody's budget, and never makes room for others."""

    def keep(self, zone_id: ZoneId) -> None:
        """Have the item of a zone on the disk soon, and not its mark alone."""

    def held(self, zone_id: ZoneId) -> Held | None:
        """Return the item remembered of a zone."""

    async def adopt(self, item: MutableItem, confirmed_unix: float, *, own: bool = False) -> None:
        """Raise the mark of the item's zone to the item; returns after the commit."""


@dataclass(frozen=True, slots=True)
class LookupReport:
    """One look-up as `lookups` shows it. `at` is Unix time; `first_ms` is None when nothing was found.

    `seq` is that of the best item found; `was_stored_here` says that the first one lay in our own storage;
    `is_confirmed` is None where there was no item to confirm.
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


class Tell(Protocol):
    """Where the overlay says what went wrong on this machine; the engine wires it to its log."""

    def __call__(self, event: str, **fields: object) -> None:
        """Say that something happened, in a text that is the same each time, and with what it happened."""


def later(seconds: float, callback: Callable[[], None]) -> Timer:
    """Call back after that many seconds of the running loop."""
    return asyncio.get_running_loop().call_later(seconds, callback)
