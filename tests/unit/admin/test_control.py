"""The control socket: whom it serves, what it refuses, and what the client says when nobody is there."""

from __future__ import annotations

import asyncio
import contextlib
import grp
import json
import os
import socket
import stat
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from p2pdns.admin import control, control_server
from p2pdns.admin.control import ControlClient, Progress
from p2pdns.admin.control_server import ControlServer
from p2pdns.directory import StateDirectory
from p2pdns.errors import ConfigError, DaemonGone, FormatError, Unavailable, UsageError
from p2pdns.net.sockets import listen_unix, reachable

WAIT_S_MAX = 20.0  # Only a test that hangs waits so long.


async def echo(request: dict[str, Any], report: Progress) -> dict[str, Any]:
    """Report twice, then return the request."""
    report({"step": 1})
    report({"step": 2})
    return {"request": request}


async def refuse(request: dict[str, Any], report: Progress) -> dict[str, Any]:
    """Refuse as a room does."""
    raise UsageError("wrong", place="here", hint="do it right")


async def reject(request: dict[str, Any], report: Progress) -> dict[str, Any]:
    """Refuse what a stranger has made."""
    raise FormatError("too-short", "3 bytes")


async def explode(request: dict[str, Any], report: Progress) -> dict[str, Any]:
    """Break."""
    raise ZeroDivisionError


FINISHED: list[str] = []


async def patient(request: dict[str, Any], report: Progress) -> dict[str, Any]:
    """Report for a while, whoever listens, then finish."""
    for _ in range(30):
        report({"still": "at it"})
        await asyncio.sleep(0.05)
    FINISHED.append(request["name"])
    return {}


VERBS = {"echo": echo, "refuse": refuse, "reject": reject, "explode": explode, "patient": patient}


@contextmanager
def serving(
    directory: Path, *, user_ids: frozenset[int] | None = None, group: str = "", runtime: Path | None = None
) -> Iterator[ControlClient]:
    """Serve the verbs from a thread, as a daemon does from another process."""
    ready, loop = threading.Event(), asyncio.new_event_loop()
    stop = asyncio.Event()

    async def serve() -> None:
        server = ControlServer(directory, VERBS, group=group, runtime=runtime)
        if user_ids is not None:
            server._user_ids = user_ids
        await server.open()
        ready.set()
        await stop.wait()
        await server.close()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()))
    thread.start()
    try:
        assert ready.wait(WAIT_S_MAX)
        yield ControlClient(directory, timeout_s=WAIT_S_MAX)
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(WAIT_S_MAX)
        loop.close()


def exchange(directory: Path, data: bytes, *, is_all: bool = True) -> list[dict[str, Any]]:
    """Send raw bytes and return every line that comes until the server ends the connection."""
    with socket.socket(socket.AF_UNIX) as sock, reachable(directory / "control.sock") as path:
        sock.settimeout(WAIT_S_MAX)
        sock.connect(path)
        try:
            sock.sendall(data)
            if is_all:
                sock.shutdown(socket.SHUT_WR)
        except (BrokenPipeError, ConnectionResetError):
            pass
        received = b""
        try:
            while chunk := sock.recv(65536):
                received += chunk
        except ConnectionResetError:
            pass
    return [json.loads(line) for line in received.splitlines()]


def test_a_call_returns_its_reply_after_its_progress(tmp_path: Path) -> None:
    with serving(tmp_path) as client:
        progress: list[dict[str, Any]] = []
        reply = client.call("echo", on_progress=progress.append, key="k")
        assert reply == {"ok": True, "request": {"verb": "echo", "key": "k"}}
        assert progress == [{"step": 1}, {"step": 2}]
        assert client.is_running()


def test_a_verb_whose_client_gives_up_goes_on_and_its_connection_is_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control_server, "GONE_CHECK_S", 0.01)
    monkeypatch.setattr(control_server, "CONNECTIONS_MAX", 1)
    FINISHED.clear()
    with serving(tmp_path) as client:
        with socket.socket(socket.AF_UNIX) as sock, reachable(tmp_path / "control.sock") as path:
            sock.connect(path)
            sock.sendall(b'{"verb": "patient", "name": "left alone"}\n')
            assert sock.recv(65536).startswith(b'{"progress"')
        # The only place is free again before the verb has ended, and the verb ends all the same.
        give_up_at = time.monotonic() + WAIT_S_MAX
        while not FINISHED:
            assert time.monotonic() < give_up_at
            with contextlib.suppress(Unavailable):
                client.call("echo")
                break
        assert not FINISHED, "it was waited for"
        while not FINISHED:
            assert time.monotonic() < give_up_at
            # The last connection may be ending just now.
            with contextlib.suppress(Unavailable):
                client.call("echo")
    assert FINISHED == ["left alone"]


@pytest.mark.parametrize(
    ("verb", "error", "hint"),
    [
        ("refuse", "here: wrong", "do it right"),
        ("reject", "too-short: 3 bytes", None),
        ("explode", "internal error: ZeroDivisionError", "the daemon's log says where"),
        ("dance", "control socket: no verb 'dance'", "the verbs are echo, refuse, reject, explode, patient"),
    ],
)
def test_a_refusal_keeps_its_words_and_its_hint(tmp_path: Path, verb: str, error: str, hint: str | None) -> None:
    with serving(tmp_path) as client:
        with pytest.raises(Unavailable) as caught:
            client.call(verb)
        assert (str(caught.value), caught.value.hint) == (error, hint)
        assert client.call("echo")["ok"] is True


def test_several_requests_on_one_connection_are_answered_in_order(tmp_path: Path) -> None:
    with serving(tmp_path):
        lines = exchange(tmp_path, b'{"verb":"refuse"}\n{"verb":"echo","n":1}\n{"verb":"echo","n":2}\n')
    replies = [line for line in lines if "ok" in line]
    assert [reply["ok"] for reply in replies] == [False, True, True]
    assert [reply["request"]["n"] for reply in replies[1:]] == [1, 2]


@pytest.mark.parametrize(
    "line",
    [
        b"\n",
        b"status\n",
        b"[]\n",
        b'{"verb": 3}\n',
        b"{}\n",
        b"\xff\xfe\n",
        b"[" * 100_000 + b"\n",
        b"x" * (control.LINE_BYTES_MAX + 1000) + b"\n",
        b'{"verb": "echo"',
    ],
    ids=["empty", "word", "list", "number", "no-verb", "not-utf8", "deep", "long", "cut"],
)
def test_a_line_that_is_no_request_earns_one_error_line_and_the_end(tmp_path: Path, line: bytes) -> None:
    with serving(tmp_path) as client:
        lines = exchange(tmp_path, line + b'{"verb":"echo"}\n' * line.endswith(b"\n"))
        assert len(lines) <= 1
        assert all(reply["ok"] is False and reply["error"].startswith("control socket: ") for reply in lines)
        assert client.call("echo")["ok"] is True


@given(data=st.binary(max_size=200))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_bytes_end_the_server(shared: ControlClient, data: bytes) -> None:
    for reply in exchange(shared.path.parent, data):
        assert reply["ok"] is False
    assert shared.call("echo")["ok"] is True


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlClient]:
    """Serve one socket for many examples."""
    with serving(tmp_path_factory.mktemp("control")) as client:
        yield client


def test_the_socket_is_the_owners_alone_and_goes_with_the_server(tmp_path: Path) -> None:
    with serving(tmp_path) as client:
        mode = client.path.stat().st_mode
        assert stat.S_ISSOCK(mode)
        assert stat.S_IMODE(mode) == 0o600
    assert not client.path.exists()


def test_a_path_longer_than_a_socket_address_is_reached(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 120) / ("e" * 120)
    deep.mkdir(parents=True)
    with serving(deep) as client:
        assert client.call("echo")["ok"] is True


def test_a_socket_that_a_killed_daemon_left_is_replaced(tmp_path: Path) -> None:
    leftover = socket.socket(socket.AF_UNIX)
    leftover.bind(str(tmp_path / "control.sock"))
    leftover.close()
    client = ControlClient(tmp_path)
    assert not client.is_running()
    with serving(tmp_path) as client:
        assert client.is_running()


@pytest.mark.parametrize("name", ["here", "missing"])
def test_without_a_daemon_the_client_says_how_to_start_one(tmp_path: Path, name: str) -> None:
    (tmp_path / "here").mkdir()
    client = ControlClient(tmp_path / name)
    assert not client.is_running()
    with pytest.raises(Unavailable, match="no daemon runs here") as caught:
        client.call("status")
    assert "p2pdns serve" in str(caught.value.hint)


def test_a_daemon_that_starts_is_not_taken_for_none(tmp_path: Path) -> None:
    starting = StateDirectory.open(tmp_path / "state")
    starting.mark()
    with pytest.raises(Unavailable, match="a daemon starts here, and does not answer yet") as caught:
        ControlClient(tmp_path / "state").call("status")
    assert "wait a moment" in str(caught.value.hint)
    starting.close()
    with pytest.raises(Unavailable, match="no daemon runs here"):
        ControlClient(tmp_path / "state").call("status")


def test_another_user_is_refused_politely(tmp_path: Path) -> None:
    with serving(tmp_path, user_ids=frozenset({os.geteuid() + 1})) as client:
        with pytest.raises(Unavailable, match="this daemon belongs to") as caught:
            client.call("echo")
        assert "[control] group" in str(caught.value.hint)


def as_nobody(directory: Path) -> str:
    """Return what another user hears who asks the daemon of a directory."""
    # A child, because a process cannot come back from being nobody.
    read_fd, write_fd = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
            ControlClient(directory).call("echo")
            os.write(write_fd, b"answered")
        except Unavailable as error:
            os.write(write_fd, f"{error} | {error.hint}".encode())
        finally:
            os._exit(0)
    os.close(write_fd)
    with open(read_fd, "rb") as pipe:
        said = pipe.read().decode()
    os.waitpid(pid, 0)
    return said


as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


@pytest.fixture
def open_path() -> Iterator[Path]:
    """A folder that every user can reach, which pytest's own are not."""
    with tempfile.TemporaryDirectory(prefix="p2pdns-test-") as name:
        path = Path(name)
        path.chmod(0o755)
        yield path


@as_root
def test_the_socket_of_another_user_is_a_clear_error(open_path: Path) -> None:
    directory = open_path / "theirs"
    directory.mkdir(mode=0o700)
    with serving(directory):
        said = as_nobody(directory)
    assert "the control socket belongs to root" in said
    assert f"{directory} can be passed for root alone" in said
    assert "[control] group" in said


@as_root
def test_the_hint_tells_a_closed_directory_from_a_group_that_one_is_not_in(open_path: Path) -> None:
    directory = open_path / "theirs"
    directory.mkdir(mode=0o700)
    with serving(directory, group="daemon"):
        directory.chmod(0o755)
        said = as_nobody(directory)
        assert "the control socket is for the group daemon, and nobody is not a member of it" in said
        assert "usermod -aG daemon nobody" in said
        directory.chmod(0o710)
        assert f"{directory} can be passed for the group daemon, and nobody is not a member" in as_nobody(directory)
        directory.chmod(0o755)
        (directory / "control.sock").chmod(0o600)
        assert "the control socket is for root alone" in as_nobody(directory)


# The runtime directory of a service


def runtime_of(tmp_path: Path, *, mode: int = 0o755) -> Path:
    """Return a directory as systemd makes it below /run."""
    runtime = tmp_path / "run"
    runtime.mkdir()
    runtime.chmod(mode)
    return runtime


def test_the_socket_lies_in_the_runtime_directory_and_is_found_by_the_state_directory(tmp_path: Path) -> None:
    runtime, directory = runtime_of(tmp_path), tmp_path / "state"
    directory.mkdir(mode=0o700)
    with serving(directory, runtime=runtime) as client:
        assert stat.S_ISSOCK((runtime / "control.sock").lstat().st_mode)
        assert client.call("echo")["ok"] is True
        assert ControlClient(runtime, timeout_s=WAIT_S_MAX).call("echo")["ok"] is True
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert (list(directory.iterdir()), list(runtime.iterdir())) == ([], [])


@as_root
def test_a_member_of_the_group_gets_in_where_the_state_directory_is_closed_to_everybody(open_path: Path) -> None:
    runtime, directory = runtime_of(open_path), open_path / "state"
    directory.mkdir(mode=0o700)
    with serving(directory, group=grp.getgrgid(65534).gr_name, runtime=runtime):
        assert as_nobody(runtime) == "answered"
        assert "the control socket belongs to root" in as_nobody(directory)


def test_a_runtime_directory_that_others_may_write_to_is_refused_by_both_ends(tmp_path: Path) -> None:
    runtime, directory = runtime_of(tmp_path), tmp_path / "state"
    directory.mkdir(mode=0o700)
    with serving(directory, runtime=runtime) as client:
        runtime.chmod(0o775)
        for asked in (client, ControlClient(runtime)):
            with pytest.raises(Unavailable, match="others may write to this directory") as caught:
                asked.call("echo")
            assert caught.value.hint == f"chmod go-w {runtime}"
    runtime.chmod(0o777)
    with pytest.raises(Unavailable, match="others may write to it") as refused:
        asyncio.run(ControlServer(directory, VERBS, runtime=runtime).open())
    assert "RuntimeDirectory=p2pdns" in str(refused.value.hint)


def test_a_runtime_directory_that_is_not_there_is_a_clear_error(tmp_path: Path) -> None:
    server = ControlServer(tmp_path, VERBS, runtime=tmp_path / "missing")
    with pytest.raises(Unavailable, match=r"RUNTIME_DIRECTORY: .*/missing: no such file or directory"):
        asyncio.run(server.open())


def test_the_socket_of_another_daemon_in_the_runtime_directory_is_left_alone(tmp_path: Path) -> None:
    runtime, directory, other = runtime_of(tmp_path), tmp_path / "state", tmp_path / "other"
    for path in (directory, other):
        path.mkdir(mode=0o700)
    with serving(directory, runtime=runtime) as client:
        with pytest.raises(Unavailable, match="another program listens there") as caught:
            asyncio.run(ControlServer(other, VERBS, runtime=runtime).open())
        assert "RuntimeDirectory=" in str(caught.value.hint)
        assert client.call("echo")["ok"] is True


def test_a_socket_that_a_killed_daemon_left_in_the_runtime_directory_is_replaced(tmp_path: Path) -> None:
    runtime, directory = runtime_of(tmp_path), tmp_path / "state"
    directory.mkdir(mode=0o700)
    leftover = socket.socket(socket.AF_UNIX)
    leftover.bind(str(runtime / "control.sock"))
    leftover.close()
    (directory / "control.sock").symlink_to(runtime / "control.sock")
    assert not ControlClient(directory).is_running()
    with serving(directory, runtime=runtime) as client:
        assert client.is_running()


def test_a_directory_that_others_may_write_to_is_no_place_for_a_socket(tmp_path: Path) -> None:
    with serving(tmp_path) as client:
        tmp_path.chmod(0o1777)
        with pytest.raises(Unavailable, match="others may write to this directory"):
            client.is_running()
        tmp_path.chmod(0o700)
        assert client.is_running()


def test_a_group_gets_the_socket_and_the_way_to_it(tmp_path: Path) -> None:
    directory = tmp_path / "state"
    directory.mkdir(mode=0o700)
    with serving(directory, group=grp.getgrgid(os.getegid()).gr_name) as client:
        assert stat.S_IMODE(client.path.stat().st_mode) == 0o660
        assert stat.S_IMODE(directory.stat().st_mode) == 0o710
        assert client.call("echo")["ok"] is True


def test_an_unknown_group_is_an_error_of_the_configuration(tmp_path: Path) -> None:
    server = ControlServer(tmp_path, VERBS, group="no such group")
    with pytest.raises(ConfigError, match=r'\[control\] group: no group "no such group"'):
        asyncio.run(server.open())


def test_too_many_connections_are_refused_and_the_others_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control_server, "CONNECTIONS_MAX", 2)
    with serving(tmp_path) as client:
        held = []
        for _ in range(2):
            sock = socket.socket(socket.AF_UNIX)
            sock.connect(str(client.path))
            # Its answer shows that the connection is being served.
            sock.sendall(b'{"verb":"refuse"}\n')
            assert sock.recv(1000)
            held.append(sock)
        with pytest.raises(Unavailable, match="2 connections are open"):
            client.call("echo")
        held[0].sendall(b'{"verb":"refuse"}\n')
        assert b"do it right" in held[0].recv(1000)
        for sock in held:
            sock.close()


@contextmanager
def answering(directory: Path, reply: bytes) -> Iterator[ControlClient]:
    """Serve one connection with fixed bytes, whatever is asked."""
    listener = listen_unix(directory / "control.sock", backlog=1)
    listener.setblocking(True)

    def serve() -> None:
        sock, _ = listener.accept()
        with sock:
            sock.recv(65536)
            sock.sendall(reply)

    thread = threading.Thread(target=serve)
    thread.start()
    yield ControlClient(directory, timeout_s=WAIT_S_MAX)
    thread.join(WAIT_S_MAX)
    listener.close()


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (b"", "ended the connection"),
        (b'{"ok": tr', "ended the connection"),
        (b"nonsense\n", "does not speak JSON"),
        (b"[]\n", "does not speak JSON"),
        (b"x" * (control.LINE_BYTES_MAX + 2), "a line too long"),
        (b'{"ok": false}\n', "refused"),
    ],
    ids=["nothing", "cut", "word", "list", "long", "bare"],
)
def test_a_daemon_that_makes_no_sense_is_an_error(tmp_path: Path, reply: bytes, words: str) -> None:
    with answering(tmp_path, reply) as client, pytest.raises(Unavailable, match=words):
        client.call("status")


def test_a_daemon_that_says_nothing_is_not_waited_for_without_end(tmp_path: Path) -> None:
    listener = listen_unix(tmp_path / "control.sock", backlog=1)
    client = ControlClient(tmp_path, timeout_s=0.05)
    with pytest.raises(Unavailable, match=r"has not answered in 0.05 s"):
        client.call("status")
    listener.close()


def test_a_user_is_told_once_which_silent_daemon_is_waited_for(tmp_path: Path) -> None:
    told: list[str] = []
    listener = listen_unix(tmp_path / "control.sock", backlog=1)
    client = ControlClient(tmp_path, timeout_s=0.1, silent_s=0.02, on_silence=told.append)
    with pytest.raises(DaemonGone, match=r"has not answered in 0.1 s"):
        client.call("status")
    assert told == [f"waiting for the daemon in {tmp_path}, for up to 0.1 s"]
    listener.close()


def test_nothing_is_said_of_a_daemon_that_answers_in_time(tmp_path: Path) -> None:
    told: list[str] = []
    with serving(tmp_path):
        client = ControlClient(tmp_path, timeout_s=WAIT_S_MAX, silent_s=WAIT_S_MAX / 2, on_silence=told.append)
        assert client.call("echo")["ok"] is True
    assert (told, client.has_answered) == ([], True)


def test_a_session_waits_once_for_a_silent_daemon_and_the_next_session_again(tmp_path: Path) -> None:
    told: list[str] = []
    listener = listen_unix(tmp_path / "control.sock", backlog=8)
    client = ControlClient(tmp_path, timeout_s=0.1, silent_s=0.02, on_silence=told.append)
    for _ in range(2):
        with client.session():
            for _ in range(3):
                with pytest.raises(DaemonGone, match="has not answered"):
                    client.call("status")
            with pytest.raises(DaemonGone, match="has not answered"):
                client.is_running()
    assert len(told) == 2
    listener.close()


def test_the_lines_of_one_piece_of_the_stream_are_read_one_by_one(tmp_path: Path) -> None:
    steps: list[dict[str, Any]] = []
    reply = b'{"progress": {"step": 1}}\n{"progress": {"step": 2}}\n{"ok": true, "a": 1}\n'
    with answering(tmp_path, reply) as client:
        assert client.call("echo", on_progress=steps.append) == {"ok": True, "a": 1}
    assert steps == [{"step": 1}, {"step": 2}]
