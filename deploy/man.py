"""`python -m deploy.man`: makes the manual pages of the texts of `--help`, and writes them beside this file.

Guarantees: the same program gives the same pages, byte for byte; what is in deploy/man afterwards is what the help of
the program says, and nothing else; a test of the house fails when they are stale. Does not know the verbs.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import click

import p2pdns
from p2pdns.cli.examples import EXAMPLES
from p2pdns.cli.main import p2pdns_command
from p2pdns.cli.verbs import GROUPS, SUMMARY_CHARACTERS_MAX, Family

FOLDER = Path(__file__).parent / "man"
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
    ("NO_COLOR", "If it is set, there is no colour and no progress line."),
)
FILES = (
    ("~/.config/p2pdns/p2pdns.toml", "The configuration of a user, where there is one."),
    ("~/.local/state/p2pdns", "The state of a daemon: marks, own items, petnames, contacts."),
)


def escaped(text: str) -> str:
    r"""Return a line of text in roff.

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


def _options(context: click.Context) -> Iterator[str]:
    options = [option for option in context.command.get_params(context) if isinstance(option, click.Option)]
    yield from _list([record for option in options if (record := option.get_help_record(context)) is not None])


def _synopsis(context: click.Context) -> Iterator[str]:
    yield f".B {_quoted(context.command_path)}"
    yield escaped(" ".join(context.command.collect_usage_pieces(context)))


def _examples(context: click.Context) -> Iterator[str]:
    examples = EXAMPLES.get(context.command_path.partition(" ")[2], ())
    yield from _list([(example.command, example.what) for example in examples])


def _verb_of(family: Family, name: str, above: click.Context) -> click.Context:
    command = family.get_command(above, name)
    assert command is not None, "a listed verb is there"
    return click.Context(command, info_name=name, parent=above)


def _summary(context: click.Context) -> str:
    return context.command.get_short_help_str(SUMMARY_CHARACTERS_MAX)


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


def _body(context: click.Context, verbs: Iterator[str], end: Iterator[str]) -> Iterator[str]:
    yield ".SH SYNOPSIS"
    yield from _synopsis(context)
    yield ".SH DESCRIPTION"
    yield from _paragraphs(context.command.help or "")
    yield from verbs
    yield ".SH OPTIONS"
    yield from _options(context)
    yield ".SH EXAMPLES"
    yield from _examples(context)
    yield from end


def _groups(program: Family, context: click.Context) -> Iterator[str]:
    for group, verbs in GROUPS.items():
        yield f".SH {_quoted(group.upper())}"
        yield from _list([(f"{PROGRAM}-{verb}(1)", _summary(_verb_of(program, verb, context))) for verb in verbs])


def _verbs(command: click.Command, context: click.Context) -> Iterator[str]:
    if not isinstance(command, Family):
        return
    yield ".SH VERBS"
    for name in command.list_commands(context):
        verb = _verb_of(command, name, context)
        yield f".SS {_quoted(verb.command_path)}"
        yield from _synopsis(verb)
        yield from _paragraphs(verb.command.help or "")
        yield from _options(verb)
        yield from _examples(verb)
    for short, long in command.aliases.items():
        yield ".PP"
        yield escaped(f'"{short}" is short for "{long}".')


def _tables() -> Iterator[str]:
    for title, entries in (("EXIT STATUS", EXITS), ("ENVIRONMENT", ENVIRONMENT), ("FILES", FILES)):
        yield f".SH {title}"
        yield from _list(entries)


def pages(program: Family) -> dict[str, str]:
    """Return every manual page by the name of its file."""
    root = click.Context(program, info_name=PROGRAM, **program.context_settings)
    body = _body(root, _groups(program, root), _tables())
    made = {f"{PROGRAM}.1": _page(PROGRAM, "names without a registry", body)}
    for name in program.list_commands(root):
        verb, title = _verb_of(program, name, root), f"{PROGRAM}-{name}"
        body = _body(verb, _verbs(verb.command, verb), iter((".SH SEE ALSO", f".BR {PROGRAM} (1)")))
        made[f"{title}.1"] = _page(title, _summary(verb), body)
    return made


def write() -> None:
    """Write every page, and take away those of verbs that are gone."""
    assert isinstance(p2pdns_command, Family), "the program is a family of verbs"
    made = pages(p2pdns_command)
    FOLDER.mkdir(exist_ok=True)
    for path in FOLDER.glob("*.1"):
        if path.name not in made:
            path.unlink()
    for name, text in made.items():
        (FOLDER / name).write_text(text)


if __name__ == "__main__":
    write()
