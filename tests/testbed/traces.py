"""What a testbed could leave on its machine beside containers, networks and volumes: processes, interfaces, files, and
rules of the packet filter.

Guarantees: found is only what bears the mark of one testbed (the ids of its containers and networks, its addresses, its
port, the names of its temporary files), so that whatever else the machine does meanwhile is not taken for it. What only
root may read is left out for others. Does not ask the engine.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

INTERFACE_ID_CHARACTERS = 12  # The engine calls a bridge "br-" and so much of the id of its network.
ADDRESSES = "10.91."
TEMPORARY = ("p2pdns-images.*", "p2pdns-base.*", "mmdebstrap.*")
FILTERS = (("iptables-save",), ("nft", "list", "ruleset"))
COMMAND_SECONDS_MAX = 30.0


def temporary_files() -> frozenset[str]:
    """Return the temporary files that building images makes, those that are there now."""
    folder = Path(tempfile.gettempdir())
    return frozenset(str(path) for pattern in TEMPORARY for path in folder.glob(pattern))


@dataclass(frozen=True)
class Traces:
    """The marks of one testbed, taken while it was up; `before` are the temporary files that were there before it."""

    container_ids: frozenset[str]
    network_ids: frozenset[str]
    port: int
    before: frozenset[str] = frozenset()

    def left(self) -> list[str]:
        """Return what is still there."""
        files = sorted(f"file {name}" for name in temporary_files() - self.before)
        return [*self.processes(), *self.interfaces(), *self.rules(), *files]

    def processes(self, proc: Path = Path("/proc")) -> list[str]:
        """Return the processes that belong to our containers, hold our port, or speak of our containers."""
        found = []
        for folder in sorted(proc.glob("[0-9]*"), key=lambda folder: int(folder.name)):
            try:
                words = (folder / "cmdline").read_bytes().decode(errors="replace").split("\0")
                groups = (folder / "cgroup").read_text()
            except OSError:
                # It has ended while we were looking.
                continue
            is_ours = any(name in groups or name in words for name in self.container_ids)
            is_proxy = words[0].endswith("docker-proxy") and str(self.port) in words
            if (is_ours or is_proxy) and int(folder.name) != os.getpid():
                found.append(f"process {folder.name} {' '.join(words)[:80].strip()}")
        return found

    def interfaces(self, net: Path = Path("/sys/class/net")) -> list[str]:
        """Return the bridges of our networks."""
        bridges = {f"br-{network[:INTERFACE_ID_CHARACTERS]}" for network in self.network_ids}
        return sorted(f"interface {path.name}" for path in net.iterdir() if path.name in bridges)

    def rules(self) -> list[str]:
        """Return the rules of the packet filter that name our bridges or our addresses."""
        marks = [f"br-{network[:INTERFACE_ID_CHARACTERS]}" for network in self.network_ids]
        return [
            f"rule {line.strip()}"
            for command in FILTERS
            for line in _printed_by(command).splitlines()
            if any(mark in line for mark in (*marks, ADDRESSES))
        ]


def _printed_by(command: tuple[str, ...]) -> str:
    environ = {**os.environ, "PATH": f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"}
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, env=environ, timeout=COMMAND_SECONDS_MAX, check=False
        )
    except OSError:
        return ""
    return done.stdout
