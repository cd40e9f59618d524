"""`doctor`: finds out why a name does not come up on this machine, from the program that asks to the other nodes.

Guarantees: changes nothing; exit 0 if and only if no check found a problem; `--json` has every check. Does not know the
checks (`cli.doctor.checks` does).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import click

from p2pdns.cli import settings, ui
from p2pdns.cli.doctor.checks import CHECKS, Finding
from p2pdns.cli.doctor.machine import Machine
from p2pdns.cli.names import read_name
from p2pdns.cli.settings import Given
from p2pdns.cli.status import labelled
from p2pdns.cli.verbs import Verb
from p2pdns.errors import P2pdnsError, UsageError, counted

LEVELS_SHOWN = ("problem", "warning", "cannot tell")


def facts_of_daemon(state_flag: str | None) -> tuple[dict[str, Any], Finding | None]:
    """Return the daemon's status; without a daemon an empty one, and the verdict that says so."""
    try:
        facts: dict[str, Any] = settings.daemon(state_flag).call("status")["status"]
    except UsageError:
        raise
    except P2pdnsError as error:
        hint = error.hint or "start it with p2pdns serve"
        return {}, Finding("daemon", "problem", str(error), hint, "p2pdns serve")
    return facts, None


def lines_of(verdicts: Sequence[Finding]) -> list[str]:
    """Return the verdicts as lines: bad ones with cause and remedy, good ones by name."""
    counts = {level: sum(verdict.level == level for verdict in verdicts) for level in LEVELS_SHOWN}
    parts = [counted(counts["problem"], "problem"), counted(counts["warning"], "warning")]
    head = ", ".join(part for part in parts if not part.startswith("0 ")) or "no problem"
    fine = [verdict.check for verdict in verdicts if verdict.level == "ok"]
    lines = [head]
    # Without a daemon half of the checks cannot tell, all for the same reason: it is shown once.
    alike: dict[Finding, list[str]] = {}
    for verdict in sorted(verdicts, key=lambda verdict: (*LEVELS_SHOWN, "ok").index(verdict.level)):
        if verdict.level != "ok":
            alike.setdefault(replace(verdict, check=""), []).append(verdict.check)
    for verdict, names in alike.items():
        label = "unknown" if verdict.level == "cannot tell" else verdict.level
        lines += ["", *labelled(label, f"{', '.join(names)}: {verdict.cause}")]
        lines += labelled("  remedy", verdict.remedy) if verdict.remedy else []
        # A command that is broken over two lines cannot be copied.
        lines += [f"  type    {ui.printable(verdict.command)}"] if verdict.command else []
    return [*lines, *([""] if len(lines) > 1 else []), *(labelled("fine", ", ".join(fine)) if fine else [])]


@click.command(cls=Verb)
@click.option("--name", metavar="NAME", help="A name of a key that getent is to find (default: one of your own zones).")
@settings.usual_options
def doctor(name: str | None, given: Given) -> int:
    """Find out why a name does not come up here: from the program that asks to the nodes that answer.

    Each problem comes with its remedy and a command. Nothing is changed.
    """
    facts, trouble = facts_of_daemon(given.state_flag)
    machine = Machine(facts, given.config().dns.suffixes, name=None if name is None else read_name(name))
    verdicts = [trouble if trouble is not None and check.__name__ == "daemon" else check(machine) for check in CHECKS]
    problems = [verdict for verdict in verdicts if verdict.level == "problem"]
    if given.as_json:
        ui.json_result({"problems": len(problems), "checks": [asdict(verdict) for verdict in verdicts]})
        # A failure must have its error in the document.
        for verdict in problems:
            ui.error(P2pdnsError(verdict.cause, place=verdict.check, hint=f"{verdict.remedy}\n{verdict.command}"))
    else:
        for line in lines_of(verdicts):
            ui.result(line)
    return 1 if problems else 0
