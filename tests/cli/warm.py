"""A process that has loaded every verb, and runs each `p2pdns` of a session in a fork of itself.

To start Python and to load a verb is most of what a short command costs, and a session has up to a hundred. A command
is a process of its own all the same, with the words, streams, folder, environment and umask that the shell gave
`tests.cli.ask`, and its exit status is what the shell sees.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import io
import os
import signal
import socket
import subprocess
import sys
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.cli.ask import LENGTH_BYTES, STREAMS

LOADED_LATE = ("p2pdns.cli.main", "p2pdns.cli.node", "p2pdns.cli.completion", "p2pdns.supervisor", "p2pdns.engine.main")
COMMANDS_WAITING_MAX = 16  # A pipe starts two or three at a time.


class Warm:
    """The process, as a session has it; `words` is what stands for `p2pdns` there."""

    def __init__(self, folder: Path, environ: Mapping[str, str]) -> None:
        path = folder / "warm.sock"
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(str(path))
        # The kernel holds the first command until everything is loaded.
        listener.listen(COMMANDS_WAITING_MAX)
        root = Path(__file__).parents[2]
        paths = os.pathsep.join(filter(None, (str(root), environ.get("PYTHONPATH", ""))))
        # A session of its own, so that a command that hangs can be ended with all that it has started.
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "tests.cli.warm", str(listener.fileno())],
            cwd=folder,
            env={**environ, "PYTHONPATH": paths},
            stdin=subprocess.DEVNULL,
            pass_fds=[listener.fileno()],
            start_new_session=True,
        )
        listener.close()
        self.words = [sys.executable, "-I", "-S", str(Path(__file__).with_name("ask.py")), str(path)]

    def end(self) -> None:
        """End the process, and any command that has not ended."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


def serve(listener: socket.socket) -> None:
    """Load the verbs, then run what is asked for, several commands at a time, until the session ends."""
    from p2pdns.cli import verbs

    for name in [*set(verbs.VERBS.values()), *LOADED_LATE]:
        importlib.import_module(name)
    gc.freeze()  # A fork copies each page that it writes to, and a collection writes to all of them.
    while True:
        asked, _ = listener.accept()
        with asked, contextlib.suppress(ChildProcessError):
            if not os.fork():
                listener.close()
                _be_command(asked)
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass


def _be_command(asked: socket.socket) -> None:
    code = 70
    try:
        head, streams, _, _ = socket.recv_fds(asked, LENGTH_BYTES, len(STREAMS))
        size = int.from_bytes(head, "big")
        with asked.makefile("rb") as file:
            parts = [os.fsdecode(part) for part in file.read(size).split(b"\0")]
        _take_over(parts, streams)
        from p2pdns.cli.main import main

        code = main()
    except BaseException:
        # What would be a traceback and the status 1 in a process that Python itself has started.
        traceback.print_exc()
        code = 1
    finally:
        try:
            sys.stdout.flush()
            asked.sendall(bytes([code]))
        finally:
            # Whatever else goes wrong, this fork must not go on as the process that it is one of.
            os._exit(code)


def _take_over(parts: Sequence[str], streams: Sequence[int]) -> None:
    folder, umask, count = parts[0], int(parts[1]), int(parts[2])
    words, environ = parts[3 : 3 + count], parts[3 + count :]
    os.chdir(folder)
    os.umask(umask)
    os.environ.clear()
    os.environ.update(zip(environ[::2], environ[1::2], strict=True))
    for number, stream in zip(STREAMS, streams, strict=True):
        os.dup2(stream, number)
        os.close(stream)
    encoding = sys.stdout.encoding
    sys.stdin = io.TextIOWrapper(io.BufferedReader(io.FileIO(0, closefd=False)), encoding)
    sys.stdout = io.TextIOWrapper(io.BufferedWriter(io.FileIO(1, "w", closefd=False)), encoding)
    errors = io.BufferedWriter(io.FileIO(2, "w", closefd=False))
    sys.stderr = io.TextIOWrapper(errors, encoding, line_buffering=True)
    sys.argv = ["p2pdns", *words]


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))
