"""`put`: puts an item again that `inspect -o` has saved, without the secret key.

Guarantees: an item with a wrong signature, or an item older than the newest known one of its key, is not sent; exit 0
if and only if enough other nodes hold the item at the end. Does not keep the item alive: `pin` does that.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from p2pdns.cli import completion, petnames, settings, ui
from p2pdns.cli.inspect import read_item_file
from p2pdns.cli.settings import Given
from p2pdns.cli.starting import running_daemon
from p2pdns.cli.verbs import Verb
from p2pdns.clock import unix_now
from p2pdns.config import Config
from p2pdns.dht.node.values import Others
from p2pdns.errors import Unavailable, counted
from p2pdns.items.item import MutableItem, Present
from p2pdns.items.keys import ZoneId
from p2pdns.publishing.upkeep import refuse_older


async def _put_alone(config: Config, item: MutableItem, line: ui.Progress) -> dict[str, Any]:
    from p2pdns.cli.node import short_lived_node

    async with short_lived_node(config) as node:
        known = (await node.look_up(ZoneId.of_key(item.key))).item
        newest = known.seq if isinstance(known, MutableItem) else None
        # As for every reader, an item from the future does not count.
        counts = newest is not None and not Present(unix_now()).is_ahead(newest)
        refuse_older(item, newest if counts else None, unix_now())
        outcome = await node.put(item, lambda sent, stored: line.update(f"stored at {stored} of {sent} nodes so far"))
        sent, stored = outcome.others
        return {"sent": sent, "stored": stored, "refused": outcome.reasons, "through": "a node of its own"}


def _put(config: Config, state: Path, is_alone: bool, item: MutableItem) -> dict[str, Any]:
    with ui.progress() as line:
        line.update(f"looking for the nodes nearest {item.key}")
        client = None if is_alone else running_daemon(state)
        if client is None:
            # Loaded late: with a daemon this process needs no event loop.
            import asyncio

            return asyncio.run(_put_alone(config, item, line))

        def report(progress: dict[str, Any]) -> None:
            line.update(f"stored at {progress.get('stored', 0)} of {progress.get('sent', 0)} nodes so far")

        done = client.call("put", on_progress=report, item=item.to_bytes().hex())
        return {**{name: done[name] for name in ("sent", "stored", "refused")}, "through": "the running daemon"}


@click.command(cls=Verb)
@click.argument("path", metavar="FILE", shell_complete=completion.a_file)
@settings.overlay_options
def put(path: str, given: Given) -> None:
    """Put the signed item in FILE ("-" is standard input), as "inspect -o" saves it, into the overlay once.

    No key is needed: the item is checked, and refused where a newer one of its zone is known. Nodes forget it within a
    day; "p2pdns pin KEY" keeps a zone alive.
    """
    config = given.config()
    item = read_item_file(path).item
    state = given.state()
    done = _put(config, state, given.names_an_overlay, item)
    book = petnames.load(config, state)
    key = str(item.key)
    if given.as_json:
        ui.json_result({"zone": key, "petname": book.name_of(key), "file": path, "seq": item.seq, **done})
    else:
        ui.note(f"zone key: {book.shown(key)}")
        for reason, count in done["refused"].items():
            ui.warning(f"not stored at {counted(count, 'node')}: {reason}")
        ui.result(f"stored at {done['stored']} of {done['sent']} nodes, seq {item.seq}")
    if not Others(done["sent"], done["stored"]).is_enough:
        what = f"only {done['stored']} of {done['sent']} other nodes hold the item; more than half are needed"
        if not done["sent"]:
            what = "no other node is known to store the item at"
        raise Unavailable(what, place=key, hint="put it again later; p2pdns status shows the contacts")
