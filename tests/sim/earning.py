"""`make sim-earns`: plant each fault of tests/mutants/worlds.toml in a copy, and let drawn worlds look for it.

A fault counts as found by the first of `SEEDS` whose world breaks a rule. The table says which; a fault that no world
finds makes the exit code 1. The test that a row names is one world, so that `make mutants` need not search.

Guarantees: the world of a row differs from seed to seed only. Does not know what is wrong with a fault.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from p2pdns.sim.report import Report, Scale
from p2pdns.sim.scenarios import SCENARIOS
from p2pdns.sim.scenarios.lifetimes import lifetimes
from p2pdns.sim.world import Progress
from tests.mutants.run import environment, make_copy
from tests.mutants.table import Sabotage, read_tables, sabotages

ROOM = "worlds"
SEEDS = range(1, 21)
WORKERS = 2  # Worlds compute, and two cores are what CI has.
NODES_A_ZONE = 10
OURS: dict[str, Callable[[Scale, Progress], Report]] = {**SCENARIOS, "lifetimes": lifetimes}


@dataclass(frozen=True)
class Place:
    """One world: its scenario, its size and its seed, as the parameter of a test says it."""

    scenario: str
    nodes: int
    minutes: int
    seed: int

    @classmethod
    def read(cls, text: str) -> Place:
        """Return the world that a text says.

        >>> str(Place.read("history-40-10-3"))
        'history-40-10-3'
        """
        scenario, nodes, minutes, seed = text.split("-")
        return cls(scenario, int(nodes), int(minutes), int(seed))

    def __str__(self) -> str:
        return f"{self.scenario}-{self.nodes}-{self.minutes}-{self.seed}"

    def lived(self) -> Report:
        """Let the world live, and return what came of it."""
        zones = max(2, self.nodes // NODES_A_ZONE)
        scale = Scale(self.seed, nodes=self.nodes, gets=self.nodes, zones=zones, minutes=self.minutes)
        return OURS[self.scenario](scale, lambda *_: None)


@dataclass(frozen=True)
class Catch:
    """What the search for a fault has ended with: the world that found it, or None, and the CPU seconds of that one."""

    fault: str
    world: Place
    is_found: bool
    cpu_s: float
    finding: str

    def __str__(self) -> str:
        seed = f"{self.world.seed}" if self.is_found else "NOT FOUND"
        scenario = f"{self.world.scenario} {self.world.nodes}"
        return f"{self.fault:<82} {scenario:<12} {seed:>9} {self.cpu_s:6.1f} s  {self.finding}"


def world_of(test: str) -> Place:
    """Return the world of the test that a row names."""
    return Place.read(test.partition("[")[2].removesuffix("]"))


def worlds() -> list[Place]:
    """Return the worlds of all rows, each once."""
    rows = [row for row in read_tables() if row.room == ROOM]
    return list(dict.fromkeys(world_of(test) for row in rows for test in row.tests))


def search(sabotage: Sabotage, seeds: Sequence[int], folder: Path) -> Catch:
    """Plant a fault in a copy, and let world after world live there until one breaks a rule."""
    copy = make_copy(folder)
    (copy / sabotage.path).write_text(sabotage.text, "utf-8")
    world = world_of(sabotage.mutant.tests[0])
    name, cpu_s = sabotage.mutant.name, 0.0
    for seed in seeds:
        world = replace(world, seed=seed)
        command = [sys.executable, "-m", "tests.sim.earning", "--world", str(world)]
        done = subprocess.run(command, cwd=copy, env=environment(copy), capture_output=True, text=True)
        if done.returncode:
            # A world that breaks off is as red as one that breaks a rule, for `make mutants` too.
            return Catch(name, world, True, cpu_s, f"broke off: {done.stderr.strip().rpartition(chr(10))[2]}")
        cpu_s, findings = json.loads(done.stdout)
        if findings:
            return Catch(name, world, True, cpu_s, findings[0])
    return Catch(name, world, False, cpu_s, f"none of {len(seeds)} seeds")


def searched(wanted: Sequence[Sabotage], seeds: Sequence[int]) -> Iterator[Catch]:
    """Yield what the search for each fault has ended with, in the order of the table."""
    with tempfile.TemporaryDirectory(prefix="p2pdns-earns-") as folder, ThreadPoolExecutor(WORKERS) as pool:
        places = [Path(folder) / str(number) for number in range(len(wanted))]
        yield from pool.map(search, wanted, [seeds] * len(wanted), places)


def main() -> int:
    """Search for every fault, print the table, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", metavar="TEXT", help="search for the faults whose name contains this")
    parser.add_argument("--seeds", type=int, default=SEEDS[-1], metavar="COUNT", help="try so many seeds")
    parser.add_argument("--world", default="", help=argparse.SUPPRESS)
    words = parser.parse_args()
    if words.world:
        report = Place.read(words.world).lived()
        sys.stdout.write(json.dumps([report.cpu_s, report.findings]) + "\n")
        return 0
    rows = [row for row in read_tables() if row.room == ROOM and words.only in row.name]
    wanted, findings = sabotages(rows)
    if findings or not wanted:
        sys.stdout.write("\n".join(findings or ["there is no such fault"]) + "\n")
        return 1
    found_count = 0
    for catch in searched(wanted, range(1, words.seeds + 1)):
        found_count += catch.is_found
        sys.stdout.write(f"{catch}\n")
        sys.stdout.flush()
    sys.stdout.write(f"{found_count}/{len(wanted)} found\n")
    return 0 if found_count == len(wanted) else 1


if __name__ == "__main__":
    sys.exit(main())
