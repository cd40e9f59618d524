"""Prefetch: who asks in the last tenth of an answer's life has the next one fetched, and nobody waits for it."""

from __future__ import annotations

import asyncio

import pytest

from p2pdns.dns.life import PROVISIONAL_TTL_S
from p2pdns.engine.link_server import compose_answer
from p2pdns.front.cache import PREFETCH_LIFE_S_MIN
from p2pdns.front.pending import PREFETCHES_MAX
from p2pdns.limits import QUESTIONS_MAX
from p2pdns.link import Ask, FrameReader, compose
from tests.front_messages import answer, crowd, failure, query
from tests.unit.front.test_funnel import World
from tests.unit.overlay.test_refresh import KEY, Door

HOT = "www.example"


def hot(ttl: int = 300, **more: object) -> World:
    """Return a front that has an answer to `www.example` since 0."""
    world = World()
    world.ask(query(), 0.0)
    world.tell(answer(ttl=ttl, **more), 0.0)  # type: ignore[arg-type]
    return world


def test_a_hit_in_the_last_tenth_asks_the_engine_once_and_is_answered_at_once() -> None:
    world = hot()
    assert world.ask(query(), 269.9) is not None
    assert len(world.asked) == 1
    for now in (270.5, 271.6, 272.7):
        assert world.ask(query(), now) is not None
    assert [asked.ask.is_prefetch for asked in world.asked] == [False, True]
    assert world.funnel.cache.counters["prefetch"] == 1


def test_the_answer_to_a_prefetch_takes_the_place_of_the_one_that_goes() -> None:
    world = hot()
    world.ask(query(), 280.0)
    world.tell(answer(rdatas=(bytes([192, 0, 2, 2]),), made_at=280.1), 280.1)
    later = world.ask(query(), 301.0)
    assert later is not None
    assert later[-4:] == bytes([192, 0, 2, 2])
    assert len(world.asked) == 2
    # And so on, for as long as somebody asks.
    assert world.ask(query(), 555.0) is not None
    assert len(world.asked) == 3


def test_a_client_that_comes_after_the_end_joins_the_prefetch() -> None:
    world = hot()
    world.ask(query(), 299.0)
    assert world.ask(query(number=9), 300.5) is None
    assert len(world.asked) == 2
    world.tell(answer(made_at=301.0), 301.0)
    assert world.last().id == 9


@pytest.mark.parametrize(
    ("ttl", "more"),
    [(int(PREFETCH_LIFE_S_MIN) - 1, {}), (300, {"provisional": True})],
    ids=["too short a life", "provisional"],
)
def test_what_is_about_to_go_anyway_is_not_fetched_ahead(ttl: int, more: dict[str, object]) -> None:
    world = hot(ttl, **more)
    life_s = PROVISIONAL_TTL_S if more else ttl
    assert world.ask(query(), life_s - 0.01) is not None
    assert len(world.asked) == 1


def test_a_failed_prefetch_leaves_the_answer_and_is_not_repeated() -> None:
    world = hot()
    world.ask(query(), 280.0)
    world.tell(failure(now=280.1), 280.1)
    for now in (281.5, 299.0):
        assert world.ask(query(), now) is not None
    assert len(world.asked) == 2


def test_a_provisional_answer_to_a_prefetch_replaces_nothing_settled() -> None:
    world = hot()
    world.ask(query(), 280.0)
    world.tell(answer(rdatas=(bytes([192, 0, 2, 9]),), made_at=280.1, provisional=True), 280.1)
    kept = world.ask(query(), 281.5)
    assert kept is not None
    assert kept[-4:] == bytes([192, 0, 2, 1])


def test_prefetches_leave_room_for_questions_that_somebody_waits_for() -> None:
    world = World()
    names = [f"n{i}.example" for i in range(PREFETCHES_MAX + 1)]
    for name in names:
        world.ask(query(name), 0.0)
        world.tell(answer(name), 0.0)
    asked = len(world.asked)
    for name in names:
        assert world.ask(query(name), 290.0) is not None
    assert len(world.asked) - asked == PREFETCHES_MAX == len(world.funnel.questions)
    assert world.funnel.cache.counters["prefetch-no-room"] == 1
    # An answer gives its place back.
    world.tell(answer(names[-2], made_at=291.0), 291.0)
    assert len(world.funnel.questions) == PREFETCHES_MAX - 1
    world.ask(query("last.example"), 0.0)
    world.tell(answer("last.example"), 0.0)
    assert world.ask(query("last.example"), 291.0) is not None
    assert len(world.funnel.questions) == PREFETCHES_MAX
    for i in range(QUESTIONS_MAX - len(world.funnel.questions)):
        assert world.ask(query(f"w{i}.example"), 292.0, host=crowd(i)) is None


def test_without_an_engine_nothing_is_fetched_ahead() -> None:
    world = hot()
    world.funnel.engine_lost(1.0)
    assert world.ask(query(), 290.0) is not None
    assert len(world.funnel.questions) == 0


def test_the_link_tells_the_engine_which_question_is_a_prefetch() -> None:
    world = hot()
    assert world.ask(query(), 290.0) is not None
    asked = world.asked[-1]
    assert asked.ask.is_prefetch
    assert FrameReader().feed(compose(asked)) == [asked]


@pytest.mark.parametrize(("ttl", "interval"), [(3600, 300), (300, 300), (60, 60), (50, 50)])
def test_nobody_waits_for_the_look_ups_of_a_zone_that_is_asked_every_second(ttl: int, interval: int) -> None:
    async def story() -> None:
        door = Door(f"www {ttl} A 192.0.2.1")
        await door.ask()
        for _ in range(3 * interval):
            await door.pass_time(1)
            await door.ask(prefetches=True)
        assert door.missed_at == [0.0]
        # Each look-up is a little early, and there is no more of them than an early one each time makes.
        gaps = [after - before for before, after in zip(door.looked_up_at, door.looked_up_at[1:], strict=False)]
        assert len(gaps) >= 3
        assert all(0.85 * interval <= gap <= interval for gap in gaps)
        await door.overlay.close()

    asyncio.run(story())


def test_a_prefetch_of_what_was_confirmed_lately_costs_the_overlay_nothing() -> None:
    async def story() -> None:
        door = Door("www 3600 A 192.0.2.1")
        await door.ask()
        await door.pass_time(200)
        resolved = await door.service.resolve(door.question, Ask(door.clock.now + 4, is_prefetch=True))
        assert compose_answer(1, resolved, 0).expiry == door.cache.fresh(KEY, door.clock.now).expiry  # type: ignore[union-attr]
        assert len(door.dht.gets) == 1
        await door.overlay.close()

    asyncio.run(story())


def test_a_prefetch_looks_a_zone_with_short_ttls_up_no_earlier_than_any_other_question() -> None:
    async def story() -> None:
        door = Door("www 30 A 192.0.2.1")
        await door.ask()
        await door.pass_time(29)
        await door.service.resolve(door.question, Ask(door.clock.now + 4, is_prefetch=True))
        assert len(door.dht.gets) == 1
        await door.overlay.close()

    asyncio.run(story())
