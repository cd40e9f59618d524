"""How this node finds others: the contacts of its last run, the list in the configuration, neighbours on the local
network (`lan`), and for the public network the addresses that everybody begins with (`mainline`).

Guarantees: no name is looked up to join, so a boot needs no DNS; what is saved is saved often enough for the next
boot; the built-in addresses are asked only in the public network, and only when nobody else answers; a node on
loopback looks for neighbours nowhere unless it is told to, and then on loopback; who has nobody to ask is told so,
with the fix. Does not know how a contact is asked, or when again (`dht.node` does).
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

JOIN_S_MAX = 1.0  # What a start waits for its neighbours: a living one answers in a tenth of it.


class Joining(Protocol):
    """What joins the network by addresses; `p2pdns.net.endpoint.Endpoint`."""

    @property
    def address(self) -> Address:
        """Where the socket is bound."""

    def bootstrap(self, addresses: Sequence[Address] = ()) -> asyncio.Future[int]:
        """Join by these addresses; the future gets the number of contacts."""


class SavedContacts(Protocol):
    """Where contacts outlive the process; `p2pdns.state.store.Store`."""

    def load_contacts(self, network: str) -> list[SavedContact]:
        """Return the contacts of an earlier run, best first."""

    async def save_contacts(self, network: str, contacts: Iterable[SavedContact]) -> None:
        """Keep these for the next run."""


class Discovery:
    """The ways into one network that this node knows."""

    def __init__(
        self,
        network: str,
        bootstrap: Sequence[str],
        state: SavedContacts,
        *,
        bind_host: str = "127.0.0.1",
        lan: str | bool = "auto",
    ) -> None:
        is_on_loopback = class_of(bind_host) is AddressClass.LOOPBACK
        self.static: tuple[Address, ...] = tuple(read_address(text) for text in bootstrap)
        self.saved: tuple[SavedContact, ...] = tuple(state.load_contacts(network))
        # From loopback no datagram gets there; and only the public network has members that never heard of us.
        self.built_in: tuple[Address, ...] = BUILT_IN if network == "mainline" and not is_on_loopback else ()
        self.has_lan = lan is True or (lan == "auto" and not is_on_loopback)
        self._lan: Lan | None = None
        self._opening: asyncio.Task[None] | None = None
        self._network = network
        self._state = state
        self._log = log.get_logger("dht")

    @classmethod
    def of(cls, config: DhtTable, state: SavedContacts) -> Discovery:
        """Return the ways that the configuration and the last run name."""
        host = read_address(config.listen)[0]
        return cls(config.network, config.bootstrap, state, bind_host=host, lan=config.lan_discovery)

    @property
    def hint(self) -> str | None:
        """What to do when there is nobody to ask; None when there is somebody."""
        if self.static or self.saved or self.built_in:
            return None
        return "name a node of this network with --bootstrap ADDR:PORT or in [dht] bootstrap"

    async def join(self, endpoint: Joining, *, timeout_s: float = JOIN_S_MAX) -> None:
        """Join by all ways at once, and wait a little for the neighbours; joining goes on when they are late."""
        joined = endpoint.bootstrap(self.static)
        if self.has_lan:
            self._listen_on_lan(endpoint)
        if self.hint is not None:
            # Others may come to us: then there is a way in after all, and nobody waits for it here.
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
        # Not above: an engine on loopback has no use for what this brings in, and starts the sooner.
        from p2pdns.net.discovery.lan import Lan

        def found(address: Address) -> None:
            endpoint.bootstrap((address,))

        self._lan = Lan(self._network, endpoint.address, found)
        # An announcement is made after a second of asking whether its name is free; nobody waits for that.
        self._opening = asyncio.create_task(self._lan.open())

    def network_changed(self) -> None:
        """Announce this node where it is now, because this machine has another way to the network."""
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
        """Keep the contacts for the next run; an empty table does not wipe out what an earlier one had."""
        if contacts:
            await self._state.save_contacts(self._network, contacts)
