"""`help VERB`: prints the same as `VERB --help`. Does not know the verbs."""

from __future__ import annotations

import click

from p2pdns.cli import ui
from p2pdns.cli.verbs import Verb
from p2pdns.errors import UsageError


@click.command(cls=Verb)
@click.argument("words", nargs=-1, metavar="[VERB]...")
@click.pass_context
def help(context: click.Context, words: tuple[str, ...]) -> None:
    """Show how a VERB is called, with examples; without one, the list of all verbs."""
    assert context.parent is not None, "a verb has a program above it"
    shown = context.parent
    for word in words:
        family = shown.command
        if not isinstance(family, click.Group):
            hint = f"{shown.command_path} --help"
            raise UsageError(f'"{word}" is no verb of it', place=shown.command_path, hint=hint)
        name, command, _ = family.resolve_command(shown, [word])
        if command is None:
            raise UsageError("a flag is no verb", place=f'"{word}"', hint="p2pdns --help lists the verbs")
        shown = click.Context(command, info_name=name, parent=shown)
    ui.usage(shown.get_help())
