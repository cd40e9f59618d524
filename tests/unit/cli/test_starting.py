"""The daemon that is just starting: who finds its mark waits for it, and not for ever. Time is a number."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from p2pdns import directory as directory_module
from p2pdns.admin.control import SOCKET_NAME, ControlClient
from p2pdns.cli import starting
from p2pdns.cli.starting import GRACE_S, START_S_MAX, is_taken, running_daemon
from p2pdns.directory import LOCK_NAME, StateDirectory, is_marked
from p2pdns.errors import Unavailable

Holding = Callable[[Path], AbstractContextManager[Callable[[], None]]]


class Time:
    """A clock that moves when somebody sleeps; `at` says what happens then."""

    def __init__(self) -> None:
        self.now = 0.0
        self.at: list[tuple[float, Callable[[], object]]] = []

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds
        while self.at and self.at[0][0] <= self.now:
            self.at.pop(0)[1]()


@contextmanager
def letting_go(descriptor: int) -> Iterator[Callable[[], None]]:
    """Yield what closes a descriptor, and close it in any case."""
    is_open = [True]

    def let_go() -> None:
        if is_open.pop():
            os.close(descriptor)
        is_open.append(False)

    try:
        yield let_go
    finally:
        let_go()


@contextmanager
def marked(directory: Path) -> Iterator[Callable[[], None]]:
    """Mark a directory as `serve` does; yield what ends it."""
    opened = StateDirectory.open(directory)
    opened.mark()
    with letting_go(opened.descriptor) as let_go:
        yield let_go


@contextmanager
def locked(directory: Path) -> Iterator[Callable[[], None]]:
    """Hold the lock of a directory as an engine does, without the mark; yield what ends it."""
    opened = StateDirectory.open(directory)
    with letting_go(opened.lock()) as let_go:
        yield let_go
    opened.close()


def listening(directory: Path) -> socket.socket:
    """Return a control socket that answers."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.bind(str(directory / SOCKET_NAME))
    sock.listen()
    return sock


def daemon_of(directory: Path, time: Time, grace_seconds: float = 0.0) -> ControlClient | None:
    return running_daemon(directory, grace_seconds=grace_seconds, clock=lambda: time.now, sleep=time.sleep)


def test_where_nobody_serves_nobody_is_waited_for(tmp_path: Path) -> None:
    time = Time()
    assert daemon_of(tmp_path, time) is None
    assert daemon_of(tmp_path / "none", time) is None
    (tmp_path / LOCK_NAME).write_text("4711\n")
    assert daemon_of(tmp_path, time) is None, "a file that a killed process has left holds no lock"
    assert time.now == 0.0


@pytest.mark.parametrize("held", [marked, locked])
def test_a_daemon_that_starts_is_waited_for(tmp_path: Path, held: Holding, capsys: pytest.CaptureFixture[str]) -> None:
    time = Time()
    socks: list[socket.socket] = []
    time.at = [(5.0, lambda: socks.append(listening(tmp_path)))]
    with held(tmp_path):
        assert is_taken(tmp_path)
        client = daemon_of(tmp_path, time)
    assert client is not None
    assert 5.0 <= time.now < 5.2
    assert capsys.readouterr().err == f"p2pdns: waiting for the daemon that starts in {tmp_path}\n"
    socks[0].close()


def test_a_short_wait_is_not_worth_a_word(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    time = Time()
    socks: list[socket.socket] = []
    time.at = [(0.5, lambda: socks.append(listening(tmp_path)))]
    with marked(tmp_path):
        assert daemon_of(tmp_path, time) is not None
    assert capsys.readouterr().err == ""
    socks[0].close()


def test_a_daemon_that_ends_before_it_answers_is_an_error(tmp_path: Path) -> None:
    time = Time()
    with marked(tmp_path) as let_go:
        time.at = [(3.0, let_go)]
        with pytest.raises(Unavailable, match="has ended before it answered") as caught:
            daemon_of(tmp_path, time)
    assert caught.value.hint
    assert 3.0 <= time.now < 3.2


def test_a_daemon_that_never_answers_is_an_error_after_half_a_minute(tmp_path: Path) -> None:
    time = Time()
    with marked(tmp_path), pytest.raises(Unavailable, match="has not answered in 30 s"):
        daemon_of(tmp_path, time)
    assert START_S_MAX <= time.now < START_S_MAX + 1.0


def test_within_the_grace_a_daemon_may_still_appear(tmp_path: Path) -> None:
    time = Time()
    socks: list[socket.socket] = []
    opened = StateDirectory.open(tmp_path)
    time.at = [(1.0, opened.mark), (4.0, lambda: socks.append(listening(tmp_path)))]
    assert daemon_of(tmp_path, time, GRACE_S) is not None
    assert 4.0 <= time.now < 4.2
    opened.close()
    socks[0].close()
    time = Time()
    assert daemon_of(tmp_path / "none", time, GRACE_S) is None
    assert GRACE_S <= time.now < GRACE_S + 0.2


def test_a_mark_ends_with_its_holder(tmp_path: Path) -> None:
    with marked(tmp_path):
        assert is_marked(tmp_path)
        assert is_taken(tmp_path)
        with marked(tmp_path):
            # A second daemon gets no mark, and nothing else happens: the lock tells it.
            assert list(tmp_path.iterdir()) == []
    assert not is_taken(tmp_path)


def test_a_daemon_that_has_marked_its_directory_can_lock_it_on_a_full_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*words: object) -> int:
        raise OSError(errno.ENOSPC, "no space")

    monkeypatch.setattr(directory_module, "_open_lock", full)
    opened = StateDirectory.open(tmp_path)
    opened.mark()
    lock = opened.lock()
    other = StateDirectory.open(tmp_path)
    with pytest.raises(Unavailable, match="another p2pdns runs"):
        other.lock()
    os.close(lock)
    opened.close()
    os.close(other.lock())
    other.close()


def test_while_the_mark_is_there_the_engines_lock_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def touched(directory: Path) -> None:
        raise AssertionError("the engine may want it in this very moment")

    monkeypatch.setattr(starting, "refuse_if_taken", touched)
    with marked(tmp_path):
        assert is_taken(tmp_path)
