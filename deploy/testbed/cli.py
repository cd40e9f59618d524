"""The verbs of the testbed's tool.

Guarantees: standard output holds one JSON document and nothing else; messages to people are on standard error with
`p2pdns-testbed:` in front; no error shows a traceback. Exit 0 if everything asked was done, 1 when something failed,
2 for wrong usage; a signal ends it with the status that a shell gives. Does not know how anything is done.
"""

from __future__ import annotations

import re
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Any

import click

from deploy.testbed.faults import Faults
from deploy.testbed.impair import Impairment
from deploy.testbed.places import SIDES
from deploy.testbed.testbed import DEFAULT_PORT, Testbed
from p2pdns.cli import ui
from p2pdns.errors import P2pdnsError, UsageError

PROGRAM = "p2pdns-testbed"
HOW_IT_IS_CALLED = "python -m deploy.testbed"
EXIT_INTERRUPTED = 130  # 128 + SIGINT


def _say(text: str) -> None:
    click.echo(f"{PROGRAM}: {ui.printable(text)}", err=True)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def testbed() -> None:
    """An overlay in containers, to be brought up, looked at, broken and healed. Prints JSON.

    A place is SERVICE (all of it), SERVICE/N (one container) or an address; for `cut` and `--to` also a side, "west"
    or "east", or a network.
    """


_SCALE = (click.Choice(SIDES), click.IntRange(0))
_PORT = click.IntRange(1, 65_535)
_some_places = click.argument("places", nargs=-1, required=True, metavar="PLACE...")
_SECONDS = click.IntRange(1, int(threading.TIMEOUT_MAX))
_for_seconds = click.option("--for", "seconds", type=_SECONDS, metavar="SECONDS", help="Undo it then, or at Ctrl-C.")


def _make_fault(seconds: int | None, make: Callable[[Testbed | Faults], dict[str, Any]]) -> None:
    # With a time the fault is undone after it, or at a signal.
    bed = Testbed.find()
    if seconds is None:
        ui.json_result(make(bed))
        return
    try:
        with Faults(bed) as faults:
            ui.json_result(make(faults))
            sys.stdout.flush()
            _say(f"undone in {seconds} s, or at Ctrl-C")
            threading.Event().wait(seconds)
    finally:
        _say("undone")


@testbed.command()
@click.option("--scale", type=_SCALE, multiple=True, metavar="SIDE N", help="How many nodes on a side (5).")
@click.option("--build", is_flag=True, help="Build the images anew from this checkout.")
def up(scale: Sequence[tuple[str, int]], build: bool) -> None:
    """Bring it up; what runs already stays."""
    ui.json_result(Testbed.up(scale=dict(scale), build=build).status())


@testbed.command()
def down() -> None:
    """Take everything away: containers, networks, state and faults."""
    ui.json_result({"removed": Testbed(Testbed.project_here()).down()})


@testbed.command()
def status() -> None:
    """Show the containers, the faults that are on, and what the router has counted."""
    ui.json_result(Testbed.find().status())


@testbed.command()
@_some_places
@_for_seconds
def cut(places: tuple[str, ...], seconds: int | None) -> None:
    """Cut a side, addresses or services off from the other side."""
    _make_fault(seconds, lambda bed: {"cut": bed.cut(*places)})


@testbed.command()
@click.argument("places", nargs=-1, metavar="[PLACE...]")
def heal(places: tuple[str, ...]) -> None:
    """Join what was cut, all of it if no place is named; show what is still cut."""
    ui.json_result({"cut": Testbed.find().heal(*places)})


@testbed.command()
@click.option("--delay-ms", type=float, default=0.0, help="How long each packet is held.")
@click.option("--jitter-ms", type=float, default=0.0, help="And how much more or less, evenly spread.")
@click.option("--loss-percent", type=float, default=0.0, help="How many are lost.")
@click.option("--duplicate-percent", type=float, default=0.0, help="How many come twice.")
@click.option("--rate-kbit", type=float, default=0.0, help="How much goes through in a second, of all together.")
@click.option("--at", multiple=True, metavar="PLACE", help="What these containers send. Default: what the router does.")
@click.option("--all", "every_link", is_flag=True, help="What every node of the overlay sends.")
@click.option("--to", multiple=True, metavar="PLACE", help="Only what is sent there.")
@click.option("--seed", type=int, default=0, help="Another one loses other packets.")
@_for_seconds
def impair(
    at: tuple[str, ...], every_link: bool, to: tuple[str, ...], seed: int, seconds: int | None, **settings: float
) -> None:
    """Delay, lose, double or slow down packets, by netem where the kernel has it."""
    if at and every_link:
        raise UsageError("--at and --all exclude each other", place="impair")
    try:
        impairment = Impairment(**settings)
    except ValueError as trouble:
        raise UsageError(str(trouble), place="impair") from None

    where: dict[str, Any] = {"at": at, "to": to, "every_link": every_link, "seed": seed}
    _make_fault(seconds, lambda bed: {"impaired": bed.impair(impairment, **where)})


@testbed.command()
def unimpair() -> None:
    """End all impairing; show what was counted where."""
    ui.json_result({"ended": Testbed.find().unimpair()})


@testbed.command()
@_some_places
@click.option("--signal", "signal_name", default="KILL", help="Another than KILL, as TERM, STOP or HUP.")
@_for_seconds
def kill(places: tuple[str, ...], signal_name: str, seconds: int | None) -> None:
    """Kill containers, or send them another signal."""
    _make_fault(seconds, lambda bed: {"signal": signal_name, "killed": bed.kill(*places, signal_name=signal_name)})


@testbed.command()
@_some_places
def start(places: tuple[str, ...]) -> None:
    """Start what does not run; "newcomer" and "hostile" are made the first time."""
    ui.json_result({"started": Testbed.find().start(*places)})


@testbed.command()
@_some_places
def restart(places: tuple[str, ...]) -> None:
    """Stop and start containers, one after the other."""
    ui.json_result({"restarted": Testbed.find().restart(*places)})


@testbed.command()
@click.argument("name")
@click.argument("kind", metavar="TYPE", default="A")
@click.option("--from", "at", metavar="PLACE", help="Ask the server inside this container, not the published port.")
@click.option("--port", type=_PORT, default=DEFAULT_PORT, envvar="P2PDNS_TESTBED_PORT", show_envvar=True)
def dig(name: str, kind: str, at: str | None, port: int) -> int:
    """Ask one question."""
    answer = Testbed.find().dig(name, kind, at=at, port=port)
    ui.json_result(answer)
    if "error" in answer:
        _say(f"error: {answer['error']}")
    return int(answer.get("exit", 0))


def _usage_error(trouble: click.ClickException) -> UsageError:
    context = trouble.ctx if isinstance(trouble, click.UsageError) else None
    verb = context.info_name if context and context.parent else None
    message = trouble.format_message().strip().rstrip(".").replace("'", '"')
    # Behind the message click says which verbs or flags are near.
    what, *near = re.split(r"\. \(?Did you mean ", message)
    hint = f"did you mean {near[0].rstrip(')')}" if near else f"{HOW_IT_IS_CALLED} {verb or ''} --help"
    return UsageError(what[:1].lower() + what[1:], place=verb, hint=hint)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit status."""
    try:
        code = testbed.main(arguments, prog_name=HOW_IT_IS_CALLED, standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as usage:
        click.echo(usage.format_message(), err=True)
        return UsageError.exit_code
    except (click.Abort, KeyboardInterrupt):
        return EXIT_INTERRUPTED
    except (click.ClickException, P2pdnsError) as found:
        trouble = _usage_error(found) if isinstance(found, click.ClickException) else found
        _say(f"error: {trouble}")
        hint = trouble.hint or (f"{HOW_IT_IS_CALLED} --help" if isinstance(trouble, UsageError) else "")
        for line in hint.splitlines():
            _say(f"hint: {' '.join(line.split())}")
        return trouble.exit_code
    return code if isinstance(code, int) else 0
