"""How this node finds others: the contacts of its last run, and the list in the configuration.

Guarantees: no name is looked up to join, so a boot needs no DNS; what is saved is saved often enough for the next
boot; who has nobody to ask is told so, with the fix, and nothing is sent. Does not know how a contact is asked, or
when again (`dht.node` does).
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Protocol

from p2pdns import log
from p2pdns.addresses import Address
from p2pdns.config import read_address
from p2pdns.dht.routing import SavedContact

JOIN_SECONDS_MAX = 1.0  # What a start waits for its neighbours: a living one answers in a tenth of it.


class Endpoint(Protocol):
    """A node on the network; `p2pdns.engine.endpoint.Endpoint`."""

    def bootstrap(self, addresses: Sequence[Address] = ()) -> asyncio.Future[int]:
        """Join by these addresses; the future gets the number of contacts."""


class SavedContacts(Protocol):
    """Where contacts outlive the process; `p2pdns.engine.state.State`."""

    def load_contacts(self, network: str) -> list[SavedContact]:
        """Return the contacts of an earlier run, best first."""

    async def save_contacts(self, network: str, contacts: Iterable[SavedContact]) -> None:
        """Keep these for the next run."""


class Discovery:
    """The ways into one network that this node knows."""

    def __init__(self, network: str, bootstrap: Sequence[str], state: SavedContacts) -> None:
        self.static: tuple[Address, ...] = tuple(read_address(text) for text in bootstrap)
        self.saved: tuple[SavedContact, ...] = tuple(state.load_contacts(network))
        self._network = network
        self._state = state
        self._log = log.get_logger("dht")

    @property
    def hint(self) -> str | None:
        """What to do when there is nobody to ask; None when there is somebody."""
        if self.static or self.saved:
            return None
        return "name a node of this network with --bootstrap ADDR:PORT or in [dht] bootstrap"

    async def join(self, endpoint: Endpoint, *, timeout_s: float = JOIN_SECONDS_MAX) -> None:
        """Join by all ways at once, and wait a little for the neighbours; joining goes on when they are late."""
        joined = endpoint.bootstrap(self.static)
        if self.hint is not None:
            # Others may come to us: then there is a way in after all, and nobody waits for it here.
            self._log.warning(f"0 contacts; {self.hint}", network=self._network)
            return
        await asyncio.wait({joined}, timeout=timeout_s)
        if not joined.done():
            ways = f"{len(self.static)} listed, {len(self.saved)} saved"
            self._log.warning("0 contacts so far; nobody answers yet", network=self._network, asked=ways)

    async def save(self, contacts: Sequence[SavedContact]) -> None:
        """Keep the contacts for the next run; an empty table does not wipe out what an earlier one had."""
        if contacts:
            await self._state.save_contacts(self._network, contacts)
