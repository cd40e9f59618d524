"""`resolve --holders`: which of the nodes nearest to a zone has which edition of it.

Guarantees: an edition is shown only if its node has returned the signed item; without a daemon a node of its own asks.
Does not know names of the DNS but by the zone that they are in.
"""

from __future__ import annotations

from typing import Any

from p2pdns.cli import settings, ui
from p2pdns.cli.names import read_zone_key
from p2pdns.cli.petnames import Book
from p2pdns.cli.settings import Given
from p2pdns.cli.status import duration
from p2pdns.clock import unix_now
from p2pdns.config import Config
from p2pdns.errors import Unavailable, UsageError, counted
from p2pdns.items.keys import ZoneId
from p2pdns.naming import is_zone_key_label

COLUMNS = (
    ui.Column("node"),
    ui.Column("seq", "right"),
    ui.Column("signed"),
    ui.Column("round trip", "right"),
    ui.Column("says"),
)


def zone_in(name: str, book: Book) -> str:
    """Return the zone key at the end of a name; UsageError where there is none."""
    last = book.bare_name(name).rstrip(".").rpartition(".")[2]
    if not is_zone_key_label(last.encode()):
        hint = "a name below a zone key or a petname has holders; ordinary names have name servers"
        raise UsageError("not below a zone key or petname", place=f'"{name[:64]}"', hint=hint)
    return str(read_zone_key(last, book=book))


async def _ask_alone(config: Config, key: str) -> dict[str, Any]:
    from p2pdns.admin.upkeep import holders_facts
    from p2pdns.cli.node import short_lived_node
    from p2pdns.overlay.holders import holders_of

    async with short_lived_node(config) as node:
        return holders_facts(await holders_of(node, ZoneId.read(key)), unix_now())


def show(key: str, book: Book, config: Config, given: Given) -> None:
    """Ask, and print a line for each of the nearest nodes; Unavailable when none of them has the zone."""
    if given.names_an_overlay:
        # Loaded late: with a daemon this process needs no event loop.
        import asyncio

        found = asyncio.run(_ask_alone(config, key))
    else:
        found = settings.daemon(given.state_flag).call("holders", key=key)
        found = {name: found[name] for name in ("verdict", "newest_seq", "divided", "holders")}
    rows: list[dict[str, Any]] = found["holders"]
    if given.as_json:
        ui.json_result({"zone": key, "petname": book.name_of(key), **found})
    elif rows:
        ui.table(COLUMNS, [_cells(row) for row in rows])
    newest = [row for row in rows if row["seq"] is not None and row["seq"] == found["newest_seq"]]
    older = [row for row in rows if row["seq"] is not None and row["seq"] != found["newest_seq"]]
    if not newest:
        hint = "p2pdns publish publishes it; p2pdns status shows the contacts"
        what = (
            f"none of {counted(len(rows), 'node')} near the zone has it" if rows else "no node near the zone answered"
        )
        raise Unavailable(what, place=key, hint=hint)
    if not given.as_json:
        ui.note(f"zone key: {book.shown(key)}")
        what = "the head of the newest edition" if found["divided"] else "the newest edition"
        ui.note(f"{what}, seq {found['newest_seq']}, is at {len(newest)} of {counted(len(rows), 'node')}")
        if found["divided"]:
            ui.note("the zone is divided: its shards may be at other nodes, which are not shown")
        if older:
            ui.note(f"an older edition is at {counted(len(older), 'node')}: a reader that asks those first may show it")


def _cells(row: dict[str, Any]) -> list[str]:
    age_s = row["age_s"]
    if age_s is None:
        signed = "-"
    else:
        signed = f"{duration(age_s)} ago" if age_s >= 0 else f"{duration(-age_s)} ahead"
    says = row["says"] + ("" if row["id_allowed"] else ", id not allowed (BEP 42)")
    rtt = "-" if row["rtt_ms"] is None else f"{row['rtt_ms']:g} ms"
    return [row["address"], "-" if row["seq"] is None else str(row["seq"]), signed, rtt, says]
