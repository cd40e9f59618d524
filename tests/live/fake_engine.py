"""An engine for the tests of the front: a Unix server that speaks frames and answers by the first label.

`answer…` has an A record, `big…` has 100 TXT records, `missing…` is NXDOMAIN, `failing…` is SERVFAIL, `mute…` is
never answered, `forwarded…` is flagged and never answered, `garbage…` gets bytes that are no frame. It runs inside
a test (`FakeEngine`) or, for the supervisor, as a process with the engine's own command line.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from p2pdns.clock import boot_now
from p2pdns.link import (
    VERSION,
    Answer,
    Counters,
    Forwarded,
    Frame,
    FrameReader,
    Hello,
    Invalidate,
    QuestionFrame,
    compose,
)
from tests.front_messages import answer
from tests.waiting import until

TXT = 16
TAG = b"all-tags"


def answered(query: QuestionFrame) -> Answer | None:
    """Return the answer to a query, or None for silence."""
    now = boot_now()
    made: Answer | None = None
    name = _text_of(query.question)
    rtype = int.from_bytes(query.question[-4:-2], "big")
    if name.startswith("answer"):
        made = answer(name, rtype, number=query.id, made_at=now, ad_eligible=True, tags=(TAG,))
    elif name.startswith("short"):
        made = answer(name, rtype, number=query.id, made_at=now, ttl=1)
    elif name.startswith("big"):
        made = answer(name, TXT, number=query.id, made_at=now, rdatas=[b"\x03%03d" % i for i in range(100)])
    elif name.startswith("missing"):
        made = answer(name, rtype, number=query.id, made_at=now, rdatas=(), rcode=3)
    elif name.startswith("failing"):
        told = ((22, "no contact had it"),)
        made = answer(name, rtype, number=query.id, made_at=now, rdatas=(), rcode=2, failure=True, ede=told)
    return made


def _text_of(question: bytes) -> str:
    labels, at = [], 0
    while question[at]:
        labels.append(question[at + 1 : at + 1 + question[at]].decode("latin-1"))
        at += 1 + question[at]
    return ".".join(labels)


class _Connection(asyncio.Protocol):
    def __init__(self, engine: FakeEngine) -> None:
        self._engine = engine
        self._reader = FrameReader()
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self._engine.connections.append(self)
        transport.write(compose(Hello(self._engine.version, self._engine.epoch)))
        self._engine.connected.set()

    def data_received(self, data: bytes) -> None:
        for frame in self._reader.feed(data):
            if isinstance(frame, Counters):
                self._engine.counted.append(dict(frame.counts))
                continue
            assert isinstance(frame, QuestionFrame)
            self._received(frame)

    def connection_lost(self, exc: Exception | None) -> None:
        self._engine.connections.remove(self)

    def _received(self, query: QuestionFrame) -> None:
        assert self.transport is not None
        self._engine.asked.append(_text_of(query.question))
        if query.question[1:].startswith(b"garbage"):
            self.transport.write(self._engine.garbage)
        elif query.question[1:].startswith(b"forwarded"):
            self.transport.write(compose(Forwarded(query.id)))
        elif (reply := None if self._engine.is_mute else answered(query)) is not None:
            self.transport.write(compose(reply))


class FakeEngine:
    """The engine of one state directory, in a thread of its own."""

    def __init__(self, state_dir: Path, *, epoch: int = 1, version: int = VERSION) -> None:
        self.epoch = epoch
        self.version = version
        self.asked: list[str] = []
        self.counted: list[dict[str, int]] = []
        self.garbage = b"\xff" * 32
        self.is_mute = False
        self.connections: list[_Connection] = []
        self.connected = threading.Event()
        self._path = state_dir / "link.sock"
        self._loop = asyncio.new_event_loop()
        self._server: asyncio.Server | None = None
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._open(), self._loop).result(10)

    def push(self, frame: Frame) -> None:
        """Send a frame to every front."""
        self._loop.call_soon_threadsafe(self._push, frame)

    def close(self) -> None:
        """Close everything, as a killed engine would."""
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _open(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            self._path.unlink()
        self._server = await self._loop.create_unix_server(lambda: _Connection(self), str(self._path))

    async def _close(self) -> None:
        assert self._server is not None
        self._server.close()
        for connection in list(self.connections):
            assert connection.transport is not None
            connection.transport.abort()
        await until(lambda: not self.connections)

    def _push(self, frame: Frame) -> None:
        for connection in self.connections:
            assert connection.transport is not None
            connection.transport.write(compose(frame))


def invalidate_all_tagged() -> Invalidate:
    """Return the push that ends every answer of an `answer…` name."""
    return Invalidate((TAG,))


def _wait_for_end(alive_fd: int, stopped: threading.Event) -> None:
    os.read(alive_fd, 1)
    stopped.set()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run as a process, with the command line of the engine; the file `exit` in the state directory says how to end."""
    parser = argparse.ArgumentParser()
    for name in ("--config-fd", "--alive-fd", "--state-fd"):
        parser.add_argument(name, type=int, required=True)
    parser.add_argument("--state")
    parser.add_argument("--dns-listen", action="append", default=[])
    options = parser.parse_args(arguments)
    state = Path(f"/proc/self/fd/{options.state_fd}")
    exit_file = state / "exit"
    if exit_file.exists():
        return int(exit_file.read_text())
    assert os.read(options.config_fd, 1) == b"{"
    hangups = state / "hangups"
    signal.signal(signal.SIGHUP, lambda *_: hangups.write_text("hung up\n"))
    engine = FakeEngine(state, epoch=os.getpid())
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    threading.Thread(target=_wait_for_end, args=(options.alive_fd, stopped), daemon=True).start()
    stopped.wait()
    engine.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
