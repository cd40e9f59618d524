"""The log of a running daemon: one line an event, on standard error.

Guarantees: a line reads `p2pdns: ROOM: what happened key=value …`; on the journal of systemd it begins with its
priority. Control characters are escaped, so a stranger cannot start a new line. A line that cannot be written is lost,
and has no other effect. A `LimitedLogger` writes one line a second for each reason. structlog is loaded with the first
line: a short command never loads it. Does not know what is worth logging, and never sees a secret key.
"""

from __future__ import annotations

import contextlib
import functools
import math
import os
import sys
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, TextIO, cast

from p2pdns.timing import Clock

BETWEEN_LINES_S = 1.0  # Between two lines of one reason: little for a disk, and enough to see that it goes on.
REASONS_MAX = 64  # Reasons remembered at a time; a room has a handful.
LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}
# sd-daemon(3): the journal reads these numbers at the head of a line. Any other level counts as an error.
PRIORITIES = {"debug": 7, "info": 6, "notice": 5, "warning": 4, "error": 3}
STANDARD_ERROR_FD = 2


def is_journal(environ: Mapping[str, str] = os.environ, descriptor: int = STANDARD_ERROR_FD) -> bool:
    """Return whether a descriptor is the stream that systemd has connected to its journal (systemd.exec(5)).

    Device and inode decide: a child of a service inherits the variable, but may have another standard error.
    """
    device, _, inode = environ.get("JOURNAL_STREAM", "").partition(":")
    try:
        about = os.fstat(descriptor)
    except OSError:
        return False
    return (device, inode) == (str(about.st_dev), str(about.st_ino))


def priority(level: str) -> str:
    """Return the prefix of a line: the priority of its level on the journal, elsewhere nothing."""
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
    """The output of structlog: `sys.stderr` at the time of the line, which a test may have replaced."""

    def write(self, text: str) -> None:
        # A full disk, or a closed pipe, must not end the program that wanted to log a line.
        with contextlib.suppress(OSError, ValueError, AttributeError):
            sys.stderr.write(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError, ValueError, AttributeError):
            sys.stderr.flush()


# The level of the last `configure`, until structlog is loaded and has it.
_waiting: list[str] = []


def configure(level: str = "info") -> None:
    """Send every event of `level` and above to standard error, one line each."""
    _waiting[:] = [level]
    if "structlog" in sys.modules:
        _loaded()


def _loaded() -> Any:
    """Return structlog, with the level of the last `configure`."""
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
    """A logger of one room. It asks structlog anew for each line, because the level may have changed."""

    def __init__(self, room: str) -> None:
        self._room = room

    def __getattr__(self, level: str) -> Any:
        return getattr(_loaded().get_logger(room=self._room), level)


def get_logger(room: str) -> Any:
    """Return a logger whose lines open with `p2pdns: ROOM:`."""
    return _Logger(room)


class LimitedLogger:
    """A logger for events that outsiders can cause: one line a second for each reason, with the count of lost lines.

    The reason is the text of the event, without its fields, because an outsider can choose those.
    """

    def __init__(self, logger: Any, clock: Clock) -> None:
        self._logger = logger
        self._clock = clock
        # By reason: when its last line was written, and how many were left out since.
        self._last: OrderedDict[str, tuple[float, int]] = OrderedDict()

    def __getattr__(self, level: str) -> Callable[..., None]:
        if level not in LEVELS:
            raise AttributeError(level)
        return functools.partial(self._say, level)

    def _say(self, level: str, event: str, **fields: object) -> None:
        # asyncio puts the repr of an object into its texts: each would be a reason of its own.
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


def get_limited_logger(room: str, clock: Clock) -> LimitedLogger:
    """Return a `LimitedLogger` of a room."""
    return LimitedLogger(get_logger(room), clock)


def loop_trouble(logger: Any) -> Callable[[object, Mapping[str, Any]], None]:
    """Return an event loop's exception handler that logs one line instead of a traceback."""

    def log_trouble(_loop: object, context: Mapping[str, Any]) -> None:
        trouble = context.get("exception")
        what = f"{type(trouble).__name__}: {trouble}" if trouble is not None else ""
        logger.error(str(context.get("message", "event loop")), reason=what)

    return log_trouble
