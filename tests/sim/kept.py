"""The file of worlds that once failed: its lines, read and written.

Guarantees: a line that is none of ours is told with its number. Does not know how a world runs.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import p2pdns
from p2pdns.sim.report import Scale
from p2pdns.sim.scenarios import SCENARIOS

FAILING_SEEDS = Path(__file__).parent / "failing_seeds.txt"
HERE = f"{p2pdns.__version__}/{sys.version_info.major}.{sys.version_info.minor}"


@dataclass(frozen=True)
class Run:
    """A world to run: its scenario and scale, and the program and Python that found a fault in it."""

    scenario: str
    scale: Scale
    found_by: str = HERE

    def __str__(self) -> str:
        scale = self.scale
        return f"{self.scenario} {scale.seed} {scale.nodes} {scale.gets} {scale.minutes:g} {self.found_by}"

    @property
    def command(self) -> str:
        """The command that repeats it."""
        scale = self.scale
        flags = f"--seed {scale.seed} --nodes {scale.nodes} --gets {scale.gets} --minutes {scale.minutes:g}"
        return f"p2pdns sim --scenario {self.scenario} {flags}"

    @property
    def is_of_another_version(self) -> bool:
        """Whether another program or Python found it: then this seed may be another history by now."""
        return self.found_by != HERE


def read_line(line: str, number: int) -> Run:
    """Return what a line of the file says; ValueError with the number of a line that says nothing."""
    words = line.partition("#")[0].split()
    try:
        scenario, seed, nodes, gets, minutes, found_by = words
        scale = Scale(int(seed), int(nodes), int(gets), minutes=float(minutes))
    except ValueError:
        raise ValueError(f"line {number}: not `scenario seed nodes gets minutes program/Python`: {line!r}") from None
    if scenario not in SCENARIOS:
        raise ValueError(f"line {number}: no scenario is called {scenario!r}")
    return Run(scenario, scale, found_by)


def kept_runs(path: Path = FAILING_SEEDS) -> list[Run]:
    """Return the worlds that once failed."""
    lines = enumerate(path.read_text("utf-8").splitlines(), 1)
    return [read_line(line, number) for number, line in lines if line.partition("#")[0].strip()]
