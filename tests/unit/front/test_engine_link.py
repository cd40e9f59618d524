"""The front's end of the link: what leaves together, and what an engine that comes anew is told."""

from __future__ import annotations

import asyncio
import os
import struct
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from p2pdns.clock import boot_now
from p2pdns.config import CacheTable
from p2pdns.front import engine_link
from p2pdns.front.cache import AnswerCache
from p2pdns.front.cookies import Cookies
from p2pdns.front.engine_link import QUERIES_PER_WRITE_MAX, EngineLink
from p2pdns.front.funnel import Funnel
from p2pdns.front.gate import AccessList, Gate
from p2pdns.link import VERSION, Ask, Frame, FrameReader, Hello, QuestionFrame, compose
from tests.waiting import at_rest, until


class Engine(asyncio.Transport):
    """What the front writes to an engine, write by write."""

    def __init__(self, user: int | None = None) -> None:
        super().__init__({"socket": self})
        self.user = os.geteuid() if user is None else user
        self.writes: list[list[Frame]] = []
        self.is_aborted = False

    def getsockopt(self, *_: object) -> bytes:
        """Return the credentials of the process at the other end, as the kernel does (unix(7))."""
        return struct.pack("3i", 1, self.user, self.user)

    def abort(self) -> None:
        """Note that the front has let go."""
        self.is_aborted = True

    def write(self, data: Any) -> None:
        """Read the frames of one write."""
        self.writes.append(list(FrameReader().feed(bytes(data))))

    def is_closing(self) -> bool:
        """Return that it stays."""
        return False

    def get_write_buffer_size(self) -> int:
        """Return that it reads everything at once."""
        return 0

    @property
    def asked(self) -> list[list[int]]:
        """The numbers of the queries in each write."""
        return [[frame.id for frame in write if isinstance(frame, QuestionFrame)] for write in self.writes]


def query(number: int) -> QuestionFrame:
    """Return a query with a number."""
    question = b"\x01a\x00\x00\x01\x00\x01"
    return QuestionFrame(number, question, Ask(5.0, client_prefix="127.0.0.1"))


def funnel_of() -> Funnel:
    """Return a funnel with nothing in it."""
    gate = Gate(AccessList([]), udp_size_max=1232, server_texts=(b"", b""), cookies=Cookies(os.urandom))
    cache = AnswerCache(CacheTable(ttl_s_max=60, stale_s_max=60))
    return Funnel(gate, cache, now=boot_now())


def greet(link: EngineLink, engine: Engine) -> None:
    """Connect the link to an engine that says hello."""
    link.connection_made(engine)
    hello = compose(Hello(VERSION, 1))
    link.get_buffer(-1)[: len(hello)] = hello
    link.buffer_updated(len(hello))


def test_an_engine_of_another_user_is_let_go_before_it_says_a_word(tmp_path: Path) -> None:
    """Its answers would be shown as ours."""

    async def story() -> None:
        link, engine = EngineLink(tmp_path, funnel_of()), Engine(user=os.geteuid() + 1)
        link.connection_made(engine)
        assert engine.is_aborted
        assert link.counters["foreign-user"] == 1
        assert not link.connected.is_set()

    run(story())


def run(story: Coroutine[Any, Any, None]) -> None:
    """Run a test's story."""
    asyncio.run(asyncio.wait_for(story, 30))


def test_the_queries_of_one_wakeup_leave_together(tmp_path: Path) -> None:
    async def story() -> None:
        link, engine = EngineLink(tmp_path, funnel_of()), Engine()
        greet(link, engine)
        for number in range(3):
            link.send(query(number))
        assert engine.asked == []
        await at_rest()
        assert engine.asked == [[0, 1, 2]]
        # A long burst does not wait for its end.
        engine.writes.clear()
        for number in range(QUERIES_PER_WRITE_MAX + 1):
            link.send(query(number))
        assert engine.asked == [list(range(QUERIES_PER_WRITE_MAX))]
        await at_rest()
        assert engine.asked[1:] == [[QUERIES_PER_WRITE_MAX]]

    run(story())


def test_a_link_that_was_lost_connects_once_and_waits_for_the_end_of_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engines: list[Engine] = []

    async def story() -> None:
        link = EngineLink(tmp_path, funnel_of())

        async def connect(factory: Callable[[], EngineLink], _path: object) -> None:
            engines.append(Engine())
            greet(factory(), engines[-1])

        monkeypatch.setattr(engine_link, "RETRY_S_MIN", 0.0)
        monkeypatch.setattr(asyncio.get_running_loop(), "create_unix_connection", connect)
        running = asyncio.ensure_future(link.run())
        await until(lambda: len(engines) == 1)
        link.connection_lost(None)
        await until(lambda: len(engines) == 2)
        await at_rest()
        assert link.connected.is_set()
        assert link.counters["connected"] == 2
        assert not running.done()
        running.cancel()

    run(story())
    assert len(engines) == 2
