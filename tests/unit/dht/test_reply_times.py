"""How long replies take: nobody waits longer for all because a few are slow."""

from __future__ import annotations

import pytest

from p2pdns.dht.node.core import RTT_FACTOR
from p2pdns.dht.node.reply_times import REPLIES_MIN, ReplyTimes
from p2pdns.dht.node.values import TIMEOUT_S_MAX, TIMEOUT_S_MIN
from tests.unit.dht.swarm import Swarm


def note_all(times: ReplyTimes, slow_count: int, slow_replies: int = 1) -> None:
    """Note the replies of 24 prefixes, some of which take 0.6 s and answer more often."""
    for port in range(24, 0, -1):
        for _ in range(slow_replies if port <= slow_count else 1):
            times.note(("127.0.0.1", port), 0.6 if port <= slow_count else 0.01)


def test_nothing_is_said_after_too_few_replies() -> None:
    times = ReplyTimes()
    for _ in range(REPLIES_MIN - 1):
        times.note(("127.0.0.1", 1), 0.01)
    assert times.typical_s is None
    times.note(("127.0.0.1", 1), 0.01)
    assert times.typical_s == 0.01


@pytest.mark.parametrize("slow_replies", [1, 40])
def test_ten_slow_prefixes_of_twenty_four_change_nothing_however_often_they_answer(slow_replies: int) -> None:
    times = ReplyTimes()
    note_all(times, 10, slow_replies)
    assert times.typical_s == 0.01


def test_many_addresses_of_one_public_prefix_are_one_voice() -> None:
    times = ReplyTimes()
    for number in range(3):
        times.note((f"9.0.{number}.1", 1), 0.01)
    for number in range(1, 46):
        times.note((f"8.8.8.{number}", 1), 0.6)
    assert times.typical_s == 0.01


def test_a_way_that_became_slower_for_all_is_noticed() -> None:
    times = ReplyTimes()
    note_all(times, 0)
    for _ in range(5):
        note_all(times, 24)
    assert times.typical_s == 0.6


def test_contacts_not_yet_measured_get_four_typical_times_within_the_bounds() -> None:
    core = Swarm().new_node()._core
    stranger = ("127.0.0.1", 9)
    for rtt, expected in ((0.03, RTT_FACTOR * 0.03), (0.001, TIMEOUT_S_MIN), (0.9, TIMEOUT_S_MAX)):
        core.reply_times = ReplyTimes()
        for port in range(1, 17):
            core.reply_times.note(("127.0.0.1", port), rtt)
        assert core._timeout_of(None, stranger) == pytest.approx(expected)
