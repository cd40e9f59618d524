"""Items with a salt that are kept alive: for how long, what a restart finds, what it costs. Time is a number."""

from __future__ import annotations

import asyncio
import heapq
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any

import pytest

from p2pdns.dht.krpc import NodeInfo
from p2pdns.dht.lookup.verdict import Verdict
from p2pdns.dht.node.values import Cas, GetOutcome, Inquiry, InquiryOutcome, PutOutcome, Wanted
from p2pdns.dht.routing.ids import id_for
from p2pdns.errors import Unavailable
from p2pdns.items.dividing import RENEWED_AFTER_S, Division, divide
from p2pdns.items.item import Item, MutableItem
from p2pdns.items.keys import ZoneId
from p2pdns.items.shards.pinned import pin_of
from p2pdns.overlay.ports import OnProgress
from p2pdns.publishing import partkeeping
from p2pdns.publishing.cycle import KeptCycle
from p2pdns.publishing.cycles import Cycles
from p2pdns.publishing.divided import Placed
from p2pdns.publishing.pacing import Pacer
from p2pdns.publishing.partkeeping import UNPINNED_S, KeptPart, PartKeeper
from tests.overlay_doubles import Told
from tests.unit.publishing.shelf import hosts, large
from tests.unit.publishing.test_publication import APEX, NOW, SECRET
from tests.waiting import at_rest

ZONE_ID = ZoneId.of_key(SECRET.zone_key)
HOUR, DAY = 3_600.0, 86_400.0
SEQ = int(NOW * 1e6)


def edition(count: int, former: Division | None = None, mark: int = 0, seq: int = SEQ) -> Edition:
    """Return an edition of a zone of hosts, signed."""
    zone = large(*hosts(count)).zone(APEX)
    division = divide(zone, entropy=bytes([mark]) * 32, unix_now=NOW, former=former)
    parts = [MutableItem.signed(SECRET, seq, value, pinned.salt) for pinned, value in division.items()]
    return Edition(division, MutableItem.signed(SECRET, seq, division.head), parts)


@dataclass
class Edition:
    """A head, and all that it pins."""

    division: Division
    head: MutableItem
    parts: list[MutableItem]

    @property
    def salts(self) -> set[bytes]:
        return {one.salt for one in self.parts}


@dataclass
class Disk:
    """Where items outlive a keeper."""

    kept: dict[bytes, KeptPart] = field(default_factory=dict)
    is_full: bool = False

    def load(self) -> list[KeptPart]:
        """Return all items."""
        return list(self.kept.values())

    async def save(self, parts: Sequence[KeptPart]) -> None:
        """Keep items."""
        if self.is_full:
            raise Unavailable("cannot be written: the disk is full", place="parts.sqlite")
        self.kept |= {one.item.salt: one for one in parts}

    async def drop(self, items: Sequence[MutableItem]) -> None:
        """Keep items no longer."""
        for one in items:
            self.kept.pop(one.salt, None)


@dataclass
class World:
    """An overlay of twenty storers with ids of their own, and a clock that a test turns."""

    now: float = 0.0
    disk: Disk = field(default_factory=Disk)
    cycles: dict[bytes, KeptCycle] = field(default_factory=dict)
    puts: Counter[bytes] = field(default_factory=Counter)
    asked: Counter[bytes] = field(default_factory=Counter)
    held: dict[bytes, MutableItem] = field(default_factory=dict)
    on_put: Callable[[MutableItem], None] = lambda item: None
    outcome: PutOutcome | None = None
    told: Told = field(default_factory=Told)
    _sleepers: list[tuple[float, int, asyncio.Future[None]]] = field(default_factory=list)
    _numbers: Any = field(default_factory=count)

    def __post_init__(self) -> None:
        hosts = [f"93.184.{number}.1" for number in range(20)]
        self.storers = tuple(NodeInfo(id_for(host, bytes(20)), (host, 6881)) for host in hosts)

    def put(
        self, item: Item, *, cas: Cas | None = None, on_progress: OnProgress | None = None
    ) -> Awaitable[PutOutcome]:
        """Put well, unless told otherwise."""
        assert isinstance(item, MutableItem)
        self.on_put(item)
        self.puts[item.salt] += 1
        if (held := self.held.get(item.target)) is None or held.seq <= item.seq:
            self.held[item.target] = item
        return _done(self.outcome or PutOutcome(20, 20, storers=self.storers))

    def inquire(self, inquiry: Inquiry) -> Awaitable[InquiryOutcome]:
        """Answer as a storer that keeps what it was given."""
        self.asked[inquiry.salt] += 1
        item = next((one for one in self.held.values() if one.salt == inquiry.salt), None)
        return _done(InquiryOutcome(True, item, is_kept=inquiry.again is not None))

    def get(
        self, wanted: Wanted, *, on_item: Callable[[Item], None], on_patient: Callable[[], None] | None = None
    ) -> Awaitable[GetOutcome]:
        """Return what is held."""
        found = self.held.get(wanted.target)
        if found is not None and wanted.known_seq is not None and found.seq <= wanted.known_seq:
            found = None
        if found is not None:
            on_item(found)
        return _done(GetOutcome(found, Verdict.COMPLETE, 1, 0, 1, 1, None, 0.0, 0, 0, None))

    def load_cycle(self, target: bytes) -> KeptCycle | None:
        """Return what an earlier process has kept."""
        return self.cycles.get(target)

    async def save_cycle(self, target: bytes, kept: KeptCycle) -> None:
        """Keep it."""
        self.cycles[target] = kept

    def drop_cycle(self, target: bytes) -> None:
        """Keep nothing of it."""
        self.cycles.pop(target, None)

    async def sleep(self, seconds: float) -> None:
        """Sleep until the test lets that time pass."""
        sleeper: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self.now + seconds, next(self._numbers), sleeper))
        await sleeper

    async def passes(self, seconds: float) -> None:
        """Let time pass, one sleep after the other."""
        until = self.now + seconds
        await at_rest()
        while self._sleepers and self._sleepers[0][0] <= until:
            self.now, _, sleeper = heapq.heappop(self._sleepers)
            if not sleeper.done():
                sleeper.set_result(None)
            await at_rest()
        self.now = until

    def keeper(self) -> PartKeeper:
        """Return a keeper in this world."""

        def unix_clock() -> float:
            return NOW + self.now

        def clock() -> float:
            return self.now

        cycles = Cycles(
            self, self, clock=clock, unix_clock=unix_clock, jitter=lambda: 0.5, counters=Counter(), spread=1 / 8
        )
        return PartKeeper(
            self,
            self.disk,
            cycles,
            Pacer(clock, self.sleep),
            clock=clock,
            unix_clock=unix_clock,
            jitter=lambda: 0.5,
            tell=self.told,
            sleep=self.sleep,
        )

    def run(self, story: Callable[[PartKeeper], Coroutine[Any, Any, None]]) -> None:
        """Tell a story about one keeper, which is killed at its end."""

        async def told() -> None:
            keeper = self.keeper()
            keeper.start()
            try:
                await story(keeper)
            finally:
                self._sleepers.clear()
                await keeper.close()

        asyncio.run(told())


def _done(value: Any) -> asyncio.Future[Any]:
    future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    future.set_result(value)
    return future


async def place(keeper: PartKeeper, one: Edition) -> Placed:
    """Place the items of an edition."""
    return await keeper.place(ZONE_ID, one.parts, lambda stage: None)


def test_items_are_on_the_disk_before_the_first_is_put() -> None:
    world, one = World(), edition(200)
    seen: list[set[bytes]] = []
    world.on_put = lambda item: seen.append(set(world.disk.kept))

    async def story(keeper: PartKeeper) -> None:
        assert await place(keeper, one) == Placed()

    world.run(story)
    assert seen[0] == one.salts
    assert dict(world.puts) == dict.fromkeys(one.salts, 1)


def test_a_full_disk_refuses_the_publication_before_anything_is_put() -> None:
    world = World(disk=Disk(is_full=True))

    async def story(keeper: PartKeeper) -> None:
        with pytest.raises(Unavailable, match="the disk is full"):
            await place(keeper, edition(200))

    world.run(story)
    assert not world.puts


def test_more_items_than_there_is_room_for_are_refused_with_the_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partkeeping, "PARTS_KEPT_MAX", 10)

    async def story(keeper: PartKeeper) -> None:
        await place(keeper, edition(200))
        with pytest.raises(Unavailable, match="keeps 8 items of large zones alive already, 10 allowed"):
            await place(keeper, edition(300, mark=1))

    world = World()
    world.run(story)
    assert sum(world.puts.values()) == 8


@pytest.mark.parametrize("is_found", [False, True])
def test_two_zones_that_come_at_once_do_not_take_the_same_room(monkeypatch: pytest.MonkeyPatch, is_found: bool) -> None:
    monkeypatch.setattr(partkeeping, "PARTS_KEPT_MAX", 10)
    one, two = edition(200), edition(200, mark=1)
    gate = asyncio.Event()

    class Slow(Disk):
        """A disk that takes its time."""

        async def save(self, parts: Sequence[KeptPart]) -> None:
            """Keep items once the test says so."""
            if parts:
                await gate.wait()
            await super().save(parts)

    world = World(disk=Slow())

    async def story(keeper: PartKeeper) -> None:
        if is_found:
            world.held = {part.target: part for part in one.parts}
            keeper.follow(ZONE_ID, one.head)
        else:
            first = asyncio.ensure_future(place(keeper, one))
        await at_rest()
        second = asyncio.ensure_future(place(keeper, two))
        await at_rest()
        gate.set()
        with pytest.raises(Unavailable, match="10 allowed"):
            await second
        if not is_found:
            await first
        await world.passes(60)
        assert set(keeper.items_of(ZONE_ID)) == one.salts == set(world.disk.kept)

    world.run(story)


def test_what_no_head_pins_is_kept_alive_for_two_hours_and_then_goes() -> None:
    world, one = World(), edition(200)

    async def story(keeper: PartKeeper) -> None:
        await place(keeper, one)
        await world.passes(UNPINNED_S - 1)
        assert set(keeper.items_of(ZONE_ID)) == one.salts
        await world.passes(2 * HOUR)
        assert keeper.items_of(ZONE_ID) == {}

    world.run(story)
    assert world.disk.kept == {}


def test_what_a_head_pins_stays_and_what_it_pins_no_longer_goes_after_two_hours() -> None:
    world, old = World(), edition(200)
    new = edition(199, old.division, mark=1)
    gone = old.salts - new.salts
    assert gone

    async def story(keeper: PartKeeper) -> None:
        await place(keeper, old)
        keeper.follow(ZONE_ID, old.head)
        await world.passes(DAY)
        assert set(keeper.items_of(ZONE_ID)) == old.salts
        await keeper.place(ZONE_ID, [one for one in new.parts if one.salt not in old.salts], lambda stage: None)
        keeper.follow(ZONE_ID, new.head)
        await world.passes(UNPINNED_S - 60)
        assert set(keeper.items_of(ZONE_ID)) == old.salts | new.salts
        await world.passes(2 * HOUR)
        assert set(keeper.items_of(ZONE_ID)) == new.salts

    world.run(story)
    assert set(world.disk.kept) == new.salts


def test_an_item_costs_three_puts_and_twenty_odd_looks_a_day_spread_over_the_hour() -> None:
    world, one = World(), edition(200)

    async def story(keeper: PartKeeper) -> None:
        await place(keeper, one)
        keeper.follow(ZONE_ID, one.head)
        world.puts.clear()
        world.asked.clear()
        await world.passes(10 * DAY)

    world.run(story)
    puts, asked = ([counts[salt] / 10 for salt in one.salts] for counts in (world.puts, world.asked))
    assert max(puts) <= 3.4
    # A look asks four storers, and those of the first two hours of a cycle put to them again.
    assert max(asked) <= 100


def test_a_restart_goes_on_with_the_cycles_and_puts_nothing_before_its_time() -> None:
    world, one = World(), edition(200)

    async def story(keeper: PartKeeper) -> None:
        await place(keeper, one)
        keeper.follow(ZONE_ID, one.head)
        await world.passes(2.5 * HOUR)

    world.run(story)
    world.puts.clear()

    async def after(keeper: PartKeeper) -> None:
        keeper.follow(ZONE_ID, one.head)
        await world.passes(4 * HOUR)
        assert set(keeper.items_of(ZONE_ID)) == one.salts
        assert not world.puts
        await world.passes(2 * HOUR)
        assert set(world.puts) == one.salts

    world.run(after)


def test_a_keeper_killed_between_items_and_head_has_them_after_the_restart() -> None:
    world, one = World(), edition(200)

    async def story(keeper: PartKeeper) -> None:
        await place(keeper, one)

    world.run(story)

    async def after(keeper: PartKeeper) -> None:
        world.puts.clear()
        # The publication is made again: what was put is not put twice.
        assert await place(keeper, one) == Placed()
        keeper.follow(ZONE_ID, one.head)
        await world.passes(3 * HOUR)
        assert set(keeper.items_of(ZONE_ID)) == one.salts

    world.run(after)


def test_a_publication_that_is_made_again_puts_nothing_twice_but_renews_what_is_old() -> None:
    world, one = World(), edition(200)
    renewed = [MutableItem.signed(SECRET, SEQ + (RENEWED_AFTER_S + 1) * 10**6, p.value, p.salt) for p in one.parts]

    async def story(keeper: PartKeeper) -> None:
        await place(keeper, one)
        await place(keeper, one)
        assert set(world.puts.values()) == {1}
        await keeper.place(ZONE_ID, renewed, lambda stage: None)
        assert set(world.puts.values()) == {2}
        assert keeper.items_of(ZONE_ID) == {one.salt: one for one in renewed}

    world.run(story)


def test_a_put_that_reached_too_few_is_tried_again_soon() -> None:
    world, one = World(), edition(200)

    async def story(keeper: PartKeeper) -> None:
        world.outcome = PutOutcome(20, 2)
        assert len((await place(keeper, one)).poor) == len(one.parts)
        keeper.follow(ZONE_ID, one.head)
        await at_rest()
        assert keeper.poor_count(ZONE_ID) == len(one.parts)
        world.outcome = None
        world.puts.clear()
        await world.passes(60)
        assert set(world.puts) == one.salts
        assert keeper.poor_count(ZONE_ID) == 0

    world.run(story)


def test_what_a_pinned_head_pins_is_looked_for_and_kept_alive_with_it() -> None:
    world, one = World(), edition(200)
    world.held = {part.target: part for part in one.parts}

    async def story(keeper: PartKeeper) -> None:
        keeper.follow(ZONE_ID, one.head)
        await world.passes(60)
        assert set(keeper.items_of(ZONE_ID)) == one.salts == set(world.puts)

    world.run(story)
    assert {part.unpinned_unix for part in world.disk.kept.values()} == {None}


def test_an_item_that_is_missing_or_has_another_value_is_told_and_nothing_else_goes_for_it() -> None:
    world, one = World(), edition(200)
    world.held = {part.target: part for part in one.parts[1:]}
    false = MutableItem.signed(SECRET, SEQ + 9, b"\x00noncefalse", one.parts[0].salt)
    world.held[false.target] = false

    async def story(keeper: PartKeeper) -> None:
        keeper.follow(ZONE_ID, one.head)
        await world.passes(HOUR)
        assert set(keeper.items_of(ZONE_ID)) == one.salts - {false.salt}

    world.run(story)
    assert world.told.events == ["items of a zone that is kept alive cannot be found"]


def test_a_zone_that_is_forgotten_is_put_no_more() -> None:
    world, one = World(), edition(200)

    async def story(keeper: PartKeeper) -> None:
        await place(keeper, one)
        keeper.follow(ZONE_ID, one.head)
        await world.passes(60)
        keeper.follow(ZONE_ID, None)
        world.puts.clear()
        await world.passes(DAY)
        assert (keeper.count, world.puts) == (0, Counter())

    world.run(story)
    assert (world.disk.kept, world.cycles) == ({}, {})


def test_a_zone_that_has_become_small_lets_its_items_go_after_two_hours() -> None:
    world, one = World(), edition(200)
    small = MutableItem.signed(SECRET, SEQ + 1, bytes.fromhex("000080000000000000000000"))

    async def story(keeper: PartKeeper) -> None:
        await place(keeper, one)
        keeper.follow(ZONE_ID, one.head)
        await world.passes(HOUR)
        keeper.follow(ZONE_ID, small)
        await world.passes(HOUR)
        assert set(keeper.items_of(ZONE_ID)) == one.salts
        await world.passes(2 * HOUR)
        assert keeper.items_of(ZONE_ID) == {}

    world.run(story)


def test_an_item_that_its_owner_has_signed_again_elsewhere_is_taken_and_kept_alive() -> None:
    world, one = World(), edition(200)
    renewed = {p.target: MutableItem.signed(SECRET, SEQ + 10**12, p.value, p.salt) for p in one.parts}

    async def story(keeper: PartKeeper) -> None:
        await place(keeper, one)
        keeper.follow(ZONE_ID, one.head)
        await world.passes(60)
        world.held |= renewed
        await world.passes(2 * HOUR)
        assert set(keeper.items_of(ZONE_ID).values()) == set(renewed.values())

    world.run(story)
    assert {part.item for part in world.disk.kept.values()} == set(renewed.values())
    assert set(world.held.values()) == set(renewed.values()), "no older one was put in its place"


def test_an_item_that_others_refuse_as_too_old_is_looked_up_and_put_anew() -> None:
    world, one = World(), edition(200)
    renewed = {p.target: MutableItem.signed(SECRET, SEQ + 10**12, p.value, p.salt) for p in one.parts}

    async def story(keeper: PartKeeper) -> None:
        world.outcome = PutOutcome(20, 2, {302: 18})
        await place(keeper, one)
        keeper.follow(ZONE_ID, one.head)
        world.held |= renewed
        await world.passes(HOUR)
        assert set(keeper.items_of(ZONE_ID).values()) == set(renewed.values())

    world.run(story)


def test_after_a_restart_items_of_a_zone_without_a_head_go_and_those_of_a_damaged_one_stay() -> None:
    world, one = World(), edition(200)

    async def story(keeper: PartKeeper) -> None:
        await place(keeper, one)
        keeper.follow(ZONE_ID, one.head)
        await world.passes(60)

    async def without_head(keeper: PartKeeper) -> None:
        await world.passes(3 * HOUR)
        assert keeper.count == 0

    async def damaged(keeper: PartKeeper) -> None:
        keeper.follow(ZONE_ID, one.head)
        await world.passes(DAY)
        assert set(keeper.items_of(ZONE_ID)) == one.salts - {lost.salt}

    world.run(story)
    kept = dict(world.disk.kept)
    world.run(without_head)
    lost = one.parts[3]
    world.disk.kept = {salt: part for salt, part in kept.items() if salt != lost.salt}
    world.held.pop(lost.target)
    world.run(damaged)


def test_while_a_manifest_is_missing_nothing_counts_as_no_longer_pinned() -> None:
    world, one = World(), edition(5_000)
    manifest = next(part for part in one.parts if part.salt.startswith(b"m"))

    async def story(keeper: PartKeeper) -> None:
        await place(keeper, one)
        keeper.follow(ZONE_ID, one.head)
        await world.passes(60)

    world.run(story)
    world.disk.kept.pop(manifest.salt)
    world.held.pop(manifest.target)

    async def after(keeper: PartKeeper) -> None:
        keeper.follow(ZONE_ID, one.head)
        await world.passes(3 * HOUR)
        assert set(keeper.items_of(ZONE_ID)) == one.salts - {manifest.salt}

    world.run(after)


def test_what_was_placed_for_the_current_head_stays_while_another_item_that_it_pins_is_missing() -> None:
    world, one = World(), edition(200)
    two = edition(201, one.division, mark=1, seq=SEQ + 1)
    fresh = [part for part in two.parts if part.salt not in one.salts]
    lost, *common = [part for part in two.parts if part.salt in one.salts]
    world.held = {part.target: part for part in common}

    async def story(keeper: PartKeeper) -> None:
        await keeper.place(ZONE_ID, fresh, lambda stage: None)
        keeper.follow(ZONE_ID, two.head)
        await world.passes(DAY)
        assert set(keeper.items_of(ZONE_ID)) == two.salts - {lost.salt}

    world.run(story)


def test_items_for_a_zone_whose_earlier_head_is_kept_no_more_have_two_hours_of_their_own() -> None:
    world, one = World(), edition(200)
    two = edition(201, one.division, mark=1, seq=SEQ + 1)

    async def story(keeper: PartKeeper) -> None:
        await place(keeper, one)
        keeper.follow(ZONE_ID, one.head)
        await world.passes(60)

    async def after(keeper: PartKeeper) -> None:
        await world.passes(UNPINNED_S - 60)
        world.outcome = PutOutcome(20, 2)
        await place(keeper, two)
        await world.passes(UNPINNED_S - 60)
        assert two.salts <= set(keeper.items_of(ZONE_ID))

    world.run(story)
    world.run(after)


def test_one_item_that_breaks_a_rule_ends_the_keeping_of_no_other_item() -> None:
    world, one = World(), edition(200)
    (directory,) = one.division.directories.values()
    value = b"\x09nonce of no kind"
    pinning = replace(directory, pins=(pin_of(value), *directory.pins[1:]))
    bad = MutableItem.signed(SECRET, SEQ, value, pinning.shard(0).salt)
    head = MutableItem.signed(SECRET, SEQ, one.head.value.replace(directory.compose(), pinning.compose()))
    good = [part for part in one.parts if part.salt != directory.shard(0).salt]
    world.held = {part.target: part for part in (*good, bad)}

    async def story(keeper: PartKeeper) -> None:
        keeper.follow(ZONE_ID, head)
        await world.passes(DAY)
        assert set(keeper.items_of(ZONE_ID)) == {bad.salt, *(part.salt for part in good)}

    world.run(story)
    assert world.told.events == []
