"""The values that reveal a next key: what is believed, what is kept, and when it is put again. Time is a number."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from p2pdns.dht.node.values import Cas, PutOutcome
from p2pdns.errors import BadItem, Unavailable
from p2pdns.items.item import Item, MutableItem
from p2pdns.items.keys import SecretKey, ZoneId
from p2pdns.items.packet import compose_packet
from p2pdns.items.succession import commitment_to, succession_values, with_commitment
from p2pdns.overlay.ports import OnProgress
from p2pdns.publishing import revealing
from p2pdns.publishing.revealing import JITTER, PUT_S, RETRY_S_MAX, RETRY_S_MIN, START_S, Revealed, Revealing
from p2pdns.state.marks import Reader
from tests.overlay_doubles import Told
from tests.waiting import at_rest

OLD, NEXT, OTHER = (SecretKey.generate(bytes([number]) * 32) for number in (1, 2, 3))
KEY = OLD.zone_key
VALUES = [value.value for value in succession_values(KEY, NEXT)]
VALUE_1 = succession_values(KEY, NEXT)[0]
GOOD, BAD = PutOutcome(20, 20), PutOutcome(20, 3)


def last_item(secret: SecretKey = OLD, following: SecretKey | None = NEXT) -> MutableItem:
    """Return an item with the commitment to a next key."""
    value = compose_packet((), secret.zone_key.apex)
    if following is not None:
        value = with_commitment(value, secret.zone_key, commitment_to(secret.zone_key, following))
    return MutableItem.signed(secret, 1, value)


REVEALED = Revealed.verified(KEY.raw, VALUES, last_item())


@dataclass
class World:
    """A network and a clock: `pauses` are what was waited, and the clock goes on by them."""

    outcomes: list[PutOutcome | Exception] = field(default_factory=list)
    puts: list[Item] = field(default_factory=list)
    pauses: list[float] = field(default_factory=list)
    now: float = 0.0
    pauses_max: int = 0
    state: Reader = field(default_factory=lambda: Reader(None))
    told: Told = field(default_factory=Told)
    on_put: Callable[[], None] = lambda: None

    def put(
        self, item: Item, *, cas: Cas | None = None, on_progress: OnProgress | None = None
    ) -> Awaitable[PutOutcome]:
        """Put it."""

        async def done() -> PutOutcome:
            self.on_put()
            self.puts.append(item)
            outcome = self.outcomes.pop(0) if self.outcomes else GOOD
            if isinstance(outcome, Exception):
                raise outcome
            return outcome

        return done()

    async def sleep(self, seconds: float) -> None:
        """Let time pass as often as the test wants, and then never again."""
        self.pauses.append(seconds)
        if len(self.pauses) > self.pauses_max:
            await asyncio.get_running_loop().create_future()
        self.now += seconds

    def revealing(self) -> Revealing:
        """Return what is tested."""
        return Revealing(
            self,
            self.state.revealed,
            clock=lambda: self.now,
            jitter=lambda: 0.5,
            tell=self.told,
            sleep=self.sleep,
        )


def told(story: Callable[[World, Revealing], Coroutine[Any, Any, None]], **facts: Any) -> World:
    """Tell a story."""
    world = World(**facts)

    async def run() -> None:
        room = world.revealing()
        await story(world, room)
        await at_rest()
        await room.close()

    asyncio.run(run())
    return world


@pytest.mark.parametrize(
    ("values", "item", "reason"),
    [
        (VALUES[:1], None, "succession-size"),
        ([*VALUES, VALUES[0]], None, "succession-size"),
        ([VALUES[0], VALUES[1][:-1]], None, "succession-size"),
        (VALUES[::-1], None, "succession-target"),
        ([VALUES[0], VALUES[0]], None, "succession-index"),
        ([one.value for one in succession_values(OTHER.zone_key, NEXT)], None, "succession-of-another-key"),
        ([VALUES[0], succession_values(KEY, OTHER)[1].value], None, "succession-not-committed"),
        ([VALUES[0][:-1] + b"\x01", VALUES[1]], None, "succession-signature"),
        (VALUES, last_item(following=OTHER), "succession-item"),
        (VALUES, last_item(following=None), "succession-item"),
        (VALUES, last_item(OTHER), "succession-item"),
    ],
)
def test_nothing_is_revealed_that_a_reader_would_not_believe(
    values: list[bytes], item: MutableItem | None, reason: str
) -> None:
    with pytest.raises(BadItem) as caught:
        Revealed.verified(KEY.raw, values, item)
    assert caught.value.reason == reason


def test_both_values_and_the_last_item_are_put_and_put_again_before_two_hours_are_over() -> None:
    async def story(world: World, room: Revealing) -> None:
        copies = await room.reveal(REVEALED)
        assert copies.is_enough
        assert copies.trouble is None
        assert [one.stored for one in copies.others] == [20, 20]

    world = told(story, pauses_max=3)
    assert world.puts == [*REVEALED.items] * 4
    assert world.pauses == [PUT_S, *[PUT_S * (1 - JITTER / 2)] * 3]
    assert PUT_S < 7200


def test_what_is_revealed_is_kept_before_it_is_put() -> None:
    kept: list[int] = []

    async def story(world: World, room: Revealing) -> None:
        world.on_put = lambda: kept.append(len(world.state.revealed.load()))
        await room.reveal(REVEALED)

    told(story)
    assert kept == [1, 1, 1]


def test_a_value_that_too_few_have_taken_is_put_again_soon_and_then_less_often() -> None:
    async def story(world: World, room: Revealing) -> None:
        copies = await room.reveal(REVEALED)
        assert not copies.is_enough
        assert "only 3 of 20 other nodes" in str(copies.trouble)

    world = told(story, outcomes=[GOOD, BAD, GOOD] * 20, pauses_max=12)
    assert world.pauses[0] == RETRY_S_MIN
    assert world.pauses[1:4] == [RETRY_S_MIN * factor * (1 - JITTER / 2) for factor in (1, 2, 4)]
    assert max(world.pauses) == RETRY_S_MAX * (1 - JITTER / 2)


def test_of_a_value_that_is_rationed_the_owner_is_told_why() -> None:
    async def story(_world: World, room: Revealing) -> None:
        copies = await room.reveal(REVEALED)
        assert copies.trouble == (
            "only 3 of 20 other nodes have taken a value that reveals the next key; "
            "9 have no room for it yet, because they take few new items at a time"
        )

    told(story, outcomes=[GOOD, PutOutcome(20, 3, {202: 9, 301: 8})])


def test_a_network_that_is_away_is_told_and_tried_again() -> None:
    async def story(world: World, room: Revealing) -> None:
        assert not (await room.reveal(REVEALED)).is_enough

    world = told(story, outcomes=[Unavailable("away")], pauses_max=1)
    assert world.pauses[0] == RETRY_S_MIN
    assert len(world.told.events) == 1


def test_a_later_process_goes_on_and_forget_ends_it() -> None:
    async def first(world: World, room: Revealing) -> None:
        await room.reveal(REVEALED)

    state = told(first).state

    async def second(world: World, room: Revealing) -> None:
        room.start()
        await at_rest()
        assert [one.revealed for one in room.kept] == [REVEALED]
        assert world.puts == [*REVEALED.items]
        assert not room.forget(ZoneId.of_key(NEXT.zone_key))
        assert room.forget(ZoneId.of_key(KEY))
        assert room.kept == []
        assert world.state.revealed.load() == []

    world = told(second, state=state, pauses_max=1)
    assert world.pauses[0] == START_S / 2


def test_the_same_again_takes_the_place_of_the_first() -> None:
    async def story(world: World, room: Revealing) -> None:
        await room.reveal(Revealed.verified(KEY.raw, VALUES, None))
        await room.reveal(REVEALED)
        assert [one.revealed for one in room.kept] == [REVEALED]
        assert world.state.revealed.load() == [REVEALED]

    assert len(told(story).puts) == 5


def test_there_is_room_for_a_bounded_number_of_old_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(revealing, "REVEALED_MAX", 1)
    another = Revealed.verified(
        OTHER.zone_key.raw, [one.value for one in succession_values(OTHER.zone_key, NEXT)], None
    )

    async def story(world: World, room: Revealing) -> None:
        await room.reveal(REVEALED)
        with pytest.raises(Unavailable, match="reveals 1 next keys already"):
            await room.reveal(another)
        await room.reveal(REVEALED)

    assert told(story).state.revealed.load() == [REVEALED]


def test_a_row_that_does_not_verify_is_dropped_with_a_warning(tmp_path: Path) -> None:
    import sqlite3

    path = tmp_path / "reader.sqlite"
    reader = Reader(path)
    reader.revealed.save(REVEALED)
    reader.close()
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE revealed SET second = first")
    connection.close()
    reader = Reader(path)
    assert reader.revealed.load() == []
    assert "does not verify" in reader.warnings[-1]
    assert reader.revealed.load() == []
    reader.close()
