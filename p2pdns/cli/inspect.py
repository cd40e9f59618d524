"""`inspect`: shows the item that a key has published, from the overlay or from an item file.

Guarantees: only a verified item is shown; an item file holds exactly the signed bytes, so that anyone can verify it
again. Does not know whether a newer item exists that the look-up has not found.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from p2pdns.cli import completion, files, petnames, settings, ui
from p2pdns.cli.mixups import is_key_file
from p2pdns.cli.names import read_zone_key, to_ascii
from p2pdns.cli.petnames import Book
from p2pdns.cli.settings import Given
from p2pdns.cli.starting import running_daemon
from p2pdns.cli.verbs import Verb
from p2pdns.clock import unix_now
from p2pdns.config import Config
from p2pdns.dns.name import Name
from p2pdns.dns.zonefile import writing
from p2pdns.errors import StrangerError, Unavailable, UsageError, abridged, counted
from p2pdns.items.item import SEQ_PER_SECOND, VALUE_BYTES_READ_MAX, MutableItem
from p2pdns.items.keys import KEY_BYTES, SIGNATURE_BYTES, ZoneId, ZoneKey
from p2pdns.items.mistyped import fault_of, undressed
from p2pdns.items.shards.directory import Directory
from p2pdns.items.shards.head import Head, Unreadable
from p2pdns.items.succession import commitment_of_zone
from p2pdns.naming import ZONE_KEY_CHARACTERS
from p2pdns.publishing.dates import date_of

ITEM_FILE_BYTES_MAX = KEY_BYTES + SIGNATURE_BYTES + 8 + VALUE_BYTES_READ_MAX
ITEM_FILE_MODE = 0o644  # An item is public.


@dataclass(frozen=True)
class Inspected:
    """An item and where it came from."""

    item: MutableItem
    source: str
    is_settled: bool | None = None
    notes: tuple[str, ...] = ()
    is_confirmed: bool | None = None
    trouble: str | None = None


def read_key(text: str, book: Book) -> ZoneKey | None:
    """Return the zone key that a word is or ends in; None when its last label does not look like a zone key."""
    label = book.bare_name(to_ascii(undressed(text))).rstrip(".").rsplit(".", 1)[-1]
    if len(label) != ZONE_KEY_CHARACTERS and not fault_of(label.encode("utf-8", "replace")):
        return None
    return read_zone_key(label, place=files.quoted(abridged(text)))


def read_item_file(path: str) -> Inspected:
    """Return the verified item of an item file."""
    data = files.read_bytes(path, ITEM_FILE_BYTES_MAX)
    if is_key_file(path):
        hint = f"p2pdns inspect $(p2pdns pubkey {path}) shows what it has published"
        raise UsageError("a key file, and no item", place=files.quoted(path), hint=hint)
    try:
        return Inspected(MutableItem.read_file(data), path)
    except StrangerError as trouble:
        hint = "an item file is what p2pdns inspect KEY -o FILE writes: key, signature, seq, value"
        if path.endswith((".zone", ".toml")):
            hint = f"p2pdns check {path} reads it"
        raise Unavailable(f"not a valid item ({trouble})", place=files.quoted(path), hint=hint) from None


def write_item_file(path: str, item: MutableItem) -> None:
    """Write the item; replace an older item of the same key, but no other file."""
    if os.path.exists(path):
        if files.read_bytes(path, ITEM_FILE_BYTES_MAX)[:KEY_BYTES] != item.key.raw:
            what = "the file exists and is no item of this key"
            raise UsageError(what, place=files.quoted(path), hint="choose another name")
        Path(path).unlink()
    files.write_new(path, item.to_bytes(), mode=ITEM_FILE_MODE, place_hint="choose another name")


async def _fetch_alone(config: Config, key: ZoneKey) -> Inspected | None:
    from p2pdns.cli.node import short_lived_node

    async with short_lived_node(config) as node:
        outcome = await node.look_up(ZoneId.of_key(key))
        if not isinstance(outcome.item, MutableItem):
            return None
        is_confirmed = outcome.confirmation.is_of(outcome.item)
        return Inspected(outcome.item, "a node of its own", outcome.complete, (), is_confirmed)


def fetch(config: Config, state: Path, is_alone: bool, key: ZoneKey) -> Inspected:
    """Return the newest item of a key, through the running daemon or by a node of our own."""
    client = None if is_alone else running_daemon(state)
    if client is not None:
        found = client.call("item", key=str(key), settled=True)
        item = MutableItem.read_file(bytes.fromhex(found["item"]))
        is_confirmed = found.get("unconfirmed") is not True
        notes = tuple(str(note) for note in found.get("notes", ()))
        trouble = found.get("copies_trouble")
        return Inspected(item, "the running daemon", bool(found.get("settled")), notes, is_confirmed, trouble)
    # Loaded late: with a daemon this process needs no event loop.
    import asyncio

    fetched = asyncio.run(_fetch_alone(config, key))
    if fetched is None:
        hint = "it may be unpublished or expired; --bootstrap ADDR:PORT names a node to begin with"
        raise Unavailable("nothing was found under this key", place=str(key), hint=hint)
    return fetched


def facts_of(inspected: Inspected, now: float, petname: str | None = None) -> dict[str, Any]:
    """Return the facts about an item, as JSON values; facts that are not known are left out."""
    item = inspected.item
    known: dict[str, Any] = {
        "zone": str(item.key),
        "petname": petname,
        "source": inspected.source,
        "signature": "valid",
        "seq": item.seq,
        "signed_at": date_of(item.seq),
        "size_bytes": len(item.value),
        "target": item.target.hex(),
        "settled": inspected.is_settled,
        "notes": list(inspected.notes) or None,
        "confirmed": inspected.is_confirmed,
        "trouble": inspected.trouble,
    }
    facts = {name: value for name, value in known.items() if value is not None}
    try:
        head = Head.of(item)
    except StrangerError as trouble:
        # A key may sign any value, so one that is no zone is shown as bytes.
        return {**facts, "content": f"not a zone ({trouble})", "value": item.value.hex()}
    # Of a divided zone this is the head: what lies in shards is not shown.
    zone = head.zone
    until = item.signed_at_unix + zone.expire_seconds
    facts["fresh"] = until > now
    facts["fresh_until"] = date_of(int(until) * SEQ_PER_SECOND)
    facts["committed"] = commitment_of_zone(zone) is not None
    if head.directories:
        facts["directories"] = [_directory_text(found, item.key.apex) for found in head.directories.values()]
    facts["left_out"] = dict(head.dropped)
    facts["records"] = writing.write(zone).splitlines()
    return facts


def _directory_text(found: Directory | Unreadable, apex: Name) -> str:
    owner = found.owner.text_in(apex)
    if isinstance(found, Unreadable):
        return f"{owner} cannot be read ({found.reason})"
    return f"{owner} in {counted(found.shard_count, 'shard')}"


def _shown(name: str, value: object) -> tuple[str, str]:
    if name.endswith("_bytes"):
        return name.removesuffix("_bytes"), f"{value} bytes"
    if name == "committed" and value:
        return name, "to a next key"
    if isinstance(value, bool):
        return name, "yes" if value else "no"
    if isinstance(value, list):
        return name, "; ".join(map(str, value))
    if isinstance(value, dict):
        return name, ", ".join(f"{count} × {why}" for why, count in value.items()) or "nothing"
    return name, str(value)


def _show(facts: dict[str, Any]) -> None:
    records = facts.get("records")
    pairs = [_shown(name, value) for name, value in facts.items() if name != "records"]
    ui.fields({name.replace("_", " "): value for name, value in pairs})
    if records is not None:
        ui.result()
        for line in records:
            ui.result(line)


def _item_file_or_petname(what: str, book: Book) -> Inspected:
    """Return the item of a file; if the file is missing, the error names a near petname."""
    hint = book.hint_for(what)
    if hint is not None and not os.path.exists(what):
        raise Unavailable("neither a file nor a petname", place=files.quoted(what), hint=hint)
    return read_item_file(what)


def find(what: str, config: Config, state: Path, book: Book, *, is_alone: bool) -> Inspected:
    """Return the item that a word names: a key, a petname, a name below one of them, or an item file."""
    key = None if os.path.exists(what) else read_key(what, book)
    return _item_file_or_petname(what, book) if key is None else fetch(config, state, is_alone, key)


@click.command(cls=Verb)
@click.argument("what", metavar="KEY|NAME|FILE", shell_complete=completion.a_zone_or_file)
@click.option("-o", "--output", metavar="FILE", help="Write the item to FILE: key, signature, seq and value.")
@settings.overlay_options
def inspect(what: str, output: str | None, given: Given) -> None:
    """Show what a zone has published, or what an item FILE holds, with its signature checked.

    The zone is given by its KEY, by a petname, or by any NAME that ends in one of them.
    """
    config, state = given.config(), given.state()
    book = petnames.load(config, state)
    inspected = find(what, config, state, book, is_alone=given.names_an_overlay)
    if output is not None:
        write_item_file(output, inspected.item)
    facts = facts_of(inspected, unix_now(), book.name_of(str(inspected.item.key)))
    if inspected.trouble is not None:
        ui.warning(inspected.trouble)
    if output is not None and "directories" in facts:
        ui.warning("the file has the head of the zone alone, and not its shards; p2pdns export writes the whole zone")
    if given.as_json:
        ui.json_result(facts)
    else:
        _show(facts)
