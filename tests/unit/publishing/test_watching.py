"""When a watched zone file is published again: bursts, pauses, addresses, failures."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from p2pdns.publishing.watching import (
    ASK_S,
    PUBLISH_S_MIN,
    RETRY_S,
    RETRY_S_MAX,
    SETTLE_S,
    SETTLE_S_MAX,
    ZoneWatch,
)

V4, OTHER, THIRD = "93.184.216.34", "93.184.216.99", "93.184.216.7"
LATER = 100.0  # So long after the first publication that no pause is left of it.


def home() -> ZoneWatch:
    """Return a watch over a zone with the address of its machine."""
    return ZoneWatch("one", {"public_ipv4": V4}, 0.0)


def test_a_file_that_stays_is_not_published_again() -> None:
    watch = ZoneWatch("one", {}, 0.0)
    watch.saw("one", LATER)
    assert watch.due_at is None
    assert not watch.asks(LATER + 10 * ASK_S)


def test_several_saves_at_once_are_one_publication() -> None:
    watch = ZoneWatch("one", {}, 0.0)
    for number in range(5):
        watch.saw(f"edition {number}", LATER + 0.2 * number)
    assert watch.due_at == LATER + 0.8 + SETTLE_S
    watch.begins()
    assert watch.due_at is None
    watch.saw("edition 4", LATER + 3.0)
    assert watch.due_at is None


def test_a_file_that_never_rests_is_published_all_the_same() -> None:
    watch = ZoneWatch("one", {}, 0.0)
    for number in range(100):
        watch.saw(f"edition {number}", LATER + 0.1 * number)
    assert watch.due_at == LATER + SETTLE_S_MAX


def test_a_change_that_is_undone_is_no_reason() -> None:
    watch = ZoneWatch("one", {}, 0.0)
    watch.saw("two", LATER)
    watch.saw("one", LATER + 0.5)
    assert watch.due_at is None


def test_there_is_time_between_two_publications() -> None:
    watch = ZoneWatch("one", {}, 0.0)
    watch.saw("two", 1.0)
    assert watch.due_at == PUBLISH_S_MIN
    watch.begins()
    watch.published({}, 12.0)
    watch.saw("three", 13.0)
    assert watch.due_at == 12.0 + PUBLISH_S_MIN


def test_a_file_that_is_gone_and_back_is_looked_at_again() -> None:
    watch = ZoneWatch("one", {}, 0.0)
    watch.saw(None, LATER)
    assert watch.due_at is not None
    watch.begins()
    watch.saw("one", LATER + 9.0)
    assert watch.due_at is not None


def test_an_address_counts_as_changed_when_it_is_reported_twice_in_a_row() -> None:
    watch = home()
    assert not watch.asks(ASK_S - 1.0)
    assert watch.asks(ASK_S)
    for address in (OTHER, V4, OTHER, None, OTHER, THIRD):
        watch.reported({"public_ipv4": address}, LATER)
        assert watch.due_at is None, address
    watch.reported({"public_ipv4": THIRD}, LATER)
    assert watch.due_at == LATER
    assert watch.addresses == {"public_ipv4": THIRD}
    assert watch.ask_at == LATER + ASK_S
    watch.begins()
    watch.published(watch.addresses, LATER)
    watch.reported({"public_ipv4": THIRD}, LATER)
    assert watch.due_at is None


def test_an_address_that_nobody_knows_changes_nothing() -> None:
    watch = home()
    for _ in range(5):
        watch.reported({}, LATER)
    assert watch.due_at is None
    assert watch.addresses == {"public_ipv4": V4}


def test_what_failed_is_tried_again_at_growing_intervals() -> None:
    watch = ZoneWatch("one", {}, 0.0)
    watch.saw("two", LATER)
    watch.begins()
    pauses = []
    for _ in range(20):
        watch.failed(LATER)
        assert watch.due_at is not None
        pauses.append(watch.due_at - LATER)
        watch.begins()
    assert (pauses[0], pauses[-1]) == (RETRY_S, RETRY_S_MAX)
    assert pauses == sorted(pauses)
    watch.published({}, LATER)
    assert watch.due_at is None
    watch.failed(LATER)
    assert watch.due_at == LATER + RETRY_S


EVENTS = st.lists(
    st.one_of(
        st.tuples(st.just("saw"), st.sampled_from(["one", "two", "three", None])),
        st.tuples(st.just("told"), st.sampled_from([V4, OTHER, None])),
        st.tuples(st.just("failed"), st.none()),
    ),
    max_size=40,
)


@given(EVENTS, st.lists(st.floats(0.0, 20.0), min_size=40, max_size=40))
def test_whatever_happens_two_publications_are_never_close(
    events: list[tuple[str, str | None]], gaps: list[float]
) -> None:
    watch, now, put_at = home(), 0.0, 0.0
    for (kind, word), gap in zip(events, gaps, strict=False):
        now += gap
        if kind == "saw":
            watch.saw(word, now)
        elif kind == "told":
            watch.reported({"public_ipv4": word}, now)
        if watch.due_at is not None and now >= watch.due_at:
            assert now - put_at >= PUBLISH_S_MIN
            put_at = now
            watch.begins()
            if kind == "failed":
                watch.failed(now)
            else:
                watch.published(watch.addresses, now)
