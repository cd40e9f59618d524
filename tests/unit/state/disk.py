"""The disk below a state directory: what is committed there, a disk that takes nothing, and what a kill leaves.

Guarantees: the files are written by the code under test alone.
"""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
from pathlib import Path
from typing import Any
from unittest.mock import patch

from p2pdns.state import State


class Disk:
    """The connections that a state has to one of its files."""

    def __init__(self, name: str) -> None:
        self.commit_count = 0
        self._name = name
        self._connections: list[sqlite3.Connection] = []

    def opened(self, directory: Path) -> State:
        """Open the state in a directory."""
        connect = sqlite3.connect

        def connected(path: str, **more: Any) -> sqlite3.Connection:
            connection: sqlite3.Connection = connect(path, **more)
            if Path(path).name == self._name:
                connection.set_trace_callback(self._noted)
                self._connections.append(connection)
            return connection

        with patch.object(sqlite3, "connect", connected):
            return State.open(directory)

    def _noted(self, statement: str) -> None:
        self.commit_count += statement == "COMMIT"

    def set(self, setting: str, value: str) -> None:
        """Change a setting of SQLite."""
        for connection in self._connections:
            # One was there to look at the file, and is closed.
            with contextlib.suppress(sqlite3.ProgrammingError):
                connection.execute(f"PRAGMA {setting}={value}")

    def settings(self, setting: str) -> list[object]:
        """Return what a setting of SQLite is for each connection."""
        found: list[object] = []
        for connection in self._connections:
            with contextlib.suppress(sqlite3.ProgrammingError):
                found += connection.execute(f"PRAGMA {setting}").fetchone()
        return found

    def refuse(self) -> None:
        """Take nothing from now on."""
        self.set("query_only", "ON")

    def accept(self) -> None:
        """Take everything from now on."""
        self.set("query_only", "OFF")


def kill(state: State, directory: Path) -> None:
    """Close a state, and leave its files as a kill does: nothing more is written."""
    left = directory.with_name(directory.name + "-left")
    shutil.copytree(directory, left)
    state.close()
    shutil.rmtree(directory)
    left.rename(directory)
