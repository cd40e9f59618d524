"""The commitment of a zone to its next key: the file beside the key, whose name has `.next` at its end.

`keygen --next` writes it. `publish` and all other verbs that sign a zone read it, and write it again where it is
missing and the zone in the overlay has one.

Guarantees: nothing in the file is secret; a file that is there and does not say a commitment of this very key is an
error, and never counts as absent; a damaged file is an error, unless it is of the first form, which had no digest; the
file appears whole or not at all, and never takes the place of another. Does not know the next key, or the overlay.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from collections.abc import Hashable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from p2pdns.cli import ui
from p2pdns.cli.files import STANDARD_INPUT, beside, file_trouble, quoted, read_bytes, read_secret_key
from p2pdns.dns.message import RRset
from p2pdns.errors import BadItem, FormatError, KeyFileError, P2pdnsError
from p2pdns.items.item import MutableItem
from p2pdns.items.keys import KEY_FILE_BYTES_MAX, PUBLIC_KEY_COMMENT, ZoneKey, needs_passphrase
from p2pdns.items.succession import COMMITMENT_BYTES, Commitment, commitment_of, with_commitment

if TYPE_CHECKING:
    from p2pdns.publishing.editions import Draft, Found
    from p2pdns.publishing.publication import Rules
    from p2pdns.publishing.stored import Stored

SUFFIX = ".next"
COMMITTED_TO_ANOTHER = "committed to another next key"
COMMITTED = "committed to a next key"  # What a zone is, in the words of every verb that shows one.
DIGEST_CHARACTERS = 16  # Of SHA-256: it guards against a bad disk or a slip of an editor, and against nobody.
FILE_MODE = 0o644  # Every copy of the zone has the commitment in it.
BYTES_READ_MAX = 4_096  # Ten times as much as the file has.
HEAD = """\
# p2pdns: the commitment of this zone to its next key. It is public, and every publication of the zone carries it.
# Keep it beside the key, and the next key elsewhere: whoever has stolen both keys has the name.
"""
_HINT = "restore it from a backup, or move it away: publish takes over the commitment that is published"
_COMMITMENT = re.compile(f"[0-9a-f]{{{2 * COMMITMENT_BYTES}}}")


def path_of(key_file: str) -> str:
    """Return where the commitment of a key file is."""
    return beside(key_file, SUFFIX)


def stamp_of(path: str) -> Hashable:
    """Return what is another object after each change of a file; None where it is not there."""
    try:
        about = os.stat(path)
    except FileNotFoundError:
        return None
    except OSError as trouble:
        return trouble.errno
    return about.st_mtime_ns, about.st_size, about.st_ino


def is_there(path: str) -> bool:
    """Return whether a file or a link is there; a P2pdnsError where the system does not tell."""
    try:
        os.lstat(path)
    except FileNotFoundError:
        return False
    except OSError as trouble:
        # A folder that is closed to this user may well have the file.
        raise file_trouble(path, trouble) from None
    return True


def read(key_file: str, key: ZoneKey) -> Commitment | None:
    """Return the commitment beside a key file; None where there is none. KeyFileError for any other file there."""
    path = path_of(key_file)
    if key_file == STANDARD_INPUT or not is_there(path):
        return None
    lines = _lines(read_bytes(path, BYTES_READ_MAX, is_regular=True).decode("ascii", "replace"))
    words = dict(lines)
    is_said = _COMMITMENT.fullmatch(words.get("commitment", "")) is not None
    # A line that is not known may be one that was: a damaged digest must not make a file of the form without one.
    fits = words.get("digest", _digest(lines)) == _digest(lines) and words.keys() <= {"zone", "commitment", "digest"}
    if not fits and (is_said or "digest" in words):
        raise KeyFileError("this file is damaged: it does not fit its digest", place=quoted(path), hint=_HINT)
    if not is_said:
        raise KeyFileError("no commitment to a next key is in this file", place=quoted(path), hint=_HINT)
    if words.get("zone") != str(key):
        what = f"a commitment of another zone than that of {quoted(key_file)}"
        raise KeyFileError(what, place=quoted(path), hint=_HINT)
    return Commitment.verified(bytes.fromhex(words["commitment"]))


def _lines(text: str) -> list[tuple[str, str]]:
    """Return the first word of each line, and the rest."""
    lines = (line.partition(" ") for line in text.splitlines() if line and not line.startswith("#"))
    return [(word, rest.strip()) for word, _, rest in lines]


def _digest(lines: Sequence[tuple[str, str]]) -> str:
    text = "".join(f"{word} {rest}\n" for word, rest in lines if word != "digest")
    return hashlib.sha256(text.encode()).hexdigest()[:DIGEST_CHARACTERS]


def write(key_file: str, key: ZoneKey, commitment: Commitment) -> None:
    """Write the commitment beside a key file, where no file may be yet."""
    path = path_of(key_file)
    draft = f"{path}.{os.getpid()}"
    try:
        with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, FILE_MODE), "w") as file:
            lines = [("zone", str(key)), ("commitment", commitment.rdata.hex())]
            file.write(HEAD + "".join(f"{word} {rest}\n" for word, rest in [*lines, ("digest", _digest(lines))]))
            file.flush()
            # The umask of root may close it to the server's user, who has to read it.
            os.fchmod(file.fileno(), FILE_MODE)
            os.fsync(file.fileno())
        # A link is refused where the file exists; a rename would take its place.
        os.link(draft, path)
    except FileExistsError:
        refuse_second(key_file)
        raise
    except OSError as trouble:
        raise file_trouble(path, trouble) from None
    finally:
        with contextlib.suppress(OSError):
            os.unlink(draft)


def refuse_second(key_file: str) -> None:
    """Raise KeyFileError where the key has committed itself already."""
    path = path_of(key_file)
    if is_there(path):
        hint = (
            "readers keep the first commitment that they see, so a second next key would be of no use; "
            f'if p2pdns inspect says "committed no", nobody has seen it: move {quoted(path)} away first'
        )
        raise KeyFileError("this key has committed itself to a next key already", place=quoted(path), hint=hint)


def warn_if_moved(key: ZoneKey, next_key: str | None) -> None:
    """Warn of a publication under a key whose next key is revealed already."""
    if next_key is not None:
        ui.warning(f"{key} has moved to {next_key}: readers that follow it answer from there, and do not see this")


def records(key_file: str, key: ZoneKey) -> tuple[RRset, ...]:
    """Return the record of the commitment beside a key file, for a zone that is changed while it is held; none else."""
    with contextlib.suppress(P2pdnsError):
        commitment = read(key_file, key)
        return () if commitment is None else (commitment.record_of(key),)
    # The publication tells the error; an UPDATE has nothing to do with it.
    return ()


def has_value(found: Found, value: Draft, own: Commitment | None) -> bool:
    """Return whether a publication of a draft would change nothing in an edition.

    The draft carries the `own` commitment already. Where there is none, it will carry that of the edition.
    """
    # Loaded late: commands that do not publish need neither.
    from p2pdns.publishing.changes import differences
    from p2pdns.publishing.editions import DividedItem, LargeZone, item_of

    item = item_of(found)
    published = commitment_of(item)
    if isinstance(value, LargeZone):
        is_same = isinstance(found, DividedItem) and not differences(found, item.key.apex, value)
        return is_same and own in (None, published)
    if own is None and published is not None:
        try:
            value = with_commitment(value, item.key, published)
        except (BadItem, P2pdnsError):
            # The publication says why it does not go together.
            return False
    return item.value == value


def is_committed(item: MutableItem | None) -> bool:
    """Return whether an item carries a commitment to a next key."""
    return item is not None and commitment_of(item) is not None


def rules_with(rules: Rules, key_file: str, key: ZoneKey, size_bytes_max: int) -> Rules:
    """Return the rules of a publication with the commitment beside the key file."""
    return replace(
        rules,
        commitment=read(key_file, key),
        commitment_file=path_of(key_file),
        size_bytes_max=size_bytes_max,
    )


def keep(key_file: str, key: ZoneKey, done: Stored) -> None:
    """Write the commitment that a publication has carried, where the file beside the key is missing, and say so."""
    commitment = None if done.item is None else commitment_of(done.item)
    if key_file == STANDARD_INPUT or commitment is None:
        return
    path = path_of(key_file)
    try:
        if is_there(path):
            return
        write(key_file, key, commitment)
    except P2pdnsError as trouble:
        ui.warning(f"{trouble}; the commitment to the next key, which the zone has, is carried without it")
    else:
        ui.note(f"{path}: written again; the zone has committed itself to a next key, and that is carried on")


def public_key_of(key_file: str) -> ZoneKey:
    """Return the zone key of a key file. Of a file with a passphrase the comment says it, and no passphrase is needed.

    A wrong comment does no harm: what is made with it names the zone, and the first use of the secret key compares.
    """
    data = b"" if key_file == STANDARD_INPUT else read_bytes(key_file, KEY_FILE_BYTES_MAX)
    if not needs_passphrase(data):
        return read_secret_key(key_file, None).zone_key
    line = data.partition(b"\n")[0].decode("ascii", "replace").rstrip("\r")
    try:
        return ZoneKey.read(line.removeprefix(PUBLIC_KEY_COMMENT))
    except FormatError:
        what = "its first line does not say its zone key, and it has a passphrase"
        hint = f'write "{PUBLIC_KEY_COMMENT}KEY" there; p2pdns pubkey {key_file} prints the KEY'
        raise KeyFileError(what, place=quoted(key_file), hint=hint) from None
