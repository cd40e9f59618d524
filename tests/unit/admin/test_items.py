"""Items with a salt at the control socket: what crosses it, in how many lines, and what the daemon refuses."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from p2pdns.admin.control import LINE_BYTES_MAX, ControlClient, Progress, line_of
from p2pdns.admin.items import ITEMS_AT_ONCE, DaemonItems, fetch, place
from p2pdns.admin.publishing import publish_through, whole_through
from p2pdns.errors import StrangerError, Unavailable, UsageError
from p2pdns.items.item import VALUE_BYTES_WRITE_MAX, MutableItem
from p2pdns.items.keys import ZoneId
from p2pdns.publishing.divided import Placed
from p2pdns.publishing.editions import DividedItem
from p2pdns.publishing.replicas import PublishStage, Tell, Tried
from tests.unit.publishing.shelf import Shelf, hosts, large
from tests.unit.publishing.test_publication import NOW, SECRET, Nodes

ZONE_ID = ZoneId.of_key(SECRET.zone_key)


class Keeper(Shelf):
    """The daemon's keeper of items."""

    def items_of(self, zone_id: ZoneId) -> dict[bytes, MutableItem]:
        """Return what is kept."""
        return self.items


class Daemon(ControlClient):
    """A daemon whose overlay is a list of nodes, and whose items are on a shelf."""

    def __init__(self) -> None:
        super().__init__(Path("/nonexistent"))
        self.nodes, self.keeper = Nodes([None] * 20), Keeper()
        self.asked: list[tuple[str, dict[str, Any]]] = []

    def call(self, verb: str, on_progress: Progress | None = None, **arguments: Any) -> dict[str, Any]:
        """Answer as the engine does."""
        self.asked.append((verb, arguments))
        report = on_progress or (lambda facts: None)
        # A process of its own has a loop of its own; here it is a thread.
        with ThreadPoolExecutor(1) as process:
            answer = self._answer(verb, {"verb": verb, **arguments}, report)
            return {"ok": True, **process.submit(asyncio.run, answer).result()}

    async def _answer(self, verb: str, request: dict[str, Any], report: Progress) -> dict[str, Any]:
        engine: Any = SimpleNamespace(part_keeper=_Placing(self.keeper), endpoint=None)
        if verb == "seq":
            return (await self.nodes.look_up()).to_json()
        if verb == "place":
            return await place(engine, ZONE_ID, request, report)
        if verb == "fetch":
            return await fetch(engine, ZONE_ID, request, report)
        item = MutableItem.read_file(bytes.fromhex(request["item"]))
        tried: Tried = await self.nodes.put(item, tuple(request["cas"]))
        return tried.to_json()


class _Placing:
    def __init__(self, keeper: Keeper) -> None:
        self._keeper = keeper

    def items_of(self, zone_id: ZoneId) -> dict[bytes, MutableItem]:
        """Return what is kept."""
        return self._keeper.items

    async def place(self, zone_id: ZoneId, items: Sequence[MutableItem], tell: Tell) -> Placed:
        """Keep items, and tell each."""
        for number in range(len(items)):
            tell(PublishStage("items", {"done": number + 1, "of": len(items), "seconds_left": 0.0}))
        return await self._keeper.place(items, tell)


@pytest.fixture(autouse=True)
def _clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("p2pdns.admin.publishing.unix_now", lambda: NOW)


def test_a_large_zone_is_published_through_the_daemon_in_lines_that_it_takes() -> None:
    daemon, told = Daemon(), list[PublishStage]()
    done = publish_through(daemon, SECRET, large(*hosts(10_000)), tell=told.append)
    assert done.is_done
    assert done.item is not None
    found = whole_through(daemon, done.item, lambda stage: None)
    assert isinstance(found, DividedItem)
    assert len(found.zone.rrsets) == 10_000
    placed = [arguments["items"] for verb, arguments in daemon.asked if verb == "place"]
    assert [len(rows) for rows in placed] == [ITEMS_AT_ONCE, ITEMS_AT_ONCE, found.division.item_count - 513]
    counts = [stage.facts["done"] for stage in told if stage.stage == "items"]
    assert counts == sorted(counts)
    assert counts[-1] == found.division.item_count - 1
    verbs = [verb for verb, _ in daemon.asked]
    assert verbs.index("publish") > max(at for at, verb in enumerate(verbs) if verb == "place")


def test_the_largest_items_fit_into_one_line() -> None:
    value = bytes(VALUE_BYTES_WRITE_MAX)
    items = [MutableItem.signed(SECRET, 2**62, value, b"s%015d" % number) for number in range(ITEMS_AT_ONCE)]
    daemon = Daemon()
    asyncio.run(DaemonItems(daemon, SECRET.zone_key, lambda: 0.0).place(items, lambda stage: None))
    ((verb, arguments),) = daemon.asked
    assert len(line_of({"verb": verb, **arguments})) < LINE_BYTES_MAX


def test_what_too_few_hold_is_told_to_the_process_that_signs() -> None:
    daemon = Daemon()
    daemon.keeper.refuses_from = 3
    with pytest.raises(Unavailable, match=r"items are held by too few other nodes .*timeout"):
        publish_through(daemon, SECRET, large(*hosts(200)))
    assert "publish" not in [verb for verb, _ in daemon.asked]


GOOD_ROW = [1, "73" * 16, "00", "00" * 64]


@pytest.mark.parametrize("rows", [None, "x", [], [GOOD_ROW] * (ITEMS_AT_ONCE + 1)])
@pytest.mark.parametrize(("verb", "argument"), [(place, "items"), (fetch, "salts")])
def test_too_many_or_no_rows_are_refused(verb: Any, argument: str, rows: object) -> None:
    with pytest.raises(UsageError, match="not a list of 1 to 256"):
        asyncio.run(verb(SimpleNamespace(), ZONE_ID, {"verb": "v", argument: rows}, lambda facts: None))


@pytest.mark.parametrize(
    "row", [None, [], [1, 2], ["x", "", "", ""], [1, "zz", "00", "00"], GOOD_ROW, [-1, *GOOD_ROW[1:]], [1, 2, 3, 4]]
)
def test_a_row_that_is_no_signed_item_is_refused(row: object) -> None:
    with pytest.raises(StrangerError):
        asyncio.run(place(SimpleNamespace(), ZONE_ID, {"verb": "place", "items": [row]}, lambda facts: None))


def test_an_item_without_a_salt_of_a_divided_zone_is_refused() -> None:
    item = MutableItem.signed(SECRET, 1, b"v", b"other")
    row = [item.seq, item.salt.hex(), item.value.hex(), item.signature.hex()]
    with pytest.raises(UsageError, match="no salt of a divided zone"):
        asyncio.run(place(SimpleNamespace(), ZONE_ID, {"verb": "place", "items": [row]}, lambda facts: None))
    for salts in (["zz"], [7], ["73"]):
        with pytest.raises(UsageError):
            asyncio.run(fetch(SimpleNamespace(), ZONE_ID, {"verb": "fetch", "salts": salts}, lambda facts: None))
