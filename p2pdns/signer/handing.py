"""The key files of the `[[publish]]` tables as descriptors, which one process hands to another and does not read.

Guarantees: a file that root has opened, or that systemd has handed over (OpenFile=), can be read by the process that
gets its descriptor, even where its path can be opened by root alone. Does not know what is in a key file
(`signer.keyfiles` does), nor which process gets a descriptor.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence

from p2pdns.config.published import PublishTable

# Without O_NONBLOCK a pipe in the place of the file would be waited for until somebody writes into it.
OPEN_FLAGS = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


def is_file(descriptor: int) -> bool:
    """Return whether a descriptor is an ordinary file: systemd hands over sockets as well."""
    try:
        return stat.S_ISREG(os.fstat(descriptor).st_mode)
    except OSError:
        return False


def opened(tables: Sequence[PublishTable], handed: Sequence[int]) -> dict[int, int]:
    """Return the descriptors of the key files by the index of their table, as far as they must be opened here.

    These are the files among those `handed` over, and all others where this process is root and may lose that right
    later. A file that cannot be opened is left out: the process that reads the keys says why.
    """
    found: dict[int, int] = {}
    known = {_identity(os.fstat(descriptor)): descriptor for descriptor in handed}
    for index, table in enumerate(tables):
        try:
            descriptor = known.pop(_identity(os.stat(table.key)), None)
            if descriptor is not None:
                os.set_inheritable(descriptor, False)
            elif os.geteuid() == 0:
                descriptor = os.open(table.key, OPEN_FLAGS)
        except OSError:
            continue
        if descriptor is not None:
            found[index] = descriptor
    return found


def _identity(about: os.stat_result) -> tuple[int, int]:
    return about.st_dev, about.st_ino
