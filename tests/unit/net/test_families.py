"""IPv4 and IPv6 behind one face: real sockets on both loopback addresses, and the outcomes they are merged from."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest

from p2pdns.clock import boot_now
from p2pdns.dht.lookup.verdict import Verdict
from p2pdns.dht.node.machine import Node
from p2pdns.dht.node.values import GetOutcome, NodeSettings, PutOutcome, Wanted
from p2pdns.dht.storage import Storage
from p2pdns.dns.name import Name
from p2pdns.errors import Unavailable
from p2pdns.items.item import Item, MutableItem, Present
from p2pdns.items.shards.pinned import Pinned, SaltLetter, pin_of
from p2pdns.net.endpoint import Endpoint
from p2pdns.net.families import Families, _only_better, merged_get, merged_put, socket_beside
from tests.unit.dht.swarm import item_of, secret_of

GUARD_S = 20.0
OLD, NEW = item_of(1), item_of(1, item_of(1).seq + 1, b"newer")
KEY = OLD.key
PRESENT = Present(OLD.seq / 1e6 + 60.0)


async def open_endpoint(host: str, storage: Storage | None = None) -> Endpoint:
    """Return a node of one family."""
    node = Node(
        node_id=None,
        network="families",
        entropy=os.urandom,
        storage=Storage() if storage is None else storage,
        settings=NodeSettings(bind_host=host),
        now=boot_now(),
    )
    return await Endpoint.open(node, (host, 0))


class World:
    """A node of both families, and one neighbour in each."""

    def __init__(self, both: Families, storage: Storage, ipv4: Endpoint, ipv6: Endpoint) -> None:
        self.both = both
        self.storage = storage
        self.ipv4 = ipv4
        self.ipv6 = ipv6


def run(scene: Callable[[World], Awaitable[None]], *, joins: str = "46") -> None:
    """Play a scene; the node of both families joins those named."""

    async def play() -> None:
        storage = Storage()
        ipv4, ipv6 = await open_endpoint("127.0.0.1"), await open_endpoint("::1")
        both = Families([await open_endpoint("127.0.0.1", storage), await open_endpoint("::1", storage)])
        known = {"4": ipv4, "6": ipv6}
        try:
            assert await both.bootstrap([known[family].address for family in joins]) > 0
            # One family is enough to have joined, so the other may still be on its way.
            for family in joins:
                await both.endpoints["46".index(family)].bootstrap()
            await scene(World(both, storage, ipv4, ipv6))
        finally:
            for endpoint in (both, ipv4, ipv6):
                endpoint.close()

    asyncio.run(asyncio.wait_for(play(), GUARD_S))


def ignore(item: Item) -> None:
    """Take an item and do nothing."""


def test_a_put_reaches_both_dhts_and_one_storage_keeps_it() -> None:
    async def scene(world: World) -> None:
        progress: list[tuple[int, int]] = []
        outcome = await world.both.put(OLD, on_progress=lambda sent, stored: progress.append((sent, stored)))
        assert (outcome.is_kept_here, outcome.refused) == (True, {})
        assert (outcome.others, progress[-1]) == ((1, 1), (1, 1)), "the other node is one, though it is in both"
        assert all(sent <= 1 and stored <= 1 for sent, stored in progress)
        for storage in (world.ipv4.node.storage, world.ipv6.node.storage, world.storage):
            held = storage.held(OLD.target, boot_now())
            assert held is not None
            assert held.item == OLD
        assert len(world.storage) == 1

    run(scene)


@pytest.mark.parametrize("family", ["ipv4", "ipv6"])
def test_an_item_of_either_dht_is_found(family: str) -> None:
    async def scene(world: World) -> None:
        await getattr(world, family).put(OLD)
        # The neighbours put at us as well; what is sought here is what the network says.
        handed_out: list[Item] = []
        outcome = await world.both.get(Wanted(OLD.target, KEY), on_item=handed_out.append)
        assert (outcome.item, outcome.complete, handed_out) == (OLD, True, [OLD])

    run(scene)


@pytest.mark.parametrize("family", ["ipv4", "ipv6"])
def test_a_pinned_item_of_either_dht_ends_the_get_in_both(family: str) -> None:
    pinned = Pinned(SaltLetter.SHARD, Name.read("example."), 1, 3, pin_of(b"pinned"))
    item = MutableItem.signed(secret_of(1), OLD.seq, b"pinned", pinned.salt)

    async def scene(world: World) -> None:
        getattr(world, family).node.storage.put_own(item, boot_now())
        other = 1 if family == "ipv4" else 0
        (world.ipv4, world.ipv6)[other].close()
        # The neighbour in the other family is silent, which a get notices later than the item is found.
        slow = world.both.endpoints[other].get(Wanted(OLD.target, KEY), on_item=ignore)
        wanted = Wanted(item.target, KEY, pinned.salt, pinned=pinned)
        handed_out: list[Item] = []
        outcome = await world.both.get(wanted, on_item=handed_out.append)
        assert (outcome.item, outcome.verdict, handed_out) == (item, Verdict.FOUND, [item])
        assert not slow.done()
        slow.cancel()

    run(scene)


def test_of_two_dhts_that_differ_the_newer_item_wins_and_the_older_is_never_handed_out_after_it() -> None:
    async def scene(world: World) -> None:
        world.ipv4.node.storage.put_own(OLD, boot_now())
        world.ipv6.node.storage.put_own(NEW, boot_now())
        handed_out: list[Item] = []
        outcome = await world.both.get(Wanted(OLD.target, KEY), on_item=handed_out.append)
        assert outcome.item == NEW
        assert handed_out in ([NEW], [OLD, NEW])

    run(scene)


@pytest.mark.parametrize("joins", ["4", "6"])
def test_a_family_without_contacts_spoils_nothing(joins: str) -> None:
    async def scene(world: World) -> None:
        assert (await world.both.put(OLD)).sent_count == 1
        outcome = await world.both.get(Wanted(OLD.target, KEY), on_item=ignore)
        assert outcome.complete
        assert outcome.item == OLD
        assert outcome.answered_count == 1

    run(scene, joins=joins)


def test_both_families_share_one_budget_of_requests() -> None:
    async def scene(world: World) -> None:
        more = [await open_endpoint(host) for host in ("127.0.0.1", "::1") for _ in range(4)]
        try:
            for endpoint in more:
                await endpoint.bootstrap([world.ipv4.address, world.ipv6.address])
            alone = await world.both.get(Wanted(OLD.target, KEY), on_item=ignore)
            assert alone.rpc_count > 6
            outcome = await world.both.get(Wanted(OLD.target, KEY, rpc_max=6), on_item=ignore)
            assert outcome.rpc_count <= 6
        finally:
            for endpoint in more:
                endpoint.close()

    run(scene)


def test_the_other_dht_is_joined_by_what_contacts_of_one_tell_of_it() -> None:
    async def scene(world: World) -> None:
        neighbour = Families([await open_endpoint("127.0.0.1"), await open_endpoint("::1")])
        newcomer = Families([await open_endpoint("127.0.0.1"), await open_endpoint("::1")])
        try:
            await neighbour.endpoints[1].bootstrap([world.ipv6.address])
            joined = newcomer.endpoints[1].bootstrap()
            await newcomer.endpoints[0].bootstrap([neighbour.endpoints[0].address])
            assert await joined >= 1
        finally:
            neighbour.close()
            newcomer.close()

    run(scene)


def test_an_arrival_in_either_family_is_told() -> None:
    async def scene(world: World) -> None:
        told: list[bytes] = []
        world.both.on_arrival = lambda target, item: told.append(target)
        await world.ipv4.put(OLD)
        await world.ipv6.put(item_of(2))
        assert told == [OLD.target, item_of(2).target]

    run(scene)


def test_closing_ends_every_wait_with_unavailable() -> None:
    async def scene(world: World) -> None:
        world.ipv4.close()
        world.ipv6.close()
        waiting: list[asyncio.Future[Any]] = [
            world.both.get(Wanted(OLD.target, KEY), on_item=ignore),
            world.both.put(OLD),
        ]
        world.both.close()
        for future in waiting:
            with pytest.raises(Unavailable):
                await future

    run(scene)


FOUND = GetOutcome(OLD, Verdict.COMPLETE, 3, 1, 3, 2, 0.2, 0.5, 100, 200, 2, 1)


def test_an_outcome_is_complete_when_both_families_are() -> None:
    cut = replace(FOUND, item=NEW, verdict=Verdict.DEADLINE, first_s=0.1, rpcs_to_first=1, done_s=0.9)
    first = replace(FOUND, answered=(("127.0.0.1", 1),), dropped={"signature": 1})
    first, cut = replace(first, copies={("127.0.0.1", 1): OLD}), replace(cut, copies={("::1", 2): NEW})
    merged = merged_get([first, replace(cut, answered=(("::1", 2),), dropped={"signature": 2})], PRESENT)
    assert merged.copies == {("127.0.0.1", 1): OLD, ("::1", 2): NEW}
    assert (merged.answered, merged.dropped) == ((("127.0.0.1", 1), ("::1", 2)), {"signature": 3})
    assert (merged.item, merged.complete, merged.verdict) == (NEW, False, Verdict.DEADLINE)
    assert (merged.rpc_count, merged.answered_count, merged.bytes_received) == (6, 4, 400)
    assert (merged.first_s, merged.rpcs_to_first, merged.done_s) == (0.1, 1, 0.9)
    assert merged.confirmed_count == 1, "copies of the older item confirm nothing"


def test_refusals_of_both_families_add_up() -> None:
    merged = merged_put(
        [PutOutcome(5, 3, {302: 2}, 7), PutOutcome(4, 1, {302: 1, "timeout": 2}, None, Verdict.DEADLINE)]
    )
    one, two = PutOutcome(1, 0, asked=(("127.0.0.1", 1),)), PutOutcome(1, 0, held_at=(("::1", 2),))
    assert (merged_put([one, two]).asked, merged_put([one, two]).held_at) == (one.asked, two.held_at)
    assert (merged.sent_count, merged.stored_count, merged.seq_seen) == (5, 3, 7)
    assert merged.refused == {302: 3, "timeout": 2}
    assert merged.others == (5, 3), "most nodes are in both families, so the larger speaks for both"
    assert merged.verdict is Verdict.DEADLINE


@pytest.mark.parametrize(
    ("first", "second", "merged"),
    [
        ((False, None), (False, None), (False, None)),
        ((True, None), (False, None), (True, None)),
        ((True, None), (True, None), (True, None)),
        ((False, 302), (False, 302), (False, 302)),
        ((False, None), (False, 302), (False, 302)),
        ((False, 302), (True, None), (True, None)),
    ],
)
def test_the_storage_that_both_families_share_is_told_of_once(
    first: tuple[bool, int | None], second: tuple[bool, int | None], merged: tuple[bool, int | None]
) -> None:
    outcomes = [PutOutcome(4, 3, {302: 1}, is_kept_here=kept, refused_here=code) for kept, code in (first, second)]
    outcome = merged_put(outcomes)
    assert (outcome.is_kept_here, outcome.refused_here) == merged
    assert outcome.reasons == {"302": 3 if merged[1] else 2}


def test_ipv6_opens_by_itself_only_beside_every_ipv4_address() -> None:
    assert socket_beside("off", ("0.0.0.0", 6881)) is None
    assert socket_beside("auto", ("127.0.0.1", 6881)) is None
    beside = socket_beside("[::1]:0", ("127.0.0.1", 6881))
    assert beside is not None
    assert beside.getsockname()[0] == "::1"
    beside.close()
    automatic = socket_beside("auto", ("0.0.0.0", 0))
    assert automatic is not None
    assert automatic.getsockname()[0] == "::"
    automatic.close()


def test_an_item_from_the_future_in_one_family_hides_no_saner_one_of_the_other() -> None:
    odd = item_of(1, OLD.seq + 3 * 86_400_000_000)
    for outcomes in ([FOUND, replace(FOUND, item=odd)], [replace(FOUND, item=odd), FOUND]):
        assert merged_get(outcomes, PRESENT).item == OLD
    handed: list[Item] = []
    hand_out = _only_better(handed.append, PRESENT)
    for item in (odd, OLD, odd, NEW):
        hand_out(item)
    assert handed == [odd, OLD, NEW]
