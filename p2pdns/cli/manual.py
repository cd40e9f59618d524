"""The manual pages, made of the same text as `--help`.

Guarantees: the same program gives the same pages, byte for byte. Does not know where they are kept: deploy/man.py
writes them, and a test of the house says when they are stale.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Sequence

import click

import p2pdns
from p2pdns.cli.examples import EXAMPLES
from p2pdns.cli.verbs import GROUPS, SUMMARY_CHARACTERS_MAX, Family

PROGRAM = "p2pdns"

EXITS = (
    ("0", "everything asked was done"),
    ("1", "something failed"),
    ("2", "wrong usage or configuration"),
    ("3", "the name or the type does not exist"),
    ("130", "Ctrl-C ended it"),
    ("141", "the reader of the output has gone"),
)
ENVIRONMENT = (
    ("P2PDNS_CONFIG", "The configuration, where -c names none."),
    ("STATE_DIRECTORY", "The state directory, where --state names none; systemd sets it."),
    ("NO_COLOR", "Set to anything, it keeps colour and progress away."),
)
FILES = (
    ("~/.config/p2pdns/p2pdns.toml", "The configuration of a user, where there is one."),
    ("~/.local/state/p2pdns", "What a daemon keeps: marks, own items, petnames, contacts."),
)


def escaped(text: str) -> str:
    r"""Return a line of text as roff has it.

    >>> print(escaped(".p2pdns -k a\\b"))
    \&.p2pdns \-k a\eb
    """
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return f"\\&{text}" if text.startswith((".", "'")) else text


def _quoted(text: str) -> str:
    return '"' + escaped(text).replace('"', "\\(dq") + '"'


def _paragraphs(text: str) -> Iterator[str]:
    for paragraph in inspect.cleandoc(text).split("\n\n"):
        yield ".PP"
        yield escaped(" ".join(paragraph.replace("\b", "").split()))


def _list(entries: Sequence[tuple[str, str]]) -> Iterator[str]:
    for term, text in entries:
        yield ".TP"
        yield f".B {_quoted(term)}"
        yield escaped(text)


def _options(command: click.Command, context: click.Context) -> list[tuple[str, str]]:
    options = [option for option in command.get_params(context) if isinstance(option, click.Option)]
    return [record for option in options if (record := option.get_help_record(context)) is not None]


def _synopsis(command: click.Command, context: click.Context) -> Iterator[str]:
    yield f".B {_quoted(context.command_path)}"
    yield escaped(" ".join(command.collect_usage_pieces(context)))


def _examples(path: str) -> Iterator[str]:
    for example in EXAMPLES.get(path, ()):
        yield ".TP"
        yield f".B {_quoted(example.command)}"
        yield escaped(example.what)


def _summary(command: click.Command) -> str:
    return command.get_short_help_str(SUMMARY_CHARACTERS_MAX)


def _verb_of(family: Family, name: str, above: click.Context) -> Iterator[str]:
    command = family.get_command(above, name)
    assert command is not None, "a listed verb is there"
    context = click.Context(command, info_name=name, parent=above)
    yield f".SS {_quoted(context.command_path)}"
    yield from _synopsis(command, context)
    yield from _paragraphs(command.help or "")
    yield from _list(_options(command, context))
    yield from _examples(context.command_path.partition(" ")[2])


def _page(title: str, summary: str, body: Iterator[str]) -> str:
    head = [
        '.\\" Made of the help of the program by deploy/man.py: change the help, then "make man".',
        f'.TH {title.upper()} 1 "" "p2pdns {p2pdns.__version__}" "p2pdns manual"',
        ".nh",
        ".ad l",
        ".SH NAME",
        f"{escaped(title)} \\- {escaped(re.sub(r'[.]$', '', summary[:1].lower() + summary[1:]))}",
    ]
    return "\n".join([*head, *body]) + "\n"


def _program_body(program: Family, context: click.Context) -> Iterator[str]:
    yield ".SH SYNOPSIS"
    yield from _synopsis(program, context)
    yield ".SH DESCRIPTION"
    yield from _paragraphs(program.help or "")
    for group, verbs in GROUPS.items():
        yield f".SH {_quoted(group.upper())}"
        for verb in verbs:
            command = program.get_command(context, verb)
            assert command is not None, "a listed verb is there"
            yield from _list([(f"{PROGRAM}-{verb}(1)", _summary(command))])
    yield ".SH OPTIONS"
    yield from _list(_options(program, context))
    yield ".SH EXAMPLES"
    yield from _examples("")
    yield ".SH EXIT STATUS"
    yield from _list(EXITS)
    yield ".SH ENVIRONMENT"
    yield from _list(ENVIRONMENT)
    yield ".SH FILES"
    yield from _list(FILES)


def _verb_body(command: click.Command, context: click.Context) -> Iterator[str]:
    yield ".SH SYNOPSIS"
    yield from _synopsis(command, context)
    yield ".SH DESCRIPTION"
    yield from _paragraphs(command.help or "")
    if isinstance(command, Family):
        yield ".SH VERBS"
        for name in command.list_commands(context):
            yield from _verb_of(command, name, context)
        for short, long in command.aliases.items():
            yield ".PP"
            yield escaped(f'"{short}" is short for "{long}".')
    yield ".SH OPTIONS"
    yield from _list(_options(command, context))
    yield ".SH EXAMPLES"
    yield from _examples(context.command_path.partition(" ")[2])
    yield ".SH SEE ALSO"
    yield f".BR {PROGRAM} (1)"


def pages(program: Family) -> dict[str, str]:
    """Return every manual page by the name of its file."""
    root = click.Context(program, info_name=PROGRAM, **program.context_settings)
    made = {f"{PROGRAM}.1": _page(PROGRAM, "names without a registry", _program_body(program, root))}
    for verb in program.list_commands(root):
        command = program.get_command(root, verb)
        assert command is not None, "a listed verb is there"
        context = click.Context(command, info_name=verb, parent=root)
        title = f"{PROGRAM}-{verb}"
        made[f"{title}.1"] = _page(title, _summary(command), _verb_body(command, context))
    return made
