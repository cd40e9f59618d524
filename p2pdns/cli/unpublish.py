"""`unpublish`: takes a zone down: publishes it without any record, and has it kept alive no longer.

Guarantees: the secret key stays in this process; exit 0 if and only if more than half of the other known nodes hold the
empty zone; until then the daemon goes on putting it. Does not know how an item finds its nodes.
"""

from __future__ import annotations

from typing import Any

import click

from p2pdns.admin.control import ControlClient
from p2pdns.cli import files, petnames, settings, ui
from p2pdns.cli.made import memory_of
from p2pdns.cli.settings import Given
from p2pdns.cli.starting import GRACE_S, running_daemon
from p2pdns.cli.verbs import Verb
from p2pdns.clock import unix_now
from p2pdns.config import Config
from p2pdns.dht.node.values import Others
from p2pdns.errors import Unavailable, UsageError, counted
from p2pdns.items.item import MutableItem, Present
from p2pdns.items.keys import SecretKey, ZoneId
from p2pdns.items.packet import compose_packet
from p2pdns.overlay.ports import OnProgress
from p2pdns.publishing.memory import Memory
from p2pdns.publishing.publication import chosen_seq

FORGOTTEN_NOTE = (
    "the empty zone stays where it is for some days, a fortnight at most, because holders put it again; then nodes "
    "forget it. Somebody who has kept the old zone can put that again afterwards"
)
FORGET_NOTE = "p2pdns forget KEY is another thing: it changes what this machine remembers, and nothing elsewhere"


def _signed(secret: SecretKey, seq: int, value: bytes, memory: Memory) -> MutableItem:
    """Return the signed item, which `publish` will know for one of this key file."""
    item = MutableItem.signed(secret, seq, value)
    memory.signed(item)
    return item


def _note_stored(memory: Memory, item: MutableItem, sent: int, stored: int) -> None:
    if Others(sent, stored).is_enough:
        memory.stored(item)


def _unpublish_through(
    client: ControlClient, secret: SecretKey, value: bytes, memory: Memory, on_progress: OnProgress
) -> dict[str, Any]:
    known = client.call("seq", key=str(secret.zone_key))
    item = _signed(secret, chosen_seq(known["seq"], unix_now()), value, memory)

    def report(progress: dict[str, Any]) -> None:
        on_progress(progress.get("sent", 0), progress.get("stored", 0))

    done = client.call("unpublish", on_progress=report, item=item.to_bytes().hex())
    _note_stored(memory, item, done["sent"], done["stored"])
    return {name: done[name] for name in ("seq", "sent", "stored", "refused", "kept_alive")} | {
        "through": "the running daemon"
    }


async def _unpublish_alone(
    config: Config, secret: SecretKey, value: bytes, memory: Memory, on_progress: OnProgress
) -> dict[str, Any]:
    from p2pdns.cli.node import short_lived_node

    async with short_lived_node(config) as node:
        known = (await node.look_up(ZoneId.of_key(secret.zone_key))).item
        last = known.seq if isinstance(known, MutableItem) else None
        is_ahead = last is not None and Present(unix_now()).is_ahead(last)
        item = _signed(secret, chosen_seq(None if is_ahead else last, unix_now()), value, memory)
        outcome = await node.put(item, on_progress)
        sent, stored = outcome.others
        _note_stored(memory, item, sent, stored)
        facts = {"seq": item.seq, "sent": sent, "stored": stored, "refused": outcome.reasons, "kept_alive": False}
        return facts | {"through": "a node of its own"}


def _refuse_unless_sure(shown: str, is_sure: bool) -> None:
    if is_sure:
        return
    if not ui.is_interactive():
        raise UsageError("nobody can be asked whether this is meant", place="unpublish", hint="add --yes if it is")
    if not ui.confirmed(f"publish {shown} without any record, and keep it alive no longer?"):
        raise click.Abort


@click.command(cls=Verb)
@files.key_option("The key that signed the zone.")
@click.option("--yes", "is_sure", is_flag=True, help="Do not ask.")
@files.passphrase_file_option
@settings.overlay_options
def unpublish(key_file: str, is_sure: bool, passphrase_file: str | None, given: Given) -> None:
    """Take a zone down: publish it without any record, and keep it alive no longer.

    Readers then answer that its names do not exist. It asks first; without a terminal --yes is needed.
    """
    config = given.config()
    secret = files.read_secret_key(key_file, passphrase_file)
    key, state = str(secret.zone_key), given.state()
    book = petnames.load(config, state)
    _refuse_unless_sure(book.shown(key), is_sure)
    value = compose_packet((), secret.zone_key.apex)
    with ui.progress() as line:
        line.update(f"looking for the nodes nearest {key}")

        def on_progress(sent: int, stored: int) -> None:
            line.update(f"stored at {stored} of {sent} nodes so far")

        grace = 0.0 if config.dht.bootstrap else GRACE_S
        client = None if given.names_an_overlay else running_daemon(state, grace_seconds=grace)
        if client is not None:
            done = _unpublish_through(client, secret, value, memory_of(key_file), on_progress)
        else:
            # Loaded late: with a daemon this process needs no event loop.
            import asyncio

            done = asyncio.run(_unpublish_alone(config, secret, value, memory_of(key_file), on_progress))
    if given.as_json:
        ui.json_result({"zone": key, "petname": book.name_of(key), **done})
    else:
        ui.note(f"zone key: {book.shown(key)}")
        for reason, count in done["refused"].items():
            ui.warning(f"not stored at {counted(count, 'node')}: {reason}")
        ui.result(f"unpublished at {done['stored']} of {done['sent']} nodes, seq {done['seq']}")
    if not Others(done["sent"], done["stored"]).is_enough:
        what = f"only {done['stored']} of {done['sent']} other nodes hold the empty zone; more than half are needed"
        if not done["sent"]:
            what = "no other node is known to store the empty zone at"
        hint = "unpublish again later; p2pdns status shows the contacts"
        if done["kept_alive"]:
            hint = "the daemon goes on putting the empty zone; unpublish again to have that end"
        raise Unavailable(what, place=key, hint=hint)
    if not given.as_json:
        ui.note(FORGOTTEN_NOTE)
        ui.note(FORGET_NOTE)
