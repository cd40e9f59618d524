"""One table of a server: when it is read, published, and published again."""

from __future__ import annotations

import asyncio
from collections.abc import Hashable, Mapping
from typing import Any

import pytest

from p2pdns.config.published import PublishTable
from p2pdns.errors import P2pdnsError, Unavailable, ZoneFileError
from p2pdns.publishing.watching import ASK_S, PUBLISH_S_MIN, RETRY_S, SETTLE_S
from p2pdns.signer.tables import LOOK_S, TROUBLE_CHARACTERS_MAX, MostlyGone, TableEdition, TableKeeper, trouble_text

WATCHED = PublishTable("/z/alice.zone", "/k/alice.key", watch=True)
UNWATCHED = PublishTable("/z/alice.zone", "/k/alice.key")


class Publisher:
    """A file that is a text, and an overlay that is a list."""

    def __init__(self, text: str | None = "www A 192.0.2.1") -> None:
        self.text = text
        self.stamps = 0
        self.commitment: str | None = None
        self.published: list[tuple[str, dict[str, str], bool]] = []
        self.troubles: list[P2pdnsError] = []
        self.left: str | None = None
        self.public: dict[str, str | None] = {}
        self.asked = 0

    def save(self, text: str | None) -> None:
        """Write the file."""
        self.text = text
        self.stamps += 1

    def stamp(self) -> Hashable:
        return None if self.text is None else self.stamps

    def beside(self) -> Hashable:
        return self.commitment

    def read(self) -> str:
        if self.text is None:
            raise Unavailable("no such file", place="/z/alice.zone")
        return self.text

    async def publish(self, text: str, settled: Mapping[str, str], *, is_first: bool) -> TableEdition:
        self.published.append((text, dict(settled), is_first))
        if self.troubles:
            raise self.troubles.pop(0)
        public = {word: str(address) for word, address in self.public.items()}
        return TableEdition(len(self.published), public, "stored", self.left)

    async def addresses(self) -> Mapping[str, str | None]:
        self.asked += 1
        return self.public


class Log:
    """The lines that were logged."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def info(self, event: str, **fields: Any) -> None:
        self.lines.append(event)

    def warning(self, event: str, **fields: Any) -> None:
        self.lines.append(f"{fields['why']}")


class World:
    """A keeper with its file, its log and its clock."""

    def __init__(self, table: PublishTable = WATCHED, text: str | None = "www A 192.0.2.1") -> None:
        self.now = 1000.0
        self.file = Publisher(text)
        self.log = Log()
        self.news = 0
        self.keeper = TableKeeper(table, self.file, self._news, key="k", clock=lambda: self.now, tell=self.log)

    def _news(self) -> None:
        self.news += 1

    def passes(self, seconds: float) -> None:
        """Let time pass, and the keeper wake each second."""
        for _ in range(int(seconds)):
            self.now += 1.0
            asyncio.run(self.keeper.wake())

    @property
    def texts(self) -> list[str]:
        return [text for text, _, _ in self.file.published]


def test_a_zone_is_published_at_the_start_and_only_then_while_nothing_is_saved() -> None:
    world = World()
    world.passes(2 * LOOK_S)
    assert world.file.published == [("www A 192.0.2.1", {}, True)]
    assert world.keeper.facts == {
        "file": "/z/alice.zone",
        "key_file": "/k/alice.key",
        "key": "k",
        "watch": True,
        "seq": 1,
        "trouble": None,
    }
    assert world.news == 1


def test_a_watched_zone_is_published_again_when_it_is_saved() -> None:
    world = World()
    world.passes(5)
    world.file.save("www A 192.0.2.2")
    world.passes(PUBLISH_S_MIN + SETTLE_S)
    assert world.texts == ["www A 192.0.2.1", "www A 192.0.2.2"]
    assert [is_first for _, _, is_first in world.file.published] == [True, False]


def test_a_file_whose_stamp_stays_is_read_at_times() -> None:
    world = World()
    world.passes(5)
    world.file.text = "www A 192.0.2.2"
    world.passes(LOOK_S / 2)
    assert len(world.texts) == 1
    world.passes(LOOK_S)
    assert world.texts[1:] == ["www A 192.0.2.2"]


def test_a_zone_that_is_not_watched_waits_for_a_reload() -> None:
    world = World(UNWATCHED)
    world.passes(5)
    world.file.save("www A 192.0.2.2")
    world.passes(2 * LOOK_S)
    assert len(world.texts) == 1
    world.keeper.reread()
    world.passes(PUBLISH_S_MIN)
    assert world.texts[1:] == ["www A 192.0.2.2"]
    # A reload without another text publishes nothing.
    world.keeper.reread()
    world.passes(PUBLISH_S_MIN)
    assert len(world.texts) == 2


def test_a_new_commitment_beside_the_key_is_taken_up_like_a_save() -> None:
    world = World()
    world.passes(5)
    world.file.commitment = "to a next key"
    world.passes(PUBLISH_S_MIN + SETTLE_S)
    assert world.texts == ["www A 192.0.2.1"] * 2
    world.passes(2 * LOOK_S)
    assert len(world.texts) == 2


def test_a_reload_takes_up_a_new_commitment_of_a_zone_that_is_not_watched() -> None:
    world = World(UNWATCHED)
    world.passes(5)
    world.file.commitment = "to a next key"
    world.passes(2 * LOOK_S)
    assert len(world.texts) == 1
    world.keeper.reread()
    world.passes(PUBLISH_S_MIN)
    assert len(world.texts) == 2


def test_a_zone_that_was_refused_is_tried_again_at_a_reload_though_its_file_is_the_same() -> None:
    world = World(UNWATCHED)
    world.file.troubles = [MostlyGone("3 of 4 RRsets would go")]
    world.passes(5)
    assert world.keeper.facts["trouble"] == "3 of 4 RRsets would go"
    world.keeper.reread()
    world.passes(PUBLISH_S_MIN)
    assert world.keeper.facts["trouble"] is None
    assert world.keeper.facts["seq"] is not None


@pytest.mark.parametrize("table", [WATCHED, UNWATCHED])
def test_what_may_pass_is_tried_again_and_told_once(table: PublishTable) -> None:
    world = World(table)
    world.file.troubles = [Unavailable("no daemon runs here"), Unavailable("no daemon runs here")]
    world.passes(SETTLE_S + 1)
    assert world.keeper.facts["trouble"] == "no daemon runs here"
    world.passes(4 * RETRY_S)
    assert len(world.texts) == 3
    assert world.log.lines == ["no daemon runs here", "published"]
    assert world.keeper.facts["trouble"] is None


@pytest.mark.parametrize(
    "trouble", [ZoneFileError("not an address", path="/z/alice.zone", line=1), MostlyGone("3 of 4 RRsets would go")]
)
def test_what_only_its_owner_can_mend_waits_for_the_next_save(trouble: P2pdnsError) -> None:
    world = World()
    world.passes(5)
    world.file.save("www A 192.0.2.444")
    world.file.troubles = [trouble]
    world.passes(4 * LOOK_S)
    assert len(world.texts) == 2
    facts = world.keeper.facts
    assert (facts["seq"], facts["trouble"]) == (1, trouble_text(trouble))
    world.file.save("www A 192.0.2.3")
    world.passes(PUBLISH_S_MIN)
    assert world.texts[-1] == "www A 192.0.2.3"
    assert world.keeper.facts["trouble"] is None


def test_a_placeholder_without_an_address_is_tried_again_without_a_save() -> None:
    world = World(UNWATCHED, "home A {public_ipv4}")
    world.file.troubles = [ZoneFileError("{public_ipv4} is not filled", path="/z/alice.zone", line=1)]
    world.passes(2 * RETRY_S)
    assert len(world.texts) == 2


def test_a_watched_zone_follows_the_public_address() -> None:
    world = World(WATCHED, "home A {public_ipv4}")
    world.file.public = {"public_ipv4": "198.51.100.1"}
    world.passes(5)
    world.file.public = {"public_ipv4": "198.51.100.2"}
    world.passes(3 * ASK_S)
    assert [dict(settled) for _, settled, _ in world.file.published] == [{}, {"public_ipv4": "198.51.100.2"}]


def test_a_file_that_is_missing_is_told_and_published_when_it_comes() -> None:
    world = World(WATCHED, None)
    world.passes(3)
    assert world.keeper.facts["trouble"] == "/z/alice.zone: no such file"
    assert world.texts == []
    world.file.save("www A 192.0.2.1")
    world.passes(3)
    assert world.keeper.facts["trouble"] is None
    assert world.texts == ["www A 192.0.2.1"]


def test_a_file_that_goes_and_comes_back_leaves_no_trouble_behind() -> None:
    world = World()
    world.passes(3)
    world.file.save(None)
    world.passes(3)
    assert world.keeper.facts["trouble"] == "/z/alice.zone: no such file"
    world.file.save("www A 192.0.2.1")
    world.passes(PUBLISH_S_MIN)
    assert world.keeper.facts["trouble"] is None
    assert len(world.texts) == 1


def test_a_publication_that_too_few_hold_is_told_and_not_signed_again() -> None:
    world = World()
    world.file.left = "only 1 of 4 other nodes hold the zone"
    world.passes(3 * LOOK_S)
    assert len(world.texts) == 1
    assert (world.keeper.facts["seq"], world.keeper.facts["trouble"]) == (1, world.file.left)


def test_a_trouble_is_one_bounded_line() -> None:
    text = trouble_text(Unavailable("x" * 3 * TROUBLE_CHARACTERS_MAX, hint="one\ntwo"))
    assert len(text) == TROUBLE_CHARACTERS_MAX
    assert trouble_text(Unavailable("gone", place="a", hint="one\ntwo")) == "a: gone; one; two"
