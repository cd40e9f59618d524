"""The command `p2pdns`: its verbs, and how every error ends.

Guarantees: no error of a user's making shows a traceback; exit 0 if and only if everything asked was done,
1 when something failed, 2 for wrong usage or configuration, 3 when the name or type does not exist (`diff`: 1 when
something differs, 2 for all that went wrong); Ctrl-C
and a closed pipe end with the status that a shell gives them; with `--json` standard output is one JSON document or
nothing, which tells of failures too. Does not know the verbs (`p2pdns.cli.verbs` does).
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence

import click

import p2pdns
from p2pdns import log
from p2pdns.cli import mixups, ui
from p2pdns.cli.verbs import VERBS, Verbs
from p2pdns.errors import P2pdnsError, StrangerError, Unavailable, UsageError, abridged, did_you_mean, hint_of, words_of

EXIT_INTERRUPTED = 130  # 128 + SIGINT, what a shell shows for a program that Ctrl-C ended
NO_VERB = "no verb was given"
EXTRA_WORD = "got unexpected extra argument ("  # How click begins when there is one word too many.
COMPLETION_VARIABLE = "_P2PDNS_COMPLETE"
EXIT_BROKEN_PIPE = 141  # 128 + SIGPIPE, what `p2pdns … | head -1` gives any other program


@click.group(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(p2pdns.__version__, "-V", "--version", prog_name=ui.PROGRAM, message="%(prog)s %(version)s")
def p2pdns_command() -> None:
    """Names without a registry: sign a zone, publish it to a DHT, resolve it as ordinary DNS.

    "p2pdns help VERB" tells of one verb. The exit status is 0 if everything asked was done, 1 if something failed, 2
    for wrong usage or configuration, 3 if the name or type does not exist, 141 if the reader of the output has gone.
    """


def _flags_of(context: click.Context) -> list[str]:
    return [flag for option in context.command.get_params(context) for flag in option.opts]


def _flag_hint(trouble: click.NoSuchOption, context: click.Context, arguments: Sequence[str]) -> str:
    wanted, flags = trouble.option_name, _flags_of(context)
    for flag in flags:
        if flag.lower() == wanted.lower():
            return f'did you mean "{flag}"?'
    if context.parent is None and wanted.lstrip("-") in VERBS:
        return f"a verb has no dashes: p2pdns {wanted.lstrip('-')}"
    verb = next((word for word in arguments if word in VERBS), None)
    if context.parent is None and verb is not None:
        return f"flags come after the verb: p2pdns {verb} {wanted}"
    near = did_you_mean(wanted, [flag for flag in flags if flag.startswith("--")])
    return near or f"{context.command_path} --help"


def _usage_error(trouble: click.ClickException, arguments: Sequence[str]) -> UsageError:
    context = trouble.ctx if isinstance(trouble, click.UsageError) else None
    path = context.command_path.removeprefix(ui.PROGRAM).strip() if context else ""
    hint = f"{context.command_path} --help" if context else None
    if isinstance(trouble, click.NoSuchOption) and context is not None:
        hint = _flag_hint(trouble, context, arguments)
        return UsageError("no such flag", place=f"{path} {trouble.option_name}".strip(), hint=hint)
    # Click lists the words of a choice, a line each; the usage has them on one.
    message = trouble.format_message().partition(". Choose from:")[0]
    what = abridged(message.strip().rstrip(".").replace("'", '"'))
    if isinstance(trouble, click.UsageError) and what == "Missing command":
        what = NO_VERB
    behind = arguments[arguments.index(path) + 1 :] if path in arguments else []
    if isinstance(trouble, click.MissingParameter) and context is not None and context.parent is not None:
        hint = " ".join([context.command_path, *_synopsis(context)])
        if path == "publish":
            # Its key and its file are not required: without both it publishes what the configuration names.
            hint = mixups.without_flag(behind) or f"{hint} -k KEYFILE ZONEFILE"
    elif path == "publish" and what.lower().startswith(EXTRA_WORD) and (meant := mixups.without_flag(behind)):
        what, hint = 'missing option "-k" / "--key"', meant
    elif path == "keygen" and what.lower().startswith(EXTRA_WORD):
        hint = f"p2pdns keygen -o {abridged(arguments[-1])}"
    return UsageError(what[:1].lower() + what[1:], place=path or None, hint=hint)


def _synopsis(context: click.Context) -> Iterator[str]:
    """Yield the required words of a verb, as they are typed."""
    for parameter in context.command.get_params(context):
        if parameter.required and isinstance(parameter, click.Option):
            yield f"{parameter.opts[0]} {parameter.make_metavar(context)}"
    for parameter in context.command.get_params(context):
        if parameter.required and isinstance(parameter, click.Argument):
            yield parameter.make_metavar(context)


def _system_error(trouble: OSError) -> P2pdnsError:
    what = words_of(trouble)
    # An error about a file has its name; one without a name came from writing the result.
    place = f'"{os.fsdecode(trouble.filename)}"' if isinstance(trouble.filename, str | bytes) else "standard output"
    return Unavailable(what, place=place, hint=hint_of(trouble))


def _invoke(arguments: Sequence[str]) -> int:
    # Not click's own `main`: it ends the program with another status when a pipe is closed.
    try:
        with p2pdns_command.make_context(ui.PROGRAM, list(arguments)) as context:
            code = p2pdns_command.invoke(context)
    except click.exceptions.Exit as ending:
        code = ending.exit_code
    return code if isinstance(code, int) else 0


def _run(arguments: Sequence[str]) -> int:
    error: P2pdnsError
    try:
        code = _invoke(arguments)
        ui.end_json(code)
        # A closed pipe is noticed only when the buffer is written, and that must not be at exit.
        sys.stdout.flush()
        return code
    except (click.Abort, KeyboardInterrupt, EOFError):
        return EXIT_INTERRUPTED
    except click.exceptions.NoArgsIsHelpError as trouble:
        if not ui.is_json():
            ui.usage(trouble.format_message())
        error = UsageError(NO_VERB, hint=f"{trouble.ctx.command_path} --help")
    except click.ClickException as trouble:
        error = _usage_error(trouble, arguments)
    except P2pdnsError as trouble:
        error = trouble
    except StrangerError as trouble:
        error = P2pdnsError(str(trouble))
    except BrokenPipeError:
        return EXIT_BROKEN_PIPE
    except OSError as trouble:
        error = _system_error(trouble)
    ui.error(error)
    try:
        ui.end_json(error.exit_code)
        sys.stdout.flush()
    except BrokenPipeError:
        return EXIT_BROKEN_PIPE
    except OSError:
        # The error itself could not be written, or it was printed above.
        pass
    return error.exit_code


def _completion_status() -> int | None:
    if COMPLETION_VARIABLE not in os.environ:
        return None
    # Loaded only here: no other call of the program needs it.
    from p2pdns.cli import completion

    return completion.answered(p2pdns_command)


def _wants_json(arguments: Sequence[str]) -> bool:
    """Return whether failures are to be JSON too; a command line that click refuses must tell it as well."""
    words = list(arguments)
    return "--json" in (words[: words.index("--")] if "--" in words else words)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit status."""
    _open_closed_streams()
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.default_int_handler)
    with contextlib.suppress(AttributeError):
        # A name may have any character; one that the terminal cannot show must not end the program.
        sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
        sys.stderr.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    # What the parts log is for a daemon's log; `serve` sets the level of its configuration. Never standard output.
    log.configure("error")
    if arguments is None and (status := _completion_status()) is not None:
        return status
    words = sys.argv[1:] if arguments is None else list(arguments)
    try:
        with ui.one_call(as_json=_wants_json(words)):
            return _run(words)
    except BrokenPipeError:
        return EXIT_BROKEN_PIPE
    finally:
        _let_go_of_closed_pipes()


def _open_closed_streams() -> None:
    """Open /dev/null for each standard stream that the parent process has closed.

    The next file or socket would get its number, and messages to the user would be written into that.
    """
    # Standard input is opened for writing and standard output for reading, so that using them stays an error. Messages
    # on standard error may get lost.
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
