"""The simulated network: delays of pairs, losses, doubles, and the rules that come before them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from statistics import median

import pytest

from p2pdns.addresses import Address
from p2pdns.sim.engine import host_of
from p2pdns.sim.loop import VirtualLoop, run
from p2pdns.sim.network import LOST, RTT_S_MEDIAN, Datagram, Fate, VirtualNetwork, Weather
from p2pdns.sim.rules import MAPPING_S, MAPPINGS_MAX, Cut, Partition, Slow, Translator, is_parted

A, B, C = (host_of(0), 1), (host_of(1), 1), (host_of(2), 1)
SENT = 400


def arrivals(
    weather: Weather, prepare: Callable[[VirtualNetwork], None] = lambda network: None, *, seed: int = 1
) -> list[tuple[int, float]]:
    """Return what reaches B of numbered datagrams that A sends, one a millisecond: the number and the delay."""

    async def story(loop: VirtualLoop) -> list[tuple[int, float]]:
        network = VirtualNetwork(loop, seed, weather)
        prepare(network)
        sender, receiver = network.open(A), network.open(B)
        came: list[tuple[int, float]] = []

        def read() -> None:
            number = int(receiver.recvfrom(100)[0])
            came.append((number, loop.time() - began - number / 1000))

        loop.add_reader(receiver, read)
        began = loop.time()
        for number in range(SENT):
            sender.sendto(str(number).encode(), B)
            await asyncio.sleep(0.001)
        await asyncio.sleep(10.0)
        loop.remove_reader(receiver)
        return came

    return run(story)


def fate_of(
    rule: Callable[[Datagram], Fate | None], sender: Address, receiver: Address, at: float = 0.0
) -> Fate | None:
    """Return what a rule makes of a datagram."""
    return rule(Datagram(b"", sender, receiver, at))


def test_each_datagram_arrives_once_after_half_of_the_round_trip_of_its_pair() -> None:
    came = arrivals(Weather())
    assert sorted(number for number, _ in came) == list(range(SENT))
    low, high = min(delay for _, delay in came), max(delay for _, delay in came)
    assert low < high <= low * 1.2, "a tenth of jitter"


def test_datagrams_overtake_each_other() -> None:
    numbers = [number for number, _ in arrivals(Weather())]
    assert numbers != sorted(numbers)


def test_a_share_is_lost_and_a_share_comes_twice() -> None:
    numbers = [number for number, _ in arrivals(Weather(loss=0.2, duplication=0.3))]
    assert 0.7 < len({*numbers}) / SENT < 0.9
    doubled = len(numbers) - len({*numbers})
    assert 0.15 < doubled / SENT < 0.35


def test_a_round_trip_is_the_same_both_ways_and_round_trips_are_spread_as_those_that_were_measured() -> None:
    async def story(loop: VirtualLoop) -> list[float]:
        network = VirtualNetwork(loop, 5)
        pairs = [((host_of(i), 1), (host_of(i + 1), 1)) for i in range(2_000)]
        assert all(network.rtt_s(one, other) == network.rtt_s(other, one) for one, other in pairs)
        return [network.rtt_s(one, other) for one, other in pairs]

    rtts = sorted(run(story))
    assert abs(median(rtts) / RTT_S_MEDIAN - 1) < 0.1
    fifth = len(rtts) // 5
    assert abs(rtts[4 * fifth] / rtts[fifth] / (280 / 70) - 1) < 0.1, "the fifths of Saroiu, Gummadi and Gribble"
    assert abs(rtts[int(0.95 * len(rtts))] / 0.318 - 1) < 0.1, "a heavy tail"


def test_the_first_rule_that_decides_is_followed() -> None:
    def rules(network: VirtualNetwork) -> None:
        network.rules += [lambda _: None, lambda _: (1.0,), lambda _: LOST]

    came = arrivals(Weather(loss=0.5), rules)
    assert len(came) == SENT
    assert all(delay > 1.0 for _, delay in came)


def test_a_cut_takes_one_direction() -> None:
    cut = Cut([A[0]], [B[0], C[0]])
    assert fate_of(cut, A, B) == LOST
    assert fate_of(cut, B, A) is None
    assert fate_of(cut, B, C) is None


def test_the_groups_of_a_partition_hear_themselves_only() -> None:
    parted = Partition([A[0]], [B[0]])
    assert fate_of(parted, A, B) == fate_of(parted, A, C) == fate_of(parted, C, B) == LOST
    assert fate_of(parted, A, (A[0], 2)) is fate_of(parted, C, (host_of(9), 1)) is None


def test_a_host_behind_a_translator_hears_whom_it_has_sent_to_a_moment_ago() -> None:
    translator = Translator([A[0]])
    assert fate_of(translator, B, A, 1.0) == LOST
    assert fate_of(translator, A, B, 2.0) is None
    assert fate_of(translator, B, A, 2.0 + MAPPING_S) is None
    assert fate_of(translator, C, A, 3.0) == LOST
    assert fate_of(translator, B, A, 2.1 + MAPPING_S) == LOST


def test_a_translator_forgets_the_oldest_of_too_many() -> None:
    translator = Translator([A[0]])
    for number in range(MAPPINGS_MAX + 1):
        fate_of(translator, A, (host_of(number + 10), 1), 1.0)
    assert fate_of(translator, (host_of(10), 1), A, 2.0) == LOST
    assert fate_of(translator, (host_of(11), 1), A, 2.0) is None


def test_new_weather_holds_for_pairs_that_have_exchanged_datagrams_before() -> None:
    loop = VirtualLoop()
    network = VirtualNetwork(loop, 1, Weather(rtt_s_median=0.1, rtt_sigma=0.0))
    one, other = ("11.0.0.1", 1), ("11.0.0.2", 1)
    assert network.rtt_s(one, other) == pytest.approx(0.1)
    network.weather = Weather(rtt_s_median=0.4, rtt_sigma=0.0)
    assert network.rtt_s(one, other) == pytest.approx(0.4)
    loop.close()


def test_what_a_slow_host_sends_and_hears_is_late_and_not_lost() -> None:
    slow = Slow([A[0]], 2.0)
    assert [fate_of(slow, *ends) for ends in ((A, B), (B, A), (B, C))] == [(2.0,), (2.0,), None]
    assert [is_parted([slow], *hosts) for hosts in ((A[0], B[0]), (B[0], A[0]), (B[0], C[0]))] == [True, True, False]
