"""A publication that a wrong clock dated years ahead: what the owner's daemon says of it, and how it is taken back."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from p2pdns.admin import commands, publishing, replicas
from p2pdns.admin.commands import Commands
from p2pdns.admin.control import ControlClient, Progress
from p2pdns.dht.node.values import Inquiry, InquiryOutcome, PutOutcome
from p2pdns.errors import Unavailable
from p2pdns.items.item import ImmutableItem, MutableItem
from p2pdns.overlay.finder import Overlay
from p2pdns.publishing.publication import Rules
from p2pdns.publishing.stored import Stored
from p2pdns.publishing.upkeep import Publisher
from p2pdns.state import State
from p2pdns.state.clockwatch import ClockWatch
from tests.overlay_doubles import SECRETS, UNIX, A, Clock, FakeDht, Told, item_of
from tests.waiting import at_rest

YEAR_S = 365 * 86_400.0
FUTURE = item_of("a", "www 300 A 192.0.2.66", age_s=-YEAR_S)
SANE = item_of("a", "www 300 A 192.0.2.1")


class Overlays(FakeDht):
    """A network in which some node still returns the publication from the future."""

    def __init__(self) -> None:
        super().__init__({A: FUTURE})
        self.puts: list[MutableItem] = []

    def put(self, item: MutableItem | ImmutableItem, **_: object) -> Awaitable[PutOutcome]:
        """Put it at most of the nodes; foreign ones refuse."""
        assert isinstance(item, MutableItem)
        self.puts.append(item)
        future: asyncio.Future[PutOutcome] = asyncio.get_running_loop().create_future()
        future.set_result(PutOutcome(20, 17, {302: 3}))
        return future

    async def inquire(self, inquiry: Inquiry) -> InquiryOutcome:
        """Say nothing: no item of these is looked at."""
        return InquiryOutcome()


class Daemon(ControlClient):
    """The verbs of a daemon without its sockets: `call` does what the engine would."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(Path("/nonexistent"))
        self.loop = loop
        self.clock = Clock()
        self.dht = Overlays()
        self.state = State.open(None)
        self.overlay = Overlay(
            self.dht,
            self.state.reader,
            clock=self.clock.boot,
            unix_clock=self.clock.wall,
            tell=Told(),
            later=self.clock.later,
        )
        self.publisher = Publisher(
            self.dht,
            self.state.reader,
            clock=self.clock.boot,
            unix_clock=self.clock.wall,
            jitter=lambda: 0.5,
            tell=Told(),
            on_published=self.overlay.published,
        )
        engine = SimpleNamespace(
            state=self.state,
            endpoint=self.dht,
            overlay=self.overlay,
            publisher=self.publisher,
            contact_count=3,
            hint=None,
            clock_watch=ClockWatch(self.state.reader, self.clock.wall),
            revealing=SimpleNamespace(forget=lambda zone_id: False),
        )
        self.verbs = Commands(cast(Any, engine)).verbs

    def call(self, verb: str, on_progress: Progress | None = None, **arguments: Any) -> dict[str, Any]:
        """Do what the daemon does with a request."""
        report = on_progress or (lambda progress: None)
        return asyncio.run_coroutine_threadsafe(self._done({"verb": verb, **arguments}, report), self.loop).result(20)

    async def _done(self, request: dict[str, Any], report: Progress) -> dict[str, Any]:
        return await self.verbs[request["verb"]](request, report)

    async def close(self) -> None:
        """End it."""
        await self.publisher.close()
        await self.overlay.close()
        self.state.close()


@pytest.fixture(autouse=True)
def _clocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publishing, "unix_now", lambda: UNIX)
    monkeypatch.setattr(commands, "unix_now", lambda: UNIX)
    monkeypatch.setattr(replicas, "unix_now", lambda: UNIX)


def told(story: Any) -> None:
    """Tell a story about one daemon."""

    async def whole() -> None:
        daemon = Daemon(asyncio.get_running_loop())
        try:
            await story(daemon)
        finally:
            await daemon.close()

    asyncio.run(whole())


async def published(daemon: Daemon, *, takes_back: bool = False) -> Stored:
    """Publish as the command does, in a thread of its own."""
    rules = Rules(takes_back=takes_back)
    return await asyncio.to_thread(publishing.publish_through, daemon, SECRETS["a"], SANE.value, rules=rules)


async def shown(daemon: Daemon) -> MutableItem:
    """Return the item that the daemon answers with."""
    found = await daemon.verbs["item"]({"verb": "item", "key": str(A), "settled": True}, lambda progress: None)
    return MutableItem.read_file(bytes.fromhex(found["item"]))


def test_a_publication_from_the_future_that_the_network_has_does_not_lock_its_key() -> None:
    async def story(daemon: Daemon) -> None:
        assert await shown(daemon) == FUTURE
        done = await published(daemon)
        assert (done.ahead, done.seq) == (FUTURE.seq, SANE.seq)
        assert await shown(daemon) == SANE

    told(story)


def test_one_that_the_daemon_has_adopted_is_named_with_its_time_and_taken_back_on_demand() -> None:
    async def story(daemon: Daemon) -> None:
        await daemon.state.reader.adopt(FUTURE, UNIX, own=True)
        with pytest.raises(
            Unavailable, match="publish again after 2028-01-15 07:00 UTC, in 364 d 23 h 0 min"
        ) as caught:
            await published(daemon)
        assert "p2pdns publish --take-back" in str(caught.value.hint)
        done = await published(daemon, takes_back=True)
        assert (done.ahead, done.seq) == (FUTURE.seq, SANE.seq)
        # Now it is the mark, is kept alive, and what the network returns does not bring the other one back.
        for _ in range(3):
            daemon.clock.turn(400)
            await at_rest()
            assert (await shown(daemon)).value == SANE.value
        held = daemon.state.reader.held(A)
        assert held is not None
        assert (held.item.seq, held.is_own) == (SANE.seq, True)
        assert daemon.dht.puts == [held.item]

    told(story)


def test_after_forget_the_usual_publication_goes_below_it() -> None:
    async def story(daemon: Daemon) -> None:
        await daemon.state.reader.adopt(FUTURE, UNIX, own=True)
        await asyncio.to_thread(daemon.call, "forget", key=str(A))
        assert (await published(daemon)).seq == SANE.seq

    told(story)
