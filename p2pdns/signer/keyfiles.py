"""A key file of a `[[publish]]` table, read by the one process that signs.

Guarantees: a file that other users may open is refused, as is one with a passphrase, because nobody is there to type
it; no error shows anything of a key. Does not know who has opened the file (`signer.handing` does).
"""

from __future__ import annotations

import os
import stat

from p2pdns.errors import KeyFileError, Unavailable, hint_of, words_of
from p2pdns.items.keys import KEY_FILE_BYTES_MAX, SecretKey, needs_passphrase
from p2pdns.signer.handing import OPEN_FLAGS

_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def read_key(path: str, descriptor: int | None = None) -> SecretKey:
    """Return the key of a file, which is opened where there is no descriptor; an error says what is wrong with it."""
    place = f'"{path}"'
    try:
        if descriptor is not None:
            return _read(descriptor, place, path)
        own = os.open(path, OPEN_FLAGS)
        try:
            return _read(own, place, path)
        finally:
            os.close(own)
    except OSError as trouble:
        raise Unavailable(words_of(trouble), place=place, hint=hint_of(trouble)) from None


def _read(descriptor: int, place: str, path: str) -> SecretKey:
    about = os.fstat(descriptor)
    if not stat.S_ISREG(about.st_mode):
        raise KeyFileError("not a file", place=place, hint="is it the right file?")
    if about.st_mode & _OTHERS:
        what = f"other users may open this key file (mode {stat.S_IMODE(about.st_mode):04o})"
        raise KeyFileError(what, place=place, hint=f"chmod 600 {path}")
    # The offset belongs to all processes that have the descriptor, so it is neither used nor moved.
    pem = os.pread(descriptor, KEY_FILE_BYTES_MAX + 1, 0)
    if needs_passphrase(pem):
        hint = "a server starts without anybody to type it: name a key file without one, or publish by hand"
        raise KeyFileError("the key has a passphrase", place=place, hint=hint)
    return SecretKey.read(pem, None, place)
