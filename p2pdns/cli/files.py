"""The files of the command line: zone files, key files, item files.

Guarantees: the error for a missing file names the file with the nearest name; a new file never replaces another; a
secret key is neither read from a file that others can read nor written into one. Does not know the files' content.
"""

from __future__ import annotations

import difflib
import errno
import os
import stat
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import click

from p2pdns.cli import completion, mixups, ui
from p2pdns.errors import (
    KEY_FILE_MARK,
    LIKENESS_MIN,
    KeyFileError,
    P2pdnsError,
    Unavailable,
    UsageError,
    hint_of,
    words_of,
)
from p2pdns.items.keys import KEY_FILE_BYTES_MAX, SecretKey, needs_passphrase
from p2pdns.items.seeds import seed_in

STANDARD_INPUT = "-"
FILE_BYTES_MAX = 16 * 1024 * 1024  # No item can hold a larger zone file; a device file would never end.
PASSPHRASE_BYTES_MAX = 1024  # The limit of cryptography's PKCS#8 writer.
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def key_option(help_text: str, *, is_needed: bool = True) -> Callable[[Callable[..., object]], Callable[..., object]]:
    """Return the option `-k KEYFILE`, which a verb needs unless it says otherwise."""
    return click.option(
        "-k",
        "--key",
        "key_file",
        required=is_needed,
        metavar="KEYFILE",
        help=help_text,
        shell_complete=completion.a_file,
    )


passphrase_file_option: Callable[[Callable[..., object]], Callable[..., object]] = click.option(
    "--passphrase-file", metavar="FILE", help="Read the passphrase of the key from the first line of FILE."
)


def quoted(path: str) -> str:
    """Return a path in quotes, for an error."""
    return f'"{path}"'


def beside(key_file: str, suffix: str) -> str:
    """Return the path of a file that lies beside a key file: beside the file itself, where the path is a link to it.

    Otherwise each link to one key would have a memory and a commitment of its own.
    """
    path = os.path.realpath(key_file) if os.path.islink(key_file) else key_file
    return path + suffix


def nearest_name(name: str, names: Sequence[str]) -> str | None:
    """Return the file name most like a missing one, or None; a common ending does not make two names alike.

    >>> nearest_name("exmaple.zone", ["example.zone", "mail.zone"]), nearest_name("xyz.zone", ["web.zone"])
    ('example.zone', None)
    >>> nearest_name("example", ["example.zone"]), nearest_name("alice.pem", ["alice.key"])
    ('example.zone', 'alice.key')
    """
    stem, ending = os.path.splitext(name)

    def likeness(other: str) -> tuple[float, bool]:
        other_stem, other_ending = os.path.splitext(other)
        return difflib.SequenceMatcher(None, stem.lower(), other_stem.lower()).ratio(), other_ending == ending

    near = [other for other in names if likeness(other)[0] >= LIKENESS_MIN]
    return max(near, key=likeness, default=None)


def nearest_file(path: str) -> str | None:
    """Return the path in the same folder whose name is most like a missing one, or None."""
    folder = os.path.dirname(path)
    try:
        names = sorted(os.listdir(folder or "."))
    except OSError:
        return None
    near = nearest_name(os.path.basename(path), names)
    return os.path.join(folder, near) if near else None


def file_trouble(path: str, trouble: OSError) -> P2pdnsError:
    """Return the error for a file that the system refuses; for a missing file with the nearest name."""
    if isinstance(trouble, FileNotFoundError):
        near = nearest_file(path)
        hint = f'did you mean "{near}"?' if near else hint_of(trouble)
        return Unavailable("no such file", place=quoted(path), hint=hint)
    return Unavailable(words_of(trouble), place=quoted(path), hint=hint_of(trouble))


def read_bytes(path: str, size_max: int = FILE_BYTES_MAX, *, is_regular: bool = False) -> bytes:
    """Return the content of a file; `-` is standard input.

    With `is_regular` nothing but a regular file is read, and nothing is waited for: no pipe, and no device.
    """
    try:
        if is_regular:
            data = _read_regular(path, size_max + 1)
        elif path == STANDARD_INPUT:
            data = sys.stdin.buffer.read(size_max + 1)
        else:
            with open(path, "rb") as file:
                data = file.read(size_max + 1)
    except OSError as trouble:
        raise file_trouble(path, trouble) from None
    if len(data) > size_max:
        what = f"more than {size_max} bytes, too large for what it should be"
        raise Unavailable(what, place=quoted(path), hint="is it the right file?")
    return data


def _read_regular(path: str, size_max: int) -> bytes:
    # Without O_NONBLOCK the open itself waits until somebody writes into a pipe.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if not stat.S_ISREG(mode):
            raise Unavailable("not a regular file", place=quoted(path), hint="name a file, not a pipe or a device")
        with open(descriptor, "rb", closefd=False) as file:
            return file.read(size_max)
    finally:
        os.close(descriptor)


def read_text(path: str, *, is_regular: bool = False) -> str:
    """Return the content of a text file."""
    data = read_bytes(path, is_regular=is_regular)
    try:
        return data.decode()
    except UnicodeDecodeError as trouble:
        line = data.count(b"\n", 0, trouble.start) + 1
        hint = "save it as UTF-8, or name another file"
        raise Unavailable("not a text file (UTF-8)", place=f"{path}:{line}", hint=hint) from None


def write_new(path: str, data: bytes, *, mode: int, place_hint: str) -> None:
    """Write a file that does not exist yet, whole or not at all."""
    # O_EXCL refuses a symbolic link too.
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    try:
        descriptor = os.open(path, flags, mode)
    except FileExistsError:
        raise KeyFileError("the file exists and is not overwritten", place=quoted(path), hint=place_hint) from None
    except FileNotFoundError:
        folder = os.path.dirname(path) or "."
        raise Unavailable("no such folder", place=quoted(folder), hint=f"mkdir -p {folder}") from None
    except OSError as trouble:
        raise file_trouble(path, trouble) from None
    try:
        with open(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except BaseException as trouble:
        Path(path).unlink(missing_ok=True)
        if isinstance(trouble, OSError):
            raise file_trouble(path, trouble) from None
        raise


def refuse_existing(path: str) -> None:
    """Raise the error of `write_new` for a file that exists, before a user has typed what is to be in it."""
    if os.path.lexists(path):
        hint = "choose another name, or move the old file away"
        raise KeyFileError("the file exists and is not overwritten", place=quoted(path), hint=hint)


def read_passphrase_file(path: str) -> bytes:
    """Return the first line of the file, without its end."""
    line = read_bytes(path, PASSPHRASE_BYTES_MAX + 2).split(b"\n", 1)[0].removesuffix(b"\r")
    if not line:
        hint = "leave --passphrase-file out for a key without a passphrase"
        raise KeyFileError("the first line is empty, a passphrase is expected there", place=quoted(path), hint=hint)
    if len(line) > PASSPHRASE_BYTES_MAX:
        what = f"the passphrase is longer than {PASSPHRASE_BYTES_MAX} bytes"
        raise KeyFileError(what, place=quoted(path), hint="is it the right file? only its first line is read")
    return line


def refuse_if_others_may_read(path: str) -> None:
    """Raise a KeyFileError where other users can read a file with a secret."""
    try:
        found = os.stat(path)
    except OSError as trouble:
        raise file_trouble(path, trouble) from None
    # The mode of a pipe of the shell does not tell who can read it.
    if stat.S_ISREG(found.st_mode) and found.st_mode & _OTHERS:
        what = f"other users may open this key file (mode {stat.S_IMODE(found.st_mode):04o})"
        raise KeyFileError(what, place=quoted(path), hint=f"chmod 600 {path}")


def read_secret_key(path: str, passphrase_file: str | None) -> SecretKey:
    """Return the key of a key file; ask for its passphrase if it has one and a terminal is there."""
    if path == STANDARD_INPUT and passphrase_file == STANDARD_INPUT:
        what = "standard input can be the key or the passphrase, not both"
        raise UsageError(what, place="--passphrase-file -", hint="name a file for one of them")
    if path != STANDARD_INPUT:
        mixups.refuse_key_for_file(path)
        # The mode of a file that is no key file does not matter: reading it is an error below.
        if mixups.is_key_file(path):
            refuse_if_others_may_read(path)
    pem = read_bytes(path, KEY_FILE_BYTES_MAX)
    passphrase = None
    if needs_passphrase(pem):
        if passphrase_file is not None:
            passphrase = read_passphrase_file(passphrase_file)
        elif ui.is_interactive():
            passphrase = ui.ask_passphrase(quoted(path))
    elif KEY_FILE_MARK.encode() not in pem and (seed := seed_in(pem)) is not None:
        # It is not read as it is: a hash or a zone key looks the same, and a slip would publish under an unknown key.
        hint = f"p2pdns key import {path} -o FILE makes a key file of it, if it is one"
        what = f"no key file, but {seed.form}, as other programs write a secret key"
        raise KeyFileError(what, place=quoted(path), hint=hint)
    return SecretKey.read(pem, passphrase, quoted(path))
