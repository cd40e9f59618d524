"""`unpublish`: takes a zone down: publishes it without any record, and has it kept alive no longer.

Guarantees: the empty zone is a publication as any other (`publishing.publication`): what was not made with this key
file is not replaced unseen, and exit 0 means that it is stored and was read back; until then the daemon goes on putting
it. The secret key stays in this process. Does not know how an item finds its nodes.
"""

from __future__ import annotations

from collections.abc import Callable

import click

from p2pdns.cli import committed, files, settings, ui
from p2pdns.cli.daemon_or_node import Daemon
from p2pdns.cli.made import memory_of
from p2pdns.cli.settings import Given
from p2pdns.cli.stages import Shown
from p2pdns.cli.verbs import Verb
from p2pdns.errors import UsageError, counted
from p2pdns.items.item import VALUE_BYTES_WRITE_MAX
from p2pdns.publishing.changes import EmptyZone
from p2pdns.publishing.dates import date_of
from p2pdns.publishing.publication import Plan, Rules

FORGOTTEN_NOTE = (
    "the empty zone stays where it is for some days, a fortnight at most, because holders put it again; then nodes "
    "forget it. Somebody who has kept the old zone can put that again afterwards"
)
FORGET_NOTE = "p2pdns forget KEY is another thing: it changes what this machine remembers, and nothing elsewhere"


def _refuse_unless_sure(shown: str, is_sure: bool) -> None:
    if is_sure:
        return
    if not ui.is_interactive():
        raise UsageError("nobody can be asked whether this is meant", place="unpublish", hint="add --yes if it is")
    if not ui.confirmed(f"publish {shown} without any record, and keep it alive no longer?"):
        raise click.Abort


def _approval(line: ui.Progress) -> Callable[[Plan], None]:
    """Return what shows what is taken down; somebody has agreed to that before."""

    def show(plan: Plan) -> None:
        line.clear()
        if plan.current is not None and not ui.is_json():
            ui.note(f"{plan.changes}, compared with seq {plan.current.seq} of {date_of(plan.current.seq)}")

    return show


@click.command(cls=Verb)
@files.key_option("The key that signed the zone.")
@click.option("--yes", "is_sure", is_flag=True, help="Do not ask.")
@click.option("--force", "is_forced", is_flag=True, help="Take down a zone that was not published with this key file.")
@files.passphrase_file_option
@settings.overlay_options
def unpublish(key_file: str, is_sure: bool, is_forced: bool, passphrase_file: str | None, given: Given) -> None:
    """Take a zone down: publish it without any record, and keep it alive no longer.

    Readers then answer that its names do not exist, unless the zone has moved to a next key. It asks first; without a
    terminal --yes is needed. What was not published with this key file is refused.
    """
    config = given.config()
    secret = files.read_secret_key(key_file, passphrase_file)
    key = str(secret.zone_key)
    with Daemon(config, given) as daemon:
        book = daemon.book()
        _refuse_unless_sure(book.shown(key), is_sure)
        with ui.progress() as line:
            rules = Rules(
                is_forced=is_forced,
                keeps_merged=True,
                approve=_approval(line),
                force_command=f"p2pdns unpublish --force -k {key_file}",
                verb="unpublish",
            )
            rules = committed.rules_with(rules, key_file, secret.zone_key, VALUE_BYTES_WRITE_MAX)
            content = EmptyZone(secret.zone_key.apex)
            done = daemon.publish(secret, content, memory_of(key_file), rules, Shown(line).tell)
        committed.keep(key_file, secret.zone_key, done)
        committed.warn_if_moved(secret.zone_key, daemon.next_key_of(secret.zone_key))
        for path in daemon.tables_of(secret.zone_key):
            ui.warning(f"{path}: a [[publish]] table of the running server publishes this zone again: take it out")
        is_kept = done.is_kept_here
        if is_kept and done.is_done and done.item is not None:
            is_kept = not daemon.release(done.item)
    if given.as_json:
        facts = {"seq": done.seq, "sent": done.sent, "stored": done.stored, "read_back": done.read_back}
        told = {"refused": done.refused, "kept_alive": is_kept, "through": done.through}
        ui.json_result({"zone": key, "petname": book.name_of(key), **facts, **told})
    else:
        ui.note(f"zone key: {book.shown(key)}")
        for reason, count in done.refused.items():
            ui.warning(f"not stored at {counted(count, 'node')}: {reason}")
        ui.result(f"unpublished at {done.stored} of {done.sent} nodes, seq {done.seq}")
    if not done.is_done:
        raise done.failure(key, "unpublish")
    if not given.as_json:
        ui.note(FORGOTTEN_NOTE)
        ui.note(FORGET_NOTE)
