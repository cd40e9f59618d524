"""`zones`: shows the zones that the running daemon keeps alive, and how many copies of each are known elsewhere.

Guarantees: text and `--json` have the same facts; a copy counts only if its node has shown the signed item. Does not
know how copies are measured.
"""

from __future__ import annotations

from collections.abc import Sequence
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
    ui.Column("items", "right"),
    ui.Column("seq", "right"),
    ui.Column("copies elsewhere"),
    ui.Column("last put"),
    ui.Column("next put"),
    ui.Column("time left"),
)
TABLE_COLUMNS = (ui.Column("published from"), ui.Column("watched"), ui.Column("seq", "right"), ui.Column("state"))


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


def items_text(zone: dict[str, Any]) -> str:
    """Return how many items a zone has, and how many of them too few others hold.

    >>> items_text({"items": 518, "items_poor": 0}), items_text({"items": 9, "items_poor": 2})
    ('518', '9, 2 held by few')
    >>> items_text({"items": None, "items_poor": 0})
    'not all here'
    """
    if zone["items"] is None:
        return "not all here"
    return f"{zone['items']}" + (f", {zone['items_poor']} held by few" if zone["items_poor"] else "")


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
        items_text(zone),
        str(zone["seq"]),
        copies_text(zone),
        ago(zone["last_put_s"]),
        ahead(zone["next_put_s"]),
        "-" if left is None else duration(left),
    ]


def table_row_of(table: dict[str, Any]) -> list[str]:
    """Return the cells of a zone that the configuration has this server publish."""
    state = "WRONG: see below" if table["trouble"] is not None else "waiting" if table["seq"] is None else "ok"
    seq = "-" if table["seq"] is None else str(table["seq"])
    return [str(table["file"]), "yes" if table["watch"] else "no", seq, state]


def moved_line(moved: dict[str, Any]) -> str:
    """Return what is known of a zone that has moved to its next key, in one line.

    >>> moved_line({"key": "a", "next": "b", "values": [{"sent": 9, "stored": 7}] * 2, "next_put_s": 3540.0})
    'a has moved to b, revealed at 7 and 7 of 9 nodes, put again in 59 min'
    """
    stored = " and ".join(str(one["stored"]) for one in moved["values"])
    again = moved["next_put_s"]
    when = "soon" if again is None else f"in {duration(again)}"
    sent = max(one["sent"] for one in moved["values"])
    return f"{moved['key']} has moved to {moved['next']}, revealed at {stored} of {sent} nodes, put again {when}"


def show(zones: list[dict[str, Any]], tables: list[dict[str, Any]], moved: Sequence[dict[str, Any]] = ()) -> None:
    """Print the zones that have moved, the others, those of the configuration, and the trouble of each below."""
    for one in moved:
        ui.result(moved_line(one))
        if one["trouble"] is not None:
            ui.warning(f"{one['key']}: {one['trouble']}")
    if not zones and not tables:
        if moved:
            return
        ui.result("this daemon keeps no zone alive")
        ui.note("p2pdns publish -k KEYFILE ZONEFILE publishes a zone of yours, p2pdns pin KEY keeps another one alive")
        return
    if zones:
        ui.table(COLUMNS, [row_of(zone) for zone in zones])
    if tables:
        if zones:
            ui.result()
        ui.table(TABLE_COLUMNS, [table_row_of(table) for table in tables])
    for zone in zones:
        if zone["trouble"] is not None:
            ui.warning(f"{zone['petname'] or zone['key']}: {zone['trouble']}")
    for table in tables:
        if table["trouble"] is not None:
            # A mistake in the file begins with its path.
            place = "" if table["trouble"].startswith(table["file"]) else f"{table['file']}: "
            ui.warning(f"{place}{table['trouble']}")


@click.command(cls=Verb)
@click.option("--watch", "is_watched", is_flag=True, help="Show it again every two seconds, until Ctrl-C.")
@settings.state_option
@settings.json_option
def zones(is_watched: bool, state_flag: str | None, as_json: bool) -> None:
    """Show the zones that the running daemon keeps alive: your own, and those that you have pinned.

    Copies elsewhere are those that other nodes have shown, signed, since the last put. The daemon asks four nodes an
    hour and puts each zone again every eight hours, or at once if too few show it. "Time left" is how long other nodes
    keep the zone if this daemon ends now. A zone that "rotate" has moved to its next key has a line of its own: the
    daemon puts what reveals that key again every two hours.
    """
    if is_watched and as_json:
        raise UsageError("--watch and --json exclude each other", place="zones", hint="p2pdns zones --json")
    client = settings.daemon(state_flag)
    found = client.call("zones")
    if as_json:
        ui.json_result({name: found[name] for name in ("zones", "tables", "moved")})
        return
    show(found["zones"], found["tables"], found["moved"])
    while is_watched:
        pause(WATCH_S)
        found = client.call("zones")
        ui.redraw()
        show(found["zones"], found["tables"], found["moved"])
