"""Which way a publication takes where a daemon comes up while a node of this process is at work."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest

from p2pdns.admin.control import ControlClient
from p2pdns.cli import daemon_or_node
from p2pdns.cli.daemon_or_node import Daemon
from p2pdns.cli.settings import Given
from p2pdns.config import Config
from p2pdns.errors import DaemonGone, NoContact, Unavailable
from p2pdns.items.keys import SecretKey
from p2pdns.publishing.memory import NoMemory
from p2pdns.publishing.publication import Rules
from p2pdns.publishing.stored import Stored

SECRET = SecretKey.generate(b"\x01" * 32)


class FakeGiven:
    """Flags that name no overlay, and a state directory."""

    names_an_overlay = False

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def state(self, client_of: object) -> Path:
        """Return the state directory."""
        return self._folder


def published(monkeypatch: pytest.MonkeyPatch, folder: Path, trouble: Unavailable, *, comes_up: bool) -> Stored:
    """Publish where no daemon runs at first, and a node of this process ends with an error."""
    answers = iter([None, ControlClient(folder) if comes_up else None])

    async def alone(*_: object) -> Stored:
        raise trouble

    def through(*_: object, **__: Any) -> Stored:
        return Stored(7, 3, 3, "the running daemon", is_kept_here=True)

    monkeypatch.setattr(daemon_or_node, "running_daemon", lambda *_, **__: next(answers))
    monkeypatch.setattr(daemon_or_node, "publish_alone", alone)
    monkeypatch.setattr(daemon_or_node, "publish_through", through)
    with Daemon(Config(), cast(Given, FakeGiven(folder))) as daemon:
        return daemon.publish(SECRET, b"value", NoMemory(), Rules(), lambda progress: None)


def test_a_publisher_who_reaches_nobody_publishes_through_a_daemon_that_has_come_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = published(monkeypatch, tmp_path, NoContact("no answer"), comes_up=True)
    assert (done.is_done, done.through) == (True, "the running daemon")


def test_without_a_daemon_it_is_told_that_nobody_was_reached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NoContact, match="no answer"):
        published(monkeypatch, tmp_path, NoContact("no answer"), comes_up=False)


def test_what_was_refused_is_not_tried_again_through_the_daemon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(Unavailable, match="was not made by this key file"):
        published(monkeypatch, tmp_path, Unavailable("seq 7 was not made by this key file"), comes_up=True)


def daemon_that_goes(monkeypatch: pytest.MonkeyPatch, folder: Path) -> Daemon:
    """Return the way to a daemon that has answered, and is asked again after its end."""
    nodes: list[str] = []

    async def alone(*_: object) -> Stored:
        nodes.append("publication")
        raise NoContact("no answer")

    monkeypatch.setattr(daemon_or_node, "ControlClient", Ended)
    monkeypatch.setattr(daemon_or_node, "running_daemon", lambda *_, **__: None)
    for name in ("publish_alone", "_look_up_alone", "_reveal_alone"):
        monkeypatch.setattr(daemon_or_node, name, alone)
    return Daemon(Config(), cast(Given, Asking(folder)))


class Ended(ControlClient):
    """A client whose daemon answered once, and has ended."""

    def __init__(self, state_dir: Path, **_: object) -> None:
        super().__init__(state_dir)
        self.has_answered = True


class Asking(FakeGiven):
    """Flags whose state directory is found by asking a daemon."""

    def state(self, client_of: Any) -> Path:
        """Return the state directory."""
        client_of(self._folder)
        return self._folder


def test_what_a_daemon_has_begun_no_node_of_another_overlay_goes_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with daemon_that_goes(monkeypatch, tmp_path) as daemon:
        with pytest.raises(DaemonGone, match="has answered so far has ended") as told:
            daemon.publish(SECRET, b"value", NoMemory(), Rules(), lambda progress: None)
        assert "start it again" in str(told.value.hint)
        with pytest.raises(DaemonGone):
            daemon.look_up(SECRET.zone_key)
        with pytest.raises(DaemonGone):
            daemon.reveal(SECRET.zone_key, (), None)
