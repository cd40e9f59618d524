"""`p2pdns doctor` on a machine of its own: namespaces for network and mounts, in which each fault is made.

Needs root. The machine has loopback alone, a daemon at its port 53, another node, an upstream, a foreign name server,
and files of the system that the tests write anew; nothing in it can reach any other machine.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.live.box import Box, can_unshare
from tests.live.served import KEY, SECRET, WWW_ADDRESS, ZONE

NAME = f"www.{KEY}"
UPSTREAM, FOREIGN, NOBODY_THERE, STUB = "127.0.0.2", "127.0.0.3", "127.0.0.4", "127.0.0.53"

pytestmark = pytest.mark.skipif(
    not can_unshare(), reason="needs root, and a system that lets it unshare network and mounts"
)


@dataclass
class Sick:
    """The machine, its daemon's state directory, its upstream, and another node with a zone."""

    box: Box
    state: Path
    upstream: subprocess.Popen[str]

    def checks(self, state: Path | None = None, *flags: str) -> tuple[int, dict[str, dict[str, str]]]:
        """Return the exit status of `doctor`, and the verdicts by check."""
        done = self.box.run("doctor", "--json", "--name", NAME, "--state", str(state or self.state), *flags)
        found: dict[str, Any] = json.loads(done.stdout)
        checks = {check["check"]: check for check in found["checks"]}
        assert found["problems"] == sum(check["level"] == "problem" for check in checks.values())
        for check in checks.values():
            if check["level"] == "problem":
                assert all((check["cause"], check["remedy"], check["command"])), check
        return done.returncode, checks

    def problems(self, state: Path | None = None) -> dict[str, dict[str, str]]:
        """Return the problems that are found, of which there must be some."""
        status, checks = self.checks(state)
        assert status == 1
        return {name: check for name, check in checks.items() if check["level"] == "problem"}


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sick]:
    """A machine on which everything is well; the tests put it back as it was."""
    folder = tmp_path_factory.mktemp("machine")
    box = Box.of(folder)
    try:
        upstream = box.deny(UPSTREAM)
        box.deny(FOREIGN)
        flags = ("--dns", "127.0.0.1:53", "--dns", f"{STUB}:53", "--dht", "127.0.0.1:7001", "--upstream", UPSTREAM)
        box.serve(folder / "state", *flags)
        other = ("--no-dns", "--dht", "127.0.0.1:7002", "--bootstrap", "127.0.0.1:7001", "--upstream", "none")
        box.serve(folder / "other", *other)
        key, zone = folder / "zone.key", folder / "a.zone"
        key.touch(0o600)
        key.write_bytes(SECRET.write(None))
        zone.write_text(ZONE)
        done = box.run("publish", "-k", str(key), str(zone), "--state", str(folder / "other"))
        assert done.returncode == 0, done.stderr
        yield Sick(box, folder / "state", upstream)
    finally:
        box.close()


@pytest.fixture(autouse=True)
def healed(machine: Sick) -> Iterator[None]:
    """Undo what a test did to the machine."""
    yield
    machine.box.heal()


def test_a_machine_that_is_well_has_no_problem_and_little_is_said(machine: Sick) -> None:
    status, checks = machine.checks()
    assert status == 0
    levels = {name: check["level"] for name, check in checks.items() if check["level"] != "ok"}
    assert levels == {"contacts": "warning"}
    assert checks["getent"]["cause"] == NAME
    said = machine.box.run("doctor", "--name", NAME, "--state", str(machine.state))
    assert said.returncode == 0
    lines = said.stdout.splitlines()
    assert lines[0] == "1 warning"
    assert "fine      daemon, port 53, second nameserver, resolved, nsswitch, getent," in lines
    assert (len(lines) <= 24, max(map(len, lines)) <= 80) == (True, True)


def test_programs_that_ask_another_server_are_told_of(machine: Sick) -> None:
    machine.box.write("resolv.conf", f"nameserver {FOREIGN}\n")
    found = machine.problems()
    assert set(found) == {"port 53", "getent"}
    assert f"programs ask {FOREIGN}" in found["port 53"]["cause"]
    assert found["port 53"]["remedy"] == "name the daemon there instead: nameserver 127.0.0.1"
    assert found["getent"]["cause"] == f"{NAME}: the daemon answers {WWW_ADDRESS}, and getent does not find it"


def test_a_name_server_that_is_not_there_is_told_of(machine: Sick) -> None:
    machine.box.write("resolv.conf", f"nameserver {NOBODY_THERE}\noptions timeout:1 attempts:1\n")
    assert f"names {NOBODY_THERE}, and nobody answers there" in machine.problems()["port 53"]["cause"]


def test_a_second_name_server_that_races_the_daemon_is_told_of(machine: Sick) -> None:
    machine.box.write("resolv.conf", f"nameserver 127.0.0.1\nnameserver {FOREIGN}\n")
    found = machine.problems()
    assert set(found) == {"second nameserver"}
    assert f"names {FOREIGN} beside 127.0.0.1" in found["second nameserver"]["cause"]


def test_a_c_library_that_asks_no_name_server_is_told_of(machine: Sick) -> None:
    machine.box.write("nsswitch.conf", "hosts: files\n")
    assert set(machine.problems()) == {"nsswitch", "getent"}


def test_a_resolved_that_checks_dnssec_is_told_of(machine: Sick) -> None:
    machine.box.write("resolv.conf", f"nameserver {STUB}\n")
    machine.box.fake("resolvectl", "Global: no\nLink 2 (eth0): allow-downgrade")
    found = machine.problems()
    assert set(found) == {"resolved"}
    assert "allow-downgrade" in found["resolved"]["cause"]
    assert "DNSSEC=no" in found["resolved"]["remedy"]
    machine.box.fake("resolvectl", "Global: no\nLink 2 (eth0): no")
    assert machine.checks()[0] == 0


def test_an_upstream_that_does_not_answer_is_told_of(machine: Sick) -> None:
    machine.upstream.send_signal(signal.SIGSTOP)
    try:
        found = machine.problems()
    finally:
        machine.upstream.send_signal(signal.SIGCONT)
    assert set(found) == {"upstream"}
    assert found["upstream"]["cause"].startswith(f"{UPSTREAM}:53 gives the daemon no answer for ")
    assert machine.checks()[0] == 0


def test_a_clock_that_nobody_keeps_right_is_told_of(machine: Sick) -> None:
    machine.box.fake("timedatectl", "no")
    status, checks = machine.checks()
    assert (status, checks["clock"]["level"]) == (0, "warning")
    machine.box.fake("timedatectl", "yes")
    assert machine.checks()[1]["clock"]["level"] == "ok"


def test_a_daemon_without_contacts_and_room_is_told_of(machine: Sick) -> None:
    state = machine.box.folder / "small" / "state"
    machine.box.serve(state, "--no-dns", "--dht", "127.0.0.1:0", "--upstream", "none")
    found = machine.problems(state)
    assert {"contacts", "disk"} <= set(found)
    assert found["disk"]["command"] == f"df -h {state}"
    assert "when the disk is full" in found["disk"]["cause"]


def test_without_a_daemon_the_checks_of_the_machine_still_tell_something(machine: Sick) -> None:
    machine.box.write("resolv.conf", f"nameserver {FOREIGN}\n")
    found = machine.problems(machine.box.folder / "missing")
    assert set(found) == {"daemon", "port 53"}
    assert found["daemon"]["command"] == "p2pdns serve"


def test_a_port_of_the_daemon_that_gives_no_answer_is_told_of(machine: Sick) -> None:
    state = machine.box.folder / "stopped"
    daemon = machine.box.serve(state, "--dns", "127.0.0.9:5399", "--dht", "127.0.0.1:0", "--upstream", "none")
    children = Path(f"/proc/{daemon.pid}/task/{daemon.pid}/children").read_text().split()
    front = next(pid for pid in children if "front" in Path(f"/proc/{pid}/cmdline").read_text())
    os.kill(int(front), signal.SIGSTOP)
    try:
        cause = machine.problems(state)["daemon"]["cause"]
    finally:
        os.kill(int(front), signal.SIGCONT)
    assert cause.startswith("127.0.0.9:5399: the daemon runs, and its DNS port gives no answer")
