"""`sim`: a simulated world on this machine, in which one seed decides everything.

Guarantees: the seed is printed before anything runs; exit 0 if and only if every rule held and every goal was met, else
the line that repeats the run is printed; text and `--json` have the same facts; nothing leaves the process. Does not
know what is simulated (`p2pdns.sim` does).
"""

from __future__ import annotations

import secrets
import shlex
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from p2pdns.cli import settings, ui
from p2pdns.cli.verbs import Verb
from p2pdns.errors import P2pdnsError, UsageError, did_you_mean

if TYPE_CHECKING:
    from p2pdns.sim.report import Report

# Those of `p2pdns.sim.scenarios`, which a wrong name need not load.
SCENARIOS = ("lookup", "churn", "partition", "replay", "eclipse", "flash", "race", "theft", "scale", "history")
NODES_DEFAULT = 100
# A look-up asks twenty machines, so fewer are no overlay; and a mistyped number must not fill the memory.
NODES_MIN, NODES_MAX = 30, 20_000
SEED_MAX = 2**32 - 1
GETS_DEFAULT, GETS_MAX = 200, 100_000
MINUTES_MAX = 60 * 24 * 30  # A month; a longer one would take days here.


@click.command(cls=Verb)
@click.option("--scenario", metavar="NAME", default="lookup", help="What happens in the world (lookup).")
@click.option("--seed", metavar="N", type=click.IntRange(0, SEED_MAX), help="Decides everything; drawn if not given.")
@click.option("--nodes", metavar="N", type=int, default=NODES_DEFAULT, help="How many machines there are (100).")
@click.option(
    "--gets", metavar="N", type=click.IntRange(1, GETS_MAX), default=GETS_DEFAULT, help="How many look-ups a row (200)."
)
@click.option(
    "--minutes", metavar="N", type=click.FloatRange(1, MINUTES_MAX), default=60.0, help="How long the world lasts (60)."
)
@click.option("--figure", metavar="FILE.png", type=click.Path(path_type=Path), help="Draw the outcome as a picture.")
@settings.json_option
def sim(
    scenario: str, seed: int | None, nodes: int, gets: int, minutes: float, figure: Path | None, as_json: bool
) -> None:
    """Run a simulated world on this machine: the real code in virtual time, by one seed.

    Scenarios: "lookup" (ever more machines are dead), "churn" (machines come and go), "partition" (the network falls in
    two and heals), "replay" (some machines serve the oldest item that they ever had), "eclipse" (an attacker surrounds
    keys), "flash" (all ask for one name at once), "race" (two publish with one key at once), "theft" (thieves have the
    keys of zones with a next key), "scale" (the world grows), "history" (all troubles together). Rules are checked
    after every step. The same seed gives the same figures and the same trace.
    """
    if scenario not in SCENARIOS:
        hint = did_you_mean(scenario, SCENARIOS) or f"there is: {', '.join(SCENARIOS)}"
        raise UsageError(f"no scenario is called {scenario!r}", place="--scenario", hint=hint)
    if not NODES_MIN <= nodes <= NODES_MAX:
        raise UsageError(f"{nodes} machines, {NODES_MIN} to {NODES_MAX} are possible", place="--nodes")
    from p2pdns.sim.figure import check, draw
    from p2pdns.sim.report import Scale
    from p2pdns.sim.scenarios import SCENARIOS as RUNS

    if figure is not None:
        check(figure)
    seed = secrets.randbelow(SEED_MAX + 1) if seed is None else seed
    # A run that is interrupted can be repeated too.
    if as_json:
        ui.note(f"seed: {seed}")
    else:
        ui.result(f"seed: {seed}")
        ui.show_at_once()
    with ui.progress() as line:
        report = RUNS[scenario](
            Scale(seed, nodes, gets, minutes=minutes),
            lambda what, done, count: line.update(f"{what} {done} of {count}"),
        )
    _show(report, as_json=as_json)
    if figure is not None:
        draw(report, figure)
        ui.note(f"the picture is in {figure}")
    if not report.is_good:
        flags = {"--scenario": scenario, "--seed": seed, "--nodes": nodes, "--gets": gets, "--minutes": f"{minutes:g}"}
        again = shlex.join(["p2pdns", "sim", *(str(word) for flag in flags.items() for word in flag)])
        rest = [*report.findings, *report.missed]
        raise P2pdnsError(f"{len(rest)} rules broken or goals missed, first: {rest[0]}", hint=f"to repeat it: {again}")


def _show(report: Report, *, as_json: bool) -> None:
    speed = report.node_hours_per_cpu_minute
    if as_json:
        facts = asdict(report)
        del facts["picture"]
        ui.json_result({**facts.pop("scale"), **facts, "node_hours_per_cpu_minute": speed, "is_good": report.is_good})
        return
    ui.fields({f"{name}:": f"{value:g}" for name, value in report.draw.items()})
    ui.result()
    lines = [row.cells() for row in report.rows]
    columns = [ui.Column(title, "right") for title in (lines[0] if lines else ())]
    ui.table(columns, [tuple(line.values()) for line in lines])
    ui.result()
    summary = {
        "machines:": f"{report.scale.nodes} for {report.virtual_s:.0f} s, {report.datagrams} datagrams",
        "this took:": f"{report.cpu_s:.1f} s of CPU, {speed:.0f} node-hours a minute",
        "trace_sha256:": report.trace_sha256,
        "verdict:": "every rule held, every goal was met" if report.is_good else "",
    }
    ui.fields({name: value for name, value in summary.items() if value})
    for text in report.findings:
        ui.result(f"BROKEN  {text}")
    for text in report.missed:
        ui.result(f"MISSED  {text}")
    for text in report.notes:
        ui.result(f"NOTE    {text}")
