"""The nodes of our network on the same link, found by DNS-SD over multicast DNS (RFC 6762, 6763): `_p2pdns._udp`.

Guarantees: an announcement has a random name, our port, our address in private space and the tag of the network, never
its name or a key; only announcements of our own network in non-public space are believed, so no neighbour can make us
send elsewhere; a link without multicast is logged once and tried again. Does not know contacts: an address found here
is asked like any other.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import socket
from collections.abc import Callable, Sequence

from zeroconf import Error, IPVersion, ServiceStateChange, Zeroconf
from zeroconf.asyncio import AsyncServiceBrowser, AsyncServiceInfo, AsyncZeroconf

from p2pdns import log
from p2pdns.addresses import Address, AddressClass, class_of, is_non_public, packed_of
from p2pdns.clock import boot_now
from p2pdns.dht.krpc import network_of
from p2pdns.errors import StrangerError

SERVICE = "_p2pdns._udp.local."
PEERS_MAX = 64  # Neighbours asked in one run; each that answers leads to all others.
ASKED_AT_ONCE_MAX = 16  # Names whose addresses are asked for at a time, because a neighbour can invent names.
REQUEST_MS = 3_000  # The time for a neighbour to tell its address.
REQUESTS_MAX = 3  # A name is reported once, and a machine that has just started may miss the first two requests.
RETRY_S_MIN, RETRY_S_MAX = 5.0, 300.0  # A program that holds port 5353 for itself alone may end soon, or never.
NAME_BYTES = 6
MDNS_PORT = 5353
ANY = {"0.0.0.0": "224.0.0.251", "::": "ff02::fb"}  # For each address of all hosts, the multicast group of RFC 6762.


def tag_of(network: str) -> bytes:
    """Return the tag by which nodes recognise their network; it does not reveal the network's name."""
    return network.encode() if network in ("mainline", "unnamed") else network_of(network).hex().encode()


def own_address(host: str) -> str | None:
    """Return the address to announce for a bound host; None if neighbours could use none.

    >>> own_address("192.168.1.7")
    '192.168.1.7'
    >>> own_address("192.0.2.7") is None
    True
    """
    if host in ANY:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as sock:
                # Connecting sends nothing; it makes the kernel choose the interface for multicast.
                sock.connect((ANY[host], MDNS_PORT))
                host = str(sock.getsockname()[0])
        except OSError:
            return None
    return host if is_non_public(host) and "%" not in host else None


class Lan:
    """Our announcement, and the search for those of others. `on_peer` is called once for each address."""

    def __init__(self, network: str, address: Address, on_peer: Callable[[Address], None]) -> None:
        self._tag = tag_of(network)
        self._host, self._port = address
        self._on_peer = on_peer
        self._name = f"{secrets.token_hex(NAME_BYTES)}.{SERVICE}"
        self._seen: dict[Address, None] = {}
        self._asking: dict[str, asyncio.Task[None]] = {}
        self._announced: str | None = None
        self._zeroconf: AsyncZeroconf | None = None
        self._browser: AsyncServiceBrowser | None = None
        self._log = log.get_limited_logger("dht", boot_now)

    @property
    def is_elsewhere(self) -> bool:
        return own_address(self._host) not in (None, self._announced)

    async def reopen(self) -> None:
        """Announce this node at its present address, and find all neighbours anew."""
        await self.close()
        self._seen.clear()
        await self.open()

    async def open(self) -> None:
        """Announce this node and begin to listen; when that fails, log it once and try again, ever less often."""
        host = self._announced = own_address(self._host)
        if host is None:
            return
        retry_s = RETRY_S_MIN
        while (reason := await self._refusal(host)) is not None:
            if retry_s == RETRY_S_MIN:
                self._log.warning("no discovery on the local network yet", reason=reason)
            await asyncio.sleep(retry_s)
            retry_s = min(2 * retry_s, RETRY_S_MAX)
            host = self._announced = own_address(self._host) or host

    async def _refusal(self, host: str) -> str | None:
        """Announce and begin to listen; return the reason when that fails, else None."""
        version = IPVersion.V6Only if ":" in self._host else IPVersion.V4Only
        try:
            # On this interface only: a node on loopback is not announced to the neighbours.
            self._zeroconf = AsyncZeroconf(interfaces=[host], ip_version=version)
            info = AsyncServiceInfo(
                SERVICE,
                self._name,
                port=self._port,
                addresses=[packed_of(host)],
                properties={b"nw": self._tag},
                server=self._name.replace("_p2pdns._udp.", ""),
            )
            self._browser = AsyncServiceBrowser(self._zeroconf.zeroconf, SERVICE, handlers=[self._changed])
            await self._zeroconf.async_register_service(info)
        except (OSError, Error) as error:
            await self.close()
            return str(error) or type(error).__name__
        return None

    async def close(self) -> None:
        """Withdraw the announcement and stop listening."""
        for task in list(self._asking.values()):
            task.cancel()
        await asyncio.gather(*self._asking.values(), return_exceptions=True)
        browser, zeroconf, self._browser, self._zeroconf = self._browser, self._zeroconf, None, None
        with contextlib.suppress(OSError, Error):
            if browser is not None:
                await browser.async_cancel()
            if zeroconf is not None:
                await zeroconf.async_close()

    def _changed(self, zeroconf: Zeroconf, service_type: str, name: str, state_change: ServiceStateChange) -> None:
        if state_change is ServiceStateChange.Removed or name == self._name or name in self._asking:
            return
        if len(self._asking) < ASKED_AT_ONCE_MAX and len(self._seen) < PEERS_MAX:
            task = asyncio.get_running_loop().create_task(self._ask(zeroconf, service_type, name))
            self._asking[name] = task
            task.add_done_callback(lambda _: self._asking.pop(name, None))

    async def _ask(self, zeroconf: Zeroconf, service_type: str, name: str) -> None:
        try:
            info = AsyncServiceInfo(service_type, name)
            for _ in range(REQUESTS_MAX):
                if await info.async_request(zeroconf, REQUEST_MS):
                    self.heard(info.parsed_addresses(), info.port or 0, info.properties.get(b"nw"))
                    return
        except (OSError, Error, ValueError) as error:
            self._log.debug("a neighbour's announcement is not understood", name=name, reason=str(error))

    def heard(self, hosts: Sequence[str], port: int, tag: bytes | None) -> None:
        """Pass on the addresses of an announcement if it is of our network and they are in our kind of space."""
        if tag != self._tag or not 0 < port < 65536:
            return
        is_here = class_of(self._host) is AddressClass.LOOPBACK
        for host in hosts:
            address = (host, port)
            try:
                kind = class_of(host)
            except StrangerError:
                continue
            if kind not in ((AddressClass.LOOPBACK,) if is_here else (AddressClass.PRIVATE, AddressClass.LINK_LOCAL)):
                continue
            if (":" in host) != (":" in self._host) or address in self._seen or len(self._seen) >= PEERS_MAX:
                continue
            self._seen[address] = None
            self._log.info("found a node on the local network", address=f"{host}:{port}")
            self._on_peer(address)
