"""The command `p2pdns`: its verbs, and how every error ends.

Guarantees: no error of a user's making shows a traceback; exit 0 if and only if everything asked was done,
1 when something failed, 2 for wrong usage or configuration, 3 when the name or type does not exist; Ctrl-C
and a closed pipe end with the status that a shell gives them. Does not know what a verb does: each is loaded
when it is asked for, so that `keygen` does not pay for the resolver.
"""

from __future__ import annotations

import contextlib
import difflib
import errno
import importlib
import os
import signal
import sys
import threading
from collections.abc import Sequence

import click

import p2pdns
from p2pdns import log
from p2pdns.cli import ui
from p2pdns.errors import P2pdnsError, StrangerError, Unavailable, UsageError, hint_of

EXIT_INTERRUPTED = 130  # 128 + SIGINT, what a shell shows for a program that Ctrl-C ended
EXIT_BROKEN_PIPE = 141  # 128 + SIGPIPE, what `p2pdns … | head -1` gives any other program

# The verb and the module of its family, in the order of a first visit.
VERBS = {
    "keygen": "keys",
    "pubkey": "keys",
    "check": "zones",
    "serve": "serve",
    "publish": "publish",
    "resolve": "resolve",
    "inspect": "inspect",
    "name": "name",
    "status": "status",
    "doctor": "doctor",
    "flush": "upkeep",
    "forget": "upkeep",
    "pin": "upkeep",
    "reload": "upkeep",
    "demo": "demo",
}


def did_you_mean(word: str, known: Sequence[str]) -> str | None:
    """Return the hint that names the nearest of `known`, or None when nothing is near.

    >>> did_you_mean("pubish", ["publish", "status"])
    'did you mean "publish"?'
    """
    near = difflib.get_close_matches(word, known, n=1)
    return f'did you mean "{near[0]}"?' if near else None


class Verbs(click.Group):
    """The group of all verbs, each imported when it is first used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the verbs in the order of a first visit."""
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return the verb's command, or None."""
        if cmd_name not in VERBS:
            return None
        module = importlib.import_module(f"p2pdns.cli.{VERBS[cmd_name]}")
        command = getattr(module, cmd_name)
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the verb that `args` opens with; an unknown one is an error with the nearest known."""
        if args and not args[0].startswith("-") and args[0] not in VERBS:
            hint = did_you_mean(args[0], list(VERBS)) or f"the verbs are {', '.join(VERBS)}"
            raise UsageError("no such verb", place=f'"{args[0]}"', hint=hint)
        return super().resolve_command(ctx, args)


@click.group(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(p2pdns.__version__, prog_name=ui.PROGRAM, message="%(prog)s %(version)s")
def p2pdns_command() -> None:
    """Names without a registry: sign a zone, publish it to a DHT, resolve it as ordinary DNS."""


def _flags_of(context: click.Context) -> list[str]:
    return [flag for option in context.command.get_params(context) for flag in option.opts if flag.startswith("--")]


def _usage_error(trouble: click.ClickException) -> UsageError:
    context = trouble.ctx if isinstance(trouble, click.UsageError) else None
    path = context.command_path.removeprefix(ui.PROGRAM).strip() if context else ""
    hint = f"{context.command_path} --help" if context else None
    if isinstance(trouble, click.NoSuchOption):
        near = did_you_mean(trouble.option_name, _flags_of(context)) if context else None
        return UsageError("no such flag", place=f"{path} {trouble.option_name}".strip(), hint=near or hint)
    what = trouble.format_message().strip().rstrip(".").replace("'", '"')
    return UsageError(what[:1].lower() + what[1:], place=path or None, hint=hint)


def _system_error(trouble: OSError) -> P2pdnsError:
    what = (trouble.strerror or str(trouble)).lower()
    # Whoever opens a file or a socket says so himself; what is left without a name is a result that was not written.
    place = f'"{os.fsdecode(trouble.filename)}"' if isinstance(trouble.filename, str | bytes) else "standard output"
    return Unavailable(what, place=place, hint=hint_of(trouble))


def _run(arguments: Sequence[str] | None) -> int:
    error: P2pdnsError
    try:
        code = p2pdns_command.main(
            args=None if arguments is None else list(arguments), prog_name=ui.PROGRAM, standalone_mode=False
        )
        # A pipe that was closed shows itself when the buffer is written, which must not be at exit.
        sys.stdout.flush()
    except click.exceptions.Exit as ending:
        return ending.exit_code
    except (click.Abort, KeyboardInterrupt):
        return EXIT_INTERRUPTED
    except click.exceptions.NoArgsIsHelpError as trouble:
        ui.usage(trouble.format_message())
        error = UsageError("no verb was given")
    except click.ClickException as trouble:
        error = _usage_error(trouble)
    except P2pdnsError as trouble:
        error = trouble
    except StrangerError as trouble:
        error = P2pdnsError(str(trouble))
    except OSError as trouble:
        if trouble.errno == errno.EPIPE:
            return EXIT_BROKEN_PIPE
        error = _system_error(trouble)
    else:
        return code if isinstance(code, int) else 0
    ui.error(error)
    return error.exit_code


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit status."""
    _open_closed_streams()
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.default_int_handler)
    with contextlib.suppress(AttributeError):
        # A name can hold any character; a terminal that cannot show one must not end the program.
        sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
        sys.stderr.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    # What the parts log is for a daemon's log; `serve` sets the level of its configuration. Never standard output.
    log.configure("error")
    try:
        return _run(arguments)
    except BrokenPipeError:
        return EXIT_BROKEN_PIPE
    finally:
        _let_go_of_closed_pipes()


def _open_closed_streams() -> None:
    """Put something in the place of standard streams that whoever started us has closed.

    Their numbers would go to the next files and sockets, and what is said to the user would be written into those.
    """
    # The first two are opened the wrong way round: a result that nobody gets, or an input that nobody gives, stays
    # an error. What is said on standard error may get lost.
    for number, (name, flags) in enumerate((("stdin", os.O_WRONLY), ("stdout", os.O_RDONLY), ("stderr", os.O_RDWR))):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, flags), True)
            stream = open(number, "r" if number == 0 else "w", closefd=False)  # noqa: SIM115  (lives as long as we do)
            setattr(sys, name, stream)


def _let_go_of_closed_pipes() -> None:
    # The interpreter flushes standard output once more at exit and would print what it met there.
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            with contextlib.suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
