"""Traces of a testbed on its machine beside containers, networks and volumes: processes, interfaces, files, and rules
of the packet filter.

Guarantees: a trace bears a mark of one testbed (the id of a container or network, its addresses, its port, the name of
a temporary file), so that other things on the machine are not taken for it. Things that only root may read are left
out for others. Does not ask the engine.
"""

from __future__ import annotations

import contextlib
import re
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from deploy.testbed import engine

INTERFACE_ID_CHARACTERS = 12  # A bridge is named "br-" and this many characters of the id of its network.
ADDRESSES = "10.91."
TEMPORARY = ("p2pdns-images.*", "p2pdns-base.*", "mmdebstrap.*")
# A tool that is missing has no rules; the tools of root are not on every path.
FILTERS = "PATH=$PATH:/usr/sbin:/sbin; iptables-save; nft list ruleset"


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
    for line in engine.run(["sh", "-c", FILTERS], check=False).splitlines():
        yield f"rule {line.strip()}"


@dataclass(frozen=True)
class Traces:
    """The marks of one testbed, taken while it was up; `before` are the temporary files that were there before it."""

    container_ids: frozenset[str]
    network_ids: frozenset[str]
    port: int
    before: frozenset[str] = frozenset()

    def left(self) -> list[str]:
        return [*self.among(on_this_machine()), *(f"file {name}" for name in temporary_files() - self.before)]

    def among(self, lines: Iterable[str]) -> list[str]:
        bridges = (f"br-{network[:INTERFACE_ID_CHARACTERS]}" for network in self.network_ids)
        marks = [*self.container_ids, *bridges, f"-host-port {self.port} "]
        # Other processes may speak of our addresses, but no other rule is about them.
        ours = re.compile("|".join([*map(re.escape, marks), f"^rule .*{re.escape(ADDRESSES)}"]))
        return [line for line in lines if ours.search(line)]
