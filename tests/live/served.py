"""`p2pdns serve` and the other verbs as a user starts them: processes, on loopback, in a network of their own."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import dns.edns
import dns.message
import dns.query

from p2pdns.admin.control import ControlClient
from p2pdns.items.keys import SecretKey
from tests.live.front_process import GUARD_S, wait_until
from tests.live.test_supervisor import children_of, is_alive

ROOT = Path(__file__).resolve().parents[2]
# One for each process of a test run: a port that a test gives back may be another's a moment later, and in one network
# the two would become neighbours.
NETWORK = f"hostile tests {os.getpid()}"
SECRET = SecretKey.generate(b"\x2a" * 32)
KEY = str(SECRET.zone_key)
WWW_ADDRESS, OTHER_ADDRESS = "192.0.2.80", "192.0.2.81"
ZONE = f"$TTL 300\nwww A {WWW_ADDRESS}\n* A {OTHER_ADDRESS}\n"
NOBODY = 65534
AS_NOBODY = f"""
import importlib, os, sys
from p2pdns.cli import main, verbs
# What is loaded later could lie where nobody may read.
for module in set(verbs.VERBS.values()):
    importlib.import_module(module)
import p2pdns.cli.node, p2pdns.supervisor, p2pdns.engine.main
os.setgroups([]), os.setgid({NOBODY}), os.setuid({NOBODY})
sys.exit(main.main(sys.argv[1:]))
"""

Finished = subprocess.CompletedProcess[str]


def environment(extra: Mapping[str, str]) -> dict[str, str]:
    """Return an environment in which no configuration of whoever runs the tests is found."""
    paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        "HOME": "/nonexistent",
        "P2PDNS_CONFIG": os.devnull,
        "RUNTIME_DIRECTORY": "",
        **extra,
    }


def p2pdns(*words: str | Path, shell: str = "", user: bool = False, extra: Mapping[str, str] | None = None) -> Finished:
    """Run a command to its end. `shell` is a redirection, `user` makes it run as nobody."""
    program = [sys.executable, *(["-c", AS_NOBODY] if user else ["-m", "p2pdns"]), *map(str, words)]
    if shell:
        program = ["sh", "-c", f'exec "$@" {shell}', "sh", *program]
    return subprocess.run(
        program,
        capture_output=True,
        text=True,
        errors="surrogateescape",
        stdin=subprocess.DEVNULL,
        env=environment(extra or {}),
        timeout=GUARD_S,
        check=False,
    )


def assert_refused(done: Finished, error: str, code: int = 1) -> None:
    """Check that a command said what is wrong in one line, what to do in the next, and nothing else."""
    # A daemon of root's says so first, whatever comes then.
    lines = [line for line in done.stderr.splitlines() if ": serve: warning: running as root" not in line]
    assert re.fullmatch(f"p2pdns: error: {error}", lines[0] if lines else ""), done.stderr
    assert len(lines) == 2, done.stderr
    assert lines[1].startswith("p2pdns: hint: "), done.stderr
    assert done.returncode == code
    assert done.stdout == ""


RUNNING: list[Served] = []  # In the order in which they were started.


def end_since(count: int) -> None:
    """Kill what is left of the daemons that were started after the first `count`: a test that failed ends none."""
    for served in RUNNING[count:]:
        served.kill()


class Served:
    """A running `p2pdns serve`; its log is a file beside the state directory.

    `within` is a command that runs another one, with its words behind.
    """

    def __init__(
        self,
        state: Path,
        *flags: str,
        shell: str = "",
        is_ready: bool = True,
        log: Path | None = None,
        extra: Mapping[str, str] | None = None,
        namespace: str = "",
        within: Sequence[str] = (),
    ) -> None:
        self.state = state
        self.log = log or Path(f"{state}.log")
        words = ["--state", str(state), "--network", NETWORK, "--dht", "127.0.0.1:0", "--upstream", "none", *flags]
        if "--no-dns" not in flags and "--dns" not in flags:
            words += ["--dns", "127.0.0.1:0"]
        program = [sys.executable, "-m", "p2pdns", "serve", *words]
        if shell:
            program = ["sh", "-c", f'exec "$@" {shell}', "sh", *program]
        if namespace:
            program = ["ip", "netns", "exec", namespace, *program]
        with self.log.open("ab") as lines:
            self.process = subprocess.Popen(
                [*within, *program], stdin=subprocess.DEVNULL, stdout=lines, stderr=lines, env=environment(extra or {})
            )
        RUNNING.append(self)
        self.control = ControlClient(state, timeout_s=GUARD_S)
        self.has_dns = "--no-dns" not in flags
        self.port = 0
        if is_ready:
            self.ready()

    def ready(self) -> Served:
        """Wait until it answers."""
        wait_until(lambda: self.control.is_running() or self.process.poll() is not None, "a daemon")
        assert self.process.poll() is None, self.said()
        if self.has_dns:
            self.port = int(self.status()["dns_addresses"][0].rpartition(":")[2])
            # The kernel holds a question until there is a front to take it.
            self.ask("localhost")
        return self

    def status(self) -> dict[str, Any]:
        """Return what it says about itself."""
        facts: dict[str, Any] = self.control.call("status")["status"]
        return facts

    def said(self) -> str:
        """Return its log so far."""
        return self.log.read_text(errors="replace")

    def ask(self, name: str, timeout_s: float = GUARD_S) -> dns.message.Message:
        """Ask for the address of a name over UDP."""
        query = dns.message.make_query(name, "A", use_edns=True)
        return dns.query.udp(query, "127.0.0.1", timeout=timeout_s, port=self.port)

    def address_of(self, name: str) -> str:
        """Return the one address that a name has here."""
        reply = self.ask(name)
        assert len(reply.answer) == 1, reply
        return str(reply.answer[0][0])

    def publish(self, folder: Path, zone: str = ZONE) -> Finished:
        """Publish the zone through this daemon."""
        key, path = folder / "zone.key", folder / "published.zone"
        if not key.exists():
            key.touch(0o600)
            key.write_bytes(SECRET.write(None))
        path.write_text(zone)
        return p2pdns("publish", "-k", key, path, "--state", self.state)

    def publish_here(self, folder: Path, zone: str = ZONE) -> None:
        """Publish the zone through this daemon, which knows no other node to keep it."""
        done = self.publish(folder, zone)
        assert (done.returncode, done.stdout[:30]) == (1, "kept here, at 0 other nodes, s"), done.stderr

    def end(self, number: int = signal.SIGTERM) -> int:
        """End it; no process and no socket may be left, nor a traceback in its log."""
        pids = list(children_of(self.process.pid).values())
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            code = self.process.wait(GUARD_S)
        finally:
            self.kill()
        wait_until(lambda: not any(map(is_alive, pids)), "the end of the children")
        assert not list(self.state.glob("*.sock")) or number == signal.SIGKILL
        assert "Traceback" not in self.said(), self.said()
        return code

    def kill(self) -> None:
        """Kill it if it still runs; its children end by themselves."""
        self.process.kill()
        self.process.wait()
        if self in RUNNING:
            RUNNING.remove(self)
