"""The terminal: everything that p2pdns prints goes through here.

Results go to standard output, everything else to standard error with `p2pdns:` in front, so that a pipe gets results
only. Colour and progress appear on a terminal only. Guarantees: no control character from outside reaches the terminal;
a secret is printed by `secret_key` and `secret_words` alone, for `keygen` and `key words`. Does not know what the verbs
do.
"""

from __future__ import annotations

import getpass
import io
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, TextIO

from p2pdns import log
from p2pdns.cli import shipped
from p2pdns.errors import ConfigError, P2pdnsError, UsageError, ZoneFileError

PROGRAM = "p2pdns"
TABLE_COLUMNS_MIN = 90  # The width of a table with a zone key in it; on a narrower terminal every cell would fold.
BAR_CELLS = 20  # One a node, as a zone is wanted at twenty.
_WORDS_IN_A_ROW = 4  # They fit on a narrow terminal, and on paper.
_WORD_CHARACTERS_MAX = 8  # The longest words of BIP-39.
_LINE_CHARACTERS_MAX = 4_096  # Of one line that is typed.
_PASSPHRASE_TRIES_MAX = 3  # One slip is common; after three the user has the wrong key file.


@dataclass(frozen=True)
class Column:
    """A column of a table: its title and the side to which its cells are aligned."""

    title: str
    side: Literal["left", "right"] = "left"


def printable(text: str) -> str:
    r"""Return `text` with control characters spelled out, so that a line stays a line.

    >>> printable("a\x1b[2Jb")
    'a\\x1b[2Jb'
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def is_terminal(stream: TextIO) -> bool:
    """Return whether colour and progress are wanted on `stream` (NO_COLOR: https://no-color.org)."""
    return stream.isatty() and os.environ.get("TERM") != "dumb" and "NO_COLOR" not in os.environ


def is_interactive() -> bool:
    """Return whether a user can be asked a question."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def _styled(text: str, style: str, stream: TextIO) -> str:
    if not is_terminal(stream):
        return text
    # Loaded late: rich costs more time than most verbs take, and most runs write into a pipe.
    from rich.color import ColorSystem
    from rich.style import Style

    return Style.parse(style).render(text, color_system=ColorSystem.STANDARD)


def result(line: str = "") -> None:
    """Print one line of the result."""
    print(printable(line), file=sys.stdout)


def show_at_once() -> None:
    """From now on, write every line at once, even into a pipe."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)


@dataclass
class _Run:
    """One call of the program: whether it prints JSON, or lines of it, the JSON document, and the errors so far."""

    as_json: bool
    as_lines: bool = False
    is_answer: bool = False
    document: dict[str, Any] = field(default_factory=dict)
    errors: list[P2pdnsError] = field(default_factory=list)


_run = _Run(as_json=False)


@contextmanager
def one_call(*, as_json: bool) -> Iterator[None]:
    """Begin one call of the program, in JSON or in text; at the end of the block its state is dropped."""
    global _run
    _run = _Run(as_json=as_json)
    try:
        yield
    finally:
        _run = _Run(as_json=False)


def is_json() -> bool:
    """Return whether this call of the program prints JSON, for failures too."""
    return _run.as_json


def json_lines() -> None:
    """From now on, print each result as a line of JSON of its own: a verb that does not end has no document."""
    _run.as_lines = True


def json_result(value: Mapping[str, Any], *, is_answer: bool = False) -> None:
    """Keep the result until `end_json` prints it: a later failure belongs into the same document.

    The exit status of a verb that asks yes or no is an `is_answer`, and no failure.
    """
    _run.is_answer = is_answer
    if _run.as_lines:
        _print_json(value)
        sys.stdout.flush()
        return
    if not _run.as_json:
        _print_json(value)
        return
    _run.document |= value


def end_json(code: int) -> None:
    """Print the document of this call, with its error if `code` is not 0."""
    if not _run.as_json:
        return
    document = _run.document
    if code and not _run.is_answer:
        errors = _run.errors or [P2pdnsError("not everything asked was done")]
        document = {**document, **failure_facts(errors), "exit": code}
    if document:
        _print_json(document)


def failure_facts(errors: Sequence[P2pdnsError]) -> dict[str, Any]:
    """Return what JSON says of errors: the first, and all mistakes where there are several."""
    facts: dict[str, Any] = {**_error_facts(errors[0])}
    # One error may have several mistakes of a file, and a verb may have shown several errors.
    mistakes = [mistake for error in errors for mistake in error.mistakes]
    if len(mistakes) > 1:
        facts["mistakes"] = [
            {**_error_facts(mistake), **({} if mistake.line is None else {"line": mistake.line})}
            for mistake in mistakes
        ]
    return facts


def json_progress(facts: Mapping[str, Any]) -> None:
    """Print how far a verb is, as one line of JSON on standard error: the document on standard output stays whole."""
    print(json.dumps({"progress": facts}, ensure_ascii=True), file=sys.stderr, flush=True)


def _error_facts(trouble: P2pdnsError) -> dict[str, str | None]:
    return {"error": str(trouble), "hint": (trouble.hint or _usual_hint(trouble)) or None}


def _print_json(value: Mapping[str, Any]) -> None:
    # ASCII only, so that no text of a stranger can control the terminal.
    print(json.dumps(value, indent=None if _run.as_lines else 2, ensure_ascii=True), file=sys.stdout)


def secret_key(pem: bytes) -> None:
    """Print a secret key."""
    sys.stdout.write(pem.decode("ascii"))


def secret_words(words: Sequence[str]) -> None:
    """Print the words of a secret key with their numbers, four in a row."""
    cells = [f"{number:2} {word:<{_WORD_CHARACTERS_MAX}}" for number, word in enumerate(words, 1)]
    for at in range(0, len(cells), _WORDS_IN_A_ROW):
        print("  ".join(cells[at : at + _WORDS_IN_A_ROW]).rstrip(), file=sys.stdout)


def typed_lines(prompt: str) -> Iterator[str]:
    """Yield the lines of standard input up to its end; a terminal is asked for each, and shows what is typed."""
    while True:
        if is_interactive():
            sys.stderr.write(f"{PROGRAM}: {prompt}: ")
            sys.stderr.flush()
        line = sys.stdin.readline(_LINE_CHARACTERS_MAX)
        if not line:
            return
        yield line


def _say(level: str, text: str) -> None:
    # A service may print before its log begins; on the journal such a line needs a priority too.
    print(f"{log.priority(level)}{PROGRAM}: {text}", file=sys.stderr)


def note(text: str) -> None:
    """Print on standard error what is going on."""
    _say("notice", printable(text))


def warning(text: str) -> None:
    """Print a warning on standard error."""
    _say("warning", f"{_styled('warning:', 'bold yellow', sys.stderr)} {printable(text)}")


def hint(text: str) -> None:
    """Print on standard error what to do next."""
    _say("notice", f"{_styled('hint:', 'bold cyan', sys.stderr)} {printable(text)}")


def usage(text: str) -> None:
    """Print the help of a command."""
    print(text, file=sys.stdout)


def error(trouble: P2pdnsError) -> None:
    """Print an error with its place, and its hint on a line of its own; of a file, all mistakes."""
    _run.errors.append(trouble)
    _show_mistakes(
        trouble, lambda text: _say("error", f"{_styled('error:', 'bold red', sys.stderr)} {printable(text)}")
    )


def passing_trouble(trouble: P2pdnsError) -> None:
    """Print an error that ends nothing, as a warning. It is not kept: a verb that does not end may have many."""
    _show_mistakes(trouble, warning)


def _show_mistakes(trouble: P2pdnsError, show: Callable[[str], None]) -> None:
    mistakes = trouble.mistakes
    hints = [mistake.hint or _usual_hint(mistake) for mistake in mistakes]
    for mistake, text, following in zip(mistakes, hints, [*hints[1:], None], strict=True):
        show(str(mistake))
        # A hint that is the same for the next mistake is printed once, after the last of them.
        if text != following:
            for line in text.splitlines():
                hint(line)


def _usual_hint(trouble: P2pdnsError) -> str:
    if isinstance(trouble, ZoneFileError):
        return f"{shipped.shown('zones/example.zone')} shows how the lines of a zone file are written"
    if isinstance(trouble, ConfigError):
        return f"{shipped.shown(shipped.EXAMPLE_CONFIG)} shows every setting"
    if isinstance(trouble, UsageError):
        # The place is a verb if no single flag is at fault.
        return f"{PROGRAM} {trouble.place} --help" if (trouble.place or "").isalpha() else f"{PROGRAM} --help"
    # Nothing can be done, for example, about a name that nobody has published.
    return ""


def table_lines(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return a table as lines of plain text, columns two spaces apart.

    >>> table_lines([Column("name"), Column("ms", "right")], [["www", "3"], ["mail.x", "12"]])
    ['name    ms', 'www      3', 'mail.x  12']
    """
    cells = [[column.title for column in columns], *[[printable(cell) for cell in row] for row in rows]]
    widths = [max(len(row[index]) for row in cells) for index in range(len(columns))]
    lines = []
    for row in cells:
        padded = [
            cell.rjust(width) if column.side == "right" else cell.ljust(width)
            for cell, width, column in zip(row, widths, columns, strict=True)
        ]
        lines.append("  ".join(padded).rstrip())
    return lines


def block_lines(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return a table as blocks, a line for each cell: a narrow terminal shows them without folding.

    >>> block_lines([Column("name"), Column("ms", "right")], [["www", "3"], ["mail.x", "12"]])
    ['name  www', 'ms    3', '', 'name  mail.x', 'ms    12']
    """
    width = max(len(column.title) for column in columns)
    lines: list[str] = []
    for row in rows:
        lines += [""] if lines else []
        lines += [
            f"{column.title.ljust(width)}  {printable(cell)}" for column, cell in zip(columns, row, strict=True) if cell
        ]
    return lines


def table(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> None:
    """Print a table: plain text into a pipe; with a bold head on a terminal, and as blocks on a narrow one."""
    # A pipe has no width, but a terminal without colour has one.
    is_narrow = sys.stdout.isatty() and shutil.get_terminal_size().columns < TABLE_COLUMNS_MIN
    if is_narrow or not is_terminal(sys.stdout):
        for line in (block_lines if is_narrow else table_lines)(columns, rows):
            print(line, file=sys.stdout)
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    drawn = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for column in columns:
        drawn.add_column(column.title, justify=column.side, overflow="fold")
    for row in rows:
        drawn.add_row(*[Text(printable(cell), style=_style_of(cell)) for cell in row])
    Console(file=sys.stdout, highlight=False).print(drawn)


def _style_of(cell: str) -> str:
    # These words tell good from bad; every other cell has the terminal's usual colour.
    if cell.startswith("WRONG"):
        return "bold red"
    return {"cache": "dim", "ok": "green"}.get(cell, "")


def redraw() -> None:
    """Begin again at the top of the terminal; in a pipe, after an empty line."""
    if is_terminal(sys.stdout):
        # Erase the screen, then go to its first cell.
        sys.stdout.write("\x1b[2J\x1b[H")
    else:
        print(file=sys.stdout)
    sys.stdout.flush()


def confirmed(question: str) -> bool:
    """Return whether the user at the terminal agrees; anything but yes is no."""
    sys.stderr.write(f"{PROGRAM}: {printable(question)} [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def fields(pairs: Mapping[str, str], *, indent: str = "") -> None:
    """Print names and values, one pair a line, values in one column."""
    width = max((len(name) for name in pairs), default=0)
    for name, value in pairs.items():
        result(f"{indent}{name.ljust(width)}  {value}".rstrip())


class Progress:
    """A progress line on a terminal; nothing anywhere else."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._is_shown = is_terminal(stream)
        self._width = 0

    def update(self, text: str, share: float | None = None) -> None:
        """Replace the line; with a bar before the text where the share that is done is known, from 0 to 1."""
        if self._is_shown:
            bar = "" if share is None else f"{_bar(share, self._stream)} "
            line = f"{PROGRAM}: {bar}{printable(text)}"
            self._stream.write("\r" + line.ljust(self._width))
            self._stream.flush()
            self._width = len(line)

    def clear(self) -> None:
        """Remove the line, so that the next line starts at the left edge."""
        if self._is_shown and self._width:
            self._stream.write("\r" + " " * self._width + "\r")
            self._stream.flush()
            self._width = 0


def _bar(share: float, stream: TextIO) -> str:
    from rich.console import Console
    from rich.progress_bar import ProgressBar

    console = Console(file=io.StringIO(), no_color=True, legacy_windows=False)
    options = console.options.copy()
    # A terminal that knows ASCII only gets a bar of ASCII.
    options.encoding = (stream.encoding or "ascii").lower()
    bar = ProgressBar(total=1.0, completed=share, width=BAR_CELLS)
    return "".join(segment.text for segment in console.render(bar, options)).ljust(BAR_CELLS)


@contextmanager
def progress() -> Iterator[Progress]:
    """Yield a progress line on standard error that is gone when the block ends."""
    line = Progress(sys.stderr)
    try:
        yield line
    finally:
        line.clear()


def ask_yes(question: str) -> bool:
    """Return whether the user at the terminal says yes; anything else is a no."""
    print(f"{PROGRAM}: {printable(question)} [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def ask_passphrase(what: str, *, is_new: bool = False) -> bytes:
    """Return a passphrase typed at the terminal without echo; a new one must be typed twice."""
    for _ in range(_PASSPHRASE_TRIES_MAX):
        first = getpass.getpass(f"{PROGRAM}: passphrase for {what}: ", stream=sys.stderr)
        if not first:
            note("a passphrase cannot be empty")
        elif not is_new or getpass.getpass(f"{PROGRAM}: once more: ", stream=sys.stderr) == first:
            return first.encode()
        else:
            note("the two are not the same")
    raise UsageError("no passphrase was given", place=what)
