"""The life of one zone of the `[[publish]]` tables in a server: when it is read, published, and published again.

Guarantees: a table whose zone file has a mistake keeps the zone that is published, and stops no other table; what may
pass by itself is tried again, less and less often; the same trouble is logged once. Does not know the key, the overlay,
or how a zone is signed: that is its `TablePublisher`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from p2pdns.config.published import PublishTable
from p2pdns.dns.zonefile.placeholders import public_placeholders
from p2pdns.errors import KeyFileError, P2pdnsError, ZoneFileError
from p2pdns.publishing.watching import PUBLISH_S_MIN, ZoneWatch
from p2pdns.timing import Clock

WAKE_S = 1.0  # Between two looks at a file: one call of the system, and how late a publication may begin.
# A file system may keep the time of a file that was written twice within its grain, so the file is read at times.
LOOK_S = 60.0
TROUBLE_CHARACTERS_MAX = 1_000  # Of an error with its hint, in a log and on the control socket.


class MostlyGone(P2pdnsError):
    """Most of a zone would go, and a server has nobody to ask."""


@dataclass(frozen=True)
class TableEdition:
    """A publication: its seq, the public addresses in it, what came of it, and what is still wrong."""

    seq: int
    public: Mapping[str, str]
    text: str
    trouble: str | None = None


class TablePublisher(Protocol):
    """Reads and publishes the zone of one table."""

    def stamp(self) -> Hashable:
        """Return what is another object after each change of the file; None where it is not there."""

    def beside(self) -> Hashable:
        """Return what is another object after each change of the commitment beside the key."""

    def read(self) -> str:
        """Return the text of the file; a P2pdnsError where it cannot be read."""

    async def publish(self, text: str, settled: Mapping[str, str], *, is_first: bool) -> TableEdition:
        """Publish a text, with these public addresses in it; a P2pdnsError where that is not possible."""

    async def addresses(self) -> Mapping[str, str | None]:
        """Return the public addresses that the daemon knows; a P2pdnsError where it is away."""


class TableKeeper:
    """One table and its publications; `on_news` is called when its facts are others."""

    def __init__(
        self,
        table: PublishTable,
        publisher: TablePublisher,
        on_news: Callable[[], None],
        *,
        key: str,
        clock: Clock,
        tell: Any,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._table = table
        self._publisher = publisher
        self._on_news = on_news
        self._key = key
        self._clock = clock
        self._tell = tell
        self._sleep = sleep
        # As if it had been published long ago: the first publication waits for nothing.
        self._watch = ZoneWatch(None, {}, clock() - PUBLISH_S_MIN)
        self._look_at = clock()
        self._is_asked = True
        self._stamp: Hashable = None
        self._edition: TableEdition | None = None
        self._read_trouble: str | None = None
        self._trouble: str | None = None

    @property
    def facts(self) -> dict[str, Any]:
        """What the server says of this table."""
        edition = self._edition
        return {
            **facts_of(self._table, self._key),
            "seq": None if edition is None else edition.seq,
            "trouble": self._read_trouble or self._trouble,
        }

    def reread(self) -> None:
        """Have the file read, whether it is watched or not, and published if it is another, or was refused before."""
        self._is_asked = True
        if self._trouble is not None:
            self._watch.again(self._clock())

    async def run(self) -> None:
        """Keep the zone published, for ever."""
        while True:
            await self.wake()
            await self._sleep(WAKE_S)

    async def wake(self) -> None:
        """Do what is due."""
        now, watch = self._clock(), self._watch
        if self._is_asked or (self._table.watch and self._has_news(now)):
            self._is_asked = False
            self._look_at = now + LOOK_S
            self._look(now)
        if self._table.watch and watch.asks(now):
            await self._ask()
        if watch.due_at is not None and self._clock() >= watch.due_at:
            await self._publish()

    def _has_news(self, now: float) -> bool:
        before, self._stamp = self._stamp, (self._publisher.stamp(), self._publisher.beside())
        return self._stamp != before or now >= self._look_at

    def _look(self, now: float) -> None:
        """Read the file. Where that is not possible, what is published stays: a new file may be about to come."""
        found = None
        try:
            self._watch.saw((self._publisher.read(), self._publisher.beside()), now)
        except P2pdnsError as trouble:
            found = trouble_text(trouble)
        before, self._read_trouble = self._read_trouble, found
        self._told(before, found)

    async def _ask(self) -> None:
        try:
            found = await self._publisher.addresses()
        except P2pdnsError as trouble:
            self._is_in_trouble(trouble)
            found = {}
        self._watch.reported(found, self._clock())

    async def _publish(self) -> None:
        watch = self._watch
        watch.begins()
        text = ""
        try:
            text = self._publisher.read()
            edition = await self._publisher.publish(text, watch.addresses, is_first=self._edition is None)
        except (ZoneFileError, KeyFileError, MostlyGone) as trouble:
            self._is_in_trouble(trouble)
            if public_placeholders(text):
                # The address of a placeholder may become known without another save.
                watch.failed(self._clock())
            return
        except P2pdnsError as trouble:
            self._is_in_trouble(trouble)
            watch.failed(self._clock())
            return
        watch.published(edition.public, self._clock())
        self._edition = edition
        self._tell.info("published", file=self._table.zone, zone=self._key, seq=edition.seq, outcome=edition.text)
        self._has_trouble(edition.trouble)
        self._on_news()

    def _is_in_trouble(self, trouble: P2pdnsError) -> None:
        self._has_trouble(trouble_text(trouble))

    def _has_trouble(self, text: str | None) -> None:
        before, self._trouble = self._trouble, text
        self._told(before, text)

    def _told(self, before: str | None, text: str | None) -> None:
        if text == before:
            return
        if text is not None:
            self._tell.warning("a zone is not published as it should be", file=self._table.zone, why=text)
        self._on_news()


def trouble_text(trouble: P2pdnsError) -> str:
    """Return an error with its other mistakes and its hint as one line."""
    text = "; ".join(map(str, trouble.mistakes))
    text = f"{text}; {trouble.hint}" if trouble.hint else text
    return text.replace("\n", "; ")[:TROUBLE_CHARACTERS_MAX]


def facts_of(table: PublishTable, key: str | None, trouble: str | None = None) -> dict[str, Any]:
    """Return what is said of a table before anything of it is published."""
    return {
        "file": table.zone,
        "key_file": table.key,
        "key": key,
        "watch": table.watch,
        "seq": None,
        "trouble": trouble,
    }
