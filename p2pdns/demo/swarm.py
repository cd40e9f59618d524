"""Nodes as processes of their own, in one named network on loopback, and their orderly end.

Guarantees: every process started here is ended by its own pid, even after an error. When this process is killed, they
end by themselves: they read a pipe that only this process holds open. The nodes are bound to 127.0.0.1, so none of them
can send to an address outside loopback. Does not know the questions.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from p2pdns.admin.control import ControlClient
from p2pdns.errors import Unavailable

READY_S_MAX = 60.0  # Nine interpreters on a slow machine with one core.
END_S_MAX = 10.0  # Time for a node to write its state before it is killed.
LOOK_AGAIN_S = 0.02
LOG_LINES_SHOWN = 5
HOST = "127.0.0.1"


@dataclass
class SwarmNode:
    """One process of the swarm: its number, its state directory, its log."""

    name: str
    process: subprocess.Popen[bytes]
    state: Path
    log: Path

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def pids(self) -> list[int]:
        """The process and its children: with DNS a supervisor, an engine and a front."""
        try:
            children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        except OSError:
            # Not every kernel has this list; the status has the pid of the engine.
            children = [str(self.status()["pid"])]
        return sorted({self.pid, *(int(child) for child in children)})

    @property
    def control(self) -> ControlClient:
        return ControlClient(self.state)

    def status(self) -> dict[str, Any]:
        """Return the node's status."""
        facts: dict[str, Any] = self.control.call("status")["status"]
        return facts

    def last_words(self) -> str:
        """Return the last lines of the node's log."""
        lines = self.log.read_text(errors="replace").splitlines()
        return "\n".join(lines[-LOG_LINES_SHOWN:])


class Swarm:
    """The processes of one network. A context manager: at its end no process is left."""

    def __init__(self, folder: Path, network: str) -> None:
        self.folder = folder
        self.network = network
        self.nodes: list[SwarmNode] = []
        self._alive_read, self._alive_write = os.pipe()
        self._config = folder / "p2pdns.toml"
        # A configuration of its own, so that the user's has no effect.
        self._config.write_text(f'[dht]\nnetwork = "{network}"\n\n[upstream]\nservers = "none"\n')

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def start(self, name: str, *flags: str, bootstrap: Sequence[str] = ()) -> SwarmNode:
        """Start `p2pdns serve` with a state directory of its own and a free DHT port."""
        state = self.folder / name
        state.mkdir(mode=0o700)
        words = ["--state", str(state), "--dht", f"{HOST}:0", *flags]
        for address in bootstrap:
            words += ["--bootstrap", address]
        return self.start_verb(name, "serve", *words)

    def start_verb(self, name: str, verb: str, *words: str) -> SwarmNode:
        """Start a verb that runs until it is ended, with the configuration of this network."""
        log = self.folder / f"{name}.log"
        command = [sys.executable, "-m", "p2pdns", verb, "-c", str(self._config), *words]
        command += ["--alive-fd", str(self._alive_read)]
        with log.open("ab") as output:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=[self._alive_read],
                # Each control socket must be in the state directory, even if the demo runs as a service.
                env={**os.environ, "RUNTIME_DIRECTORY": ""},
                # Not in the terminal's group: Ctrl-C reaches the demo alone, which ends the nodes in order.
                process_group=0,
            )
        node = SwarmNode(name, process, self.folder / name, log)
        self.nodes.append(node)
        return node

    def wait_until_ready(self, node: SwarmNode, *, contact_count_min: int = 0) -> dict[str, Any]:
        """Return the node's status once it answers and knows enough contacts."""
        deadline = time.monotonic() + READY_S_MAX
        while True:
            try:
                facts = node.status()
                if facts["contacts"] >= contact_count_min:
                    return facts
            except Unavailable:
                facts = {}
            if time.monotonic() > deadline:
                what = f"not ready within {READY_S_MAX:g} s ({facts.get('contacts', 'no')} contacts)"
                raise Unavailable(what, place=f"node {node.name}", hint=node.last_words())
            try:
                # The pause between two looks ends at once when the process ends.
                status = node.process.wait(LOOK_AGAIN_S)
            except subprocess.TimeoutExpired:
                continue
            raise Unavailable(f"ended with status {status}", place=f"node {node.name}", hint=node.last_words())

    def grow(self, count: int) -> list[dict[str, Any]]:
        """Start nodes without DNS until there are `count`, wait until each knows all others; return their statuses."""
        first = self.start("1", "--no-dns")
        address = self.wait_until_ready(first)["dht_address"]
        for number in range(2, count + 1):
            self.start(str(number), "--no-dns", bootstrap=[address])
        return [self.wait_until_ready(node, contact_count_min=count - 1) for node in self.nodes]

    def kill(self, node: SwarmNode) -> None:
        """Kill a node as a power cut would: it writes no state."""
        node.process.kill()
        node.process.wait()

    def end(self) -> None:
        """End every process by SIGTERM, and by SIGKILL if that takes too long."""
        for node in self.nodes:
            if node.process.poll() is None:
                node.process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + END_S_MAX
        for node in self.nodes:
            try:
                node.process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                node.process.kill()
                node.process.wait()
        self.nodes.clear()
        # The pipe is closed last: a child that still runs ends with it.
        for descriptor in (self._alive_read, self._alive_write):
            if descriptor >= 0:
                os.close(descriptor)
        self._alive_read = self._alive_write = -1
