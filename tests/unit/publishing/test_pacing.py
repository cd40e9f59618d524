"""The pace of puts: hundreds of zones at once, at nodes that ration new keys. Time is a number."""

from __future__ import annotations

import asyncio
import itertools
import selectors
from collections.abc import Coroutine, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pytest

from p2pdns.dht.node.values import Cas, Inquiry, InquiryOutcome, Others, PutOutcome
from p2pdns.dht.storage import NEW_KEYS_BURST, NEW_KEYS_PER_SECOND
from p2pdns.errors import Unavailable
from p2pdns.items.item import Item, MutableItem
from p2pdns.items.keys import SecretKey, ZoneId
from p2pdns.overlay.ports import OnProgress
from p2pdns.publishing import pacing
from p2pdns.publishing import upkeep as publisher_module
from p2pdns.publishing.pacing import PUTS_AT_ONCE_MAX, Pacer, Standing
from p2pdns.publishing.upkeep import Publisher
from p2pdns.rates import RateLimit
from p2pdns.state.marks import Reader
from tests.overlay_doubles import Told

SEQ = 1_800_000_000_000_000
CLEAN, RATIONED = PutOutcome(20, 20), PutOutcome(20, 0, {202: 20})
PUT_S = 0.05


class _NoWaiting(selectors.SelectSelector):
    """A selector for which time is what the loop is told: it never waits."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Let the time pass that the loop would wait."""
        assert timeout is not None, "nothing will ever happen again"
        self.now += timeout
        return super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose time passes only when nobody has anything to do."""

    def __init__(self) -> None:
        self._virtual = _NoWaiting()
        super().__init__(self._virtual)

    def time(self) -> float:
        """Return the virtual time."""
        return self._virtual.now


def run(story: Coroutine[Any, Any, None]) -> None:
    """Run a story in virtual time."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(story)


def now() -> float:
    """Return the virtual time."""
    return asyncio.get_running_loop().time()


@dataclass
class Storers:
    """A swarm that keeps what it is given, each node within its ration of new keys; `nearest` of them hold an item."""

    count: int = 20
    nearest: int = 20
    held: dict[bytes, set[int]] = field(default_factory=dict)
    rations: list[RateLimit] = field(default_factory=list)
    put_count: int = 0
    under_way: int = 0
    under_way_max: int = 0
    refuses_for_ever: bytes | None = None

    def __post_init__(self) -> None:
        self.rations = [RateLimit(NEW_KEYS_PER_SECOND, NEW_KEYS_BURST, 0.0) for _ in range(self.count)]

    async def put(self, item: Item, *, cas: Cas | None = None, on_progress: OnProgress | None = None) -> PutOutcome:
        """Put an item."""
        assert isinstance(item, MutableItem)
        self.put_count += 1
        self.under_way += 1
        self.under_way_max = max(self.under_way, self.under_way_max)
        await asyncio.sleep(PUT_S)
        self.under_way -= 1
        holders = self.held.setdefault(item.target, set())
        near = [(int.from_bytes(item.target[:4]) + n) % self.count for n in range(self.nearest)]
        refused = 0
        for node in near:
            if node in holders:
                continue
            if item.key.raw == self.refuses_for_ever or not self.rations[node].take(now()):
                refused += 1
            else:
                holders.add(node)
        return PutOutcome(len(near), len(near) - refused, {202: refused} if refused else {})

    async def inquire(self, inquiry: Inquiry) -> InquiryOutcome:
        """Say nothing: no item of these is looked at."""
        return InquiryOutcome()

    def copies(self) -> list[int]:
        """Return at how many nodes each item is."""
        return [len(holders) for holders in self.held.values()]


def items(count: int) -> list[MutableItem]:
    """Return as many zones."""
    return [MutableItem.signed(SecretKey.generate(n.to_bytes(32)), SEQ, b"v") for n in range(1, count + 1)]


def publisher_of(storers: Storers, state: Reader) -> Publisher:
    """Return a publisher in virtual time."""
    return Publisher(storers, state, unix_clock=lambda: SEQ / 1e6, clock=now, jitter=lambda: 0.5, tell=Told())


@pytest.mark.parametrize("count", [20, 60])
def test_three_hundred_zones_at_once_end_at_more_than_half_of_their_nodes(count: int) -> None:
    storers, state = Storers(count), Reader(None)
    standings: list[Standing] = []

    async def story() -> None:
        publisher = publisher_of(storers, state)
        outcomes = await asyncio.gather(*(publisher.publish(item, on_rationed=standings.append) for item in items(300)))
        assert all(outcome.others.is_enough for outcome in outcomes)
        # What cannot be had sooner: each node takes 64 at once and one a second, and more than half must take each.
        least_s = (300 * 11 / count - NEW_KEYS_BURST) / NEW_KEYS_PER_SECOND
        assert least_s <= now() <= 3 * max(least_s, 30.0)
        assert publisher.waiting_count == 0
        await publisher.close()

    run(story())
    assert len(storers.copies()) == 300
    assert min(storers.copies()) >= 11
    assert storers.under_way_max <= PUTS_AT_ONCE_MAX
    # Hardly anything is put in vain: a put costs the others a look-up each.
    assert storers.put_count <= 450
    assert {standing.of for standing in standings} == {300}
    assert [standing.done for standing in standings] == sorted(standing.done for standing in standings)
    assert standings[-1].seconds_left < 10.0 < max(standing.seconds_left for standing in standings)
    state.close()


def test_a_few_zones_wait_for_nothing() -> None:
    storers, state = Storers(), Reader(None)

    async def story() -> None:
        publisher = publisher_of(storers, state)
        await asyncio.gather(*(publisher.publish(item) for item in items(60)))
        assert now() <= 1.0
        await publisher.close()

    run(story())
    assert storers.copies() == [20] * 60
    state.close()


def test_one_that_is_refused_for_ever_stops_neither_itself_nor_the_others() -> None:
    storers, state = Storers(), Reader(None)
    first, *others = items(20)
    storers.refuses_for_ever = first.key.raw

    async def story() -> None:
        publisher = publisher_of(storers, state)
        outcomes = await asyncio.gather(*(publisher.publish(item) for item in [first, *others]))
        assert outcomes[0].others == Others(20, 0)
        assert all(outcome.others.is_enough for outcome in outcomes[1:])
        assert now() < 60.0
        assert publisher.counters["rationed"] == publisher_module.TRIES_MAX
        await publisher.close()

    run(story())
    state.close()


def test_where_the_caller_gives_up_the_zone_is_put_by_the_timer() -> None:
    storers, state = Storers(), Reader(None)

    async def story() -> None:
        publisher = publisher_of(storers, state)
        zones = items(100)
        tasks = [asyncio.ensure_future(publisher.publish(item)) for item in zones]
        await asyncio.sleep(3.0)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert publisher.waiting_count == 0
        # As a restart does, which finds them among its own.
        await publisher.close()
        again = publisher_of(storers, state)
        again.start()
        await asyncio.sleep(400.0)
        assert len(again.kept) == 100
        await again.close()

    run(story())
    assert min(storers.copies()) >= 11
    state.close()


def test_a_newer_publication_takes_the_place_of_one_that_waits() -> None:
    storers, state = Storers(), Reader(None)

    async def story() -> None:
        publisher = publisher_of(storers, state)
        zones = items(80)
        waiting = [asyncio.ensure_future(publisher.publish(item)) for item in zones]
        await asyncio.sleep(0.9)
        newer = MutableItem.signed(SecretKey.generate((80).to_bytes(32)), SEQ + 1, b"newer")
        assert (await publisher.publish(newer)).others.is_enough
        with pytest.raises(Unavailable, match=f"seq {SEQ + 1} was published meanwhile"):
            await waiting[-1]
        publisher.forget(ZoneId.of_key(zones[70].key))
        state.forget(ZoneId.of_key(zones[70].key))
        ends = await asyncio.gather(*waiting[:-1], return_exceptions=True)
        assert [str(end) for end in ends if isinstance(end, Exception)] in (
            [],
            [f"{zones[70].key}: the zone was forgotten meanwhile"],
        )
        await publisher.close()

    run(story())
    state.close()


def test_only_so_many_publications_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publisher_module, "PUBLISHING_MAX", 3)
    storers, state = Storers(), Reader(None)

    async def story() -> None:
        publisher = publisher_of(storers, state)
        ends = await asyncio.gather(*(publisher.publish(item) for item in items(5)), return_exceptions=True)
        assert [isinstance(end, Unavailable) for end in ends] == [False] * 3 + [True] * 2
        await publisher.close()

    run(story())
    state.close()


# The gate alone


async def put_all(pacer: Pacer, outcomes: Iterable[PutOutcome]) -> list[float]:
    """Put one after the other and return when each began."""
    began: list[float] = []

    async def put(outcome: PutOutcome) -> PutOutcome:
        began.append(now())
        return outcome

    for outcome in outcomes:
        await pacer.put(pacer.begin(), partial(put, outcome))
    return began


def test_the_rate_falls_when_too_much_is_refused_and_rises_when_nothing_is() -> None:
    async def story() -> None:
        pacer = Pacer(now)
        assert await put_all(pacer, [CLEAN] * 3) == [0.0, 0.0, 0.0]
        assert not pacer.is_rationed
        (first,) = await put_all(pacer, [RATIONED])
        assert pacer.is_rationed
        (second, third) = await put_all(pacer, [RATIONED, CLEAN])
        assert second - first == pytest.approx(1 / pacing.RATE_FIRST)
        assert third - second == pytest.approx(1 / pacing.RATE_FIRST)
        fourth, fifth = await put_all(pacer, [CLEAN] * 2)
        assert fifth - fourth > 1 / pacing.RATE_FIRST, "one refusal too many has slowed it down"
        began = await put_all(pacer, [CLEAN] * 40)
        assert began[-1] - began[-2] < 0.5 / pacing.RATE_FIRST

    run(story())


def test_some_refusals_of_a_put_that_enough_have_taken_change_nothing() -> None:
    async def story() -> None:
        pacer = Pacer(now)
        await put_all(pacer, [RATIONED])
        began = await put_all(pacer, [PutOutcome(20, 15, {202: 5})] * 10)
        pauses = {round(later - earlier, 6) for earlier, later in itertools.pairwise(began)}
        assert pauses == {round(1 / pacing.RATE_FIRST, 6)}

    run(story())


def test_after_a_quiet_minute_puts_go_out_as_they_come_again() -> None:
    async def story() -> None:
        pacer = Pacer(now)
        await put_all(pacer, [RATIONED])
        await asyncio.sleep(pacing.IDLE_S)
        began = await put_all(pacer, [CLEAN] * 5)
        assert set(began) == {began[0]}

    run(story())


def test_publications_go_before_what_is_only_put_again_and_the_first_before_the_last() -> None:
    order: list[str] = []

    async def put(name: str) -> PutOutcome:
        order.append(name)
        return RATIONED

    async def story() -> None:
        pacer = Pacer(now)
        await pacer.put(None, lambda: put("begin"))
        first, second = pacer.begin(), pacer.begin()
        await asyncio.gather(
            pacer.put(None, lambda: put("again")),
            pacer.put(second, lambda: put("second")),
            pacer.put(first, lambda: put("first")),
        )

    run(story())
    assert order == ["begin", "first", "second", "again"]


def test_whoever_is_cancelled_gives_the_place_back() -> None:
    async def story() -> None:
        pacer = Pacer(now)

        async def never() -> PutOutcome:
            await asyncio.sleep(1e9)
            return CLEAN

        stuck = [asyncio.ensure_future(pacer.put(None, never)) for _ in range(PUTS_AT_ONCE_MAX + 4)]
        await asyncio.sleep(1.0)
        late = asyncio.ensure_future(pacer.put(None, lambda: asyncio.sleep(0, CLEAN)))
        await asyncio.sleep(1.0)
        assert not late.done()
        for task in stuck:
            task.cancel()
        assert await late is CLEAN
        # One that is cancelled between the gate's word and its next step has a place as well.
        begun: list[None] = []

        async def begun_for_ever() -> PutOutcome:
            begun.append(None)
            return await never()

        stuck = [asyncio.ensure_future(pacer.put(None, begun_for_ever)) for _ in range(PUTS_AT_ONCE_MAX)]
        late = asyncio.ensure_future(pacer.put(None, never))
        await asyncio.sleep(1.0)
        stuck[0].cancel()
        await asyncio.sleep(0)
        late.cancel()
        await asyncio.sleep(1.0)
        rest = [asyncio.ensure_future(pacer.put(None, begun_for_ever)) for _ in range(2)]
        await asyncio.sleep(1.0)
        assert len(begun) == PUTS_AT_ONCE_MAX + 1, "one of the last two has the place of the first"
        for task in [*stuck, *rest]:
            task.cancel()
        await asyncio.gather(*stuck, *rest, late, return_exceptions=True)
        begun.clear()
        again = [asyncio.ensure_future(pacer.put(None, begun_for_ever)) for _ in range(PUTS_AT_ONCE_MAX + 1)]
        await asyncio.sleep(1.0)
        assert len(begun) == PUTS_AT_ONCE_MAX, "all places are free again"
        for task in again:
            task.cancel()
        await asyncio.gather(*again, return_exceptions=True)
        pacer.close()

    run(story())
