"""The decisions of the impairing: when a packet is due, which are lost, doubled or too many, and by which rules."""

from __future__ import annotations

import math
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.testbed import impair
from deploy.testbed.impair import Impairment, Line

PACKETS = 2_000


def fates(seed: int, **settings: float) -> list[list[float]]:
    """Return when the copies of each of many packets are due, one packet a millisecond."""
    line = Line(Impairment(**settings), seed)
    return [line.take(b"x" * 100, index / 1000) for index in range(PACKETS)]


@pytest.mark.parametrize("delay_ms", [0, 50])
def test_a_delay_is_the_same_for_all_and_keeps_their_order(delay_ms: float) -> None:
    line = Line(Impairment(delay_ms=delay_ms), seed=1)
    due = 1.0 + delay_ms / 1000
    for index in range(10):
        assert line.take(bytes([index]), 1.0) == [due]
    assert line.next_due() == due
    assert line.due(due - 0.001) == []
    assert line.due(due) == [bytes([index]) for index in range(10)]
    assert line.next_due() is None


def test_jitter_spreads_the_delay_to_both_sides_and_no_further_nor_into_the_past() -> None:
    waits = [copies[0] - index / 1000 for index, copies in enumerate(fates(1, delay_ms=100, jitter_ms=20))]
    assert 0.08 <= min(waits) < 0.081
    assert 0.119 < max(waits) <= 0.12 + 1e-9
    assert sum(waits) / PACKETS == pytest.approx(0.1, abs=0.001)
    assert all(copies[0] >= index / 1000 for index, copies in enumerate(fates(1, delay_ms=1, jitter_ms=20)))


@pytest.mark.parametrize(("setting", "copies_count"), [("loss_percent", 0), ("duplicate_percent", 2)])
@pytest.mark.parametrize("percent", [0, 10, 100])
def test_as_many_are_lost_or_come_twice_as_was_said(setting: str, copies_count: int, percent: float) -> None:
    count = sum(len(copies) == copies_count for copies in fates(3, **{setting: percent}))
    assert count == pytest.approx(PACKETS * percent / 100, rel=0.1)


def test_the_losses_stay_the_same_when_packets_come_twice_too() -> None:
    both = Line(Impairment(loss_percent=30, duplicate_percent=50), seed=5)
    for index in range(PACKETS):
        both.take(b"x", index / 1000)
    assert both.counters["lost"] == fates(5, loss_percent=30).count([])


def test_a_rate_lets_one_packet_out_after_the_other() -> None:
    line = Line(Impairment(rate_kbit=8), seed=1)
    # 8 kbit/s are 1,000 bytes a second.
    assert [line.take(b"x" * 500, 10.0)[0] for _ in range(3)] == [10.5, 11.0, 11.5]
    assert line.take(b"x" * 500, 20.0) == [20.5]


def test_the_same_seed_is_the_same_fate_and_another_is_another() -> None:
    settings = {"delay_ms": 10.0, "jitter_ms": 5.0, "loss_percent": 20.0, "duplicate_percent": 20.0}
    assert fates(7, **settings) == fates(7, **settings)
    assert fates(7, **settings) != fates(8, **settings)


def test_what_waits_is_bounded_and_the_rest_is_counted() -> None:
    line = Line(Impairment(delay_ms=1000, duplicate_percent=100), seed=1, held_packets_max=5)
    for _ in range(4):
        line.take(b"x", 0.0)
    assert len(line.due(1.0)) == 5
    assert line.counters == {"taken": 4, "lost": 0, "duplicated": 4, "overflowed": 3, "sent": 0, "refused": 0}
    assert line.take(b"x", 1.0) == [2.0, 2.0]


@given(
    st.integers(0, 9),
    st.builds(Impairment, *[st.floats(0, 500)] * 2, *[st.floats(0, 100)] * 2, st.just(100)),
    st.lists(st.tuples(st.floats(0, 2), st.integers(1, 1500)), max_size=60),
)
def test_every_packet_is_accounted_for(seed: int, impairment: Impairment, steps: list[tuple[float, int]]) -> None:
    line = Line(impairment, seed, held_packets_max=20)
    now, out = 0.0, 0
    for wait, size in steps:
        now += wait
        assert all(due >= now for due in line.take(b"x" * size, now))
        out += len(line.due(now))
    out += len(line.due(math.inf))
    counted = line.counters
    assert out == counted["taken"] + counted["duplicated"] - counted["lost"] - counted["overflowed"]


def test_each_destination_keeps_the_source_address_that_it_had() -> None:
    routes = [
        {"dst": "default", "gateway": "10.91.1.1", "dev": "eth0"},
        {"dst": "10.91.1.0/24", "dev": "eth0", "prefsrc": "10.91.1.130"},
        {"dst": "10.0.0.0/8", "dev": "eth7"},
    ]
    assert [" ".join(words) for words in impair.table_routes(routes, {"eth0": "10.91.1.131"})] == [
        "default dev impair0 src 10.91.1.131 table 7055",
        "10.91.1.0/24 dev impair0 src 10.91.1.130 table 7055",
        "10.0.0.0/8 dev impair0 table 7055",
    ]


def test_packets_that_were_held_already_pass_by_the_rules() -> None:
    rules = [" ".join(words) for words in impair.rule_words([("any", "any"), ("10.91.1.0/24", "10.91.2.0/24")])]
    assert rules == [
        "pref 70 fwmark 0x70d5 lookup main",
        "pref 71 lookup 7055",
        "pref 71 from 10.91.1.0/24 to 10.91.2.0/24 lookup 7055",
    ]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("--loss-percent 200", "impair: error: loss_percent is 200, 100 allowed"),
        ("--delay-ms -1", "impair: error: delay_ms is -1"),
        ("--rate-kbit nan", "impair: error: rate_kbit is nan"),
        ("--jitter-ms inf", "impair: error: jitter_ms is inf"),
        ("--delay-ms much", "invalid float value"),
        ("--path 10.91.1.0/24 there", "invalid network_of value"),
    ],
)
def test_what_no_wire_can_do_ends_it_with_a_line_and_no_traceback(arguments: str, words: str) -> None:
    # As in its container: a file by itself, without this package.
    command = [sys.executable, "-I", "-S", impair.__file__, *arguments.split()]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert words in done.stderr
    assert "Traceback" not in done.stderr
