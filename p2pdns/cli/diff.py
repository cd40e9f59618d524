"""`diff`: the changes that `publish` would make in the zone that the overlay has now, RRset by RRset.

Guarantees: nothing is signed or put, and no secret key is needed; what differs is held against a complete look-up; exit
0 if nothing differs, 1 if something does, 2 if that could not be found out. Does not know which of the two is right.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from p2pdns.cli import committed, completion, files, mixups, settings, ui
from p2pdns.cli.committed import COMMITTED, COMMITTED_TO_ANOTHER
from p2pdns.cli.daemon_or_node import Daemon
from p2pdns.cli.names import read_zone_key
from p2pdns.cli.petnames import Book
from p2pdns.cli.settings import Given
from p2pdns.cli.verbs import Verb
from p2pdns.cli.zones import ReadZone, keys_by_name, read_zone, show_warnings, zone_file_options
from p2pdns.clock import unix_now
from p2pdns.dns.message import RRset, type_text
from p2pdns.dns.name import Name
from p2pdns.dns.zonefile.writing import rrset_lines
from p2pdns.errors import BadItem, P2pdnsError, Unavailable, UsageError, counted, first_token
from p2pdns.items.item import MutableItem
from p2pdns.items.keys import ZoneKey
from p2pdns.items.shards.content import content_of
from p2pdns.items.succession import Commitment, commitment_of
from p2pdns.publishing.changes import Difference, differences
from p2pdns.publishing.dates import date_of

# As of diff(1), grep(1) and cmp(1): a script must tell a difference from a look-up that failed.
EXIT_DIFFERENT, EXIT_TROUBLE = 1, 2
KINDS = {"+": "added", "-": "removed", "~": "changed"}


def lines_of(found: Sequence[Difference], apex: Name) -> list[str]:
    """Return each RRset that differs, and below it the records that go and come."""
    lines = []
    for one in found:
        before, after = _records(one.before, apex), _records(one.after, apex)
        lines.append(f"{one.mark} {one.owner.text_in(apex)} {type_text(one.rtype)}")
        lines += [f"  - {line}" for line in before if line not in after]
        lines += [f"  + {line}" for line in after if line not in before]
    return lines


def _records(rrset: RRset | None, apex: Name) -> list[str]:
    return [] if rrset is None else rrset_lines(rrset, apex)


def _facts_of(one: Difference, apex: Name) -> dict[str, Any]:
    return {
        "owner": one.owner.text_in(apex),
        "type": type_text(one.rtype),
        "kind": KINDS[one.mark],
        "before": _records(one.before, apex),
        "after": _records(one.after, apex),
    }


def _key_of(key_file: str | None, key_text: str | None, passphrase_file: str | None, daemon: Daemon) -> ZoneKey:
    if (key_file is None) == (key_text is None):
        hint = "-k KEYFILE, or --key KEY where the secret key is elsewhere"
        raise UsageError("one of -k and --key is needed", place="diff", hint=hint)
    if key_file is not None:
        return files.read_secret_key(key_file, passphrase_file).zone_key
    assert key_text is not None, "one of the two is given"
    return read_zone_key(key_text, place=f"--key {first_token(key_text)}", book=daemon.book())


def _refuse_no_zone(current: MutableItem) -> None:
    """Raise Unavailable where a key has signed a value that is no zone: that is not a zone without records."""
    try:
        content_of(current)
    except BadItem as trouble:
        hint = f"p2pdns inspect {current.key} shows it"
        raise Unavailable(f"what is published is not a zone ({trouble})", place=str(current.key), hint=hint) from None


def _commitment_mark(own: Commitment | None, current: MutableItem | None) -> str | None:
    """Return how publishing would change the commitment: `+` the first one, `~` another one; None if it stays."""
    published = None if current is None else commitment_of(current)
    if own is None or own == published:
        # Without one at hand, the one that is published is carried.
        return None
    return "+" if published is None else "~"


def _show(
    found: Sequence[Difference],
    commitment: str | None,
    zone: ReadZone,
    key: ZoneKey,
    current: MutableItem | None,
    book: Book,
) -> None:
    is_equal = not found and commitment is None
    if ui.is_json():
        ui.json_result(
            {
                "zone": str(key),
                "petname": book.name_of(str(key)),
                "file": zone.path,
                "published": None if current is None else current.seq,
                "equal": is_equal,
                "commitment": None if commitment is None else KINDS[commitment],
                "differences": [_facts_of(one, key.apex) for one in found],
            },
            is_answer=True,
        )
        return
    if commitment is not None:
        ui.result(f"{commitment} {COMMITTED if commitment == '+' else COMMITTED_TO_ANOTHER}")
    for line in lines_of(found, key.apex):
        ui.result(line)
    against = "nothing is published under this key"
    if current is not None:
        word = f"{counted(len(found), 'RRset')} {'differs' if len(found) == 1 else 'differ'} from"
        against = f"{'the same as' if is_equal else word} seq {current.seq} of {date_of(current.seq)}"
    ui.note(f"{zone.path}: {against}")


@click.command(cls=Verb)
@click.argument("zone_file", metavar="ZONEFILE", shell_complete=completion.a_file)
@click.option(
    "-k", "key_file", metavar="KEYFILE", help="The key that signs the zone.", shell_complete=completion.a_file
)
@click.option("--key", "key_text", metavar="KEY", help="The zone key or petname.", shell_complete=completion.a_zone)
@files.passphrase_file_option
@zone_file_options
@settings.overlay_options
def diff(
    zone_file: str,
    key_file: str | None,
    key_text: str | None,
    passphrase_file: str | None,
    zone_words: tuple[str, ...],
    origin: str | None,
    size_max: int,
    given: Given,
) -> int:
    """Show what publishing ZONEFILE would change in the zone that the overlay has now.

    Each RRset that would be added (+), removed (-) or changed (~), with its records; with -k also the commitment to a
    next key that is in KEYFILE.next. No secret key is needed with --key. As of diff, the exit status is 0 if nothing
    differs, 1 if something does, 2 if that could not be found out.
    """
    if key_file is not None:
        mixups.refuse_swapped(key_file, zone_file, "p2pdns diff -k {} {}")
    try:
        with Daemon(given.config(), given) as daemon:
            key = _key_of(key_file, key_text, passphrase_file, daemon)
            keys = keys_by_name(zone_words, given.config_flag, given.state_flag, daemon.book)
            commitment = None if key_file is None else committed.read(key_file, key)
            zone = read_zone(
                zone_file,
                key,
                origin=origin,
                size_bytes_max=size_max,
                keys=keys,
                addresses=daemon.addresses,
                commitment=commitment,
            )
            show_warnings(zone)
            with ui.progress() as line:
                line.update("looking up")
                seen = daemon.look_up(key)
            current = seen.newest(unix_now())
            if not seen.is_complete:
                hint = "try again; p2pdns doctor shows how well nodes are reached"
                raise Unavailable("the look-up was not complete, so a newer zone may exist", place=str(key), hint=hint)
            if current is not None:
                _refuse_no_zone(current)
            before = None if current is None else daemon.whole(current)
            found = differences(before, key.apex, zone.value)
            mark = _commitment_mark(commitment, current)
            _show(found, mark, zone, key, current, daemon.book())
    except P2pdnsError as trouble:
        ui.error(trouble)
        return EXIT_TROUBLE
    return EXIT_DIFFERENT if found or mark is not None else 0
