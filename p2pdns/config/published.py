"""The `[[publish]]` tables: the zones that a server publishes, each with the file of its key.

Guarantees: paths are absolute; no two tables name one zone file or one key file by the same path; their number is
bounded. Does not know whether the files are there: that is seen at the start of the server, and ends nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from p2pdns.config import readers
from p2pdns.config.readers import Mistakes, Reader
from p2pdns.errors import ConfigError, did_you_mean

TABLE = "publish"
TABLES_MAX = 64  # Zones of one owner; each file is looked at every second, and each publication asks some forty nodes.
FORM = '[[publish]], and below it zone = "/PATH/NAME.zone" and key = "/PATH/NAME.key"'


@dataclass(frozen=True)
class PublishTable:
    """One zone to publish: its file, the file of its key, and whether it is published again when it is saved."""

    zone: str
    key: str
    watch: bool = False


READERS: Mapping[str, Reader] = {"zone": readers.file_path, "key": readers.file_path, "watch": readers.flag}
NEEDED = ("zone", "key")


def table_name(number: int) -> str:
    """Return what a table is called in errors; numbers begin with 1."""
    return f"{TABLE} {number}"


def read_tables(content: Any, mistakes: Mistakes) -> tuple[PublishTable, ...] | None:
    """Return the tables; None where one of them is a mistake."""
    with mistakes.at(TABLE, None):
        if type(content) is not list or not all(type(entry) is dict for entry in content):
            raise ConfigError("must be a list of tables", hint=FORM)
        if len(content) > TABLES_MAX:
            raise ConfigError(f"{len(content)} tables, {TABLES_MAX} allowed", hint="leave some out")
        found = [_read_table(entry, number, mistakes) for number, entry in enumerate(content, 1)]
        tables = [table for table in found if table is not None]
        taken: dict[tuple[str, str], int] = {}
        for number, table in enumerate(tables, 1):
            for word, path in (("zone", table.zone), ("key", table.key)):
                first = taken.setdefault((word, path), number)
                if first != number and len(tables) == len(found):
                    with mistakes.at(table_name(number), word):
                        what = f'"{path}" is the {word} of table {first} already'
                        raise ConfigError(what, hint="a key has one zone, and each zone a key of its own")
        return tuple(tables) if len(tables) == len(found) else None
    return None


def _read_table(content: dict[str, Any], number: int, mistakes: Mistakes) -> PublishTable | None:
    values: dict[str, Any] = {}
    name = table_name(number)
    for word, value in content.items():
        with mistakes.at(name, word):
            if word not in READERS:
                hint = did_you_mean(word, READERS) or f"[[publish]] has {', '.join(READERS)}"
                raise ConfigError("unknown setting", hint=hint)
            values[word] = READERS[word](value)
    for word in NEEDED:
        if word not in content:
            with mistakes.at(name, None):
                raise ConfigError(f"has no {word}", hint=FORM)
    is_whole = len(values) == len(content) and all(word in values for word in NEEDED)
    return PublishTable(**values) if is_whole else None
