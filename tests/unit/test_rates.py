"""Rates: budgets that refill, alone and for each prefix. Time is a number."""

from __future__ import annotations

from p2pdns.rates import PrefixRates, RateLimit

START = 1_000_000.0


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


def test_with_no_room_the_prefix_seen_longest_ago_is_forgotten() -> None:
    rates = PrefixRates(1.0, 1.0, prefixes_max=2)
    assert [rates.take(prefix, START) for prefix in ("a", "b", "a", "c")] == [True, True, False, True]
    assert (rates.left("a", START), rates.left("b", START)) == (0.0, 1.0)


def test_a_flood_of_prefixes_restores_no_spent_budget_that_is_lasting() -> None:
    rates = PrefixRates(1.0, 8.0, prefixes_max=3, is_lasting=True)
    assert [rates.take("loopback", START) for _ in range(9)] == [True] * 8 + [False]
    assert rates.take("192.0.2.0/24", START)
    assert rates.take("198.51.100.0/24", START)
    # There is no room for more: the others share one budget, and no prefix is forgotten whose budget is not whole.
    assert sum(rates.take(f"10.0.{number}.0/24", START) for number in range(16)) == 8
    assert not rates.take("loopback", START)
    assert rates.take("203.0.113.0/24", START + 8.0)
    assert 1 <= len(rates) <= 3


def test_a_prefix_whose_bucket_is_full_again_takes_no_room() -> None:
    rates = PrefixRates(1.0, 8.0)
    for number in range(20):
        assert rates.take(f"10.0.{number}.0/24", START, 8.0)
    assert rates.take("10.1.0.0/24", START + 7.0)
    assert len(rates) == 21, "none of them is full yet"
    assert rates.take("10.2.0.0/24", START + 8.0)
    assert len(rates) == 1
