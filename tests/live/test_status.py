"""What a running daemon says of its front, which is another process than the one that is asked."""

from __future__ import annotations

import grp
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tests.live.front_process import GUARD_S, wait_until
from tests.live.served import AS_NOBODY, KEY, NETWORK, Served, environment, p2pdns
from tests.live.test_supervisor import children_of


def test_status_shows_what_the_front_has_counted_to_a_person_and_as_json(tmp_path: Path) -> None:
    daemon = Served(tmp_path / "state")
    try:
        # The question that the daemon was waited for with was the miss.
        daemon.ask("localhost")

        def front() -> dict[str, int]:
            done = p2pdns("status", "--json", "--state", daemon.state)
            counters: dict[str, int] = json.loads(done.stdout)["counters"]["front"]
            return counters

        wait_until(lambda: front().get("cache-hit", 0) >= 1, "a hit")
        counters = front()
        assert counters["cache-miss"] >= 1
        assert counters["udp-sent"] >= 2
        assert counters["link-connected"] == 1
        lines = [line.split() for line in p2pdns("status", "-v", "--state", daemon.state).stdout.splitlines()]
        assert ["front"] in lines
        assert ["cache-hit", str(counters["cache-hit"])] in lines
        # They are no business of somebody who only wants to know whether all is well.
        assert "cache-hit" not in p2pdns("status", "--state", daemon.state).stdout
    finally:
        assert daemon.end() == 0


def problems_of(daemon: Served) -> dict[str, dict[str, str]]:
    """Return the problems of a daemon by what they are about."""
    found: list[dict[str, str]] = json.loads(p2pdns("status", "--json", "--state", daemon.state).stdout)["problems"]
    return {problem["about"]: problem for problem in found}


def test_every_fault_of_a_daemon_is_told_with_a_remedy_and_a_command_on_one_screen(tmp_path: Path) -> None:
    blocked = tmp_path / "blocked.hosts"
    blocked.write_text("ads.example\n")
    config = tmp_path / "p2pdns.toml"
    config.write_text(f'[dns]\nblock = ["{blocked}"]\n')
    daemon = Served(tmp_path / "state", "-c", str(config), "--upstream", "127.0.0.1:9")
    try:
        assert set(problems_of(daemon)) == {"contacts"}
        daemon.publish_here(tmp_path)
        for number in range(4):
            daemon.ask(f"name{number}.example.com")
        config.write_text("[dns]\nblok = []\n")
        daemon.process.send_signal(signal.SIGHUP)
        wait_until(lambda: "configuration" in problems_of(daemon), "a configuration that is refused")
        blocked.unlink()
        found = problems_of(daemon)
        assert set(found) == {"contacts", "copies", "upstream", "block", "configuration"}
        assert found["copies"]["cause"] == f"zone {KEY}: only 0 other nodes keep it, 20 are wanted"
        assert found["copies"]["command"] == f"p2pdns inspect {KEY}"
        assert found["upstream"]["command"] == "p2pdns resolve example.com @127.0.0.1:9"
        assert "no such file" in found["block"]["cause"]
        assert "blok" in found["configuration"]["cause"]
        lines = p2pdns("status", "--state", daemon.state).stdout.splitlines()
        assert lines[0].startswith("5 problems: p2pdns ")
        assert (len(lines) <= 24, max(map(len, lines)) <= 80) == (True, True)
        blocked.write_text("ads.example\nmore.example\n")
        config.write_text(f'[dns]\nblock = ["{blocked}"]\n')
        assert "changed since it was read" in problems_of(daemon)["block"]["cause"]
        assert p2pdns("reload", "--state", daemon.state).returncode == 0
        assert set(problems_of(daemon)) == {"contacts", "copies", "upstream"}
    finally:
        assert daemon.end() == 0


@pytest.mark.parametrize("flags", [(), ("--no-dns",)])
def test_the_control_socket_of_a_service_lies_in_its_runtime_directory(tmp_path: Path, flags: tuple[str, ...]) -> None:
    runtime = tmp_path / "run"
    runtime.mkdir(mode=0o755)
    daemon = Served(tmp_path / "state", *flags, extra={"RUNTIME_DIRECTORY": f"{runtime}:/run/second"})
    try:
        assert stat.S_ISSOCK((runtime / "control.sock").lstat().st_mode)
        assert (daemon.state / "link.sock").exists()
        for place in ({"RUNTIME_DIRECTORY": str(runtime)}, {"STATE_DIRECTORY": str(daemon.state)}):
            assert json.loads(p2pdns("status", "--json", extra=place).stdout)["pid"] == daemon.status()["pid"]
        if not flags:
            os.kill(children_of(daemon.process.pid)["engine"], signal.SIGKILL)
            wait_until(daemon.control.is_running, "another engine")
    finally:
        assert daemon.end() == 0
    assert list(runtime.iterdir()) == []


def _can_unshare() -> bool:
    if os.geteuid() != 0 or not all(map(shutil.which, ("unshare", "nsenter"))):
        return False
    return subprocess.run(["unshare", "-m", "true"], capture_output=True, check=False).returncode == 0


@pytest.mark.skipif(not _can_unshare(), reason="needs root, and a system that lets it unshare mounts")
def test_without_one_of_ones_own_the_daemon_of_the_system_answers_its_group_and_tells_others_why_not(
    tmp_path: Path,
) -> None:
    state = tmp_path / "state"
    script = "mount -t tmpfs -o mode=0755 none /run && mkdir -m 0755 /run/p2pdns && echo ready && exec sleep infinity"
    holder = subprocess.Popen(
        ["unshare", "-m", "--propagation", "private", "sh", "-c", script], stdout=subprocess.PIPE, text=True
    )
    inside = ["nsenter", "-t", str(holder.pid), "-m", "--", sys.executable]
    config = tmp_path / "p2pdns.toml"
    config.write_text(f'[control]\ngroup = "{grp.getgrgid(65534).gr_name}"\n')
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "ready\n"
        words = ["-m", "p2pdns", "serve", "-c", str(config), "--state", str(state), "--network", NETWORK, "--no-dns"]
        log = (tmp_path / "log").open("wb")
        with log:
            daemon = subprocess.Popen(
                [*inside, *words, "--dht", "127.0.0.1:0", "--upstream", "none"],
                stderr=log,
                env=environment({"RUNTIME_DIRECTORY": "/run/p2pdns"}),
            )

        def status(*program: str) -> subprocess.CompletedProcess[str]:
            return subprocess.run(
                [*inside, *program, "status", "--json"],
                capture_output=True,
                text=True,
                timeout=GUARD_S,
                env=environment({}),
                check=False,
            )

        def is_answering() -> bool:
            assert daemon.poll() is None, (tmp_path / "log").read_text()
            return status("-m", "p2pdns").returncode == 0

        wait_until(is_answering, "a daemon")
        # A member of the group passes where the state directory is closed to everybody.
        done = status("-c", AS_NOBODY)
        assert (done.returncode, json.loads(done.stdout)["pid"]) == (0, daemon.pid), done.stderr
        done = status("-c", AS_NOBODY.replace("os.setgid(65534)", "os.setgid(65533)"))
        assert done.returncode == 1
        error, hint = done.stderr.splitlines()
        assert error == "p2pdns: error: /run/p2pdns/control.sock: the control socket belongs to root"
        assert "/run/p2pdns can be passed for the group" in hint
        assert "is not a member of it" in hint
        daemon.send_signal(signal.SIGTERM)
        assert daemon.wait(GUARD_S) == 0
    finally:
        holder.terminate()
        holder.communicate(timeout=GUARD_S)
