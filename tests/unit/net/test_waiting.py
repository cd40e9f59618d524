"""Calls that are put off, over one timer."""

from __future__ import annotations

from p2pdns.net.upstream.waiting import Waits
from tests.overlay_doubles import Clock


def test_each_call_comes_once_when_its_time_is_over() -> None:
    clock, came = Clock(), []
    waits, began = Waits(clock.boot, clock.later), clock.boot()

    def note() -> None:
        came.append(clock.boot() - began)

    for seconds in (3.0, 1.0, 2.0):
        waits.call_at(began + seconds, note)
    for _ in range(8):
        clock.turn(0.5)
    assert came == [1.0, 2.0, 3.0]


def test_a_call_that_was_cancelled_does_not_come_even_by_one_that_comes_with_it() -> None:
    clock, came = Clock(), []
    waits = Waits(clock.boot, clock.later)

    def first() -> None:
        came.append("first")
        second.cancel()

    waits.call_at(clock.boot() + 1.0, first)
    second = waits.call_at(clock.boot() + 1.0, lambda: came.append("second"))
    waits.call_at(clock.boot() + 1.0, lambda: came.append("third")).cancel()
    clock.turn(1.0)
    assert came == ["first"]


def test_a_call_that_is_put_off_by_another_comes_as_well() -> None:
    clock, came = Clock(), []
    waits, began = Waits(clock.boot, clock.later), clock.boot()

    def note() -> None:
        came.append(clock.boot() - began)

    def first() -> None:
        waits.call_at(began + 2.0, note)

    waits.call_at(began + 1.0, first)
    waits.call_at(began + 9.0, note)
    clock.turn(1.0)
    clock.turn(1.0)
    assert came == [2.0]


def test_any_number_of_calls_has_one_timer() -> None:
    clock = Clock()
    waits = Waits(clock.boot, clock.later)
    for number in range(1_000):
        waits.call_at(clock.boot() + 5.0 - number / 1_000, lambda: None)
    assert len(clock.calls) == 1
