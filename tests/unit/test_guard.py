"""The guard: tokens bound to address, target and time; proven addresses; the arithmetic of the reply budgets."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pdns.addresses import Address
from p2pdns.dht import guard as module
from p2pdns.dht.guard import Answering, Guard, PrefixRates, RateLimit

ALICE: Address = ("203.0.113.7", 6881)
TARGET = b"t" * 20
START = 1_000_000.0


def made(label: bytes = b"one", now: float = START) -> Guard:
    return Guard(lambda size: hashlib.sha256(label).digest()[:size], now)


def stranger(n: int) -> Address:
    """Return an address in a prefix of its own."""
    return (f"11.{n // 256 % 256}.{n % 256}.1", 6881)


def test_a_token_has_8_bytes_and_holds() -> None:
    guard = made()
    token = guard.token(ALICE, TARGET, START)
    assert len(token) == 8
    assert guard.is_token_valid(token, ALICE, TARGET, START)


@pytest.mark.parametrize(
    ("address", "target"),
    [
        (("203.0.113.8", 6881), TARGET),
        (("203.0.113.7", 6882), TARGET),
        (("203.0.113.76", 881), TARGET),
        (ALICE, b"u" * 20),
    ],
)
def test_a_token_of_another_address_or_target_is_refused(address: Address, target: bytes) -> None:
    guard = made()
    token = guard.token(ALICE, TARGET, START)
    assert not guard.is_token_valid(token, address, target, START)
    assert not guard.is_proven(address, START)
    assert guard.counters["token-refused"] == 1


def test_a_token_of_another_node_is_refused() -> None:
    assert not made(b"two").is_token_valid(made(b"one").token(ALICE, TARGET, START), ALICE, TARGET, START)


@pytest.mark.parametrize("token", [b"", b"12345678", bytes(64)])
def test_a_made_up_token_is_refused(token: bytes) -> None:
    assert not made().is_token_valid(token, ALICE, TARGET, START)


@given(st.floats(min_value=0, max_value=1e7), st.floats(min_value=0, max_value=2_000))
def test_a_token_holds_for_five_minutes_and_never_for_more_than_ten(given_at: float, age: float) -> None:
    guard = made(now=given_at)
    token = guard.token(ALICE, TARGET, given_at)
    is_valid = guard.is_token_valid(token, ALICE, TARGET, given_at + age)
    if age < module.TOKEN_PERIOD_S - 1:
        assert is_valid
    if age > 2 * module.TOKEN_PERIOD_S + 1:
        assert not is_valid


@pytest.mark.parametrize(("age", "is_valid"), [(0, True), (299, True), (598, True), (601, False), (-301, False)])
def test_a_token_of_the_first_second_of_a_period_holds_to_the_end_of_the_next(age: float, is_valid: bool) -> None:
    guard, given_at = made(), 3_000 * module.TOKEN_PERIOD_S + 1
    token = guard.token(ALICE, TARGET, given_at)
    assert guard.is_token_valid(token, ALICE, TARGET, given_at + age) is is_valid


def test_a_valid_token_proves_its_address() -> None:
    guard = made()
    assert not guard.is_proven(ALICE, START)
    guard.is_token_valid(guard.token(ALICE, TARGET, START), ALICE, TARGET, START)
    assert guard.is_proven(ALICE, START)


def test_an_address_is_proven_for_ten_minutes() -> None:
    guard = made()
    guard.prove(ALICE, START)
    assert guard.is_proven(ALICE, START + 599)
    assert not guard.is_proven(ALICE, START + 600)
    assert not guard.is_proven(("203.0.113.7", 6882), START)


def test_proven_addresses_are_bounded_and_the_oldest_go_first() -> None:
    guard = made()
    for port in range(1, module.PROVEN_ADDRESSES_MAX + 1):
        guard.prove(("203.0.113.7", port), START)
    guard.prove(("203.0.113.7", 1), START)
    guard.prove(("203.0.113.9", 1), START)
    assert guard.proven_count == module.PROVEN_ADDRESSES_MAX
    assert guard.is_proven(("203.0.113.7", 1), START)
    assert not guard.is_proven(("203.0.113.7", 2), START)


def test_a_reply_of_three_times_the_request_is_free() -> None:
    guard = made()
    for _ in range(1_000):
        assert guard.allowance(ALICE, 100, 300, START).answering is Answering.FULL
    assert not guard.counters


def test_a_proven_address_gets_whole_replies_without_end() -> None:
    guard = made()
    guard.prove(ALICE, START)
    for _ in range(1_000):
        assert guard.allowance(ALICE, 100, 1_232, START).answering is Answering.FULL
    assert guard.allowance(ALICE, 100, 1_232, START + 600).answering is Answering.FULL
    assert guard.counters["unproven-full"] == 1


def test_a_prefix_gets_two_whole_replies_a_second_then_eight_of_nodes_then_silence() -> None:
    guard = made()
    told = [guard.allowance((f"203.0.113.{n}", 6881), 100, 400, START).answering for n in range(11)]
    assert told == [Answering.FULL] * 2 + [Answering.NODES_ONLY] * 8 + [Answering.SILENT]
    assert guard.allowance(stranger(1), 100, 400, START).answering is Answering.FULL
    assert guard.allowance(ALICE, 100, 400, START + 0.5).answering is Answering.FULL
    assert guard.allowance(ALICE, 100, 400, START + 0.5).answering is Answering.NODES_ONLY
    assert guard.counters == {"unproven-full": 4, "unproven-nodes-only": 9, "unproven-silent": 1}


def test_nodes_only_stays_within_three_times_the_request() -> None:
    guard = made()
    for _ in range(2):
        guard.allowance(ALICE, 90, 1_000, START)
    assert guard.allowance(ALICE, 90, 1_000, START) == (Answering.NODES_ONLY, 270)


def test_whole_replies_stop_at_half_of_the_budget_and_nodes_at_its_end() -> None:
    guard = made()
    told = [guard.allowance(stranger(n), 100, 1_000, START).answering for n in range(30)]
    # 8,000 bytes: four replies of 1,000 leave 4,000, which thirteen of 300 use up.
    assert told == [Answering.FULL] * 4 + [Answering.NODES_ONLY] * 13 + [Answering.SILENT] * 13


def test_a_spoofed_flood_reflects_no_more_than_8_kilobytes_a_second() -> None:
    guard = made()
    seconds, sent_bytes = 10, 0
    for n in range(2_000 * seconds):
        allowance = guard.allowance(stranger(n), 97, 1_221, START + n / 2_000)
        if allowance.answering is not Answering.SILENT:
            sent_bytes += allowance.bytes_max
    assert sent_bytes <= 8_000 * (seconds + 1)
    assert sent_bytes > 8_000 * seconds


def test_one_victim_does_not_use_up_what_others_are_owed() -> None:
    guard = made()
    for n in range(20_000):
        guard.allowance(ALICE, 97, 1_221, START + n / 2_000)
    assert guard.allowance(stranger(1), 97, 600, START + 10).answering is Answering.FULL


@given(
    st.lists(
        st.tuples(
            st.integers(min_value=0, max_value=40),
            st.integers(min_value=20, max_value=600),
            st.integers(min_value=20, max_value=1_232),
            st.floats(min_value=0, max_value=3),
        ),
        max_size=60,
    )
)
def test_no_history_sends_more_than_the_budget(history: list[tuple[int, int, int, float]]) -> None:
    guard, now, sent_bytes = made(), START, 0
    for n, request_bytes, reply_bytes, pause in history:
        now += pause
        allowance = guard.allowance(stranger(n), request_bytes, reply_bytes, now)
        if reply_bytes <= 3 * request_bytes:
            assert allowance.answering is Answering.FULL
        else:
            sent_bytes += allowance.bytes_max
        if allowance.answering is Answering.NODES_ONLY:
            assert allowance.bytes_max == 3 * request_bytes
    assert sent_bytes <= 8_000 * (now - START + 1) + 1


def test_a_rate_refills_to_its_burst_and_no_further() -> None:
    rate = RateLimit(2.0, 4.0, START)
    assert [rate.take(START) for _ in range(5)] == [True] * 4 + [False]
    assert rate.left(START + 1) == 2.0
    assert rate.left(START + 100) == 4.0


def test_a_clock_that_stands_or_goes_back_refills_nothing() -> None:
    rate = RateLimit(1.0, 1.0, START)
    assert rate.take(START)
    assert not rate.take(START - 50)
    assert not rate.take(START)


def test_prefix_rates_are_apart_and_bounded() -> None:
    rates = PrefixRates(1.0, 1.0, prefixes_max=2)
    assert rates.take("a", START)
    assert not rates.take("a", START)
    assert rates.take("b", START)
    assert (rates.left("b", START), rates.left("c", START)) == (0.0, 1.0)
    assert rates.take("c", START)
    assert len(rates) == 2
