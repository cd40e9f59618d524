"""libtorrent as a stranger in our overlay: sessions on loopback, and a raw KRPC client beside them.

Guarantees: every wait is for an alert or a datagram, under a guard; nothing leaves 127.0.0.1. Does not know our nodes.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import time
from collections.abc import Callable, Sequence
from typing import TypeVar, cast

import libtorrent

from p2pdns.addresses import Address
from p2pdns.dht import krpc
from p2pdns.dht.krpc.reading import parse
from p2pdns.dht.krpc.writing import compose

GUARD_S = 40.0  # A look-up takes milliseconds; 15 s when libtorrent waits for one dead node.
RAW_TIMEOUT_S = 5.0  # For one reply on loopback.
WAIT_MS = 200
QUIET = {
    "listen_interfaces": "127.0.0.1:0",
    "enable_dht": True,
    "enable_lsd": False,
    "enable_upnp": False,
    "enable_natpmp": False,
    "dht_bootstrap_nodes": "",
    # All nodes share one address here, which public ones never do.
    "dht_restrict_routing_ips": False,
    "dht_restrict_search_ips": False,
    "dht_prefer_verified_node_ids": False,
    "dht_enforce_node_id": False,
    "dht_ignore_dark_internet": False,
    "dht_block_ratelimit": 1_000_000,
    "dht_upload_rate_limit": 1_000_000_000,
    "alert_queue_size": 1_000_000,
}
# What libtorrent writes into its log when it cannot use a message. An unknown transaction is not among it: so it calls
# the late reply of a busy machine, and with wrong transactions no look-up here would end well.
COMPLAINT = re.compile(r"invalid|incorrect|missing|malformed|too short|too long|mismatch|not allowed", re.IGNORECASE)

A = TypeVar("A", bound=libtorrent.alert)


def expanded(seed: bytes) -> bytes:
    """Return the 64-byte secret key that libtorrent signs with: SHA-512 of the seed, clamped."""
    scalar = bytearray(hashlib.sha512(seed).digest())
    scalar[0] &= 248
    scalar[31] = scalar[31] & 63 | 64
    return bytes(scalar)


class Torrent:
    """One libtorrent session, of which we use the DHT."""

    def __init__(self) -> None:
        kinds = libtorrent.alert.category_t
        mask = kinds.dht_notification | kinds.dht_operation_notification | kinds.dht_log_notification
        mask |= kinds.error_notification | kinds.stats_notification
        settings = libtorrent.default_settings()
        settings.update(QUIET)  # type: ignore[typeddict-item]
        settings["alert_mask"] = mask
        self.session = libtorrent.session(settings)
        self.address: Address = ("127.0.0.1", self.session.listen_port())
        self.complaints: list[str] = []

    def close(self) -> None:
        """End the session and its threads now: one that is only forgotten ends at some time, beside other tests."""
        del self.session

    def meet(self, addresses: Sequence[Address]) -> None:
        """Have it ping these nodes; who answers enters its table."""
        for address in addresses:
            if address != self.address:
                self.session.add_dht_node(address)

    async def wait_for(self, kind: type[A], is_it: Callable[[A], bool] = lambda alert: True) -> A:
        """Return the next alert of this kind for which `is_it` holds."""
        give_up = time.monotonic() + GUARD_S
        while time.monotonic() < give_up:
            await asyncio.to_thread(self.session.wait_for_alert, WAIT_MS)
            found = None
            for alert in self.session.pop_alerts():
                if isinstance(alert, libtorrent.dht_log_alert) and COMPLAINT.search(alert.message()):
                    self.complaints.append(alert.message())
                # Alerts die with the next call to pop_alerts, so the one sought ends the wait after this batch.
                if found is None and isinstance(alert, kind) and is_it(alert):
                    found = alert
            if found is not None:
                return found
        raise AssertionError(f"no {kind.__name__} within {GUARD_S} s")

    async def node_count(self) -> int:
        """Return how many nodes its routing table holds."""
        self.session.post_dht_stats()
        stats = await self.wait_for(libtorrent.dht_stats_alert)
        return sum(bucket["num_nodes"] for bucket in stats.routing_table)

    async def counters(self) -> dict[str, int]:
        """Return its counters, by name."""
        self.session.post_session_stats()
        return dict((await self.wait_for(libtorrent.session_stats_alert)).values)

    async def put_mutable(self, seed: bytes, key: bytes, value: bytes, salt: bytes = b"") -> tuple[int, int]:
        """Have it sign and put with seq = found + 1; return how many nodes took it, and the seq."""
        self.session.dht_put_mutable_item(expanded(seed), key, value, salt)
        done = await self.wait_for(
            libtorrent.dht_put_alert, lambda alert: alert.public_key == key and alert.salt == salt
        )
        return done.num_success, done.seq

    async def get_mutable(self, key: bytes, salt: bytes = b"") -> tuple[bytes, int]:
        """Return the value and the seq that it settles on."""
        self.session.dht_get_mutable_item(key, salt)
        got = await self.wait_for(
            libtorrent.dht_mutable_item_alert,
            lambda alert: alert.authoritative and alert.key == key and alert.salt == salt,
        )
        return _value_of(got.item), got.seq

    async def put_immutable(self, value: bytes) -> int:
        """Have it put; return how many nodes took it."""
        target = self.session.dht_put_immutable_item(value)
        done = await self.wait_for(libtorrent.dht_put_alert, lambda alert: alert.target == target)
        return done.num_success

    async def get_immutable(self, target: bytes) -> bytes:
        """Return the value that it finds."""
        self.session.dht_get_immutable_item(libtorrent.sha1_hash(target))
        wanted = libtorrent.sha1_hash(target)
        got = await self.wait_for(libtorrent.dht_immutable_item_alert, lambda alert: alert.target == wanted)
        return _value_of(got.item)


def _value_of(item: object) -> bytes:
    assert isinstance(item, bytes), "every item of these tests is a byte string"
    return item


class Raw(asyncio.DatagramProtocol):
    """A client that speaks KRPC a message at a time."""

    def __init__(self) -> None:
        self.transport: asyncio.DatagramTransport | None = None
        self._waiting: dict[tuple[Address, bytes], asyncio.Future[krpc.Message]] = {}

    @classmethod
    async def open(cls) -> Raw:
        """Return a client on a free port."""
        loop = asyncio.get_running_loop()
        _, client = await loop.create_datagram_endpoint(cls, local_addr=("127.0.0.1", 0))
        return client

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        # No subclass of DatagramTransport in Python 3.11, but it is one.
        self.transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, address: Address) -> None:
        """Hand a reply to whoever waits for it."""
        message = parse(data)
        future = self._waiting.pop((address, message.transaction), None)
        if future is not None and not future.done():
            future.set_result(message)

    async def ask(
        self, address: Address, request: krpc.Request, transaction: bytes | None = None, want: tuple[bytes, ...] = ()
    ) -> krpc.Message:
        """Return what a node answers to a request."""
        assert self.transport is not None, "a client is made with open"
        transaction = os.urandom(4) if transaction is None else transaction
        # Read-only, so that nobody wants this client as a contact.
        query = krpc.RequestMessage(
            transaction=transaction, node_id=os.urandom(20), request=request, read_only=True, want=want
        )
        future: asyncio.Future[krpc.Message] = asyncio.get_running_loop().create_future()
        self._waiting[address, transaction] = future
        self.transport.sendto(compose(query), address)
        return await asyncio.wait_for(future, RAW_TIMEOUT_S)

    async def prove(self, address: Address) -> None:
        """Show a node that we read what it sends to this address; until then it may answer with silence (ADR 9)."""
        info_hash = os.urandom(20)
        answer = await self.ask(address, krpc.GetPeers(info_hash))
        assert isinstance(answer, krpc.Reply)
        assert answer.token is not None
        await self.ask(address, krpc.AnnouncePeer(info_hash, None, answer.token))

    async def put(self, address: Address, put: Callable[[bytes], krpc.PutMutable]) -> krpc.Message:
        """Get a token for what `put(token)` makes, put it, and return the answer."""
        answer = await self.ask(address, krpc.Get(put(b"").target))
        assert isinstance(answer, krpc.Reply)
        assert answer.token is not None
        return await self.ask(address, put(answer.token))

    def close(self) -> None:
        """Close the socket."""
        if self.transport is not None:
            self.transport.close()
