"""`zones`: shows the zones that the running daemon keeps alive, and how many copies of each are known elsewhere.

Guarantees: text and `--json` have the same facts; a copy counts only if its node has shown the signed item. Does not
know how copies are measured.
"""

from __future__ import annotations

from time import sleep as pause
from typing import Any

import click

from p2pdns.cli import settings, ui
from p2pdns.cli.status import duration
from p2pdns.cli.verbs import Verb
from p2pdns.errors import UsageError

WATCH_S = 2.0  # Between two looks; nothing that is shown changes faster.
COLUMNS = (
    ui.Column("zone"),
    ui.Column("kind"),
    ui.Column("records", "right"),
    ui.Column("seq", "right"),
    ui.Column("copies elsewhere"),
    ui.Column("last put"),
    ui.Column("next put"),
    ui.Column("time left"),
)


def copies_text(zone: dict[str, Any]) -> str:
    """Return how many copies are known, by signed replies, and how old that knowledge is.

    >>> copies_text({"copies": 4, "acknowledged": 20, "measured_s": 720.0})
    '4 of 20 seen 12 min ago'
    >>> copies_text({"copies": None, "acknowledged": 20, "next_look_s": 3540.0})
    '20 promised, look in 59 min'
    >>> copies_text({"copies": None, "acknowledged": 0})
    'none known'
    """
    if zone["copies"] is not None:
        return f"{zone['copies']} of {zone['acknowledged']} seen {duration(zone['measured_s'])} ago"
    if not zone["acknowledged"]:
        return "none known"
    look = zone.get("next_look_s")
    return f"{zone['acknowledged']} promised" + ("" if look is None else f", look in {duration(look)}")


def row_of(zone: dict[str, Any]) -> list[str]:
    """Return the cells of one zone."""

    def ago(seconds: float | None) -> str:
        return "not yet" if seconds is None else f"{duration(seconds)} ago"

    def ahead(seconds: float | None) -> str:
        return "soon" if seconds is None else f"in {duration(seconds)}"

    left = zone["time_left_s"]
    return [
        str(zone["petname"] or zone["key"]),
        str(zone["kind"]),
        "-" if zone["records"] is None else str(zone["records"]),
        str(zone["seq"]),
        copies_text(zone),
        ago(zone["last_put_s"]),
        ahead(zone["next_put_s"]),
        "-" if left is None else duration(left),
    ]


def show(zones: list[dict[str, Any]]) -> None:
    """Print the table, and the trouble of each zone below it."""
    if not zones:
        ui.result("this daemon keeps no zone alive")
        ui.note("p2pdns publish -k KEYFILE ZONEFILE publishes a zone of yours, p2pdns pin KEY keeps another one alive")
        return
    ui.table(COLUMNS, [row_of(zone) for zone in zones])
    for zone in zones:
        if zone["trouble"] is not None:
            ui.warning(f"{zone['petname'] or zone['key']}: {zone['trouble']}")


@click.command(cls=Verb)
@click.option("--watch", "is_watched", is_flag=True, help="Show it again every two seconds, until Ctrl-C.")
@settings.state_option
@settings.json_option
def zones(is_watched: bool, state_flag: str | None, as_json: bool) -> None:
    """Show the zones that the running daemon keeps alive: your own, and those that you have pinned.

    Copies elsewhere are those that other nodes have shown, signed, since the last put. The daemon asks four nodes an
    hour and puts each zone again every eight hours, or at once if too few show it. "Time left" is how long other nodes
    keep the zone if this daemon ends now.
    """
    if is_watched and as_json:
        raise UsageError("--watch and --json exclude each other", place="zones", hint="p2pdns zones --json")
    client = settings.daemon(state_flag)
    found: list[dict[str, Any]] = client.call("zones")["zones"]
    if as_json:
        ui.json_result({"zones": found})
        return
    show(found)
    while is_watched:
        pause(WATCH_S)
        found = client.call("zones")["zones"]
        ui.redraw()
        show(found)
