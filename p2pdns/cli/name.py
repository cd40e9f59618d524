"""`name`: the user's own short names for zone keys.

Guarantees: a petname that is printed as added has been kept; an import is kept whole or not at all; a running daemon
uses a change from the next question on. Does not know the owner of a key.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from p2pdns.admin import petnames as kept_petnames
from p2pdns.cli import completion, files, petnames, settings, ui
from p2pdns.cli.names import read_zone_key, to_ascii
from p2pdns.cli.settings import Given
from p2pdns.cli.starting import running_daemon
from p2pdns.cli.verbs import NameFamily
from p2pdns.config import Config
from p2pdns.errors import (
    KEY_FILE_HINT,
    KEY_FILE_MARK,
    KEY_FILE_TEXT,
    P2pdnsError,
    Unavailable,
    UsageError,
    abridged,
    first_token,
)
from p2pdns.items.keys import ZoneId

# The daemon takes requests of a mebibyte, and a text of half that always fits into one.
IMPORT_BYTES_MAX = 512 * 1024
NAME_FILE_HINT = "a line is: NAME KEY, and a # begins a comment"

if TYPE_CHECKING:
    from p2pdns.state import State

Done = TypeVar("Done")


def _in_state(state: Path, change: Callable[[State], Done]) -> Done:
    """Change the state directory where no daemon runs, and tell the user so."""
    # Loaded late: with a running daemon the databases are not needed.
    from p2pdns.state import State

    opened = State.open(state)
    try:
        done = change(opened)
    finally:
        opened.close()
    ui.note(f"no daemon runs, so this is kept in {state} for the next one")
    return done


def _add(config: Config, state: Path, names: Mapping[str, ZoneId]) -> list[str]:
    client = running_daemon(state)
    if client is not None:
        added: list[str] = client.call("name-import", names={name: str(key) for name, key in names.items()})["added"]
        return added
    return _in_state(state, lambda opened: kept_petnames.add(opened, config, names))


def read_names(text: str, path: str, config: Config, kept: Mapping[str, str]) -> tuple[dict[str, ZoneId], list[str]]:
    """Return the petnames of a file, and the places of its mistakes; show each mistake with its line."""
    if KEY_FILE_MARK in text:
        raise UsageError(f"not a file of petnames; {KEY_FILE_TEXT}", place=files.quoted(path), hint=KEY_FILE_HINT)
    names: dict[str, ZoneId] = {}
    lines: dict[str, int] = {}
    faults: list[str] = []
    for number, line in enumerate(text.splitlines(), 1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        place = f"{path}:{number}"
        try:
            if len(words) != 2:
                raise UsageError(f'cannot read "{first_token(line)}"', hint=NAME_FILE_HINT)
            key = ZoneId.of_key(read_zone_key(words[1]))
            name = kept_petnames.refuse(words[0], key, config=config, kept=kept)
            if names.setdefault(name, key) != key:
                raise UsageError(f"{name} has another key in line {lines[name]}", hint="remove one of the two")
            lines.setdefault(name, number)
        except P2pdnsError as trouble:
            hint = trouble.hint or NAME_FILE_HINT
            ui.error(P2pdnsError(abridged(str(trouble)), place=place, hint=abridged(hint)))
            faults.append(place)
    return names, faults


@click.group(cls=NameFamily)
def name() -> None:
    """Give zone keys short names of your own (petnames), which hold on this machine only.

    After "p2pdns name add alice KEY" the zone of KEY is found at www.alice.p2pdns.internal as well as at
    www.KEY.p2pdns.internal.
    """


def _refuse_swapped(petname: str, key: str) -> None:
    """Raise a UsageError where NAME is a zone key and KEY is none: they are swapped."""
    try:
        first = read_zone_key(petname)
    except UsageError:
        return
    with contextlib.suppress(UsageError):
        # Two zone keys are another mistake, which is reported when NAME is read.
        read_zone_key(key)
        return
    hint = f"p2pdns name add {first_token(key)} {first}"
    raise UsageError("the NAME comes first, then the KEY", place="name add", hint=hint)


@name.command()
@click.argument("petname", metavar="NAME")
@click.argument("key", metavar="KEY", shell_complete=completion.a_zone)
@settings.usual_options
def add(petname: str, key: str, given: Given) -> None:
    """Let NAME stand for the zone KEY."""
    config, state = given.config(), given.state()
    book = petnames.load(config, state)
    _refuse_swapped(petname, key)
    petname = to_ascii(petname.strip())
    zone_key = ZoneId.of_key(read_zone_key(key, book=book))
    added = _add(config, state, {petname: zone_key})
    folded = petname.lower()
    if given.as_json:
        ui.json_result({"name": folded, "key": str(zone_key), "is_new": bool(added)})
        return
    ui.result(f"{folded} {zone_key}")
    if not added:
        ui.note(f"{folded} was there before")
    elif suffixes := config.dns.suffixes:
        # A browser opens a name below .internal; it sends a name with another unknown ending to a search engine.
        suffix = next((suffix for suffix in suffixes if suffix.endswith(".internal")), suffixes[0])
        ui.note(f"its zone is at {folded}.{suffix}")


@name.command("list")
@settings.usual_options
def list_names(given: Given) -> None:
    """Print every petname with its key, in the form that "import" reads."""
    book = petnames.load_strictly(given.config(), given.state())
    if given.as_json:
        ui.json_result(
            {
                name: {"key": entry.key, "from": entry.source, "succeeded_by": entry.succeeded_by}
                for name, entry in book.names.items()
            }
        )
        return
    width = max((len(name) for name in book.names), default=0)
    for petname, entry in book.names.items():
        notes = ["from the configuration"] if entry.source == "configuration" else []
        notes += [] if entry.succeeded_by is None else [f"succeeded by {entry.succeeded_by}"]
        comment = f"  # {', '.join(notes)}" if notes else ""
        ui.result(f"{petname.ljust(width)} {entry.key}{comment}")
    if not book.names:
        ui.note("no petnames yet; p2pdns name add NAME KEY makes one")


@name.command()
@click.argument("petname", metavar="NAME", shell_complete=completion.a_petname)
@settings.usual_options
def remove(petname: str, given: Given) -> None:
    """Let NAME stand for nothing."""
    config, state = given.config(), given.state()
    petname = to_ascii(petname.strip())
    book = petnames.load_strictly(config, state)
    if petname.lower() not in book.names and (near := book.hint_for(petname)) is not None:
        raise Unavailable("no such petname", place=f'"{first_token(petname)}"', hint=near)
    client = running_daemon(state)
    if client is not None:
        removed: str = client.call("name-remove", name=petname)["removed"]
    else:
        removed = _in_state(state, lambda opened: kept_petnames.remove(opened, config, petname))
    if given.as_json:
        ui.json_result({"removed": removed})
    else:
        ui.note(f"{removed} stands for nothing now")


@name.command("import")
@click.argument("path", metavar="FILE", shell_complete=completion.a_file)
@settings.usual_options
def import_names(path: str, given: Given) -> int:
    """Take over petnames from FILE ("-" is standard input): all of them, or none.

    A line is: NAME KEY. A "#" begins a comment.
    """
    config, state = given.config(), given.state()
    text = files.read_text(path)
    if len(text.encode()) > IMPORT_BYTES_MAX:
        hint = "split it; each part is taken over whole or not at all"
        raise UsageError(f"more than {IMPORT_BYTES_MAX} bytes", place=files.quoted(path), hint=hint)
    book = petnames.load_strictly(config, state)
    kept = {name: entry.key for name, entry in book.names.items() if entry.source == "state"}
    names, faults = read_names(text, path, config, kept)
    if faults:
        ui.note("nothing was taken over")
        return 1
    added = _add(config, state, names) if names else []
    known = [name for name in names if name not in added]
    if given.as_json:
        ui.json_result({"added": added, "known": known})
    else:
        ui.result(f"petnames added: {len(added)}, there before: {len(known)}")
    return 0
