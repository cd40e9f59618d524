"""One process that has imported what all tests import, and runs each set of tests in a fork of itself.

To start Python and to import pytest, hypothesis and the libraries is most of what a sabotage costs. Nothing of the
project is imported here: each fork does that anew, from the copy it was started in.

A line of JSON on standard input, `[seconds, [argument of pytest, ...]]`, is answered by one word on standard output,
`ended` or `hang`; what pytest writes goes to `output.txt` in the working directory.
"""

from __future__ import annotations

import contextlib
import gc
import importlib.util
import json
import os
import select
import signal
import sys
from pathlib import Path

LIBRARIES = ["pytest", "hypothesis.strategies", "hypothesis.extra.pytestplugin", "dns.message", "dns.rdata", "dns.zone"]
LIBRARIES += ["dnslib", "cryptography.hazmat.primitives.asymmetric.ed25519", "asyncio", "sqlite3"]
LIBRARIES += ["structlog", "click", "kademlia.routing", "statistics", "rich.console", "tomllib"]
# They are imported before pytest could rewrite their asserts, and it says so; they are not what is tested.
QUIET = ["-W", "ignore:Module already imported:pytest.PytestAssertRewriteWarning"]


def run(seconds: float, arguments: list[str]) -> str:
    """Run pytest in a fork, with all that it starts in one group; return how that ended."""
    pid = os.fork()
    if not pid:
        _be_child(arguments)
    fd = os.pidfd_open(pid)
    try:
        is_over = bool(select.select([fd], [], [], seconds)[0])
    finally:
        os.close(fd)
    # What a sabotaged test has started and left behind, or the test itself where it does not end.
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return "ended" if is_over else "hang"


def _be_child(arguments: list[str]) -> None:
    os.setpgid(0, 0)
    output = os.open("output.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for fd, source in ((0, os.open(os.devnull, os.O_RDONLY)), (1, output), (2, output)):
        os.dup2(source, fd)
    code = 70
    # To rewrite the asserts of a test module is half of a short run, so pytest may keep what it has made of it; `run`
    # sees to it that nothing made of a sabotage passes for the original.
    sys.dont_write_bytecode = False
    try:
        code = int(sys.modules["pytest"].main([*arguments, *QUIET]))
    finally:
        sys.stdout.flush()
        os._exit(code)


def main() -> None:
    """Import, then run what is asked for until nobody asks any more."""
    from _pytest.config import default_plugins

    for name in [*LIBRARIES, *(f"_pytest.{plugin}" for plugin in default_plugins)]:
        importlib.import_module(name)
    gc.freeze()  # A fork copies each page that it writes to, and a collection writes to all of them.
    ours = [name for name in sys.modules if name.partition(".")[0] in ("p2pdns", "tests", "bench")]
    assert not ours, ours
    spec = importlib.util.find_spec("p2pdns")
    assert spec is not None
    assert spec.origin is not None
    assert Path(spec.origin).is_relative_to(Path.cwd()), spec.origin
    for line in sys.stdin:
        seconds, arguments = json.loads(line)
        sys.stdout.write(run(seconds, arguments) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
