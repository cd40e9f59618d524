"""The supervisor's parts that need no process; tests/live/test_supervisor.py has the rest."""

from __future__ import annotations

import fcntl
import os
import signal
from ast import literal_eval
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from p2pdns import supervisor
from p2pdns.clock import boot_now
from p2pdns.config import Config
from p2pdns.config.published import PublishTable
from p2pdns.directory import StateDirectory, refuse_if_taken, remove_unless_taken
from p2pdns.errors import Unavailable
from p2pdns.net.sockets import open_dns
from p2pdns.supervisor import RESTART_S_MAX, Supervisor, restart_pause_s


def listening(*texts: str) -> Config:
    """Return a configuration with those DNS addresses."""
    return replace(Config(), dns=replace(Config().dns, listen=texts))


def test_every_address_gets_its_pair_of_sockets() -> None:
    pairs = supervisor.dns_sockets(listening("127.0.0.1:0", "[::1]:0"))
    assert [pair.address[0] for pair in pairs] == ["127.0.0.1", "::1"]
    for pair in pairs:
        pair.close()


def test_files_that_systemd_hands_over_are_no_sockets(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "some.key").touch()
    file, pair = os.open(tmp_path / "some.key", os.O_RDONLY), open_dns(("127.0.0.1", 0))
    given = [file, pair.udp.fileno(), pair.tcp.fileno()]
    monkeypatch.setattr(supervisor, "listen_fds", lambda environ, pid: given)
    handed = supervisor.handed_over()
    assert (handed.files, handed.sockets) == ([file], given[1:])
    pair.close()
    # With files alone the addresses of the configuration are bound.
    (bound,) = supervisor.dns_sockets(listening("127.0.0.1:0"), supervisor.Handed(files=[file]))
    bound.close()
    os.close(file)


def test_when_one_address_is_taken_the_others_are_let_go() -> None:
    held, free = open_dns(("127.0.0.1", 0)), open_dns(("127.0.0.1", 0))
    address = free.address
    free.close()
    with pytest.raises(Unavailable, match="port is in use"):
        supervisor.dns_sockets(listening(f"127.0.0.1:{address[1]}", f"127.0.0.1:{held.address[1]}"))
    open_dns(address).close()
    held.close()


def test_run_raises_what_a_busy_port_is_and_starts_nothing(tmp_path: Path) -> None:
    held = open_dns(("127.0.0.1", 0))
    with pytest.raises(Unavailable, match="port is in use"):
        supervisor.run(listening(f"127.0.0.1:{held.address[1]}"), tmp_path)
    held.close()


def test_listen_fds_of_another_process_are_ignored_and_not_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LISTEN_FDS", "1")
    monkeypatch.setenv("LISTEN_PID", str(os.getpid() + 1))
    (pair,) = supervisor.dns_sockets(listening("127.0.0.1:0"))
    assert "LISTEN_FDS" not in os.environ
    pair.close()


TABLE = PublishTable("/nonexistent/alice.zone", "/nonexistent/alice.key")


def run_with(tmp_path: Path, engine: str, front: str, signer: str = "", **how: Any) -> int:
    """Run a supervisor over one-line modules; return its status."""
    for name, code in (("engine_double", engine), ("front_double", front), ("signer_double", signer)):
        (tmp_path / f"{name}.py").write_text(code)
    pair = open_dns(("127.0.0.1", 0))
    directory = StateDirectory.open(tmp_path / "state")
    started = Supervisor(
        Config(publish=(TABLE,) if signer else ()),
        directory,
        [pair],
        engine_module="engine_double",
        front_module="front_double",
        signer_module="signer_double",
        **how,
    )
    before = signal.getsignal(signal.SIGTERM)
    try:
        return started.run()
    finally:
        assert signal.getsignal(signal.SIGTERM) is before
        pair.close()
        directory.close()


@pytest.fixture
def doubles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder whose modules the children can import."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return tmp_path


WAIT = "import signal; signal.pause()"


@pytest.mark.parametrize("code", [1, 2])
def test_a_child_that_cannot_start_ends_the_daemon_with_its_status(doubles: Path, code: int) -> None:
    assert run_with(doubles, f"raise SystemExit({code})", WAIT) == code
    assert run_with(doubles, WAIT, f"raise SystemExit({code})") == code


# Notes its words and what its descriptors are.
NOTES = (
    "import os, pathlib, sys\n"
    "names = {name: os.readlink(f'/proc/self/fd/{name}') for name in os.listdir('/proc/self/fd')\n"
    "         if os.path.exists(f'/proc/self/fd/{name}')}\n"
    "pathlib.Path(__file__).with_suffix('.words').write_text(repr((sys.argv[1:], names)))\n"
)


def test_a_signer_that_cannot_start_is_started_again_and_ends_nothing(doubles: Path) -> None:
    signer = (
        "import os, pathlib, signal\n"
        "file = pathlib.Path(__file__).with_suffix('.lives')\n"
        "lives = len(file.read_text()) + 1 if file.exists() else 1\n"
        "file.write_text('x' * lives)\n"
        "lives > 2 and os.kill(os.getppid(), signal.SIGTERM)\n"
        "raise SystemExit(1 + lives % 2)\n"
    )
    assert run_with(doubles, WAIT, WAIT, signer) == 0
    assert len((doubles / "signer_double.lives").read_text()) >= 3


def test_the_signer_alone_gets_the_descriptors_of_key_files(doubles: Path) -> None:
    key = doubles / "some.key"
    key.touch()
    descriptor = os.open(key, os.O_RDONLY)
    ready = "(pathlib.Path(__file__).parent / '{}').exists()"
    others = " and ".join(ready.format(f"{name}_double.words") for name in ("engine", "front"))
    signer = (
        f"{NOTES}import signal, time\nwhile not ({others}): time.sleep(0.01)\nos.kill(os.getppid(), signal.SIGTERM)\n"
    )
    assert run_with(doubles, NOTES + WAIT, NOTES + WAIT, signer, keys={0: descriptor}) == 0
    os.close(descriptor)
    words, files = literal_eval((doubles / "signer_double.words").read_text())
    assert f"0:{descriptor}" in words
    assert files[str(descriptor)] == str(key)
    for name in ("engine", "front"):
        words, files = literal_eval((doubles / f"{name}_double.words").read_text())
        assert "--key-fd" not in words
        assert str(key) not in files.values()


def test_without_dns_there_is_no_front(doubles: Path) -> None:
    engine = "import os, signal, time\nos.kill(os.getppid(), signal.SIGTERM)\n" + WAIT
    assert run_with(doubles, engine, NOTES, answers_dns=False) == 0
    assert not (doubles / "front_double.words").exists()


def test_a_wrong_configuration_is_no_crash_however_long_the_start_took(
    doubles: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A busy machine may let an engine wait for longer than what counts as the start; then it was started again."""
    monkeypatch.setattr(supervisor, "STEADY_S", 0.0)
    engine = (
        "import os, pathlib, signal\n"
        "file = pathlib.Path(__file__).with_suffix('.lives')\n"
        "if file.exists():\n"
        "    os.kill(os.getppid(), signal.SIGTERM)\n"
        "file.touch()\n"
        "raise SystemExit(2)\n"
    )
    # A second life would end the supervisor by SIGTERM, and its status would be 0.
    assert run_with(doubles, engine, WAIT) == 2


def test_a_child_that_ends_otherwise_is_started_again_after_a_pause(doubles: Path) -> None:
    # The engine dies three times and then ends the supervisor; a file counts its lives.
    engine = (
        "import os, pathlib, signal\n"
        "file = pathlib.Path(__file__).with_suffix('.lives')\n"
        "lives = len(file.read_text()) + 1 if file.exists() else 1\n"
        "file.write_text('x' * lives)\n"
        "os.kill(*((os.getppid(), signal.SIGTERM) if lives > 3 else (os.getpid(), signal.SIGKILL)))\n"
        "signal.pause()\n"
    )
    started = boot_now()
    front = "import pathlib\npathlib.Path(__file__).with_suffix('.lives').open('a').write('x')\n" + WAIT
    assert run_with(doubles, engine, front) == 0
    lives = [(doubles / f"{name}_double.lives").read_text() for name in ("engine", "front")]
    assert lives == ["xxxx", "x"]
    assert boot_now() - started > sum(restart_pause_s(count) for count in (1, 2, 3))


def test_pauses_between_restarts_grow_and_stay_below_the_three_seconds_that_are_promised() -> None:
    pauses = [restart_pause_s(count) for count in range(1, 40)]
    assert pauses == sorted(pauses)
    assert pauses[0] < 0.2
    assert pauses[-1] == RESTART_S_MAX < 3.0


def test_a_child_that_ignores_sigterm_is_killed(doubles: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "STOP_S_MAX", 0.3)
    stubborn = (
        "import os, signal\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "open(__file__ + '.pid', 'w').write(str(os.getpid()))\n"
        "os.kill(os.getppid(), signal.SIGTERM)\n"
        "while True: signal.pause()\n"
    )
    front = "import os\nopen(__file__ + '.pid', 'w').write(str(os.getpid()))\n" + WAIT
    assert run_with(doubles, stubborn, front) == 0
    # On a busy machine the front may be killed before it has written.
    for pid in filter(None, [path.read_text() for path in doubles.glob("*.pid")]):
        with pytest.raises(ProcessLookupError):
            os.kill(int(pid), 0)
    assert (doubles / "engine_double.py.pid").exists()


def test_the_children_run_our_code_and_not_that_of_the_current_folder(
    doubles: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = doubles / "elsewhere"
    (elsewhere / "p2pdns").mkdir(parents=True)
    (elsewhere / "p2pdns" / "__init__.py").write_text("")
    monkeypatch.chdir(elsewhere)
    engine = "import p2pdns, sys\nsys.exit(2 if hasattr(p2pdns, '__version__') else 1)\n"
    assert run_with(doubles, engine, WAIT) == 2


def test_the_configuration_reaches_each_child_from_its_beginning(doubles: Path) -> None:
    read_twice = (
        "import os, sys\n"
        "fd = int(sys.argv[sys.argv.index('--config-fd') + 1])\n"
        "sys.exit(2 if os.read(fd, 9_999_999).startswith(b'{') else 1)\n"
    )
    assert run_with(doubles, read_twice, WAIT) == 2


@pytest.mark.parametrize(
    ("end", "name"),
    [
        ("raise SystemExit(3)", "exit 3"),
        ("os.kill(os.getpid(), signal.SIGKILL)", "SIGKILL"),
        ("os.kill(os.getpid(), signal.SIGRTMAX)", "SIGRTMAX"),
    ],
)
def test_an_ending_is_named(doubles: Path, monkeypatch: pytest.MonkeyPatch, end: str, name: str) -> None:
    monkeypatch.setattr(supervisor, "STEADY_S", 0.0)
    engine = (
        "import os, pathlib, signal\n"
        "file = pathlib.Path(__file__).with_suffix('.lives')\n"
        "if file.exists():\n"
        "    os.kill(os.getppid(), signal.SIGTERM)\n"
        "    signal.pause()\n"
        "file.touch()\n"
        f"{end}\n"
    )
    with capture_logs() as told:
        assert run_with(doubles, engine, WAIT) == 0
    assert [line["event"] for line in told if "starting it again" in line["event"]] == [
        f"engine ended ({name}), starting it again"
    ]


def test_the_socket_that_a_killed_engine_left_in_the_runtime_directory_goes_too_and_no_other(tmp_path: Path) -> None:
    state, runtime = tmp_path / "state", tmp_path / "run"
    for path in (state, runtime):
        path.mkdir(mode=0o700)
    (runtime / "control.sock").touch()
    # Without the link it is another daemon's.
    assert supervisor.left_sockets(state) == supervisor.SOCKET_NAMES
    (state / "control.sock").symlink_to(runtime / "control.sock")
    (state / "lock").touch()
    remove_unless_taken(state, supervisor.left_sockets(state))
    assert [path.name for path in tmp_path.rglob("*.sock")] == []


def test_a_state_directory_that_an_engine_holds_is_refused_and_left_alone(tmp_path: Path) -> None:
    refuse_if_taken(tmp_path / "missing")
    (tmp_path / "lock").write_text("4711\n")
    refuse_if_taken(tmp_path)
    for name in supervisor.SOCKET_NAMES:
        (tmp_path / name).touch()
    with (tmp_path / "lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(Unavailable, match=r"another p2pdns runs in this state directory \(pid 4711\)"):
            refuse_if_taken(tmp_path)
        remove_unless_taken(tmp_path, supervisor.SOCKET_NAMES)
        assert len(list(tmp_path.glob("*.sock"))) == 2
    remove_unless_taken(tmp_path, supervisor.SOCKET_NAMES)
    assert not list(tmp_path.glob("*.sock"))
    remove_unless_taken(tmp_path / "missing", supervisor.SOCKET_NAMES)
