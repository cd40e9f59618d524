"""The command `p2pdns` of a session: hand words and streams to the process of `tests.cli.warm`, end as it says.

It is started with `-I -S` and uses nothing that is slow to load: it stands for a command that costs ten times as much.
"""

import _socket
import os
import sys
from array import array

STREAMS = (0, 1, 2)
LENGTH_BYTES = 8  # Of the words and all else, before them; the streams come with it.


def ask(path: str, words: list[str]) -> int:
    """Return the exit status of a command."""
    umask = os.umask(0)
    os.umask(umask)
    environ = [part for pair in os.environ.items() for part in pair]
    parts = [os.getcwd(), str(umask), str(len(words)), *words, *environ]
    data = b"\0".join(map(os.fsencode, parts))
    sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    sock.connect(path)
    streams = (_socket.SOL_SOCKET, _socket.SCM_RIGHTS, array("i", STREAMS))
    sock.sendmsg([len(data).to_bytes(LENGTH_BYTES, "big")], [streams])
    sock.sendall(data)
    status = sock.recv(1)
    return status[0] if status else 70


if __name__ == "__main__":
    sys.exit(ask(sys.argv[1], sys.argv[2:]))
