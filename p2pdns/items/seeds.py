"""Secret keys as other programs write them: 32 bytes in hexadecimal or z-base-32, or as they are.

pkarr writes 64 hexadecimal digits, pkdns 52 characters of z-base-32, and libraries of Ed25519 read 32 raw bytes.
Guarantees: a text has one reading at most; no error quotes it. Does not know where it came from, nor whether it is a
secret at all: a zone key in z-base-32, or a hash in hexadecimal, looks the same.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from p2pdns.errors import FormatError, KeyFileError
from p2pdns.items.keys import SEED_BYTES, read_zbase32
from p2pdns.naming import ZONE_KEY_CHARACTERS

SEED_FILE_BYTES_MAX = 4_096  # Some forms have blanks and line ends round them; a larger file is something else.

_HEXADECIMAL = re.compile(r"[0-9a-fA-F]{64}", re.ASCII)
_FORMS = f"64 hexadecimal digits, {ZONE_KEY_CHARACTERS} characters of z-base-32, or {SEED_BYTES} raw bytes"


@dataclass(frozen=True)
class ForeignSeed:
    """The 32 bytes that another program has written, and the form they were in; `repr` shows the form only."""

    raw: bytes
    form: str

    def __repr__(self) -> str:
        return f"ForeignSeed({self.form})"


def seed_in(data: bytes) -> ForeignSeed | None:
    """Return the seed that the content of a file is, None where it is none."""
    # Raw bytes first: they may end in what looks like a blank.
    if len(data) == SEED_BYTES and not _is_text(data):
        return ForeignSeed(data, f"{SEED_BYTES} raw bytes")
    if len(data) > SEED_FILE_BYTES_MAX or not data.isascii():
        return None
    text = data.decode("ascii").strip()
    if _HEXADECIMAL.fullmatch(text):
        return ForeignSeed(bytes.fromhex(text), "64 hexadecimal digits")
    if len(text) == ZONE_KEY_CHARACTERS:
        try:
            return ForeignSeed(read_zbase32(text), f"{ZONE_KEY_CHARACTERS} characters of z-base-32")
        except FormatError:
            return None
    return None


def read_seed(data: bytes, path: str) -> ForeignSeed:
    """Return the seed in the content of a file; KeyFileError where there is none. `path` is only for the error."""
    found = seed_in(data)
    if found is not None:
        return found
    what = f"{len(data)} bytes that are no secret key of another program"
    hint = f"such a secret is {_FORMS}"
    if b"-----BEGIN" in data:
        what, hint = "a PEM file, and no secret key of another program", "a key file is used as it is, behind -k"
    elif data.strip().count(b" ") >= 11:
        what, hint = "words, and no secret key of another program", "p2pdns key restore reads the words of a key"
    elif len(data) == SEED_BYTES:
        what = f"{SEED_BYTES} characters of text, where random bytes are expected"
    raise KeyFileError(what, place=path, hint=hint)


def _is_text(data: bytes) -> bool:
    """Return whether all bytes are printable ASCII: of 32 random bytes, one in 10^13 has that by chance."""
    return data.isascii() and data.decode("ascii").replace("\n", " ").replace("\t", " ").isprintable()
