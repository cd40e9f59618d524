"""The UDP door: what a burst finds, and in what order it is worked on."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Coroutine
from itertools import pairwise
from typing import Any, cast

from p2pdns.addresses import Address
from p2pdns.front.doors.udp import HANDLED_PER_TURN_MAX, READ_AHEAD_MAX, UdpDoor
from p2pdns.front.funnel import Funnel
from p2pdns.front.transport import UDP, Transport
from p2pdns.net.batch import DATAGRAM_BYTES_MAX
from p2pdns.net.sockets import open_udp
from tests.waiting import at_rest, until


class Heard:
    """A funnel that notes what it is given, and answers with the same."""

    def __init__(self) -> None:
        self.messages: list[bytes] = []

    def receive(
        self, data: bytes, _address: Address, _reply: Callable[[bytes], None], _now: float, transport: Transport
    ) -> bytes:
        """Take a message."""
        assert transport is UDP
        self.messages.append(data)
        return data


class World:
    """A door on loopback and a client."""

    def __init__(self) -> None:
        self.heard = Heard()
        self.sock = open_udp(("127.0.0.1", 0))
        self.client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.client.connect(self.sock.getsockname())
        self.client.settimeout(10)
        self.door = UdpDoor(self.sock, cast("Funnel", self.heard))

    def close(self) -> None:
        """Close everything."""
        self.door.close()
        self.sock.close()
        self.client.close()

    def waits_in_socket(self) -> bool:
        """Return whether the system holds a datagram that nobody has read."""
        try:
            self.sock.recv(DATAGRAM_BYTES_MAX, socket.MSG_PEEK)
        except BlockingIOError:
            return False
        return True


def run(story: Callable[[World], Coroutine[Any, Any, None]]) -> None:
    """Run a test's story with a door."""

    async def opened() -> None:
        world = World()
        try:
            await asyncio.wait_for(story(world), 30)
        finally:
            world.close()

    asyncio.run(opened())


def test_a_burst_is_taken_out_of_the_socket_before_it_is_worked_on() -> None:
    """The system's usual room is for a few hundred queries, and what comes beyond that is lost."""

    async def story(world: World) -> None:
        messages = [b"query %d" % number for number in range(5 * HANDLED_PER_TURN_MAX)]
        for message in messages:
            world.client.send(message)
        await until(lambda: bool(world.heard.messages))
        assert not world.waits_in_socket()
        assert len(world.heard.messages) <= HANDLED_PER_TURN_MAX
        await until(lambda: len(world.heard.messages) == len(messages))
        assert world.heard.messages == messages
        assert world.client.recv(100) == messages[0]

    run(story)


def test_others_have_their_turn_between_the_datagrams_of_a_burst() -> None:
    async def story(world: World) -> None:
        for number in range(4 * HANDLED_PER_TURN_MAX):
            world.client.send(b"query %d" % number)
        counts = [0]

        def are_all_heard() -> bool:
            counts.append(len(world.heard.messages))
            return counts[-1] == 4 * HANDLED_PER_TURN_MAX

        await until(are_all_heard)
        assert max(after - before for before, after in pairwise(counts)) <= HANDLED_PER_TURN_MAX

    run(story)


def test_what_is_read_ahead_is_bounded_and_the_rest_waits_in_the_socket() -> None:
    async def story(world: World) -> None:
        sent = 0

        def is_enough_sent() -> bool:
            nonlocal sent
            # The loop does not turn meanwhile, so that the system's room is all there is.
            for _ in range(2 * HANDLED_PER_TURN_MAX):
                world.client.send(b"query")
                sent += 1
            return sent >= READ_AHEAD_MAX + 2 * HANDLED_PER_TURN_MAX

        await until(is_enough_sent)
        await until(world.waits_in_socket)
        await until(lambda: not world.waits_in_socket())
        assert len(world.heard.messages) >= sent - READ_AHEAD_MAX

    run(story)


def test_a_closed_door_works_on_nothing_more() -> None:
    async def story(world: World) -> None:
        for _ in range(3 * HANDLED_PER_TURN_MAX):
            world.client.send(b"query")
        await until(lambda: bool(world.heard.messages))
        world.door.close()
        heard_count = len(world.heard.messages)
        await at_rest()
        assert len(world.heard.messages) == heard_count

    run(story)


def test_a_datagram_that_no_query_can_be_is_counted_and_dropped() -> None:
    async def story(world: World) -> None:
        world.client.send(bytes(DATAGRAM_BYTES_MAX + 1))
        world.client.send(b"query")
        await until(lambda: bool(world.heard.messages))
        assert world.heard.messages == [b"query"]
        assert world.door.counters == {"oversize": 1, "sent": 1}

    run(story)
