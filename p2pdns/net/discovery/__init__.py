"""The ways to other nodes: the contacts of the last run, the list in the configuration, neighbours on the local
network (`lan`), and for the public network its well-known addresses (`mainline`).

Guarantees: joining looks no name up, so a boot needs no DNS; the built-in addresses are asked only in the public
network, and only when no other contact answers; a node on loopback looks for neighbours only if it is told to, and then
on loopback; a node without any contact logs a hint. Does not know how a contact is asked, or when again (`dht.node`
does).
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Protocol

from p2pdns import log
from p2pdns.addresses import Address, AddressClass, class_of, read_address
from p2pdns.config import DhtTable
from p2pdns.dht.routing.contact import SavedContact
from p2pdns.net.discovery.mainline import BUILT_IN

if TYPE_CHECKING:
    from p2pdns.net.discovery.lan import Lan

JOIN_S_MAX = 1.0  # How long a start waits for contacts: a living one answers in a tenth of it.


class Joining(Protocol):
    """A node that can join the network by addresses; `p2pdns.net.endpoint.Endpoint`."""

    @property
    def address(self) -> Address: ...

    def bootstrap(self, addresses: Sequence[Address] = ()) -> asyncio.Future[int]:
        """Join by these addresses; the future gets the number of contacts."""


class SavedContacts(Protocol):
    """A store of contacts that outlives the process; `p2pdns.state.store.Store`."""

    def load_contacts(self, network: str) -> list[SavedContact]:
        """Return the contacts of an earlier run, best first."""

    async def save_contacts(self, network: str, contacts: Iterable[SavedContact]) -> None:
        """Keep these for the next run."""


class Discovery:
    """The ways into one network that the configuration, the last run and the local network name."""

    def __init__(self, config: DhtTable, state: SavedContacts) -> None:
        is_on_loopback = class_of(read_address(config.listen)[0]) is AddressClass.LOOPBACK
        self.static: tuple[Address, ...] = tuple(read_address(text) for text in config.bootstrap)
        self.saved: tuple[SavedContact, ...] = tuple(state.load_contacts(config.network))
        # No datagram from loopback reaches them, and they belong to the public network alone.
        self.built_in: tuple[Address, ...] = BUILT_IN if config.network == "mainline" and not is_on_loopback else ()
        self.has_lan = config.lan_discovery is True or (config.lan_discovery == "auto" and not is_on_loopback)
        self._lan: Lan | None = None
        self._opening: asyncio.Task[None] | None = None
        self._network = config.network
        self._state = state
        self._log = log.get_logger("dht")

    @property
    def hint(self) -> str | None:
        """The advice for a node without any contact; None for one with contacts."""
        if self.static or self.saved or self.built_in:
            return None
        return "name a node of this network with --bootstrap ADDR:PORT or in [dht] bootstrap"

    async def join(self, endpoint: Joining, *, timeout_s: float = JOIN_S_MAX) -> None:
        """Join by all ways at once, and wait a little for the first contacts; late ones still join."""
        joined = endpoint.bootstrap(self.static)
        if self.has_lan:
            self._listen_on_lan(endpoint)
        if self.hint is not None:
            # Other nodes may still contact this one, but a start does not wait for that.
            self._log.warning(f"0 contacts; {self.hint}", network=self._network)
            return
        if self.static or self.saved:
            await asyncio.wait({joined}, timeout=timeout_s)
        if self.built_in and not joined.done():
            endpoint.bootstrap(self.built_in)
            await asyncio.wait({joined}, timeout=timeout_s)
        if not joined.done():
            ways = f"{len(self.static)} listed, {len(self.saved)} saved, {len(self.built_in)} built in"
            self._log.warning("0 contacts so far; nobody answers yet", network=self._network, asked=ways)

    def _listen_on_lan(self, endpoint: Joining) -> None:
        # Imported here: an engine on loopback needs no zeroconf, and starts sooner without it.
        from p2pdns.net.discovery.lan import Lan

        def found(address: Address) -> None:
            endpoint.bootstrap((address,))

        self._lan = Lan(self._network, endpoint.address, found)
        # Before it announces, mDNS asks for a second whether the name is free; the start does not wait for that.
        self._opening = asyncio.create_task(self._lan.open())

    def network_changed(self) -> None:
        """Announce this node at its present address, because addresses or routes of this machine have changed."""
        if self._lan is None or (self._opening is not None and not self._opening.done()):
            return
        if self._lan.is_elsewhere:
            self._opening = asyncio.create_task(self._lan.reopen())

    async def close(self) -> None:
        """Stop looking for neighbours."""
        if self._opening is not None:
            self._opening.cancel()
            await asyncio.gather(self._opening, return_exceptions=True)
        if self._lan is not None:
            await self._lan.close()

    async def save(self, contacts: Sequence[SavedContact]) -> None:
        """Keep the contacts for the next run; an empty table does not replace the contacts of an earlier one."""
        if contacts:
            await self._state.save_contacts(self._network, contacts)
