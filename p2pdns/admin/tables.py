"""The `[[publish]]` tables as the signer of this server has reported them: for `zones`, `status` and `doctor`.

Guarantees: what is kept of a report is bounded, and can be written as JSON; a report of another form is refused. Does
not know keys, nor how a zone is published.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from p2pdns.config.published import TABLES_MAX
from p2pdns.errors import UsageError

TEXT_CHARACTERS_MAX = 4_096  # A path is no longer, and the signer cuts its troubles at a quarter of that.
_FORM: tuple[tuple[str, tuple[type, ...]], ...] = (
    ("file", (str,)),
    ("key_file", (str,)),
    ("key", (str, type(None))),
    ("watch", (bool,)),
    ("seq", (int, type(None))),
    ("trouble", (str, type(None))),
)


class PublishedTables:
    """What the signer has said last."""

    def __init__(self) -> None:
        self.rows: tuple[dict[str, Any], ...] = ()

    def take(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Take a report over: it is all that is known of the tables from now on."""
        rows = request.get("tables")
        if not isinstance(rows, list) or len(rows) > TABLES_MAX or not all(map(_is_row, rows)):
            raise UsageError(f"not a list of {TABLES_MAX} tables at most", place='tables: "tables"')
        self.rows = tuple({name: row[name] for name, _ in _FORM} for row in rows)
        return {"tables": len(self.rows)}

    @property
    def troubles(self) -> Iterator[tuple[str, str]]:
        """The zone file and the trouble of each table that has one."""
        return ((row["file"], row["trouble"]) for row in self.rows if row["trouble"] is not None)


def _is_row(row: Any) -> bool:
    if not isinstance(row, dict):
        return False
    values = [(row.get(name), types) for name, types in _FORM]
    # A truth is a whole number to Python.
    return all(type(value) in types and len(str(value)) <= TEXT_CHARACTERS_MAX for value, types in values)
