"""Publishing through the daemon: what crosses the control socket, over one connection, and what never does."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from p2pdns.admin import publishing
from p2pdns.admin.control import SESSION_IDLE_S_MAX, ControlClient, Progress
from p2pdns.admin.publishing import hand_over, publish_through
from p2pdns.dht.node.values import Others
from p2pdns.errors import Unavailable
from p2pdns.items.item import MutableItem
from p2pdns.items.keys import SecretKey
from p2pdns.publishing.publication import Rules
from p2pdns.publishing.replicas import Seen, Tried, Version
from p2pdns.publishing.stored import Stored

NOW = 1_790_000_000.0
HOUR = 3600.0
SECRET = SecretKey.generate(bytes(range(32)))


def microseconds(unix: float) -> int:
    """Return a seq of that time."""
    return int(unix * 1_000_000)


class FakeDaemon(ControlClient):
    """A daemon that answers from a table and keeps what it was asked."""

    def __init__(self, last: int | None, *, is_mark: bool = False) -> None:
        super().__init__(Path("/nonexistent"))
        self.mark = last if is_mark else None
        self.found = [] if last is None or is_mark else [MutableItem.signed(SECRET, last, b"last")]
        self.newer: tuple[Version, ...] = ()
        self.asked: list[dict[str, Any]] = []

    def call(self, verb: str, on_progress: Progress | None = None, **arguments: Any) -> dict[str, Any]:
        """Answer as the engine does."""
        self.asked.append({"verb": verb, **arguments})
        if verb == "seq":
            versions = tuple(Version(item, 8) for item in self.found)
            return {"ok": True, **Seen(versions, True, self.mark).to_json()}
        if verb == "forget":
            self.mark = None
            return {"ok": True, "forgotten": True}
        assert verb == "publish"
        assert on_progress is not None
        on_progress({"stage": "put", "sent": 8, "stored": 1})
        on_progress({"stage": "rationed", "done": 1, "of": 3, "seconds_left": 2.0})
        ours = Version(MutableItem.read_file(bytes.fromhex(arguments["item"])), 7)
        seen = Seen((*self.newer, ours), True)
        return {"ok": True, **Tried(Others(8, 7), {"timeout": 1}, (), seen).to_json(), "kept_here": True}


@pytest.fixture(autouse=True)
def _clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publishing, "unix_now", lambda: NOW)


def test_the_daemon_gets_the_signed_item_and_never_the_key() -> None:
    daemon, told = FakeDaemon(last=None), []
    done = publish_through(daemon, SECRET, b"value", tell=lambda progress: told.append(str(progress)))
    assert (done.sent, done.stored, done.refused, done.is_kept_here) == (8, 7, {"timeout": 1}, True)
    assert (done.read_back, done.is_done) == (7, True)
    assert told == ["looking up", "at 1 of 8", "rationed, about 2 s left"]
    item = MutableItem.read_file(bytes.fromhex(daemon.asked[1]["item"]))
    assert (item.key, item.value, item.seq) == (SECRET.zone_key, b"value", done.seq)
    asked = json.dumps(daemon.asked)
    assert bytes(range(32)).hex() not in asked
    assert str(SECRET.zone_key) in asked


def test_the_next_publication_supersedes_the_last_known_one_and_no_other() -> None:
    last = microseconds(NOW) + 7
    daemon = FakeDaemon(last)
    done = publish_through(daemon, SECRET, b"")
    assert done.seq == last + 1
    assert str(done) == f"stored at 7 of 8 nodes, seq {last + 1}"
    assert daemon.asked[1]["cas"] == [last]


def test_a_publication_from_the_future_that_was_not_adopted_is_published_below() -> None:
    daemon = FakeDaemon(last=microseconds(NOW * 2))
    done = publish_through(daemon, SECRET, b"")
    assert done.seq == microseconds(NOW)
    assert done.ahead == microseconds(NOW * 2)
    assert [asked["verb"] for asked in daemon.asked] == ["seq", "publish"]


@pytest.mark.parametrize(
    ("ahead_s", "verbs", "is_above"),
    [
        (0.0, ["seq", "publish"], True),
        (20 * HOUR, ["seq", "publish"], True),
        (30 * HOUR, ["seq", "forget", "publish"], False),
    ],
)
def test_taking_back_makes_the_daemon_forget_only_what_no_reader_adopts(
    ahead_s: float, verbs: list[str], is_above: bool
) -> None:
    last = microseconds(NOW + ahead_s)
    daemon = FakeDaemon(last, is_mark=True)
    done = publish_through(daemon, SECRET, b"", rules=Rules(takes_back=True))
    assert [asked["verb"] for asked in daemon.asked] == verbs
    assert (done.seq > last) is is_above
    assert (done.ahead == last) is not is_above


def test_without_the_flag_the_daemon_forgets_nothing() -> None:
    daemon = FakeDaemon(microseconds(NOW + 30 * HOUR), is_mark=True)
    with pytest.raises(Unavailable, match=r"publish again after 2026-09-22 19:14 UTC"):
        publish_through(daemon, SECRET, b"")
    assert [asked["verb"] for asked in daemon.asked] == ["seq"]


def test_an_item_that_is_published_already_is_handed_over_as_it_is() -> None:
    daemon = FakeDaemon(None)
    item = MutableItem.signed(SECRET, microseconds(NOW), b"value")
    done = hand_over(daemon, Stored(item.seq, 8, 5, rebased=(3,), item=item))
    assert done.rebased == (3,)
    assert (done.seq, done.stored, done.is_kept_here, done.read_back) == (item.seq, 7, True, 7)
    assert daemon.asked == [{"verb": "publish", "item": item.to_bytes().hex(), "cas": [item.seq]}]


def test_an_item_is_not_handed_over_well_where_a_newer_one_of_somebody_else_is_seen() -> None:
    daemon = FakeDaemon(None)
    item = MutableItem.signed(SECRET, microseconds(NOW - 5), b"value")
    for seq, value, is_done in ((NOW, b"other", False), (NOW, b"value", True), (NOW + 30 * HOUR, b"other", True)):
        daemon.newer = (Version(MutableItem.signed(SECRET, microseconds(seq), value), 1),)
        assert hand_over(daemon, Stored(item.seq, 8, 8, item=item)).is_done is is_done


@pytest.mark.parametrize(("was_stored", "is_done"), [(5, True), (4, False)])
def test_what_was_stored_stays_so_though_a_daemon_that_has_just_started_knows_nobody(
    was_stored: int, is_done: bool
) -> None:
    class Lonely(FakeDaemon):
        """A daemon without any contact."""

        def call(self, verb: str, on_progress: Progress | None = None, **arguments: Any) -> dict[str, Any]:
            """Keep the item, and put it nowhere yet."""
            return {"ok": True, **Tried(Others(0, 0), {}, (), Seen()).to_json()}

    item = MutableItem.signed(SECRET, microseconds(NOW), b"value")
    done = hand_over(Lonely(None), Stored(item.seq, 8, was_stored, "a node of its own", read_back=5, item=item))
    assert (done.is_done, done.is_kept_here) == (is_done, True)
    if is_done:
        assert (done.sent, done.stored, done.read_back, done.through) == (8, 5, 5, "a node of its own")


# One connection


@contextmanager
def listening(folder: Path, calls_each: int = 99) -> Iterator[list[int]]:
    """Answer at a control socket, so many calls a connection; yield how many calls each connection has brought."""
    counts: list[int] = []
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server:
        server.bind(str(folder / "control.sock"))
        server.listen()

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection, connection.makefile("rwb") as lines:
                    counts.append(0)
                    for _ in range(calls_each):
                        if not lines.readline():
                            break
                        counts[-1] += 1
                        lines.write(b'{"ok":true}\n' if counts[-1] != 3 else b'{"ok":false,"error":"no"}\n')
                        lines.flush()

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield counts
        server.shutdown(socket.SHUT_RDWR)
    thread.join(30)


def test_the_calls_of_a_session_share_one_connection_and_others_have_one_each(tmp_path: Path) -> None:
    with listening(tmp_path) as counts:
        client = ControlClient(tmp_path)
        with client.session():
            assert client.is_running()
            client.call("seq")
            with client.session():
                client.call("publish")
            with pytest.raises(Unavailable, match="no"):
                client.call("refused")
            assert counts == [3]
            # What is left of a refused call is not read as the reply to the next one.
            client.call("names")
        client.call("seq")
        client.call("seq")
    assert counts == [3, 1, 1, 1]


def test_a_session_that_was_silent_for_long_connects_again(tmp_path: Path) -> None:
    now = 0.0
    with listening(tmp_path) as counts:
        client = ControlClient(tmp_path, clock=lambda: now)
        with client.session():
            client.call("seq")
            now += SESSION_IDLE_S_MAX
            client.call("seq")
            now += SESSION_IDLE_S_MAX + 1
            client.call("seq")
    assert counts == [2, 1]
