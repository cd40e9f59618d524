"""The petnames in `reader.sqlite`.

Guarantees: several are kept together or not at all; a row that holds no petname, or no zone key, is told and removed.
Does not know the configuration, nor the rules for new ones (`admin.petnames` does).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping

from p2pdns.errors import ConfigError, StrangerError
from p2pdns.items.keys import ZoneId
from p2pdns.naming import read_petname
from p2pdns.state.database import transaction


class Petnames:
    """The petnames of one file."""

    def __init__(self, connection: sqlite3.Connection, warn: Callable[[str], None]) -> None:
        self._connection = connection
        self._warn = warn

    def read(self) -> dict[str, str]:
        """Return the petnames: name to text of a zone key."""
        names = {}
        for name, key in self._connection.execute("SELECT name, key FROM names ORDER BY name").fetchall():
            try:
                names[read_petname(name)] = str(ZoneId.read(key))
            except (ConfigError, StrangerError) as error:
                self._warn(f"reader.sqlite: a petname is dropped: {error}")
                self.remove(name)
        return names

    def keep(self, names: Mapping[str, ZoneId]) -> None:
        """Keep petnames, all or none; older ones of the same names are replaced."""
        rows = [(name, str(zone_id)) for name, zone_id in names.items()]
        with transaction(self._connection):
            self._connection.executemany("INSERT OR REPLACE INTO names VALUES (?, ?)", rows)

    def remove(self, name: str) -> bool:
        """Remove a petname; return whether it was there."""
        return self._connection.execute("DELETE FROM names WHERE name = ?", (name,)).rowcount > 0
