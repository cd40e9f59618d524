"""The socket around a node: futures, callbacks, closing. Real sockets on loopback; nothing waits for time to pass."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Awaitable, Callable
from itertools import pairwise

import pytest

from p2pdns.addresses import Address
from p2pdns.clock import boot_now
from p2pdns.dht import krpc
from p2pdns.dht.krpc.reading import parse
from p2pdns.dht.krpc.writing import compose
from p2pdns.dht.lookup.verdict import Verdict
from p2pdns.dht.node.machine import Node
from p2pdns.dht.node.turns import REQUESTS_IN_FLIGHT_MAX
from p2pdns.dht.node.values import GetOutcome, NodeSettings, Wanted
from p2pdns.dht.storage import Storage
from p2pdns.errors import Unavailable
from p2pdns.items.item import Item, MutableItem
from p2pdns.net.endpoint import BEHIND_DATAGRAMS_MAX, Endpoint
from p2pdns.net.sockets import address_of, open_udp
from tests.unit.dht.swarm import item_of, secret_of
from tests.waiting import until

GUARD_S = 20.0  # Ten times what the slowest machine needs.
HERE: Address = ("127.0.0.1", 0)
ITEM = item_of(1)


def new_node(**settings: object) -> Node:
    """Return a node for loopback."""
    return Node(
        node_id=None,
        network="test",
        entropy=os.urandom,
        storage=Storage(),
        settings=NodeSettings(bind_host="127.0.0.1", **settings),  # type: ignore[arg-type]
        now=boot_now(),
    )


def run(scene: Callable[[Endpoint, Endpoint], Awaitable[None]]) -> None:
    """Play a scene of two endpoints that know each other."""

    async def play() -> None:
        first, second = await Endpoint.open(new_node(), HERE), await Endpoint.open(new_node(), HERE)
        try:
            assert await second.bootstrap([first.address]) == 1
            await scene(first, second)
        finally:
            first.close()
            second.close()

    asyncio.run(asyncio.wait_for(play(), GUARD_S))


def ignore(item: Item) -> None:
    """Take an item and do nothing."""


def test_put_tells_its_progress_and_get_hands_the_item_out() -> None:
    async def scene(first: Endpoint, second: Endpoint) -> None:
        progress: list[tuple[int, int]] = []
        arrived: list[bytes] = []
        first.on_arrival = lambda target, item: arrived.append(target)
        outcome = await second.put(ITEM, on_progress=lambda sent, stored: progress.append((sent, stored)))
        assert (outcome.sent_count, outcome.stored_count, outcome.is_kept_here) == (1, 1, True)
        assert (outcome.others, progress[-1]) == ((1, 1), (1, 1))
        assert arrived == [ITEM.target]
        items: list[Item] = []
        got = await first.get(Wanted(ITEM.target, ITEM.key), on_item=items.append)
        assert got.item == ITEM
        assert items == [ITEM]
        assert got.bytes_sent > 0
        assert got.bytes_received > 0

    run(scene)


def test_a_callback_may_ask_again() -> None:
    async def scene(first: Endpoint, second: Endpoint) -> None:
        await second.put(ITEM)
        inner: list[asyncio.Future[GetOutcome]] = []

        def on_item(item: Item) -> None:
            inner.append(second.get(Wanted(item.target, ITEM.key), on_item=ignore))

        await first.get(Wanted(ITEM.target, ITEM.key), on_item=on_item)
        assert (await inner[0]).answered_count == 1

    run(scene)


def test_who_has_joined_need_not_wait_for_it_again() -> None:
    async def scene(first: Endpoint, second: Endpoint) -> None:
        assert await second.bootstrap() == 1
        assert await second.bootstrap([("127.0.0.1", 9)]) == 1

    run(scene)


def test_a_cancelled_get_stops_the_look_up() -> None:
    async def scene(first: Endpoint, second: Endpoint) -> None:
        first.close()
        # A node that has just joined may still be filling its table.
        before = second.node.operation_count
        future = second.get(Wanted(ITEM.target, ITEM.key), on_item=ignore)
        assert second.node.operation_count == before + 1
        future.cancel()
        with pytest.raises(asyncio.CancelledError):
            await future
        # The callbacks of a cancelled future run in the next turn of the loop.
        turned = asyncio.Event()
        asyncio.get_running_loop().call_soon(turned.set)
        await turned.wait()
        assert second.node.operation_count == before

    run(scene)


def test_a_deadline_ends_a_get_among_the_silent() -> None:
    async def scene(first: Endpoint, second: Endpoint) -> None:
        first.close()
        outcome = await second.get(Wanted(ITEM.target, ITEM.key, deadline=boot_now() + 0.001), on_item=ignore)
        assert outcome.verdict is Verdict.DEADLINE

    run(scene)


def test_silent_peers_end_a_get_by_the_timer_alone() -> None:
    async def scene(first: Endpoint, second: Endpoint) -> None:
        first.close()
        outcome = await second.get(Wanted(ITEM.target, ITEM.key), on_item=ignore)
        assert outcome.verdict is Verdict.NO_ANSWER
        assert outcome.retransmit_count == 1

    run(scene)


def test_closing_ends_every_future_with_unavailable() -> None:
    async def scene(first: Endpoint, second: Endpoint) -> None:
        futures: list[asyncio.Future[object]] = [
            asyncio.ensure_future(second.get(Wanted(ITEM.target, ITEM.key), on_item=ignore)),
            asyncio.ensure_future(second.put(ITEM)),
        ]
        third = await Endpoint.open(new_node(), HERE)
        futures.append(asyncio.ensure_future(third.bootstrap([("127.0.0.1", 9)])))
        for endpoint in (second, second, third):
            endpoint.close()
        results = await asyncio.gather(*futures, return_exceptions=True)
        assert all(isinstance(result, Unavailable) for result in results)
        with pytest.raises(Unavailable):
            second.put(ITEM)

    run(scene)


def test_a_port_in_use_is_said_with_its_address() -> None:
    async def scene(first: Endpoint, second: Endpoint) -> None:
        with pytest.raises(Unavailable, match=str(first.address[1])):
            await Endpoint.open(new_node(), first.address)

    run(scene)


def test_an_adopted_socket_serves() -> None:
    async def scene(first: Endpoint, second: Endpoint) -> None:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.setblocking(False)
        sock.bind(HERE)
        third = Endpoint(new_node(), sock)
        try:
            assert await third.bootstrap([first.address]) == 2
            assert third.address == sock.getsockname()
        finally:
            third.close()

    run(scene)


def test_garbage_on_the_port_disturbs_nobody() -> None:
    async def scene(first: Endpoint, second: Endpoint) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
            for size in range(0, 2_400, 12):
                stranger.sendto(b"d" * size, first.address)
        outcome = await second.put(ITEM)
        assert outcome.stored_count == 1
        assert sum(count for name, count in first.node.counters.items() if name.startswith("dropped-")) == 200

    run(scene)


def test_a_datagram_longer_than_any_message_is_counted_and_dropped() -> None:
    async def scene(first: Endpoint, second: Endpoint) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
            stranger.sendto(b"d" * 60_000, first.address)
        await second.get(Wanted(ITEM.target, ITEM.key), on_item=ignore)
        assert first.node.counters["dropped-krpc-too-long"] == 1

    run(scene)


def test_an_outcome_after_the_future_was_cancelled_is_dropped() -> None:
    async def scene(first: Endpoint, second: Endpoint) -> None:
        puts = [second.put(MutableItem.signed(secret_of(number), 1, b"value")) for number in range(5)]
        puts[2].cancel()
        results = await asyncio.gather(*puts, return_exceptions=True)
        assert [isinstance(result, asyncio.CancelledError) for result in results] == [False, False, True, False, False]

    run(scene)


def test_others_of_the_loop_have_their_turn_after_a_few_datagrams() -> None:
    async def scene(first: Endpoint, second: Endpoint) -> None:
        before = sum(first.node.counters.values())
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
            for _ in range(100):
                stranger.sendto(b"garbage", first.address)
        read = [0]

        def are_all_read() -> bool:
            read.append(sum(first.node.counters.values()) - before)
            return read[-1] >= 100

        await until(are_all_read)
        assert max(after - earlier for earlier, after in pairwise(read)) <= 8

    run(scene)


def test_a_reply_that_waits_in_our_own_socket_is_no_silence() -> None:
    async def scene(first: Endpoint, second: Endpoint) -> None:
        # By the time that everything has been sent, the request has timed out long ago.
        node = new_node(timeout_s_first=0.001, timeout_s_min=0.001, timeout_s_max=0.001)
        third = await Endpoint.open(node, HERE)
        with contextlib.closing(third), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
            peer.bind(HERE)
            peer.settimeout(GUARD_S)
            third.bootstrap([peer.getsockname()])
            query = parse(peer.recv(2_048))
            for _ in range(200):
                peer.sendto(b"garbage", third.address)
            reply = krpc.Reply(transaction=query.transaction, node_id=bytes(20), network=query.network)
            peer.sendto(compose(reply), third.address)
            await until(lambda: node.counters["reply"])
            assert node.counters["retransmit"] == 0

    run(scene)


def test_datagrams_without_end_do_not_stop_the_timers() -> None:
    async def scene(first: Endpoint, second: Endpoint) -> None:
        node = new_node(timeout_s_first=0.0, timeout_s_min=0.0, timeout_s_max=0.0)
        third = await Endpoint.open(node, HERE)
        with contextlib.closing(third), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
            peer.bind(HERE)
            third.bootstrap([peer.getsockname()])
            # Timers wait for so many datagrams, a few each time; the others are for a retransmit that is not due yet.
            turns = iter(range(BEHIND_DATAGRAMS_MAX))

            def has_sent_again() -> bool:
                next(turns)
                for _ in range(20):
                    peer.sendto(b"garbage", third.address)
                return bool(node.counters["retransmit"])

            await until(has_sent_again)

    run(scene)


def test_a_usual_socket_buffer_holds_the_longest_replies_to_all_requests_in_flight() -> None:
    with open_udp(HERE) as sock, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peers:
        # What Linux grants by default, whatever more this machine would.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 212_992)
        for _ in range(REQUESTS_IN_FLIGHT_MAX):
            peers.sendto(bytes(krpc.REPLY_BYTES_MAX), address_of(sock))
        held = 0
        with contextlib.suppress(BlockingIOError):
            while sock.recv(2_048):
                held += 1
        assert held == REQUESTS_IN_FLIGHT_MAX
