"""The state that survives a restart: its directory with a lock, `reader.sqlite`, `parts.sqlite` and `store.sqlite`.

Guarantees: one process a directory; what strangers write to (the store) never shares a file with what protects this
reader (the marks); a broken file is set aside and made anew, and `warnings` says so. Does not know when to save: the
engine's timers do.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from p2pdns import log
from p2pdns.directory import StateDirectory
from p2pdns.state.marks import Reader
from p2pdns.state.parts import Parts
from p2pdns.state.store import Store


class State:
    """Everything of this node that outlives its process. Made by `open`.

    `reader` is for itself, `parts` are items of its zones, `store` is of others.
    """

    def __init__(
        self, directory: Path | None, reader: Reader, parts: Parts, store: Store, opened: contextlib.ExitStack
    ) -> None:
        self.directory = directory
        self.reader = reader
        self.parts = parts
        self.store = store
        self._opened = opened

    @classmethod
    def open(cls, directory: Path | StateDirectory | None) -> State:
        """Return the state of a directory, which is made where it is missing; None keeps everything in memory.

        Unavailable when another process runs there, or when the directory cannot be used. `close` closes a directory
        that was opened here as well as one that was handed in.
        """
        with contextlib.ExitStack() as undo:
            path = None
            if directory is not None:
                opened = directory if isinstance(directory, StateDirectory) else StateDirectory.open(directory)
                undo.callback(opened.close)
                undo.callback(os.close, opened.lock())
                path = opened.path
            reader = Reader(path and path / "reader.sqlite")
            undo.callback(reader.close)
            parts = Parts(path and path / "parts.sqlite")
            undo.callback(parts.close)
            store = Store(path and path / "store.sqlite")
            undo.callback(store.close)
            state = cls(path, reader, parts, store, undo.pop_all())
        logger = log.get_logger("state")
        for text in state.warnings:
            logger.warning(text)
        return state

    @property
    def warnings(self) -> list[str]:
        """What went wrong with the files, in words for `status`."""
        return [*self.reader.warnings, *self.parts.warnings, *self.store.warnings]

    def close(self) -> None:
        """Commit what waits, close the files, let the directory go."""
        self._opened.close()
