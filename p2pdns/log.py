"""The log of a running daemon: one line an event, on standard error.

Guarantees: a line reads `p2pdns: ROOM: what happened key=value …`; control characters that a stranger sent are
escaped, so that a log line is a line; a line that cannot be written is lost, and nothing else. Does not know what is
worth logging, and never sees a secret key.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Mapping
from typing import Any, TextIO, cast

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


class _Lines:
    """What structlog prints lines to: standard error as it is when the line is printed.

    Whoever replaces standard error, a test for one, means the log too.
    """

    def write(self, text: str) -> None:
        # A log on a full disk, or one whose reader has gone, must not end what wanted to say something.
        with contextlib.suppress(OSError, ValueError, AttributeError):
            sys.stderr.write(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError, ValueError, AttributeError):
            sys.stderr.flush()


def configure(level: str = "info") -> None:
    """Send every event of `level` and above to standard error, one line each."""
    structlog.configure(
        processors=[structlog.processors.format_exc_info, _line],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        logger_factory=structlog.PrintLoggerFactory(cast(TextIO, _Lines())),
        cache_logger_on_first_use=False,
    )


def get_logger(room: str) -> Any:
    """Return a logger whose lines open with `p2pdns: ROOM:`."""
    return structlog.get_logger(room=room)


def loop_trouble(logger: Any) -> Callable[[object, Mapping[str, Any]], None]:
    """Return an event loop's exception handler that logs one line instead of a traceback."""

    def log_trouble(_loop: object, context: Mapping[str, Any]) -> None:
        trouble = context.get("exception")
        what = f"{type(trouble).__name__}: {trouble}" if trouble is not None else ""
        logger.error(str(context.get("message", "event loop")), reason=what)

    return log_trouble
