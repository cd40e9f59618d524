"""Many nodes with sockets of their own on loopback: join, put, get, die, come back."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Awaitable, Callable

import pytest

from p2pdns.addresses import Address
from p2pdns.clock import boot_now
from p2pdns.dht.node.machine import Node
from p2pdns.dht.node.values import NodeSettings, Wanted
from p2pdns.dht.routing.contact import SavedContact
from p2pdns.dht.storage import Storage
from p2pdns.items.item import ImmutableItem, MutableItem
from p2pdns.items.keys import SecretKey
from p2pdns.net.endpoint import Endpoint

GUARD_S = 60.0
HERE: Address = ("127.0.0.1", 0)
SEQ = 1_800_000_000_000_000


def item_of(number: int, seq: int = SEQ, value: bytes = b"value") -> MutableItem:
    """Return a signed item of a key of its own."""
    return MutableItem.signed(SecretKey.generate(number.to_bytes(32)), seq, value)


async def open_endpoint(*, host: str = "127.0.0.1", network: str = "live", **settings: object) -> Endpoint:
    """Return a node on a free port."""
    node = Node(
        node_id=None,
        network=network,
        entropy=os.urandom,
        storage=Storage(),
        settings=NodeSettings(bind_host=host, **settings),  # type: ignore[arg-type]
        now=boot_now(),
    )
    return await Endpoint.open(node, (host, 0))


class World:
    """The endpoints of a test."""

    def __init__(self) -> None:
        self.rng = random.Random(1)
        self.live: list[Endpoint] = []

    async def grow(self, count: int) -> None:
        """Add nodes that join by earlier ones."""
        for _ in range(count):
            endpoint = await open_endpoint()
            if self.live:
                await endpoint.bootstrap([self.rng.choice(self.live).address])
            self.live.append(endpoint)

    def kill(self, count: int) -> list[Endpoint]:
        """Close nodes without a word; an unconnected socket of a peer never hears of it."""
        self.rng.shuffle(self.live)
        gone, self.live = self.live[:count], self.live[count:]
        for endpoint in gone:
            endpoint.close()
        return gone

    def cold(self, target: bytes) -> Endpoint:
        """Return a node that does not hold the target."""
        return next(e for e in self.live if e.node.storage.held(target, boot_now()) is None)


def run(count: int, scene: Callable[[World], Awaitable[None]]) -> None:
    """Play a scene with so many nodes."""

    async def play() -> None:
        world = World()
        try:
            await world.grow(count)
            await scene(world)
        finally:
            for endpoint in world.live:
                endpoint.close()

    asyncio.run(asyncio.wait_for(play(), GUARD_S))


def test_every_node_gets_what_one_has_put() -> None:
    async def scene(world: World) -> None:
        item = item_of(1)
        outcome = await world.live[3].put(item)
        assert outcome.sent_count == outcome.stored_count == 11
        for endpoint in world.live:
            got = await endpoint.get(Wanted(item.target, item.key), on_item=lambda _: None)
            assert got.item == item
            assert got.complete

    run(12, scene)


def test_names_survive_the_death_of_their_publisher_and_a_third_of_the_nodes() -> None:
    async def scene(world: World) -> None:
        items = [item_of(number) for number in range(8)]
        publisher = world.live.pop()
        for item in items:
            await publisher.put(item)
        publisher.close()
        world.kill(16)
        for item in items:
            handed_out: list[object] = []
            endpoint = world.cold(item.target)
            got = await endpoint.get(Wanted(item.target, item.key), on_item=handed_out.append)
            assert got.item == item
            assert handed_out[0] == item
            assert got.retransmit_count > 0

    run(49, scene)


def test_fifty_cold_keys_at_once_lose_nothing() -> None:
    async def scene(world: World) -> None:
        items = [item_of(number) for number in range(50)]
        for item in items:
            await world.rng.choice(world.live).put(item)
        reader = await open_endpoint(read_only=True, store=False)
        await reader.bootstrap([world.live[0].address])
        got = await asyncio.gather(
            *(reader.get(Wanted(item.target, item.key), on_item=lambda _: None) for item in items)
        )
        reader.close()
        assert [outcome.item for outcome in got] == items

    run(30, scene)


def test_an_update_is_seen_by_all_and_a_stale_put_refused() -> None:
    async def scene(world: World) -> None:
        old, new = item_of(1), item_of(1, SEQ + 1, b"newer")
        await world.live[0].put(old)
        await world.live[5].put(new)
        for endpoint in world.live:
            assert (await endpoint.get(Wanted(old.target, old.key), on_item=lambda _: None)).item == new
        stale = await world.live[1].put(old)
        assert stale.stored_count == 0
        assert (stale.refused, stale.refused_here) == ({302: 9}, 302)

    run(10, scene)


def test_immutable_items_and_salts_travel_too() -> None:
    async def scene(world: World) -> None:
        leaf = ImmutableItem(b"x" * 1000)
        secret = SecretKey.generate(b"\x05" * 32)
        salted = MutableItem.signed(secret, SEQ, b"salted", b"salt")
        assert (await world.live[0].put(leaf)).stored_count == 9
        assert (await world.live[0].put(salted)).stored_count == 9
        assert (await world.live[9].get(Wanted(leaf.target), on_item=lambda _: None)).item == leaf
        got = await world.live[9].get(Wanted(salted.target, secret.zone_key, salt=b"salt"), on_item=lambda _: None)
        assert got.item == salted

    run(10, scene)


def test_an_overlay_comes_back_from_saved_contacts_alone() -> None:
    async def scene(world: World) -> None:
        saved = [SavedContact(e.node.node_id, e.address) for e in world.live]
        newcomer = await open_endpoint()
        world.live.append(newcomer)
        newcomer.node.restore_contacts(saved, boot_now())
        assert await newcomer.bootstrap() == 10

    run(10, scene)


def test_an_ipv6_overlay_works_alike() -> None:
    async def play() -> None:
        endpoints = [await open_endpoint(host="::1") for _ in range(4)]
        for endpoint in endpoints[1:]:
            await endpoint.bootstrap([endpoints[0].address])
        item = item_of(1)
        assert (await endpoints[1].put(item)).stored_count == 3
        assert (await endpoints[3].get(Wanted(item.target, item.key), on_item=lambda _: None)).item == item
        for endpoint in endpoints:
            endpoint.close()

    asyncio.run(asyncio.wait_for(play(), GUARD_S))


@pytest.mark.parametrize("other", ["another", "unnamed"])
def test_two_networks_that_share_contacts_do_not_merge(other: str) -> None:
    async def scene(world: World) -> None:
        strangers = [await open_endpoint(network=other) for _ in range(4)]
        try:
            mine, theirs = ([endpoint.address for endpoint in side] for side in (world.live, strangers))
            saved = [SavedContact(e.node.node_id, e.address) for e in world.live]
            # Everybody is told of everybody, by hand and in saved contacts.
            for endpoint in strangers:
                endpoint.node.restore_contacts(saved, boot_now())
            joins = [e.bootstrap([*mine, *(a for a in theirs if a != e.address)]) for e in strangers]
            assert max(await asyncio.gather(*joins)) <= 3
            # Nobody there will ever answer, so nothing waits for it.
            asked = [endpoint.bootstrap(theirs) for endpoint in world.live]
            item, foreign = item_of(1), item_of(2)
            assert (await world.live[0].put(item)).stored_count == 4
            assert (await strangers[0].put(foreign)).stored_count == 3
            for side, others, own in ((world.live, theirs, item), (strangers, mine, foreign)):
                missing = foreign if own is item else item
                for endpoint in side:
                    assert not {contact.address for contact in endpoint.node.contacts(boot_now())} & set(others)
                    assert (await endpoint.get(Wanted(own.target, own.key), on_item=lambda _: None)).item == own
                    assert (
                        await endpoint.get(Wanted(missing.target, missing.key), on_item=lambda _: None)
                    ).item is None
            assert len(asked) == len(world.live)
            for side in (world.live, strangers):
                assert all(endpoint.node.counters["dropped-other-network"] for endpoint in side)
        finally:
            for endpoint in strangers:
                endpoint.close()

    run(5, scene)


def test_a_loopback_node_never_sends_elsewhere() -> None:
    async def scene(world: World) -> None:
        endpoint = world.live[0]
        endpoint.node.add_bootstrap([("192.0.2.1", 6881), ("8.8.8.8", 6881), ("10.0.0.1", 6881)], boot_now())
        assert endpoint.node.datagrams_to_send(boot_now()) == []

    run(2, scene)
