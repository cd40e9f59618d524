"""`config print`: prints every setting with its value and its source.

Guarantees: the output is a configuration file with the same meaning; the sources are comments in it. Does not know what
a setting is for: deploy/p2pdns.example.toml says that.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, ClassVar

import click

from p2pdns import config as configuration
from p2pdns.cli import settings, ui
from p2pdns.cli.settings import Given
from p2pdns.cli.verbs import Family
from p2pdns.config import Config
from p2pdns.config.published import table_name
from p2pdns.resolver.local import read_local_data

DEFAULT = "default"


class ConfigFamily(Family):
    """The verbs about the configuration."""

    synonyms: ClassVar[Mapping[str, str]] = dict.fromkeys(
        ("show", "list", "ls", "get", "dump", "view", "cat"), "config print"
    )


@click.group(cls=ConfigFamily)
def config() -> None:
    """Show the configuration that holds here, whichever file and defaults it is made of."""


def _file_and_reason(config_flag: str | None) -> tuple[str | None, str]:
    """Return the configuration file, and why it is that one."""
    path = configuration.resolve_config_path(config_flag, os.environ)
    if path is None:
        return None, "there is none: every setting has its default"
    if config_flag:
        return path, "named by -c"
    return path, "named by $P2PDNS_CONFIG" if os.environ.get("P2PDNS_CONFIG") else "the user's own"


def _state_and_reason(state_flag: str | None) -> tuple[str, str]:
    path = str(settings.state_dir(state_flag))
    if state_flag:
        return path, "named by --state"
    for variable in ("STATE_DIRECTORY", "XDG_STATE_HOME"):
        if os.environ.get(variable):
            return path, f"named by ${variable}"
    return path, "the user's own"


def toml_value(value: object) -> str:
    r"""Return a value of a setting in TOML.

    >>> toml_value(True), toml_value(3), toml_value(("a", 'b"c')), toml_value("\x7f")
    ('true', '3', '["a", "b\\"c"]', '"\\u007f"')
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, tuple):
        return f"[{', '.join(map(toml_value, value))}]"
    return str(value)


def facts_of(found: Config, path: str | None) -> dict[str, Any]:
    """Return each setting by table and name, with its value and its source; the `publish` tables are a list."""
    written = configuration.lines_of(path) if path is not None else {}

    def source(table: str, name: str) -> str:
        if (table, name) not in written:
            return DEFAULT
        line = written[table, name]
        return f"{path}:{line}" if line else str(path)

    tables: dict[str, Any] = {}
    for table, kind in configuration.TABLES.items():
        content = getattr(found, table)
        tables[table] = {
            entry.name: {"value": getattr(content, entry.name), "from": source(table, entry.name)}
            for entry in dataclasses.fields(kind)
        }
    tables["publish"] = [
        {word: {"value": value, "from": source(table_name(number), word)} for word, value in asdict(table).items()}
        for number, table in enumerate(found.publish, 1)
    ]
    tables["names"] = {name: {"value": key, "from": source("names", name)} for name, key in found.names.items()}
    return tables


@config.command("print")
@settings.usual_options
def print_config(given: Given) -> None:
    """Print every setting with its value and where that comes from, in the form of a configuration file.

    "serve" would start with this configuration; a running daemon may have an older one (p2pdns reload).
    """
    path, reason = _file_and_reason(given.config_flag)
    state, state_reason = _state_and_reason(given.state_flag)
    found = given.config()
    # A line that is no record is refused, as `serve` refuses it: it may be anything, even a secret key.
    read_local_data(found.dns.local_data)
    tables = facts_of(found, path)
    if given.as_json:
        places = {"file": path, "file_from": reason, "state": state, "state_from": state_reason}
        ui.json_result({**places, "settings": tables})
        return
    ui.result(f"# configuration: {reason if path is None else f'{path} ({reason})'}")
    ui.result(f"# state directory: {state} ({state_reason})")
    for table, content in tables.items():
        headed = [(f"[[{table}]]", entries) for entries in content] if table == "publish" else [(f"[{table}]", content)]
        for head, entries in headed:
            ui.result()
            ui.result(head)
            for name, entry in entries.items():
                ui.result(f"{name} = {toml_value(entry['value'])}  # {entry['from']}")
