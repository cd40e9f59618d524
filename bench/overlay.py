"""What the overlay holds and what it costs, in simulated worlds: docs/overlay.md.

    python bench/overlay.py [--minutes 120] [--only NAME …] [--list]

Each world is a process of its own, two at a time, the longest first; what came of it is kept beside the virtual
environment, so that a run that was ended goes on where it stood. After the given minutes no further world begins, and
the page says which are missing. `make overlay-report` calls this; nothing in CI does.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from p2pdns.sim.report import Scale

ROOT = Path(__file__).resolve().parents[1]
KEPT = Path(sys.prefix) / "overlay-report"
PAGE = ROOT / "docs" / "overlay.md"
AT_ONCE = 2  # The machines that this is measured on have two cores, and a world computes all the time.
SEEDS = (1, 2, 3, 4, 5)
# Of Student's t for 95 %, by the number of seeds; five at most.
T_95 = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776}
EARLIER = "Measured with an earlier version:"
MAINLINE = 10_000_000  # Nodes of the public network, as its measurements say.


@dataclass(frozen=True)
class Group:
    """Worlds that differ by their seed alone, and what the page says above their table."""

    name: str
    title: str
    scenario: str
    nodes: int
    seeds: tuple[int, ...] = SEEDS
    gets: int = 200
    zones: int = 20
    minutes: float = 60.0
    first_minutes: float = 1.0  # About what one world takes here; the longest begin first.
    is_placed: bool = False

    def scales(self) -> Iterator[tuple[str, Scale]]:
        """Yield each world with the name that it is kept under."""
        for seed in self.seeds:
            scale = Scale(seed, self.nodes, self.gets, self.zones, self.minutes, self.is_placed)
            yield f"{self.name}-{seed}", scale


GROUPS = (
    Group("lookup-100", "Look-ups among 100 nodes", "lookup", 100),
    Group("lookup-1000", "Look-ups among 1,000 nodes", "lookup", 1_000, first_minutes=5),
    Group("placed-1000", "Look-ups among 1,000 placed nodes", "lookup", 1_000, first_minutes=2, is_placed=True),
    Group("lookup-10000", "Look-ups among 10,000 placed nodes", "lookup", 10_000, (1,), 60, 20, 60.0, 8, True),
    Group("scale-100", "Where a put lands, 100 nodes", "scale", 100),
    Group(
        "scale-1000", "Where a put lands, 1,000 placed nodes", "scale", 1_000, (1, 2), first_minutes=5, is_placed=True
    ),
    Group("scale-10000", "Where a put lands, 10,000 placed nodes", "scale", 10_000, (1,), 60, 20, 60.0, 20, True),
    Group("churn-day", "A day of churn, 1,000 nodes", "churn", 1_000, (1,), minutes=1_440, first_minutes=60),
    Group("churn-week", "A week of churn, 200 nodes", "churn", 200, (1,), minutes=10_080, first_minutes=80),
    Group("partition", "A partition that heals, 200 nodes", "partition", 200, (1, 2), first_minutes=3),
    Group("flash", "Everybody asks for one name at once, 200 nodes", "flash", 200, (1, 2), first_minutes=2),
    Group("replay", "Machines that serve the oldest item, 200 nodes", "replay", 200, first_minutes=3),
    Group("eclipse", "A key that is surrounded, 200 nodes", "eclipse", 200, (1,), first_minutes=10),
)


def ran(scenario: str, scale: Scale) -> dict[str, Any]:
    """Run one world here; return its report, with the texts of its rows."""
    from p2pdns.sim.scenarios import SCENARIOS

    report = SCENARIOS[scenario](scale, lambda *_: None)
    facts = asdict(report)
    del facts["picture"]
    speed = report.node_hours_per_cpu_minute
    return {**facts, "cells": [row.cells() for row in report.rows], "node_hours_per_cpu_minute": speed}


def ran_apart(name: str, scenario: str, scale: Scale, give_up_at: float) -> str:
    """Run one world in a process of its own unless it is kept already; return how it went."""
    kept = KEPT / f"{name}.json"
    if kept.is_file():
        return "kept"
    if time.monotonic() > give_up_at:
        return "no time left"
    words = [sys.executable, __file__, "--world", json.dumps({"scenario": scenario, "scale": asdict(scale)})]
    began = time.monotonic()
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        return f"failed: {done.stderr.strip().splitlines()[-1:]}"
    facts = json.loads(done.stdout)
    facts["wall_s"] = time.monotonic() - began
    part = kept.with_suffix(".part")
    part.write_text(json.dumps(facts), "utf-8")
    part.replace(kept)
    return f"{facts['wall_s']:.0f} s"


def table(rows: Sequence[dict[str, str]]) -> Iterator[str]:
    """Yield the lines of a table in Markdown."""
    heads = list(rows[0])
    yield f"| {' | '.join(heads)} |"
    yield f"|{'---|' * len(heads)}"
    for row in rows:
        yield f"| {' | '.join(row.values())} |"


def with_interval(values: Sequence[float], digits: int = 0, scale: float = 1.0) -> str:
    """Return the mean over seeds, and half the width of its 95 % interval.

    >>> with_interval([0.1, 0.12], scale=1000), with_interval([2.5], 1)
    ('110 ± 127', '2.5')
    """
    text = f"{fmean(values) * scale:.{digits}f}"
    if len(values) > 1:
        half = T_95[len(values)] * stdev(values) / math.sqrt(len(values))
        text += f" ± {half * scale:.{digits}f}"
    return text


def lookup_rows(worlds: Sequence[dict[str, Any]]) -> list[dict[str, str]]:
    """Return one line for each share of dead nodes, over all seeds."""
    lines = []
    for rows in zip(*(world["rows"] for world in worlds), strict=True):
        gets, newest = sum(row["gets"] for row in rows), sum(row["newest"] for row in rows)
        line = {"dead": f"{rows[0]['dead']:.0%}", "found the newest": f"{newest} of {gets}"}
        for key, word in (("first_s", "first"), ("done_s", "end")):
            for place, quantile in enumerate(("p50", "p95", "p98")):
                line[f"{word} {quantile} ms"] = with_interval([row[key][place] for row in rows], scale=1000)
        for key, title, digits in (("rpcs", "RPCs", 1), ("rpcs_to_first", "to first", 1), ("bytes", "bytes", 0)):
            line[title] = with_interval([row[key] for row in rows], digits)
        lines.append(line)
    return lines


def seed_rows(worlds: Sequence[dict[str, Any]]) -> list[dict[str, str]]:
    """Return the lines of each world as its scenario writes them."""
    many = len(worlds) > 1
    return [
        {**({"seed": str(world["scale"]["seed"])} if many else {}), **cells}
        for world in worlds
        for cells in world["cells"]
    ]


def growth(found: dict[str, list[dict[str, Any]]]) -> Iterator[str]:
    """Yield how the cost of a look-up grows with the number of nodes, and what a straight line says beyond."""
    points = [
        (group.nodes, fmean(world["rows"][0][key] for world in found[group.name]))
        for key in ("rpcs_to_first",)
        for group in GROUPS
        if group.name in ("lookup-100", "placed-1000", "lookup-10000") and found.get(group.name)
    ]
    if len(points) < 2:
        return
    xs, ys = [math.log2(nodes) for nodes, _ in points], [rpcs for _, rpcs in points]
    middle_x, middle_y = fmean(xs), fmean(ys)
    slope = sum((x - middle_x) * (y - middle_y) for x, y in zip(xs, ys, strict=True)) / sum(
        (x - middle_x) ** 2 for x in xs
    )
    far = middle_y + slope * (math.log2(MAINLINE) - middle_x)
    said = ", ".join(f"{rpcs:.1f} at {nodes:,}" for nodes, rpcs in points)
    yield "## How cost grows with the number of nodes"
    yield ""
    yield f"RPCs to the first valid item, all nodes alive: {said}. A straight line through these over log₂ N rises by"
    yield f"{slope:.2f} RPCs each time the number of nodes doubles, to {far:.1f} at {MAINLINE:,} nodes. Worlds of"
    yield "1,000 and of 10,000 nodes are placed ones. The line is"
    yield "fitted to worlds whose machines are all of one kind, and says nothing of dead entries in old tables."
    yield ""


def comparison(found: dict[str, list[dict[str, Any]]]) -> Iterator[str]:
    """Yield how placed worlds differ from grown ones of the same size, all nodes alive and half of them dead."""
    grown, placed = found.get("lookup-1000"), found.get("placed-1000")
    if not (grown and placed):
        return
    yield "## Placed nodes beside grown ones, 1,000 nodes"
    yield ""
    yield "A grown world joins machine by machine. A placed one gives each machine the contacts that joining brings"
    yield "(p2pdns/sim/placing.py); the rest is the same code. A figure of one seed has no ±: how far two differ by"
    yield "chance is not known then."
    yield ""
    rows = []
    for name, worlds in (("grown", grown), ("placed", placed)):
        for at, dead in ((0, "0%"), (-1, "50%")):
            of = [world["rows"][at] for world in worlds]
            line = {"nodes": name, "seeds": str(len(worlds)), "dead": dead}
            for place, quantile in enumerate(("p50", "p95", "p98")):
                line[f"first {quantile} ms"] = with_interval([row["first_s"][place] for row in of], scale=1000)
            line["to first"] = with_interval([row["rpcs_to_first"] for row in of], 1)
            line["RPCs"] = with_interval([row["rpcs"] for row in of], 1)
            rows.append(line)
    yield from table(rows)
    yield ""


def sections_of(page_text: str) -> dict[str, list[str]]:
    """Return the lines below each heading of a page."""
    sections: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in page_text.splitlines():
        if line.startswith("## "):
            lines = sections.setdefault(line[3:], [])
        else:
            lines.append(line)
    return sections


def page(found: dict[str, list[dict[str, Any]]], before: dict[str, list[str]]) -> str:
    """Return docs/overlay.md; a section whose worlds are not kept here stays as it was, and says so."""
    lines = [
        "# What the overlay holds, in simulated worlds",
        "",
        "`make overlay-report` (bench/overlay.py) writes this page. The nodes, look-ups, publishers and resolvers are",
        "the ones that run outside; time and network are simulated. Round trips are drawn for each pair of hosts: half",
        "are below 82 ms, one in a hundred is above 557 ms. ± is half of the 95 % interval of the mean over the seeds.",
        "`p2pdns sim` with the scenario, seed, nodes and gets of a table repeats a world.",
        "",
    ]
    for group in GROUPS:
        worlds = found.get(group.name, [])
        lines += [f"## {group.title}", ""]
        if not worlds:
            kept = "\n".join(before.get(group.title, [])).strip()
            if kept and not kept.startswith(("Not measured", EARLIER)):
                kept = f"{EARLIER}\n\n{kept}"
            lines += [kept or "Not measured yet.", ""]
            continue
        lines += table(lookup_rows(worlds) if group.scenario == "lookup" else seed_rows(worlds))
        lines += ["", *facts_of(worlds), ""]
    lines += comparison(found)
    lines += growth(found)
    return "\n".join(lines).rstrip() + "\n"


def facts_of(worlds: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Yield what the worlds of a group took here, and what was broken or missed in them."""
    seeds = ", ".join(str(world["scale"]["seed"]) for world in worlds)
    loss = ", ".join(f"{world['draw']['loss']:.1%}" for world in worlds if "loss" in world["draw"])
    wall, cpu = (with_interval([world[key] for world in worlds]) for key in ("wall_s", "cpu_s"))
    speed = with_interval([world["node_hours_per_cpu_minute"] for world in worlds])
    peak = max(world["rss_mib"] for world in worlds)
    yield f"Seeds {seeds}{f'; loss {loss}' if loss else ''}. A world took {wall} s, {cpu} s of CPU and {peak:.0f} MiB"
    yield f"at most, and had {speed} node-hours a CPU minute."
    for note in dict.fromkeys(note for world in worlds for note in world["notes"]):
        yield ""
        yield f"{note[0].upper()}{note[1:]}."
    for world in worlds:
        for word, key in (("Broken", "findings"), ("Missed", "missed")):
            for text in world[key]:
                yield ""
                yield f"{word} with seed {world['scale']['seed']}: {text}."


def main() -> None:
    """Run what is not kept, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=120.0, help="no world begins later than that (%(default)s)")
    parser.add_argument("--only", nargs="*", metavar="NAME", help="these groups alone; the others as they are kept")
    parser.add_argument("--list", action="store_true", help="print the groups and what is kept of them")
    parser.add_argument("--world", help=argparse.SUPPRESS)
    words = parser.parse_args()
    if words.world:
        asked = json.loads(words.world)
        import resource

        facts = ran(asked["scenario"], Scale(**asked["scale"]))
        facts["rss_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        json.dump(facts, sys.stdout)
        return
    KEPT.mkdir(exist_ok=True)
    groups = [group for group in GROUPS if words.only is None or group.name in words.only]
    worlds = [(group, name, scale) for group in groups for name, scale in group.scales()]
    if words.list:
        for group, name, _ in worlds:
            state = "kept" if (KEPT / f"{name}.json").is_file() else f"about {group.first_minutes:g} minutes"
            sys.stdout.write(f"{name:20} {state}\n")
        return
    give_up_at = time.monotonic() + 60 * words.minutes

    def one(world: tuple[Group, str, Scale]) -> None:
        group, name, scale = world
        sys.stdout.write(f"{name}: {ran_apart(name, group.scenario, scale, give_up_at)}\n")
        sys.stdout.flush()

    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(one, sorted(worlds, key=lambda world: -world[0].first_minutes)))
    found: dict[str, list[dict[str, Any]]] = {}
    for group in GROUPS:
        for name, _ in group.scales():
            kept = KEPT / f"{name}.json"
            if kept.is_file():
                found.setdefault(group.name, []).append(json.loads(kept.read_text("utf-8")))
    PAGE.write_text(page(found, sections_of(PAGE.read_text("utf-8"))), "utf-8")
    sys.stdout.write(f"{PAGE} is written\n")


if __name__ == "__main__":
    main()
