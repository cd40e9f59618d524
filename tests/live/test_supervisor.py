"""The supervisor with real processes: who is started again, who ends, and what questions see of it."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import dns.exception
import dns.message
import dns.query
import dns.rcode
import pytest

from p2pdns.config import Config
from p2pdns.net.sockets import open_dns
from p2pdns.supervisor import RESTART_S_MAX, SIGNER_MODULE
from tests.live.front_process import GUARD_S, wait_until

ENGINE = "p2pdns.engine.main"
FAKE_ENGINE = "tests.live.fake_engine"
ROOT = Path(__file__).resolve().parents[2]


def children_of(pid: int) -> dict[str, int]:
    """Return the pids of the engine, the front and the signer below a supervisor, by name."""
    found = {}
    try:
        pids = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except FileNotFoundError:
        return {}
    for child in map(int, pids):
        try:
            words = Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0")
        except (FileNotFoundError, ProcessLookupError):
            continue
        for name, marks in (
            ("front", {b"p2pdns.front.main"}),
            ("engine", {ENGINE.encode(), FAKE_ENGINE.encode()}),
            ("signer", {SIGNER_MODULE.encode()}),
        ):
            if marks & set(words):
                found[name] = child
    return found


def is_alive(pid: int) -> bool:
    """Return whether a process runs; one that only waits to be collected does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


class Daemon:
    """A supervisor process and a client."""

    def __init__(self, state_dir: Path, listen: str = "127.0.0.1:0", engine: str = FAKE_ENGINE) -> None:
        self.errors = state_dir / "daemon.err"
        with self.errors.open("wb") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.live.supervised", str(state_dir), listen, engine],
                stderr=errors,
                cwd=ROOT,
            )
        self.port = 0

    def ready(self) -> Daemon:
        """Wait until it listens and answers."""
        wait_until(lambda: bool(self.listening()) or self.process.poll() is not None, "the line that says where")
        self.port = int(self.listening()[-1])
        return self

    def listening(self) -> list[str]:
        """Return the ports that the log names."""
        return re.findall(r"p2pdns: dns: listening on 127\.0\.0\.1:(\d+) \(udp, tcp\)", self.errors.read_text())

    def pid_of(self, name: str) -> int:
        """Return the pid of a child, once there is one."""
        wait_until(lambda: name in children_of(self.process.pid), f"a running {name}")
        return children_of(self.process.pid)[name]

    def ask(self, name: str = "answer.example", timeout_s: float = GUARD_S) -> dns.message.Message:
        """Ask over UDP."""
        message = dns.message.make_query(name, "A", use_edns=True)
        return dns.query.udp(message, "127.0.0.1", timeout=timeout_s, port=self.port)

    def is_answering(self, name: str = "answer.example") -> bool:
        """Return whether a question gets its answer now."""
        try:
            return self.ask(name, 0.5).rcode() == dns.rcode.NOERROR
        except (dns.exception.Timeout, OSError):
            return False

    def is_settled(self, name: str) -> bool:
        """Return whether a question gets an answer of the engine, a negative one too."""
        try:
            return self.ask(name, 0.5).rcode() in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN)
        except (dns.exception.Timeout, OSError):
            return False

    def pauses_s(self) -> list[float]:
        """Return how long the supervisor waited each time before it started a child again.

        The rest of the time until a child is back is its own start, which depends on the machine and on what else runs.
        """
        return [float(pause_s) for pause_s in re.findall(r"ended .*pause_s=([0-9.]+)", self.errors.read_text())]

    def close(self) -> str:
        """End it and return what it said."""
        pids = list(children_of(self.process.pid).values())
        if self.process.poll() is None:
            self.process.terminate()
        try:
            self.process.wait(GUARD_S)
        finally:
            self.process.kill()
            self.process.wait()
        wait_until(lambda: not any(map(is_alive, pids)), "the end of the children")
        errors = self.errors.read_text()
        assert "Traceback" not in errors, errors
        return errors


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    """Return a daemon that answers."""
    made = Daemon(tmp_path)
    try:
        yield made.ready()
    finally:
        made.close()


@pytest.fixture
def whole_daemon(tmp_path: Path) -> Iterator[Daemon]:
    """Return a daemon with the real engine."""
    made = Daemon(tmp_path, engine=ENGINE)
    try:
        yield made.ready()
    finally:
        made.close()


@pytest.mark.parametrize("names", [("front",), ("engine",), ("front", "engine")], ids="+".join)
def test_the_real_parts_are_back_after_the_longest_pause_at_most(whole_daemon: Daemon, names: tuple[str, ...]) -> None:
    # What the engine answers out of itself: nothing of it is in a cache before it is asked.
    assert whole_daemon.ask("p2p.alt").rcode() == dns.rcode.NOERROR
    pids = {name: whole_daemon.pid_of(name) for name in names}
    for pid in pids.values():
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not any(map(is_alive, pids.values())), "the end of those killed")
    # A negative answer of the engine's own: a new front or engine has to make it again.
    wait_until(lambda: whole_daemon.is_settled("localhost.invalid"), "service")
    assert max(whole_daemon.pauses_s()) <= RESTART_S_MAX
    assert all(whole_daemon.pid_of(name) != pid for name, pid in pids.items())


def test_a_second_daemon_of_one_state_directory_ends_with_exit_1(whole_daemon: Daemon, tmp_path: Path) -> None:
    second = subprocess.run(
        [sys.executable, "-m", "tests.live.supervised", str(tmp_path), "127.0.0.1:0", ENGINE],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=GUARD_S,
        check=False,
    )
    assert second.returncode == 1
    assert "starting it again" not in second.stderr
    assert whole_daemon.ask("p2p.alt").rcode() == dns.rcode.NOERROR


@pytest.mark.parametrize("name", ["front", "engine"])
def test_a_killed_child_is_back_and_the_other_goes_on(daemon: Daemon, name: str) -> None:
    before = {child: daemon.pid_of(child) for child in ("front", "engine")}
    other = "engine" if name == "front" else "front"
    os.kill(before[name], signal.SIGKILL)
    wait_until(lambda: not is_alive(before[name]), "the end of the child")
    # A name that no cache has: front, link and engine must all be there.
    wait_until(lambda: daemon.is_answering("answer-again.example"), "service")
    assert max(daemon.pauses_s()) <= RESTART_S_MAX
    assert daemon.pid_of(name) != before[name]
    assert daemon.pid_of(other) == before[other]


def test_both_killed_at_once_are_back(daemon: Daemon) -> None:
    for name in ("front", "engine"):
        os.kill(daemon.pid_of(name), signal.SIGKILL)
    wait_until(lambda: daemon.is_answering("answer-again.example"), "service")
    assert max(daemon.pauses_s()) <= RESTART_S_MAX


def test_children_killed_again_and_again_are_back_each_time(daemon: Daemon) -> None:
    for i in range(4):
        for name in ("front", "engine"):
            os.kill(daemon.pid_of(name), signal.SIGKILL)
        name = f"answer{i}.example"
        wait_until(lambda name=name: daemon.is_answering(name), "service")  # type: ignore[misc]
    assert len(daemon.pauses_s()) == 8
    assert max(daemon.pauses_s()) <= RESTART_S_MAX


def test_questions_during_kills_get_no_wrong_answer(daemon: Daemon) -> None:
    stop = threading.Event()
    replies: list[dns.message.Message] = []

    def ask_all() -> None:
        for i in range(1000):
            if stop.is_set():
                return
            try:
                replies.append(daemon.ask(f"answer{i}.example", 2.5))
            except (dns.exception.Timeout, OSError):
                continue

    asker = threading.Thread(target=ask_all)
    asker.start()
    for name in ("front", "engine", "front"):
        enough = len(replies) + 20
        wait_until(lambda enough=enough: len(replies) > enough, "more replies")  # type: ignore[misc]
        os.kill(daemon.pid_of(name), signal.SIGKILL)
    asker.join(GUARD_S)
    stop.set()
    asker.join(GUARD_S)
    assert len(replies) > 60
    assert {reply.rcode() for reply in replies} <= {dns.rcode.NOERROR, dns.rcode.SERVFAIL}
    assert all(reply.answer[0][0].to_text() == "192.0.2.1" for reply in replies if reply.rcode() == 0)
    # A lost datagram at each kill, no more: the sockets outlive the front.
    assert sum(reply.rcode() == 0 for reply in replies) >= len(replies) - 10


def test_questions_wait_in_the_kernel_while_the_front_is_gone(daemon: Daemon) -> None:
    pid = daemon.pid_of("front")
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not is_alive(pid), "the end of the front")
    assert daemon.ask("answer-waited.example").rcode() == dns.rcode.NOERROR


def test_a_killed_supervisor_leaves_no_orphan(daemon: Daemon) -> None:
    pids = [daemon.pid_of("front"), daemon.pid_of("engine")]
    daemon.process.kill()
    daemon.process.wait()
    wait_until(lambda: not any(map(is_alive, pids)), "the end of the children")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_all_three_with_exit_0(tmp_path: Path, number: signal.Signals) -> None:
    made = Daemon(tmp_path).ready()
    pids = [made.pid_of("front"), made.pid_of("engine")]
    made.process.send_signal(number)
    assert made.process.wait(GUARD_S) == 0
    assert not any(map(is_alive, pids))
    assert "starting it again" not in made.close()


def test_sighup_reaches_both_children_with_the_new_configuration(daemon: Daemon, tmp_path: Path) -> None:
    closed = replace(Config(), dns=replace(Config().dns, allow=("192.0.2.0/24",)))
    (tmp_path / "config.json").write_text(closed.to_json())
    daemon.process.send_signal(signal.SIGHUP)
    wait_until(lambda: daemon.ask().rcode() == dns.rcode.REFUSED, "the new access list")
    wait_until((tmp_path / "hangups").exists, "the hang-up at the engine")
    # A child that starts later gets the new configuration as well.
    os.kill(daemon.pid_of("front"), signal.SIGKILL)
    assert daemon.ask().rcode() == dns.rcode.REFUSED


@pytest.mark.parametrize("code", [1, 2])
def test_an_engine_that_cannot_start_ends_the_daemon_with_its_status(tmp_path: Path, code: int) -> None:
    (tmp_path / "exit").write_text(str(code))
    made = Daemon(tmp_path)
    assert made.process.wait(GUARD_S) == code
    assert "starting it again" not in made.close()


def test_an_engine_that_cannot_start_again_is_tried_again(daemon: Daemon, tmp_path: Path) -> None:
    (tmp_path / "exit").write_text("1")
    os.kill(daemon.pid_of("engine"), signal.SIGKILL)
    wait_until(lambda: daemon.errors.read_text().count("engine ended (exit 1)") >= 2, "two more tries")
    (tmp_path / "exit").unlink()
    wait_until(lambda: daemon.is_answering("answer-again.example"), "service")


@pytest.mark.parametrize("kind", [socket.SOCK_DGRAM, socket.SOCK_STREAM], ids=["udp", "tcp"])
def test_a_port_in_use_is_one_line_and_a_hint_and_exit_1(tmp_path: Path, kind: socket.SocketKind) -> None:
    with socket.socket(socket.AF_INET, kind) as held:
        held.bind(("127.0.0.1", 0))
        if kind is socket.SOCK_STREAM:
            held.listen()
        port = held.getsockname()[1]
        made = Daemon(tmp_path, f"127.0.0.1:{port}")
        assert made.process.wait(GUARD_S) == 1
    lines = made.close().splitlines()
    assert lines[0] == f"p2pdns: error: 127.0.0.1:{port}: port is in use"
    assert lines[1].startswith("p2pdns: hint: ")
    assert len(lines) == 2


def test_sockets_come_from_systemd_where_it_hands_them_over(tmp_path: Path) -> None:
    pair = open_dns(("127.0.0.1", 0))
    udp, tcp = os.dup(pair.udp.fileno()), os.dup(pair.tcp.fileno())
    # What systemd does: descriptors 3 and 4, and the pid of the process that is about to be executed.
    launcher = (
        "import os, sys\n"
        f"a, b = os.dup({udp}), os.dup({tcp})\n"
        "os.dup2(a, 100), os.dup2(b, 101)\n"
        "os.dup2(100, 3), os.dup2(101, 4)\n"
        "os.environ.update(LISTEN_FDS='2', LISTEN_PID=str(os.getpid()))\n"
        "os.execv(sys.executable, [sys.executable, '-m', 'tests.live.supervised', *sys.argv[1:]])\n"
    )
    errors = tmp_path / "daemon.err"
    with errors.open("wb") as stream:
        process = subprocess.Popen(
            [sys.executable, "-c", launcher, str(tmp_path), "127.0.0.1:9", FAKE_ENGINE],
            stderr=stream,
            cwd=ROOT,
            pass_fds=[udp, tcp],
        )
    made = Daemon.__new__(Daemon)
    made.errors, made.process, made.port = errors, process, 0
    try:
        made.ready()
        assert made.port == pair.address[1]
        reply = dns.query.tcp(dns.message.make_query("answer.example", "A"), "127.0.0.1", GUARD_S, made.port)
        assert reply.answer
    finally:
        made.close()
        pair.close()
        os.close(udp)
        os.close(tcp)
