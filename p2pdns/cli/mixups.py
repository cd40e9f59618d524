"""Files of the wrong kind on a command line: a zone file after -k, a key file as zone file, a key instead of its file.

Guarantees: an error shows nothing of a file; a command line without such a mix-up passes. Does not know whether a file
of the right kind is valid. `items.keys` is loaded late: every command imports this module, and most read no key.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from p2pdns.errors import KEY_FILE_MARK, FormatError, UsageError, abridged

FOLDER_ENTRIES_MAX = 1_000  # Key files that are looked at; people keep their keys in smaller folders.
HEAD_BYTES_MAX = 4_096  # The comment of a key file is its first line.


def is_key_file(path: str) -> bool:
    """Return whether a word names a file with a secret key."""
    from p2pdns.items.keys import KEY_FILE_BYTES_MAX

    try:
        if not os.path.isfile(path) or os.path.getsize(path) > KEY_FILE_BYTES_MAX:
            return False
        content = Path(path).read_bytes()
    except (OSError, ValueError):
        return False
    return KEY_FILE_MARK.encode() in content and b"PRIVATE KEY-----" in content


def refuse_swapped(key_file: str, zone_file: str, form: str = "p2pdns publish -k {} {}") -> None:
    """Raise a UsageError where the two files of `publish` are swapped, or both are of one kind.

    `form` is the command with the two files, for another verb that takes them.
    """
    quoted = f'"{zone_file}"'
    if is_key_file(zone_file):
        if is_key_file(key_file):
            hint = form.format(key_file, "ZONEFILE")
            raise UsageError("a second key file where the zone file belongs", place=quoted, hint=hint)
        hint = f"did you mean: {form.format(zone_file, key_file)}"
        raise UsageError("a key file where the zone file belongs", place=quoted, hint=hint)
    if key_file.endswith(".zone") and not is_key_file(key_file) and os.path.exists(key_file):
        hint = form.format("KEYFILE", key_file if not os.path.exists(zone_file) else zone_file)
        raise UsageError("a zone file where the key file belongs", place=f'"{key_file}"', hint=hint)


def refuse_key_for_file(path: str) -> None:
    """Raise a UsageError if the word for a key file is a zone key."""
    if os.path.exists(path):
        return
    from p2pdns.items.keys import ZoneKey

    try:
        key = str(ZoneKey.read(path.strip().removeprefix("pk:").rstrip(".")))
    except FormatError:
        return
    hint = "name the file that p2pdns keygen -o FILE has written"
    if found := keys_in_folder().get(key):
        hint = f'did you mean "{found}"? it is the file of this key'
    raise UsageError("a zone key, and the file of its secret key is needed", place=f'"{abridged(key)}"', hint=hint)


def without_flag(words: Sequence[str]) -> str | None:
    """Return the command for `publish` with two files and no -k; None unless exactly one of them is a key file."""
    files = [word for word in words if not word.startswith("-")]
    kinds = [is_key_file(word) for word in files]
    if len(files) != 2 or sum(kinds) != 1:
        return None
    key_file, zone_file = files if kinds[0] else reversed(files)
    return f"p2pdns publish -k {key_file} {zone_file}"


def keys_in_folder() -> dict[str, str]:
    """Return the zone keys in the comments of the key files of this folder, each with its file."""
    from p2pdns.items.keys import PUBLIC_KEY_COMMENT

    keys: dict[str, str] = {}
    try:
        names = sorted(entry.name for entry in os.scandir(".") if entry.name.endswith(".key"))[:FOLDER_ENTRIES_MAX]
    except OSError:
        return keys
    for name in names:
        try:
            with open(name, "rb") as file:
                head = file.read(HEAD_BYTES_MAX)
        except OSError:
            continue
        line = head.partition(b"\n")[0].decode("ascii", "replace")
        if line.startswith(PUBLIC_KEY_COMMENT):
            keys.setdefault(line.removeprefix(PUBLIC_KEY_COMMENT), name)
    return keys
