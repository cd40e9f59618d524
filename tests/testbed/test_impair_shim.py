"""The impairing of packets without netem, on real packets: needs root and /dev/net/tun, but no engine."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from deploy.testbed.impair import DEVICE, RULE_OF_THE_HELD, RULE_OF_THE_SENT, Impairment, Line
from tests.testbed.namespaces import IMPAIR, LEFT, RIGHT, SECONDS_MAX, Machines, ending, impaired, ip, machines, started

PACKETS = 200


@pytest.fixture(scope="module")
def wires(namespaces: None) -> Iterator[Machines]:
    """Make the machines once; every test ends its own impairing."""
    with machines() as made:
        yield made


def rules_of(namespace: str) -> list[int]:
    return [int(line.partition(":")[0]) for line in ip("-n", namespace, "rule", "show").splitlines()]


def test_a_delayed_packet_takes_no_less_than_its_delay_and_arrives_from_its_sender(wires: Machines) -> None:
    with impaired(wires.left, "--delay-ms", "50") as process:
        arrived = wires.carry(PACKETS)
        counted = ending(process, signal.SIGTERM)
    assert sorted(packet.number for packet in arrived) == list(range(PACKETS))
    assert min(packet.seconds for packet in arrived) >= 0.05
    assert {packet.sender for packet in arrived} == {LEFT}
    assert counted["taken"] == counted["sent"] >= PACKETS
    assert counted["refused"] == counted["overflowed"] == 0


@pytest.mark.parametrize("seed", [1, 2])
def test_the_packets_that_are_lost_are_those_of_the_seed(wires: Machines, seed: int) -> None:
    line = Line(Impairment(loss_percent=30, duplicate_percent=10), seed)
    for _ in range(PACKETS):
        line.take(b"x", 0.0)
    expected = {**line.counters, "sent": len(line.due(1e9))}
    flags = ["--loss-percent=30", "--duplicate-percent=10", f"--seed={seed}"]
    with impaired(wires.left, *flags, "--path", "any", RIGHT) as process:
        assert len(wires.carry(PACKETS, expected=expected["sent"])) == expected["sent"]
        counted = ending(process, signal.SIGTERM)
    assert 0 < expected["lost"] < PACKETS
    assert counted == expected


def test_a_path_leaves_other_destinations_alone(wires: Machines) -> None:
    with impaired(wires.left, "--loss-percent", "100", "--path", "any", LEFT) as process:
        assert len(wires.carry(20)) == 20
        assert ending(process, signal.SIGTERM)["taken"] == 0


def test_a_rate_makes_the_last_packet_wait_for_all_before_it(wires: Machines) -> None:
    with impaired(wires.left, "--rate-kbit", "102.4"):
        sent = wires.send(20)
        last = wires.arrivals(sent, 20)[-1]
    # 100 bytes of ours and 28 of headers take 10 ms on that wire.
    assert last.seconds >= 20 * 0.01 - (sent[last.number] - sent[0])


def test_a_stream_arrives_whole_through_delay_loss_and_disorder(wires: Machines) -> None:
    trouble = ("--delay-ms=5", "--jitter-ms=3", "--loss-percent=1", "--duplicate-percent=5", "--seed=4")
    with impaired(wires.left, *trouble), impaired(wires.right, *trouble):
        data = os.urandom(300_000)
        assert wires.stream(data) == data


def test_what_waits_at_its_end_is_not_lost(wires: Machines) -> None:
    with impaired(wires.left, "--delay-ms", "3600000", "--path", "any", RIGHT) as process:
        sent = wires.send(20)
        counted = ending(process, signal.SIGTERM)
    assert counted["sent"] == counted["taken"] == 20
    assert len(wires.arrivals(sent, 20)) == 20


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_everything_can_be_lost_until_a_signal_ends_it_and_its_rules(wires: Machines, number: int) -> None:
    before = rules_of(wires.left)
    with impaired(wires.left, "--loss-percent", "100") as process:
        assert rules_of(wires.left) == sorted([*before, RULE_OF_THE_SENT, RULE_OF_THE_HELD])
        assert wires.carry(20, expected=0) == []
        ending(process, number)
        assert rules_of(wires.left) == before
        assert DEVICE not in ip("-n", wires.left, "link", "show")
        assert len(wires.carry(20)) == 20


def test_killed_it_leaves_rules_that_lead_nowhere_and_the_next_one_takes_them_out(wires: Machines) -> None:
    before = rules_of(wires.left)
    with impaired(wires.left, "--loss-percent", "100") as process:
        process.kill()
        process.wait(SECONDS_MAX)
    assert len(wires.carry(20)) == 20
    with impaired(wires.left, "--delay-ms", "1") as process:
        assert len(wires.carry(20)) == 20
        ending(process, signal.SIGTERM)
    assert rules_of(wires.left) == before


def test_a_second_one_in_the_same_place_is_refused_and_harms_nothing(wires: Machines) -> None:
    with impaired(wires.left, "--delay-ms", "20") as process:
        second = started(wires.left, *IMPAIR, "--loss-percent", "100")
        out, err = second.communicate(timeout=SECONDS_MAX)
        assert (second.returncode, out) == (1, "")
        assert err.startswith("impair: error: ")
        assert err.count("\n") == 1
        assert min(packet.seconds for packet in wires.carry(20)) >= 0.02
        ending(process, signal.SIGTERM)
