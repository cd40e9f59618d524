"""BEP 32's `want`, with libtorrent as the stranger: it is asked what we are asked, and asked again by us."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence

import libtorrent
import pytest

from p2pdns.addresses import Address
from p2pdns.clock import boot_now
from p2pdns.dht import krpc
from p2pdns.dht.node.machine import Node
from p2pdns.dht.node.values import NodeSettings
from p2pdns.dht.storage import Storage
from p2pdns.net.endpoint import Endpoint
from p2pdns.net.families import Families
from tests.live.torrents import QUIET, Raw

GUARD_S = 60.0
WAIT_MS = 200
TRY_S = 10.0  # For one node to join; it takes milliseconds.
HOSTS = ("127.0.0.1", "::1")
WANTS: dict[tuple[bytes, ...], set[str]] = {
    (): {"nodes"},
    (b"n4",): {"nodes"},
    (b"n6",): {"nodes6"},
    (b"n4", b"n6"): {"nodes", "nodes6"},
}


class DualTorrent:
    """A session of libtorrent in both DHTs."""

    def __init__(self) -> None:
        settings = libtorrent.default_settings()
        settings.update(QUIET)  # type: ignore[typeddict-item]
        settings["listen_interfaces"] = "127.0.0.1:0,[::1]:0"
        settings["alert_mask"] = libtorrent.alert.category_t.status_notification
        self.session = libtorrent.session(settings)
        self.ports: dict[str, int] = {}

    def close(self) -> None:
        """End the session and its threads now."""
        del self.session

    async def opened(self) -> list[Address]:
        """Return where it speaks to other nodes."""
        while len(self.ports) < len(HOSTS):
            await asyncio.to_thread(self.session.wait_for_alert, WAIT_MS)
            for alert in self.session.pop_alerts():
                if isinstance(alert, libtorrent.listen_succeeded_alert):
                    self.ports.setdefault(str(alert.address), alert.port)
        return [(host, self.ports[host]) for host in HOSTS]


async def open_ours() -> Families:
    """Return a node of ours in both DHTs."""
    storage = Storage()
    endpoints = []
    for host in HOSTS:
        node = Node(
            node_id=None,
            network="unnamed",
            entropy=os.urandom,
            storage=storage,
            settings=NodeSettings(bind_host=host),
            now=boot_now(),
        )
        endpoints.append(await Endpoint.open(node, (host, 0)))
    return Families(endpoints)


async def told(raw: Raw, address: Address, want: tuple[bytes, ...]) -> set[str]:
    """Return which lists of contacts a reply over IPv4 has."""
    reply = await raw.ask(address, krpc.FindNode(os.urandom(20)), want=want)
    assert isinstance(reply, krpc.Reply)
    return {name for name in ("nodes", "nodes6") if getattr(reply, name)}


async def tell_alike(torrents: Sequence[DualTorrent], ours: Families) -> None:
    """Ask both kinds for each family until the replies have what BEP 32 says."""
    theirs = [await torrent.opened() for torrent in torrents]
    await ours.bootstrap([address for addresses in theirs for address in addresses])
    for address in theirs[1]:
        torrents[0].session.add_dht_node(address)
    raw = await Raw.open()
    try:
        for want, lists in WANTS.items():
            for address in (theirs[0][0], ours.endpoints[0].address):
                while await told(raw, address, want) != lists:
                    # Its IPv6 table takes a moment to fill.
                    await asyncio.to_thread(torrents[0].session.wait_for_alert, WAIT_MS)
                    torrents[0].session.pop_alerts()
    finally:
        raw.close()


def test_libtorrent_and_we_tell_of_the_families_that_want_names() -> None:
    async def play() -> None:
        ours, torrents = await open_ours(), [DualTorrent() for _ in range(2)]
        try:
            await tell_alike(torrents, ours)
        finally:
            ours.close()
            for torrent in torrents:
                torrent.close()

    asyncio.run(asyncio.wait_for(play(), GUARD_S))


async def is_led(known: int, address: Address) -> bool:
    """Return whether a new node that is told of one family's address soon has contacts in the other family."""
    ours = await open_ours()
    try:
        led = ours.endpoints[1 - known].bootstrap()
        async with asyncio.timeout(TRY_S):
            await ours.endpoints[known].bootstrap([address])
            await led
        return ours.endpoints[1 - known].node.contact_count > 0
    except TimeoutError:
        return False
    finally:
        ours.close()


@pytest.mark.parametrize("known", [0, 1])
def test_libtorrent_leads_us_into_the_dht_of_the_other_family(known: int) -> None:
    async def play() -> None:
        torrents = [DualTorrent() for _ in range(2)]
        theirs = [await torrent.opened() for torrent in torrents]
        raw = await Raw.open()
        try:
            # Before we come, since we ask for the other family only while we join.
            while await told(raw, theirs[0][0], (b"n4", b"n6")) != {"nodes", "nodes6"}:
                # Each time, because libtorrent does not ping a node again that was too slow once.
                for address in theirs[1]:
                    torrents[0].session.add_dht_node(address)
                await asyncio.to_thread(torrents[0].session.wait_for_alert, WAIT_MS)
                torrents[0].session.pop_alerts()
            # We send a stranger one ping, whose reply can be too late on a busy machine.
            while not await is_led(known, theirs[0][known]):
                pass
        finally:
            raw.close()
            for torrent in torrents:
                torrent.close()

    asyncio.run(asyncio.wait_for(play(), GUARD_S))
