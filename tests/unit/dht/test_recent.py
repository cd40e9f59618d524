"""Keys noted lately: for how long, how many, and which goes first."""

from __future__ import annotations

from p2pdns.dht.recent import Recent


def test_a_key_is_recent_for_the_period_after_it_was_noted_last() -> None:
    recent: Recent[str] = Recent(10.0, 5)
    recent.note("a", 1.0)
    recent.note("a", 4.0)
    assert recent.has("a", 13.9)
    assert not recent.has("a", 14.0)
    assert not recent.has("b", 4.0)


def test_the_key_noted_longest_ago_goes_first() -> None:
    recent: Recent[int] = Recent(10.0, 3)
    for key in (1, 2, 3, 1, 4):
        recent.note(key, 0.0)
    assert [key for key in range(1, 5) if recent.has(key, 1.0)] == [1, 3, 4]


def test_keys_that_are_not_recent_take_no_room_once_they_are_forgotten() -> None:
    recent: Recent[int] = Recent(10.0, 100)
    for key in range(20):
        recent.note(key, float(key))
    recent.forget_old(15.0)
    assert len(recent) == 14
    assert recent.has(6, 15.0)
