"""The impairing of packets without netem, on real packets: needs root and /dev/net/tun, but no engine."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from dataclasses import asdict

import pytest

from deploy.testbed.impair import DEVICE, RULE_OF_THE_HELD, RULE_OF_THE_SENT, Impairment, Line
from tests.testbed.namespaces import (
    LEFT,
    LEFT_NETWORK,
    RIGHT_NETWORK,
    SECONDS_MAX,
    Machines,
    ending,
    impaired,
    machines,
    start,
)

PACKETS = 200
# IPv4 and UDP headers, which the kernel adds to what a program sends.
HEADER_BYTES = 28


@pytest.fixture(scope="module")
def wires(namespaces: None) -> Iterator[Machines]:
    """Make the machines once; every test ends its own impairing."""
    with machines() as made:
        yield made


def predicted(seed: int, count: int, **settings: float) -> dict[str, int]:
    """Return what a line counts that is given as many packets as the real one."""
    line = Line(Impairment(**settings), seed)
    for _ in range(count):
        line.take(b"x", 0.0)
    sent = len(line.due(1e9))
    return {**line.counters, "sent": sent}


def flags_of(seed: int, **settings: float) -> list[str]:
    """Return the command line of an impairment."""
    words = [f"--{name.replace('_', '-')}={value}" for name, value in asdict(Impairment(**settings)).items()]
    return [*words, f"--seed={seed}"]


def test_a_delayed_packet_takes_no_less_than_its_delay_and_arrives(wires: Machines) -> None:
    with impaired(wires.left, "--delay-ms", "50") as process:
        replies = wires.ask(PACKETS)
        counted = ending(process, signal.SIGTERM)
    assert sorted(reply.number for reply in replies) == list(range(PACKETS))
    assert min(reply.seconds for reply in replies) >= 0.05
    assert counted["sent"] == counted["taken"] >= PACKETS
    assert counted["refused"] == counted["overflowed"] == 0


def test_a_delay_on_the_router_counts_on_the_way_there_and_back(wires: Machines) -> None:
    there_and_back = ["--path", LEFT_NETWORK, RIGHT_NETWORK, "--path", RIGHT_NETWORK, LEFT_NETWORK]
    with impaired(wires.router, "--delay-ms", "30", *there_and_back) as process:
        replies = wires.ask(PACKETS)
        counted = ending(process, signal.SIGTERM)
    assert min(reply.seconds for reply in replies) >= 0.06
    assert counted["taken"] == counted["sent"] == 2 * PACKETS


def test_what_crosses_a_router_keeps_its_sender(wires: Machines) -> None:
    with impaired(wires.router, "--delay-ms", "1"):
        assert {reply.sender for reply in wires.ask(PACKETS)} == {LEFT}


def test_what_leaves_a_machine_has_the_address_it_would_have_had(wires: Machines) -> None:
    with impaired(wires.left):
        assert {reply.sender for reply in wires.ask(PACKETS)} == {LEFT}


@pytest.mark.parametrize("seed", [1, 2])
def test_the_packets_that_are_lost_are_those_of_the_seed(wires: Machines, seed: int) -> None:
    settings = {"loss_percent": 30.0, "duplicate_percent": 10.0}
    expected = predicted(seed, PACKETS, **settings)
    with impaired(wires.left, *flags_of(seed, **settings), "--path", "any", RIGHT_NETWORK) as process:
        replies = wires.ask(PACKETS, expected=expected["sent"])
        counted = ending(process, signal.SIGTERM)
    assert 0 < expected["lost"] < PACKETS
    assert counted == expected
    assert len(replies) == expected["sent"]


def test_everything_can_be_lost(wires: Machines) -> None:
    with impaired(wires.left, "--loss-percent", "100"):
        assert wires.ask(20, expected=0) == []
    assert len(wires.ask(20)) == 20


def test_a_path_leaves_other_destinations_alone(wires: Machines) -> None:
    with impaired(wires.left, "--loss-percent", "100", "--path", "any", LEFT_NETWORK) as process:
        assert len(wires.ask(20)) == 20
        assert ending(process, signal.SIGTERM)["taken"] == 0


def test_a_rate_makes_the_last_packet_wait_for_all_before_it(wires: Machines) -> None:
    size_bytes, count = 972, 20
    with impaired(wires.left, "--rate-kbit", "800"):
        replies = wires.ask(count, size_bytes=size_bytes)
    # 1,000 bytes on the wire take 10 ms.
    assert max(reply.seconds_since_first for reply in replies) >= count * (size_bytes + HEADER_BYTES) * 8 / 800_000


def test_a_stream_arrives_whole_through_delay_loss_and_disorder(wires: Machines) -> None:
    trouble = flags_of(4, delay_ms=5, jitter_ms=3, loss_percent=1, duplicate_percent=5)
    with impaired(wires.left, *trouble), impaired(wires.right, *trouble):
        assert wires.stream(300_000) == "same"


def test_what_waits_at_its_end_is_not_lost(wires: Machines) -> None:
    with impaired(wires.left, "--delay-ms", "3600000", "--path", "any", RIGHT_NETWORK) as process:
        asking = wires.asking(20)
        assert asking.stdout is not None
        assert asking.stdout.readline() == "sent\n"
        counted = ending(process, signal.SIGTERM)
    assert counted["sent"] == counted["taken"] == 20
    assert len(json.loads(asking.communicate(timeout=SECONDS_MAX)[0])) == 20


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_and_its_rules(wires: Machines, number: int) -> None:
    before = wires.rules(wires.left)
    with impaired(wires.left, "--loss-percent", "100") as process:
        assert wires.rules(wires.left) == sorted([*before, RULE_OF_THE_SENT, RULE_OF_THE_HELD])
        assert DEVICE in wires.devices(wires.left)
        ending(process, number)
        assert wires.rules(wires.left) == before
        assert DEVICE not in wires.devices(wires.left)
        assert len(wires.ask(20)) == 20


def test_killed_it_leaves_rules_that_lead_nowhere_and_the_next_one_takes_them_out(wires: Machines) -> None:
    before = wires.rules(wires.left)
    with impaired(wires.left, "--loss-percent", "100") as process:
        process.kill()
        process.wait(SECONDS_MAX)
    assert len(wires.ask(20)) == 20
    with impaired(wires.left, "--delay-ms", "1") as process:
        assert len(wires.ask(20)) == 20
        ending(process, signal.SIGTERM)
    assert wires.rules(wires.left) == before


def test_a_second_one_in_the_same_place_is_refused_and_harms_nothing(wires: Machines) -> None:
    with impaired(wires.left, "--delay-ms", "20") as process:
        second = start(wires.left, ["--loss-percent", "100"])
        out, err = second.communicate(timeout=SECONDS_MAX)
        assert (second.returncode, out) == (1, "")
        assert err.startswith("impair: error: ")
        assert err.count("\n") == 1
        assert min(reply.seconds for reply in wires.ask(20)) >= 0.02
        ending(process, signal.SIGTERM)
