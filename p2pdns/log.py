"""The log of a running daemon: one line an event, on standard error.

Guarantees: a line reads `p2pdns: ROOM: what happened key=value …`; control characters that a stranger sent are
escaped, so that a log line is a line. Does not know what is worth logging, and never sees a secret key.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import structlog

LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}


def _text(value: object) -> str:
    text = str(value)
    if text and text.isprintable() and " " not in text:
        return text
    return repr(text)


def _line(_logger: object, level: str, event: Mapping[str, Any]) -> str:
    fields = dict(event)
    room = fields.pop("room", "log")
    what = str(fields.pop("event", ""))
    if not what.isprintable():
        what = repr(what)
    note = "" if level in ("info", "debug") else f"{level}: "
    rest = "".join(f" {key}={_text(value)}" for key, value in fields.items())
    return f"p2pdns: {room}: {note}{what}{rest}"


def configure(level: str = "info") -> None:
    """Send every event of `level` and above to standard error, one line each."""
    structlog.configure(
        processors=[structlog.processors.format_exc_info, _line],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        # Looked up at each line: whoever replaces standard error later, a test for one, means the log too.
        logger_factory=lambda *_: structlog.PrintLogger(sys.stderr),
        cache_logger_on_first_use=False,
    )


def get_logger(room: str) -> Any:
    """Return a logger whose lines open with `p2pdns: ROOM:`."""
    return structlog.get_logger(room=room)
