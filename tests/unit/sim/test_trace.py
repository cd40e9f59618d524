"""The trace: histories that differ in anything have another hash."""

from __future__ import annotations

from itertools import combinations

from p2pdns.sim.trace import BATCH_ENTRIES_MAX, Trace

A, B = ("11.0.0.1", 1), ("12.0.0.1", 1)


def test_histories_that_differ_in_anything_have_another_hash() -> None:
    histories = [
        [(1.0, A, B, b"x")],
        [(1.5, A, B, b"x")],
        [(1.0, B, A, b"x")],
        [(1.0, A, B, b"y")],
        [(1.0, A, B, b"x"), (1.0, A, B, b"x")],
        [(1.0, A, B, b"x"), (1.0, B, A, b"y")],
        [(1.0, B, A, b"y"), (1.0, A, B, b"x")],
        [],
    ]
    hashes = []
    for history in histories:
        trace = Trace()
        for entry in history:
            trace.add_datagram(*entry)
        hashes.append(trace.hexdigest())
    assert all(one != other for one, other in combinations(hashes, 2))


def test_facts_are_in_the_trace_in_their_place() -> None:
    first, second, third = Trace(), Trace(), Trace()
    first.add_fact(1.0, ("published", 1))
    first.add_datagram(1.0, A, B, b"x")
    second.add_datagram(1.0, A, B, b"x")
    second.add_fact(1.0, ("published", 1))
    third.add_datagram(1.0, A, B, b"x")
    assert len({trace.hexdigest() for trace in (first, second, third)}) == 3


def test_the_hash_does_not_depend_on_when_it_is_asked_for() -> None:
    once, often = Trace(), Trace()
    for number in range(2 * BATCH_ENTRIES_MAX + 7):
        once.add_datagram(float(number), A, B, bytes(number % 50))
        often.add_datagram(float(number), A, B, bytes(number % 50))
        if number % 100 == 0:
            often.hexdigest()
    assert once.hexdigest() == often.hexdigest()
