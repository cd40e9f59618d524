"""Completion on the Tab key for bash, zsh and fish: verbs, flags, files, petnames, own keys and record types.

Guarantees: only a daemon of this machine is asked, for its petnames; an error leads to no completion and no message.
Does not know the shells: click has a script for each.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

import click
from click.shell_completion import CompletionItem, get_completion_class

from p2pdns.cli import mixups, ui
from p2pdns.cli.verbs import Verb
from p2pdns.errors import P2pdnsError

if TYPE_CHECKING:
    from p2pdns.cli.petnames import Book

VARIABLE = "_P2PDNS_COMPLETE"  # The script sets it, and `main` answers instead of running a verb.
SHELLS = ("bash", "zsh", "fish")


def _book(ctx: click.Context) -> Book:
    """Return the petnames, with the flags of the command line so far; none if they cannot be read."""
    # Loaded late: every verb imports this module, and few calls of the program complete anything.
    from p2pdns.cli import petnames, settings
    from p2pdns.cli.petnames import Book
    from p2pdns.config import Config

    config, state = Config(), None
    with contextlib.suppress(P2pdnsError, OSError):
        config = settings.load(ctx.params.get("config_flag"))
    with contextlib.suppress(P2pdnsError, OSError):
        state = settings.state_dir(ctx.params.get("state_flag"))
        return petnames.load(config, state)
    return Book({}, config.dns.suffixes)


def _keys(book: Book) -> dict[str, str]:
    """Return the words that stand for a zone, each with its description."""
    words = {name: f"petname of {entry.key}" for name, entry in book.names.items()}
    return words | {key: f"the key of {file}" for key, file in mixups.keys_in_folder().items()}


def _items(words: dict[str, str], incomplete: str, *, before: str = "") -> list[CompletionItem]:
    return [
        CompletionItem(before + word, help=what) for word, what in words.items() if word.startswith(incomplete.lower())
    ]


def a_file(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete the name of a file."""
    return [CompletionItem(incomplete, type="file")]


def a_zone(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete a petname, or the key of a key file in this folder."""
    return _items(_keys(_book(ctx)), incomplete)


def a_petname(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete a petname."""
    return _items({name: f"petname of {entry.key}" for name, entry in _book(ctx).names.items()}, incomplete)


def a_name(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete the zone at the end of a name."""
    before, dot, last = incomplete.rpartition(".")
    return _items(_keys(_book(ctx)), last, before=before + dot)


def a_zone_or_file(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete a zone; if no zone begins so, a file."""
    return a_name(ctx, param, incomplete) or a_file(ctx, param, incomplete)


def a_question(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete a name, and after one a record type."""
    from p2pdns.cli.dnsclient import USUAL_TYPES

    given = [word for word in ctx.params.get(param.name or "") or () if not word.startswith("@")]
    if not given:
        return a_name(ctx, param, incomplete)
    return [CompletionItem(word) for word in USUAL_TYPES if word.startswith(incomplete.upper())]


@click.command(cls=Verb)
@click.argument("shell", type=click.Choice(SHELLS), metavar="bash|zsh|fish")
def completion(shell: str) -> None:
    """Print the script that makes a shell complete p2pdns on the Tab key: verbs, flags, petnames, keys and types."""
    shown = get_completion_class(shell)
    assert shown is not None, "click knows the shells that the argument allows"
    # Not `source()`: it runs bash first, to see how old it is.
    script = shown(click.Command("p2pdns"), {}, ui.PROGRAM, VARIABLE)
    for line in (script.source_template % script.source_vars()).splitlines():
        ui.result(line.replace("\t", "    "))


def answered(program: click.Command) -> int | None:
    """Answer a shell's script and return the exit status; None if no script has asked."""
    instruction = os.environ.get(VARIABLE)
    if not instruction:
        return None
    from click.shell_completion import shell_complete

    try:
        return shell_complete(program, {}, ui.PROGRAM, VARIABLE, instruction)
    except (P2pdnsError, click.ClickException, OSError, KeyError, ValueError):
        # A half-typed line may have any mistake, and a message would appear in the middle of the line.
        return 1
