"""`flush`, `forget`, `pin` and `reload`: they change what a running daemon remembers.

Guarantees: a change that is printed has been made in both processes of the daemon; without a daemon a verb is an error.
Does not know how anything is remembered.
"""

from __future__ import annotations

from typing import Any

import click

from p2pdns.admin.control import ControlClient
from p2pdns.cli import completion, petnames, settings, ui
from p2pdns.cli.names import read_name, read_zone_key
from p2pdns.cli.petnames import Book
from p2pdns.cli.settings import Given
from p2pdns.cli.verbs import Verb
from p2pdns.errors import P2pdnsError, UsageError


def _daemon_and_book(given: Given) -> tuple[ControlClient, Book]:
    client = settings.daemon(given.state_flag)
    return client, petnames.load(given.config(), client.path.parent)


@click.command(cls=Verb)
@click.argument("name", required=False, metavar="NAME", shell_complete=completion.a_name)
@click.option(
    "--zone", metavar="KEY", help="Everything of one zone, by its key or petname.", shell_complete=completion.a_zone
)
@click.option("--all", "is_all", is_flag=True, help="Everything, ordinary names too.")
@settings.usual_options
def flush(name: str | None, zone: str | None, is_all: bool, given: Given) -> None:
    """Drop the cached answers of the zone that NAME is in, so that the next question is looked up again.

    Verified items, and the newest seq ever seen of a key, stay; forget drops them. Ordinary names are dropped together.
    """
    if (name is not None) + (zone is not None) + is_all != 1:
        raise UsageError("one of NAME, --zone and --all is needed", place="flush", hint="p2pdns flush --help")
    client, book = _daemon_and_book(given)
    if zone is not None:
        wanted: dict[str, Any] = {"zone": str(read_zone_key(zone, book=book))}
    else:
        wanted = {"all": True} if name is None else {"name": book.full_name(read_name(name), by_key=True)}
    flushed: str = client.call("flush", **wanted)["flushed"]
    is_everything = flushed == "everything"
    if given.as_json:
        ui.json_result({"flushed": flushed} | ({} if is_everything else _petname(book, flushed)))
        return
    ui.result(f"flushed: {flushed if is_everything else book.shown(flushed)}")
    if is_everything and not is_all:
        ui.note(f"{name} is below no zone key or petname, and such names are flushed together")


@click.command(cls=Verb)
@click.argument("key", required=False, metavar="KEY", shell_complete=completion.a_zone)
@click.option("--ahead", "is_ahead", is_flag=True, help="All zones whose newest item is dated ahead of this clock.")
@settings.usual_options
def forget(key: str | None, is_ahead: bool, given: Given) -> None:
    """Drop everything known of the zone KEY, and no longer keep it alive.

    The daemon also forgets the newest seq of the key, which guards against older items, and the commitment to a next
    key, which guards against a thief. Use it for a key whose
    publisher has lost count, or for a zone that you no longer need. With --ahead, drop all zones whose newest item is
    dated more than 24 hours ahead of this machine's clock. Use that if the clock was ahead once, and is right now.
    """
    if (key is None) != is_ahead:
        hint = "a zone key or a petname names one zone, --ahead all that are dated ahead of this machine's clock"
        raise UsageError("a KEY or --ahead is needed, and not both", place="forget", hint=hint)
    client, book = _daemon_and_book(given)
    if key is None:
        count: int = client.call("forget", ahead=True)["forgotten"]
        if given.as_json:
            ui.json_result({"forgotten": count})
        else:
            ui.result(f"forgotten: {count} zones dated ahead of this machine's clock")
        return
    zone_key = str(read_zone_key(key, book=book))
    reply = client.call("forget", key=zone_key)
    was_known, had_commitment = bool(reply["forgotten"]), bool(reply.get("had_commitment"))
    if given.as_json:
        facts = {"was_known": was_known, "had_commitment": had_commitment}
        ui.json_result({"key": zone_key, **_petname(book, zone_key), **facts})
        return
    ui.result(f"forgotten: {book.shown(zone_key)}")
    if had_commitment:
        ui.note("its commitment to a next key is forgotten too: the next one that is seen counts as the first")
    if not was_known:
        ui.note("nothing was known of it")


@click.command(cls=Verb)
@click.argument("key", metavar="KEY", shell_complete=completion.a_zone)
@settings.usual_options
def pin(key: str, given: Given) -> None:
    """Keep the zone KEY alive: put its newest item again and again, as its publisher would.

    "p2pdns forget KEY" ends it.
    """
    client, book = _daemon_and_book(given)
    zone_key = str(read_zone_key(key, book=book))
    seq: int = client.call("pin", key=zone_key)["seq"]
    if given.as_json:
        ui.json_result({"key": zone_key, **_petname(book, zone_key), "seq": seq})
    else:
        ui.result(f"kept alive: {book.shown(zone_key)}, seq {seq}")


@click.command(cls=Verb)
@settings.state_option
@settings.json_option
def reload(state_flag: str | None, as_json: bool) -> int:
    """Make the daemon read its configuration again, and say what took effect.

    A changed setting that takes effect only with a restart is named, and is an error.
    """
    done = settings.daemon(state_flag).call("reload")
    changed, late = done["changed"], done["needs_restart"]
    if as_json:
        ui.json_result({"changed": changed, "needs_restart": late})
    else:
        ui.result(f"changed: {', '.join(setting for setting in changed if setting not in late) or 'nothing'}")
    if late:
        ui.error(P2pdnsError("not before a restart", place=", ".join(late), hint="restart the daemon"))
    return 1 if late else 0


def _petname(book: Book, key: str) -> dict[str, str]:
    name = book.name_of(key)
    return {} if name is None else {"petname": name}
