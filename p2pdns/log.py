"""The log of a running daemon: one line an event, on standard error.

Guarantees: a line reads `p2pdns: ROOM: what happened key=value …`, behind its priority where standard error is the
journal; control characters that a stranger sent are escaped, so that a log line is a line; a line that cannot be
written is lost, and nothing else; what outsiders can cause is written once a second for each reason; structlog is
loaded for the first line, so that a short command does without. Does not know what is worth logging, and never sees a
secret key.
"""

from __future__ import annotations

import contextlib
import math
import os
import sys
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, TextIO, cast

BETWEEN_LINES_S = 1.0  # Of one reason; a disk takes that for years, and a reader sees that it goes on.
REASONS_MAX = 64  # Reasons remembered; each is a text of ours, and a room has a handful.
LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}
# sd-daemon(3): the number that the journal takes from the head of a line. A level not named here is an error's kind.
PRIORITIES = {"debug": 7, "info": 6, "notice": 5, "warning": 4, "error": 3}
STANDARD_ERROR_FD = 2


def is_journal(environ: Mapping[str, str] = os.environ, descriptor: int = STANDARD_ERROR_FD) -> bool:
    """Return whether a descriptor is the stream that systemd has connected to its journal (systemd.exec(5)).

    A program that was started by a service inherits the variable and may have a standard error of its own, so the
    device and the inode decide.
    """
    device, _, inode = environ.get("JOURNAL_STREAM", "").partition(":")
    try:
        about = os.fstat(descriptor)
    except OSError:
        return False
    return (device, inode) == (str(about.st_dev), str(about.st_ino))


def priority(level: str) -> str:
    """Return what stands before a line of a level: nothing, or its priority where the journal reads it."""
    return f"<{PRIORITIES.get(level, PRIORITIES['error'])}>" if is_journal() else ""


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
    return f"{priority(level)}p2pdns: {room}: {note}{what}{rest}"


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


# The level that is wanted once there is something to log.
_waiting: list[str] = []


def configure(level: str = "info") -> None:
    """Send every event of `level` and above to standard error, one line each."""
    _waiting[:] = [level]
    if "structlog" in sys.modules:
        _loaded()


def _loaded() -> Any:
    """Return structlog, configured as was last wanted."""
    import structlog

    if not _waiting:
        return structlog
    level = _waiting.pop()
    structlog.configure(
        processors=[structlog.processors.format_exc_info, _line],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        logger_factory=structlog.PrintLoggerFactory(cast(TextIO, _Lines())),
        cache_logger_on_first_use=False,
    )
    return structlog


class _Logger:
    """A logger of one room, which is made for each line anew, because the configuration may be another by then."""

    def __init__(self, room: str) -> None:
        self._room = room

    def __getattr__(self, name: str) -> Any:
        """Return what writes a line of the level that is the name."""
        return getattr(_loaded().get_logger(room=self._room), name)


def get_logger(room: str) -> Any:
    """Return a logger whose lines open with `p2pdns: ROOM:`."""
    return _Logger(room)


class LimitedLogger:
    """A logger for what outsiders can cause: of the lines of one reason one a second, which says how many went before.

    A reason is the text of the event, without the fields that an outsider chooses.
    """

    def __init__(self, logger: Any, clock: Callable[[], float]) -> None:
        self._logger = logger
        self._clock = clock
        # By reason: when its last line was written, and how many were left out since.
        self._last: OrderedDict[str, tuple[float, int]] = OrderedDict()

    def debug(self, event: str, **fields: object) -> None:
        """Say what helps somebody who looks for a fault."""
        self._say("debug", event, fields)

    def info(self, event: str, **fields: object) -> None:
        """Say what happened."""
        self._say("info", event, fields)

    def warning(self, event: str, **fields: object) -> None:
        """Say what is odd."""
        self._say("warning", event, fields)

    def error(self, event: str, **fields: object) -> None:
        """Say what went wrong."""
        self._say("error", event, fields)

    def _say(self, level: str, event: str, fields: Mapping[str, object]) -> None:
        # asyncio puts the objects concerned into its texts, with their addresses and what they were sent.
        reason = event.partition("<")[0]
        now = self._clock()
        written_at, left_out = self._last.get(reason, (-math.inf, 0))
        if now < written_at + BETWEEN_LINES_S:
            self._last[reason] = (written_at, left_out + 1)
            return
        if left_out:
            fields = {**fields, "left_out": left_out}
        getattr(self._logger, level)(event, **fields)
        self._last[reason] = (now, 0)
        self._last.move_to_end(reason)
        if len(self._last) > REASONS_MAX:
            self._last.popitem(last=False)


def get_limited_logger(room: str, clock: Callable[[], float]) -> LimitedLogger:
    """Return a logger for lines that outsiders can cause, as `LimitedLogger` writes them."""
    return LimitedLogger(get_logger(room), clock)


def loop_trouble(logger: Any) -> Callable[[object, Mapping[str, Any]], None]:
    """Return an event loop's exception handler that logs one line instead of a traceback."""

    def log_trouble(_loop: object, context: Mapping[str, Any]) -> None:
        trouble = context.get("exception")
        what = f"{type(trouble).__name__}: {trouble}" if trouble is not None else ""
        logger.error(str(context.get("message", "event loop")), reason=what)

    return log_trouble
