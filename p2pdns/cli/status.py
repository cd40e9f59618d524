"""`status`: what the running daemon says about itself.

Guarantees: the human form and `--json` are made of the same facts, so neither can lack one. Does not know what the
facts mean.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import click

from p2pdns.cli import settings, ui
from p2pdns.engine.control import ControlClient

# More than the usual counters have, so that the second column stays where it is when something is counted anew.
NAME_CHARACTERS_MIN = 36


def text_of(value: object) -> str:
    """Return a JSON value in words.

    >>> text_of(True), text_of(None), text_of(["a", "b"]), text_of(1.5)
    ('yes', '-', 'a, b', '1.5')
    """
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}" if abs(value) < 1 else f"{value:.1f}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(text_of(entry) for entry in value) or "none"
    return str(value)


def lines_of(facts: Mapping[str, Any], depth: int = 0) -> Iterator[tuple[str, str]]:
    """Yield (name, value) of every fact, tables after their name with two spaces more."""
    for name, value in facts.items():
        label = "  " * depth + name.replace("_", " ")
        if isinstance(value, Mapping):
            yield label, "" if value else "none"
            yield from lines_of(value, depth + 1)
        elif isinstance(value, Sequence) and value and all(isinstance(entry, Mapping) for entry in value):
            yield label, ""
            for entry in value:
                yield "  " * (depth + 1) + "-", ", ".join(f"{k} {text_of(v)}" for k, v in entry.items())
        else:
            yield label, text_of(value)


@click.command()
@settings.state_option
@settings.json_option
def status(state_flag: str | None, as_json: bool) -> None:
    """Show what the running daemon does: its network, contacts, addresses and counters."""
    facts: dict[str, Any] = ControlClient(settings.state_dir(state_flag)).call("status")["status"]
    if as_json:
        ui.json_result(facts)
        return
    pairs = list(lines_of(facts))
    width = max((NAME_CHARACTERS_MIN, *(len(name) for name, _ in pairs)))
    for name, value in pairs:
        ui.result(f"{name.ljust(width)}  {value}".rstrip())
