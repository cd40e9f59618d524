"""Ten nodes of libtorrent and ten of ours in one overlay on Mainline's wire: each side reads what the other stores.

libtorrent signs by itself and picks seq = found + 1. It calls a result final only when nobody is left to answer, or
15 s after a node fell silent, so that no node that it knows ends before the last test.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, cast

import dns.flags
import dns.message
import dns.query
import dns.rcode
import libtorrent
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from p2pdns.addresses import Address
from p2pdns.clock import boot_now
from p2pdns.dht import krpc
from p2pdns.dht.bencode import encode
from p2pdns.dht.krpc.reading import parse
from p2pdns.dht.krpc.writing import compose
from p2pdns.dht.node.machine import Node
from p2pdns.dht.node.values import NodeSettings, PutOutcome, Wanted
from p2pdns.dht.storage import Storage
from p2pdns.items.item import ImmutableItem, MutableItem
from p2pdns.items.keys import SecretKey, ZoneKey
from p2pdns.net.endpoint import Endpoint
from tests.live.front_process import wait_until
from tests.live.torrents import GUARD_S, Raw, Torrent

ROOT = Path(__file__).resolve().parents[2]
COUNT = 10  # Nodes of each kind: together as many as one item has copies.
ORDER_OF_THE_BASE_POINT = 2**252 + 27742317777372353535851937790883648493
SEQ = 1_800_000_000_000_000

Scene = Callable[["World"], Awaitable[None]]


class World:
    """Both kinds of nodes, all of whom know each other."""

    def __init__(self) -> None:
        self.torrents = [Torrent() for _ in range(COUNT)]
        self.ours: list[Endpoint] = []
        self.server: Server | None = None

    async def open(self) -> None:
        """Have everybody meet everybody."""
        for _ in range(COUNT):
            self.ours.append(await open_endpoint())
        addresses = [torrent.address for torrent in self.torrents] + [endpoint.address for endpoint in self.ours]
        for endpoint in self.ours:
            await endpoint.bootstrap([address for address in addresses if address != endpoint.address])
        for torrent in self.torrents:
            torrent.meet(addresses)
            async with asyncio.timeout(GUARD_S):
                while await torrent.node_count() < 2 * COUNT - 1:
                    continue
        for endpoint in self.ours:
            async with asyncio.timeout(GUARD_S):
                while endpoint.node.contact_count < 2 * COUNT - 1:
                    await endpoint.get(Wanted(os.urandom(20)), on_item=lambda _: None)

    def close(self) -> None:
        """Close both halves."""
        for torrent in self.torrents:
            torrent.close()
        if self.server is not None:
            self.server.close()
        for endpoint in self.ours:
            endpoint.close()

    async def seen_by_ours(self, target: bytes, key: ZoneKey | None, salt: bytes = b"") -> list[object]:
        """Return what each of our nodes finds."""
        outcomes = [await e.get(Wanted(target, key, salt=salt), on_item=lambda _: None) for e in self.ours]
        assert all(outcome.complete for outcome in outcomes)
        return [outcome.item for outcome in outcomes]

    async def seen_by_torrents(self, key: ZoneKey, salt: bytes = b"") -> set[tuple[bytes, int]]:
        """Return what the nodes of libtorrent find, as value and seq."""
        return {await torrent.get_mutable(key.raw, salt) for torrent in self.torrents}


def is_everywhere(outcome: PutOutcome) -> bool:
    """Return whether every other node of the overlay has said that it keeps the item."""
    return outcome.others.stored == outcome.others.known >= 2 * COUNT - 1


def is_refused_by_all(outcome: PutOutcome, code: int) -> bool:
    """Return whether every other node has refused for one reason; those of other scenes may be among them."""
    return set(outcome.refused) == {code} and outcome.refused[code] >= 2 * COUNT - 1 and not outcome.stored_count


async def open_endpoint(**settings: Any) -> Endpoint:
    """Return a node of ours on a free port."""
    settings = {"bind_host": "127.0.0.1"} | settings
    node = Node(
        node_id=None,
        network="unnamed",
        entropy=os.urandom,
        storage=Storage(),
        settings=NodeSettings(**settings),
        now=boot_now(),
    )
    return await Endpoint.open(node, ("127.0.0.1", 0))


@pytest.fixture(scope="module")
def play() -> Iterator[Callable[[Scene], None]]:
    """Return what plays a scene in the one overlay of this file."""
    with asyncio.Runner() as runner:
        world = World()

        def run(scene: Scene) -> None:
            async def guarded() -> None:
                await asyncio.wait_for(scene(world), 2 * GUARD_S)

            runner.run(guarded())

        async def close() -> None:
            world.close()

        try:
            run(World.open)
            yield run
        finally:
            runner.run(close())


def seed_of(number: int) -> bytes:
    """Return the secret seed of a key of its own."""
    return b"libtorrent test " + number.to_bytes(16)


def put_of(item: MutableItem, signature: bytes | None = None) -> Callable[[bytes], krpc.PutMutable]:
    """Return what makes the put of an item with a token."""
    value = encode(item.value)
    return lambda token: krpc.PutMutable(item.key.raw, item.seq, value, signature or item.signature, token, item.salt)


@pytest.mark.parametrize("salt", [b"", b"a salt"])
def test_libtorrent_reads_every_mutable_item_and_update_of_ours(play: Callable[[Scene], None], salt: bytes) -> None:
    async def scene(world: World) -> None:
        secret = SecretKey.generate(seed_of(1))
        for seq, value in ((SEQ, b"first"), (SEQ + 1, b"second" * 160)):
            outcome = await world.ours[seq % COUNT].put(MutableItem.signed(secret, seq, value, salt))
            assert is_everywhere(outcome)
            assert outcome.refused == {}
            assert await world.seen_by_torrents(secret.zone_key, salt) == {(value, seq)}

    play(scene)


@pytest.mark.parametrize("salt", [b"", b"a salt"])
def test_we_read_every_mutable_item_and_update_of_libtorrent(play: Callable[[Scene], None], salt: bytes) -> None:
    async def scene(world: World) -> None:
        seed = seed_of(2)
        key = SecretKey.generate(seed).zone_key
        for seq, value in ((1, b"first"), (2, b"second" * 160)):
            assert await world.torrents[seq].put_mutable(seed, key.raw, value, salt) == (8, seq)
            # Both derive the same signature from the seed, so the items are equal to the last bit.
            item = MutableItem.signed(SecretKey.generate(seed), seq, value, salt)
            assert await world.seen_by_ours(item.target, key, salt) == [item] * COUNT

    play(scene)


def test_an_item_goes_to_and_fro_between_publishers_of_both_kinds(play: Callable[[Scene], None]) -> None:
    async def scene(world: World) -> None:
        secret = SecretKey.generate(seed_of(3))
        key = secret.zone_key
        await world.ours[0].put(MutableItem.signed(secret, SEQ, b"ours"))
        assert (await world.torrents[0].put_mutable(seed_of(3), key.raw, b"theirs"))[1] == SEQ + 1
        theirs = MutableItem.signed(secret, SEQ + 1, b"theirs")
        assert await world.seen_by_ours(theirs.target, key) == [theirs] * COUNT
        await world.ours[1].put(MutableItem.signed(secret, SEQ + 2, b"ours again"))
        assert await world.seen_by_torrents(key) == {(b"ours again", SEQ + 2)}

    play(scene)


def test_immutable_items_are_read_both_ways(play: Callable[[Scene], None]) -> None:
    async def scene(world: World) -> None:
        ours, theirs = ImmutableItem(b"leaf of ours " * 70), ImmutableItem(b"leaf of theirs " * 60)
        assert is_everywhere(await world.ours[0].put(ours))
        assert {await torrent.get_immutable(ours.target) for torrent in world.torrents} == {ours.value}
        assert await world.torrents[0].put_immutable(theirs.value) == 8
        assert await world.seen_by_ours(theirs.target, None) == [theirs] * COUNT

    play(scene)


def test_both_kinds_refuse_a_wrong_cas_and_an_older_seq(play: Callable[[Scene], None]) -> None:
    async def scene(world: World) -> None:
        secret = SecretKey.generate(seed_of(4))
        first, second, third = (MutableItem.signed(secret, SEQ + n, b"%d" % n) for n in range(3))
        publisher = world.ours[0]
        assert is_everywhere(await publisher.put(second))
        assert is_refused_by_all(await publisher.put(third, cas=(first.seq,)), krpc.CAS_MISMATCH)
        assert is_refused_by_all(await publisher.put(first), krpc.SEQ_TOO_LOW)
        assert await world.seen_by_torrents(secret.zone_key) == {(b"1", second.seq)}
        assert is_everywhere(await publisher.put(third, cas=(second.seq,)))
        assert await world.seen_by_ours(third.target, secret.zone_key) == [third] * COUNT

    play(scene)


# What a stranger put into libtorrent, asked for through our DNS port


class Server:
    """`p2pdns serve` as a process, which knows two nodes of libtorrent and none of ours."""

    def __init__(self, bootstrap: list[Address]) -> None:
        self._folder = tempfile.TemporaryDirectory()
        folder = Path(self._folder.name)
        command = [sys.executable, "-m", "p2pdns", "serve", "--dns", "127.0.0.1:0", "--dht", "127.0.0.1:0"]
        command += ["--network", "unnamed", "--upstream", "none", "--state", str(folder / "state")]
        for host, port in bootstrap:
            command += ["--bootstrap", f"{host}:{port}"]
        self.errors = folder / "serve.err"
        with self.errors.open("wb") as errors:
            self.process = subprocess.Popen(command, stderr=errors, cwd=ROOT)
        self.port = 0

    def wait(self) -> None:
        """Wait until both halves listen."""
        wait_until(lambda: len(re.findall("listening on", self.errors.read_text())) >= 2, "both ports")
        found = re.search(r"dns: listening on 127\.0\.0\.1:(\d+)", self.errors.read_text())
        assert found is not None
        self.port = int(found[1])

    def ask(self, name: str, rtype: str) -> dns.message.Message:
        """Return the answer of our DNS port."""
        query = dns.message.make_query(name, rtype, use_edns=True)
        return dns.query.udp(query, "127.0.0.1", port=self.port, timeout=GUARD_S)

    def close(self) -> None:
        """End it."""
        self.process.terminate()
        self.process.wait(GUARD_S)
        self._folder.cleanup()


def resolved(world: World, *questions: tuple[str, str]) -> Coroutine[Any, Any, list[dns.message.Message]]:
    """Return the answers of the resolver, which has never been asked for these names."""

    def ask() -> list[dns.message.Message]:
        if world.server is None:
            world.server = Server([torrent.address for torrent in world.torrents[:2]])
        world.server.wait()
        return [world.server.ask(*question) for question in questions]

    return asyncio.to_thread(ask)


def foreign_packet(seed: bytes, host: str) -> tuple[str, MutableItem]:
    """Return a zone key and its packet, composed by dnspython and signed by hand, now."""
    secret = Ed25519PrivateKey.from_private_bytes(seed)
    key = ZoneKey.verified(secret.public_key().public_bytes_raw())
    message = dns.message.from_text(
        f"id 0\nopcode QUERY\nrcode NOERROR\nflags QR\n;ANSWER\nwww.{key}. 60 IN A {host}\n;AUTHORITY\n;ADDITIONAL\n"
    )
    value, seq = message.to_wire(), time.time_ns() // 1000
    signature = secret.sign(b"3:seqi%de1:v%d:%b" % (seq, len(value), value))
    return str(key), MutableItem.verified(key, seq, value, signature)


def test_packets_of_others_in_libtorrent_resolve_through_our_dns_port(play: Callable[[Scene], None]) -> None:
    old = json.loads((ROOT / "tests/vectors/pkarr.json").read_text())["vectors"][0]
    old_item = MutableItem.verified(
        ZoneKey.read(old["zone_key"]), old["seq"], bytes.fromhex(old["value"]), bytes.fromhex(old["signature"])
    )

    async def scene(world: World) -> None:
        key, item = foreign_packet(seed_of(5), "203.0.113.5")
        raw = await Raw.open()
        for torrent in world.torrents:
            for each in (item, old_item):
                assert isinstance(await raw.put(torrent.address, put_of(each)), krpc.Reply)
        raw.close()
        fresh, stale, absent = await resolved(
            world, (f"www.{key}", "A"), (f"foo.{old['zone_key']}", "TXT"), (f"nobody.{key}", "A")
        )
        assert [str(rrset) for rrset in fresh.answer] == [f"www.{key}. {fresh.answer[0].ttl} IN A 203.0.113.5"]
        assert absent.rcode() == dns.rcode.NXDOMAIN
        # Signed years ago, so it is served as stale (RFC 8767), and says so.
        assert [rdata.to_text() for rdata in stale.answer[0]] == ['"bar"']
        assert stale.answer[0].ttl <= 30
        assert 3 in [option.code for option in stale.options if isinstance(option, dns.edns.EDEOption)]

    play(scene)


def test_malleated_twins_on_every_libtorrent_node_do_not_censor_a_name(play: Callable[[Scene], None]) -> None:
    async def scene(world: World) -> None:
        key, item = foreign_packet(seed_of(6), "203.0.113.6")
        s = int.from_bytes(item.signature[32:], "little") + ORDER_OF_THE_BASE_POINT
        twin = item.signature[:32] + s.to_bytes(32, "little")
        raw = await Raw.open()
        for torrent in world.torrents:
            assert isinstance(await raw.put(torrent.address, put_of(item, twin)), krpc.Reply)
            # The honest item changes nothing now: it is the same seq with the same value.
            await raw.put(torrent.address, put_of(item))
            held = await raw.ask(torrent.address, krpc.Get(item.target))
            assert isinstance(held, krpc.Reply)
            assert held.signature == twin
        raw.close()
        (answer,) = await resolved(world, (f"www.{key}", "A"))
        assert [rdata.to_text() for rdata in answer.answer[0]] == ["203.0.113.6"]
        # What our nodes found they hand on in its one canonical form.
        assert await world.seen_by_ours(item.target, item.key) == [item] * COUNT

    play(scene)


# Transactions


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 8, 32])
def test_a_transaction_of_any_length_comes_back_over_the_network(play: Callable[[Scene], None], size: int) -> None:
    async def scene(world: World) -> None:
        raw = await Raw.open()
        requests: list[krpc.Request] = [krpc.Ping(), krpc.FindNode(bytes(20)), krpc.Get(bytes(20))]
        for number, request in enumerate(requests):
            transaction = os.urandom(size)
            answer = await raw.ask(world.ours[number].address, request, transaction)
            assert isinstance(answer, krpc.Reply)
            assert answer.transaction == transaction
        raw.close()

    play(scene)


class Picky(asyncio.DatagramProtocol):
    """A node that answers transactions of one length only, as two generations of Rust's mainline do."""

    def __init__(self, size: int, item: MutableItem) -> None:
        self._size = size
        self._item = item
        self._id = os.urandom(20)
        self.has_stored = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, address: Address) -> None:
        """Answer what has the right length."""
        query = parse(data)
        if not isinstance(query, krpc.RequestMessage) or len(query.transaction) != self._size:
            return
        reply: dict[str, Any] = {"transaction": query.transaction, "node_id": self._id, "token": b"tokn"}
        if isinstance(query.request, krpc.PutMutable):
            self.has_stored = query.request.token == b"tokn"
        elif isinstance(query.request, krpc.Get):
            item = self._item
            reply |= {"key": item.key.raw, "seq": item.seq, "signature": item.signature, "value": encode(item.value)}
        self._transport.sendto(compose(krpc.Reply(**reply)), address)


@pytest.mark.parametrize("size", [2, 4])
def test_a_node_that_answers_one_length_of_transactions_only_understands_us(size: int) -> None:
    async def scene() -> None:
        secret = SecretKey.generate(seed_of(7))
        old, new = (MutableItem.signed(secret, SEQ + n, b"%d" % n) for n in range(2))
        loop = asyncio.get_running_loop()
        transport, picky = await loop.create_datagram_endpoint(lambda: Picky(size, old), local_addr=("127.0.0.1", 0))
        endpoint = await open_endpoint(read_only=True)
        assert await endpoint.bootstrap([transport.get_extra_info("sockname")]) == 1
        assert (await endpoint.get(Wanted(old.target, old.key), on_item=lambda _: None)).item == old
        assert (await endpoint.put(new)).stored_count == 1
        assert picky.has_stored
        endpoint.close()
        transport.close()

    asyncio.run(asyncio.wait_for(scene(), GUARD_S))


async def told_of_peers(world: World, info_hash: bytes) -> set[Address]:
    """Ask our nodes until one of them knows peers, and return those."""
    raw = await Raw.open()
    try:
        for endpoint in world.ours:
            await raw.prove(endpoint.address)
        async with asyncio.timeout(GUARD_S):
            while True:
                for endpoint in world.ours:
                    answer = await raw.ask(endpoint.address, krpc.GetPeers(info_hash))
                    if isinstance(answer, krpc.Reply) and answer.peers:
                        return set(answer.peers)
    finally:
        raw.close()


def test_libtorrent_drops_nothing_of_ours_and_finds_no_fault_with_it(play: Callable[[Scene], None]) -> None:
    async def scene(world: World) -> None:
        torrent = world.torrents[0]
        ours = {endpoint.address for endpoint in world.ours}
        before = await torrent.counters()
        value = ImmutableItem(b"judged")
        await world.ours[0].put(value)
        secret = SecretKey.generate(seed_of(8))
        await world.ours[0].put(MutableItem.signed(secret, SEQ, b"x" * 996, b"salt"))
        await torrent.get_immutable(value.target)
        await torrent.get_mutable(secret.zone_key.raw, b"salt")
        info_hash = os.urandom(20)
        torrent.session.dht_announce(libtorrent.sha1_hash(info_hash), 6881, 0)
        assert await told_of_peers(world, info_hash) == {("127.0.0.1", 6881)}
        torrent.session.dht_get_peers(libtorrent.sha1_hash(info_hash))
        found = await torrent.wait_for(libtorrent.dht_get_peers_reply_alert)
        assert found.peers() == [("127.0.0.1", 6881)]
        after = await torrent.counters()
        assert after["dht.dht_messages_in"] > before["dht.dht_messages_in"] + 2 * COUNT
        # The difference, for other tests put what has to be refused.
        faults = {name: after[name] - before[name] for name in after if "dht_invalid" in name or "in_dropped" in name}
        assert len(faults) == 7
        assert {name: count for name, count in faults.items() if count} == {}
        assert [line for line in torrent.complaints if any(f":{port}" in line for _, port in ours)] == []
        assert all(endpoint.node.counters["dropped-krpc-reply"] == 0 for endpoint in world.ours)

    play(scene)
