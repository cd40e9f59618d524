"""What a testbed could leave on its machine beside containers, networks and volumes: processes, interfaces, files, and
rules of the packet filter.

Guarantees: found is only what bears the mark of one testbed (the ids of its containers and networks, its addresses, its
port, the names of its temporary files), so that whatever else the machine does meanwhile is not taken for it. What only
root may read is left out for others. Does not ask the engine.
"""

from __future__ import annotations

import contextlib
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

INTERFACE_ID_CHARACTERS = 12  # The engine calls a bridge "br-" and so much of the id of its network.
ADDRESSES = "10.91."
TEMPORARY = ("p2pdns-images.*", "p2pdns-base.*", "mmdebstrap.*")
# What is not there has no rules; the tools of root are not on everybody's path.
FILTERS = "PATH=$PATH:/usr/sbin:/sbin; iptables-save; nft list ruleset"
COMMAND_S_MAX = 30.0


def temporary_files() -> frozenset[str]:
    """Return the temporary files that building images makes, those that are there now."""
    folder = Path(tempfile.gettempdir())
    return frozenset(str(path) for pattern in TEMPORARY for path in folder.glob(pattern))


def on_this_machine() -> Iterator[str]:
    """Yield a line for each process, with its words and its control groups, each interface and each filter rule."""
    for folder in Path("/proc").glob("[0-9]*"):
        # It may end while we are looking.
        with contextlib.suppress(OSError):
            words = (folder / "cmdline").read_text(errors="replace").replace("\0", " ")
            yield f"process {folder.name} {words} {' '.join((folder / 'cgroup').read_text().split())}"
    for path in Path("/sys/class/net").iterdir():
        yield f"interface {path.name}"
    listed = subprocess.run(["sh", "-c", FILTERS], capture_output=True, text=True, timeout=COMMAND_S_MAX, check=False)
    for line in listed.stdout.splitlines():
        yield f"rule {line.strip()}"


@dataclass(frozen=True)
class Traces:
    """The marks of one testbed, taken while it was up; `before` are the temporary files that were there before it."""

    container_ids: frozenset[str]
    network_ids: frozenset[str]
    port: int
    before: frozenset[str] = frozenset()

    def left(self) -> list[str]:
        """Return what is still there."""
        return [*self.among(on_this_machine()), *(f"file {name}" for name in temporary_files() - self.before)]

    def among(self, lines: Iterable[str]) -> list[str]:
        """Return the lines that bear a mark."""
        bridges = (f"br-{network[:INTERFACE_ID_CHARACTERS]}" for network in self.network_ids)
        marks = [*self.container_ids, *bridges, f"-host-port {self.port} "]
        # Anybody may speak of our addresses, but no rule of anybody else's is about them.
        return [
            line
            for line in lines
            if any(mark in line for mark in marks) or (line.startswith("rule ") and ADDRESSES in line)
        ]
