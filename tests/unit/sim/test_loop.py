"""Virtual time: when it passes, in which order things happen, and what is called off."""

from __future__ import annotations

import asyncio
import socket
import time

import pytest

from p2pdns.clock import boot_now
from p2pdns.sim.engine import host_of
from p2pdns.sim.loop import CANCELLED_TIMERS_MAX, VirtualLoop, run
from p2pdns.sim.network import VirtualNetwork

A, B = (host_of(0), 1), (host_of(1), 1)


def test_time_passes_only_when_nothing_can_run() -> None:
    async def story(loop: VirtualLoop) -> list[float]:
        began, seen = boot_now(), []
        for _ in range(100):
            await asyncio.sleep(0)
        seen.append(boot_now() - began)
        await asyncio.sleep(3_600.0)
        seen.append(boot_now() - began)
        return seen

    assert run(story) == [0.0, 3_600.0]
    assert boot_now() == pytest.approx(time.clock_gettime(time.CLOCK_BOOTTIME), abs=60.0), "the real clocks are back"


def test_timers_run_in_the_order_of_their_times_and_then_of_their_setting() -> None:
    async def story(loop: VirtualLoop) -> list[str]:
        ran: list[str] = []
        for name, delay_s in (("c", 2.0), ("a", 1.0), ("d", 2.0), ("b", 1.0)):
            loop.call_later(delay_s, ran.append, name)
        loop.call_later(1.5, ran.append, "never").cancel()
        await asyncio.sleep(3.0)
        return ran

    assert run(story) == ["a", "b", "c", "d"]


def test_timers_called_off_neither_run_nor_take_others_along() -> None:
    async def story(loop: VirtualLoop) -> list[int]:
        ran: list[int] = []
        timers = [loop.call_later(10.0 + number, ran.append, number) for number in range(4 * CANCELLED_TIMERS_MAX)]
        for timer in timers[:-2]:
            timer.cancel()
        await asyncio.sleep(3_600.0)
        return ran

    assert run(story) == [4 * CANCELLED_TIMERS_MAX - 2, 4 * CANCELLED_TIMERS_MAX - 1]


def test_a_reader_is_called_as_long_as_datagrams_wait() -> None:
    async def story(loop: VirtualLoop) -> list[bytes]:
        network = VirtualNetwork(loop, 1)
        sender, receiver = network.open(A), network.open(B)
        read: list[bytes] = []
        for number in range(5):
            sender.sendto(b"%d" % number, B)
        await asyncio.sleep(10.0)
        loop.add_reader(receiver, lambda: read.append(receiver.recvfrom(100)[0]))
        await asyncio.sleep(0.0)
        sender.sendto(b"5", B)
        await asyncio.sleep(10.0)
        assert loop.remove_reader(receiver)
        assert not loop.remove_reader(receiver)
        return sorted(read)

    assert run(story) == [b"%d" % number for number in range(6)]


def test_a_world_in_which_nothing_can_happen_is_an_error() -> None:
    async def story(loop: VirtualLoop) -> None:
        await loop.create_future()

    with pytest.raises(AssertionError, match="nothing will ever happen again"):
        run(story)


def test_a_socket_that_is_closed_gets_nothing() -> None:
    async def story(loop: VirtualLoop) -> int:
        network = VirtualNetwork(loop, 1)
        sender, receiver = network.open(A), network.open(B)
        assert isinstance(sender.fileno(), int)
        assert not isinstance(sender, socket.socket), "none of the system's"
        sender.sendto(b"x", B)
        receiver.close()
        await asyncio.sleep(10.0)
        return network.counters["nobody-there"]

    assert run(story) == 1
