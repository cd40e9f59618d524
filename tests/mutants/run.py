"""`make mutants`: apply one-line sabotages to a copy of the project, and see that a test goes red for each.

The tables are beside this file, one a room; `table` says what a row is. A sabotage is killed only when a test *fails*;
an error at import or collection is no kill, and the same tests must be green in the unchanged copy.
"""

from __future__ import annotations

import argparse
import compileall
import hashlib
import itertools
import json
import os
import py_compile
import shutil
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from queue import Queue

from tests.mutants.table import ROOT, Sabotage, read_tables, sabotages

# A sabotage may turn a look-up into a loop without end; no honest test file here needs this long.
RUN_S_MAX = 120
GREEN_S_MAX = 900  # All of them, one after the other.
TIMES = itertools.count(1)  # Seconds of 1970, when no file of ours was written.
WORKERS = 3  # Two cores are what CI has, and some rows wait for processes and sockets rather than compute.


@dataclass(frozen=True)
class Run:
    """What a test run said: how many failed, how many broke outside a test, how many passed."""

    failures: int
    errors: int
    passed: int
    output: str


def make_copy(folder: Path) -> Path:
    """Copy what a test run needs into `folder` and return it."""
    ignore = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for name in ("p2pdns", "tests", "zones", "deploy", "docs", "bench", ".ci"):
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=ignore)
    for path in ROOT.iterdir():
        if path.is_file() and path.name != ".git":
            shutil.copy2(path, folder / path.name)
    # Compiling all modules anew would be half of a run. Each is checked by a hash of its source: by time and length,
    # a sabotage as long as the original and of the same second would be shadowed by it.
    checked = py_compile.PycInvalidationMode.CHECKED_HASH
    compileall.compile_dir(folder / "p2pdns", quiet=2, invalidation_mode=checked)
    where = [sys.executable, "-c", "import p2pdns; print(p2pdns.__file__)"]
    location = subprocess.run(
        where, cwd=folder, env=environment(folder), capture_output=True, text=True, check=True
    ).stdout.strip()
    if not Path(location).is_relative_to(folder):
        raise SystemExit(f"p2pdns: error: the tests would import {location}, not the copy")
    return folder


def environment(copy: Path) -> dict[str, str]:
    """Return the environment in which the package comes from the copy, and nothing compiled is written."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPYCACHEPREFIX"}
    return {**kept, "PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"}


class Copy:
    """A copy of the project, and a process in it that runs tests; see `warm`."""

    def __init__(self, folder: Path) -> None:
        self.folder = make_copy(folder)
        # Without -P the folder of the script would come first in the path.
        self._warm = subprocess.Popen(
            [sys.executable, "-P", str(folder / "tests/mutants/warm.py")],
            cwd=folder,
            env=environment(folder),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, seconds: float, arguments: list[str]) -> str | None:
        """Return what pytest said; None when it had to be stopped."""
        assert self._warm.stdin is not None
        assert self._warm.stdout is not None
        self._warm.stdin.write(json.dumps([seconds, arguments]) + "\n")
        self._warm.stdin.flush()
        word = self._warm.stdout.readline().strip()
        if word not in ("ended", "hang"):
            raise SystemExit("p2pdns: error: the process that runs the tests is gone")
        return (self.folder / "output.txt").read_text("utf-8", "replace") if word == "ended" else None

    def close(self) -> None:
        """End the process."""
        assert self._warm.stdin is not None
        self._warm.stdin.close()
        self._warm.wait()


@contextmanager
def some_copies() -> Iterator[Queue[Copy]]:
    """Make a copy for each worker; they are gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="p2pdns-mutants-") as folder:
        copies: Queue[Copy] = Queue()
        for index in range(WORKERS):
            copies.put(Copy(Path(folder) / str(index)))
        try:
            yield copies
        finally:
            while not copies.empty():
                copies.get().close()


@contextmanager
def borrowed(copies: Queue[Copy]) -> Iterator[Copy]:
    """Take a copy that nobody else uses, and give it back."""
    copy = copies.get()
    try:
        yield copy
    finally:
        copies.put(copy)


def run_tests(copy: Copy, tests: Iterable[str], seconds: float = RUN_S_MAX) -> Run:
    """Run `tests` in the copy and return what happened; the package must come from the copy."""
    report = copy.folder / "report.xml"
    report.unlink(missing_ok=True)
    # One seed for what hypothesis draws: a sabotage that was killed is killed again.
    arguments = ["-x", "-q", "-p", "no:cacheprovider", "-p", "no:randomly", "-p", "no:xdist", "--hypothesis-seed=1"]
    # A row may name a world, which a run has to ask for.
    arguments += ["-m", "sim or not sim"]
    output = copy.run(seconds, [*arguments, f"--junitxml={report}", *tests])
    if output is None:
        # A hang is noticed by the one who runs the tests: it counts as a failure, and is named.
        return Run(failures=1, errors=0, passed=0, output="no end within the time limit")
    if not report.is_file():
        return Run(0, 1, 0, output)
    suite = ET.parse(report).getroot().find("testsuite")
    assert suite is not None
    count = {name: int(suite.get(name, "0")) for name in ("tests", "failures", "errors", "skipped")}
    import_errors = sum("ImportError" in (case.get("message") or "") for case in suite.iter("failure"))
    failures = count["failures"] - import_errors
    passed = count["tests"] - count["failures"] - count["errors"] - count["skipped"]
    return Run(failures, count["errors"] + import_errors, passed, output[-3000:])


def verdict_of(sabotage: Sabotage, copy: Copy) -> str | None:
    """Apply one sabotage, run its tests, undo it; return None when it was killed, else what happened."""
    path = copy.folder / sabotage.path
    original, about = path.read_bytes(), path.stat()
    path.write_text(sabotage.text, "utf-8")
    # A compiled test or tool is taken for that of its source by time and length, so each text has a time of its own.
    os.utime(path, (next(TIMES),) * 2)
    try:
        run = run_tests(copy, sabotage.mutant.tests)
    finally:
        path.write_bytes(original)
        os.utime(path, ns=(about.st_atime_ns, about.st_mtime_ns))
    if run.errors:
        return f"broke the run instead of failing a test\n{run.output}"
    return None if run.failures else f"survived {run.passed} tests"


def changed_since(revision: str, root: Path = ROOT) -> set[Path]:
    """Return what differs from a revision in the working tree, files that are new included; relative to the root."""
    differing = ["git", "diff", "--name-only", "-z", "--relative", revision, "--"]
    untracked = ["git", "ls-files", "--others", "--exclude-standard", "-z"]
    found: set[Path] = set()
    for command in (differing, untracked):
        done = subprocess.run(command, cwd=root, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"p2pdns: error: {done.stderr.strip()}")
        found.update(Path(name) for name in done.stdout.split("\0") if name)
    return found


def share_of(wanted: Sequence[Sabotage], share: int, revision: str) -> list[Sabotage]:
    """Return about one of so many sabotages; each revision draws others, so that all have their turn."""

    def lot(one: Sabotage) -> int:
        return int.from_bytes(hashlib.sha256(f"{revision} {one.mutant.name}".encode()).digest()[:4])

    return [one for one in wanted if lot(one) % share == 0]


def revision_here(root: Path = ROOT) -> str:
    """Return the commit that is checked out."""
    done = subprocess.run(["git", "rev-parse", "HEAD"], cwd=root, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"p2pdns: error: {done.stderr.strip()}")
    return done.stdout.strip()


def chosen(words: argparse.Namespace) -> tuple[list[Sabotage], list[str]]:
    """Return the sabotages that were asked for, and what is wrong with the rows that were."""
    rows = [row for row in read_tables() if words.only in row.name and words.room in ("", row.room)]
    fitting, findings = sabotages(rows)
    if words.changed:
        changed = changed_since(words.changed)
        fitting = [one for one in fitting if one.path in changed]
    if words.share > 1:
        fitting = share_of(fitting, words.share, revision_here())
    return fitting, findings


def main() -> int:
    """Check the tables, see the unchanged copy green, then try every sabotage; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", metavar="TEXT", help="run only the sabotages whose name contains this")
    parser.add_argument("--room", default="", help="run only those of one table, as `dht`")
    parser.add_argument("--changed", default="", metavar="REV", help="run only those of files that changed since then")
    parser.add_argument("--share", type=int, default=1, metavar="N", help="run one in N, drawn by the commit")
    words = parser.parse_args()
    wanted, findings = chosen(words)
    if findings or not wanted:
        sys.stdout.write("\n".join(findings or ["there is no such sabotage"]) + "\n")
        return 1 if findings or not words.changed else 0
    with some_copies() as copies:
        return _tried(wanted, copies)


def _tried(wanted: Sequence[Sabotage], copies: Queue[Copy]) -> int:
    say = sys.stdout.write
    every = list(dict.fromkeys(test for sabotage in wanted for test in sabotage.mutant.tests))

    def green(share: list[str]) -> Run:
        with borrowed(copies) as copy:
            return run_tests(copy, share, GREEN_S_MAX)

    def one(sabotage: Sabotage) -> tuple[str | None, float]:
        with borrowed(copies) as copy:
            began = time.monotonic()
            return verdict_of(sabotage, copy), time.monotonic() - began

    killed = 0
    with ThreadPoolExecutor(WORKERS) as pool:
        for run in pool.map(green, filter(None, (every[index::WORKERS] for index in range(WORKERS)))):
            if run.failures or run.errors or not run.passed:
                say(f"the unchanged copy is not green:\n{run.output}\n")
                return 1
        for sabotage, (verdict, seconds) in zip(wanted, pool.map(one, wanted), strict=True):
            killed += verdict is None
            say(f"{'killed' if verdict is None else 'ALIVE '} {seconds:6.1f} s  {sabotage.mutant.name}\n")
            if verdict is not None:
                say(f"        {sabotage.path}: {verdict}\n")
            sys.stdout.flush()
    say(f"{killed}/{len(wanted)} killed\n")
    return 0 if killed == len(wanted) else 1


if __name__ == "__main__":
    sys.exit(main())
