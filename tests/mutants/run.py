"""`make mutants`: apply one-line sabotages to a copy of the project, and see that a test goes red for each.

The table is `table.toml` beside this file: for each sabotage a name, the file, the old text (which must occur
exactly once), the new text, and the tests that must notice. A sabotage is killed only when a test *fails*; an
error at import or collection is no kill, and the same tests must be green in the unchanged copy.
"""

from __future__ import annotations

import argparse
import compileall
import json
import os
import py_compile
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
import xml.etree.ElementTree as ET
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import Queue

ROOT = Path(__file__).resolve().parents[2]
TABLE = Path(__file__).with_name("table.toml")

# A sabotage may turn a look-up into a loop without end; no honest test file here needs this long.
RUN_SECONDS_MAX = 120
GREEN_SECONDS_MAX = 900  # All of them, one after the other.
WORKERS = 2  # the machines this runs on have two cores


@dataclass(frozen=True)
class Mutant:
    """One sabotage: `old` becomes `new` in `file`, and `tests` must go red."""

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


@dataclass(frozen=True)
class Run:
    """What a test run said: how many failed, how many broke outside a test, how many passed."""

    failures: int
    errors: int
    passed: int
    output: str


def read_table(path: Path = TABLE) -> list[Mutant]:
    """Return the sabotages in the order of the table."""
    rows = tomllib.loads(path.read_text())["mutant"]
    return [Mutant(row["name"], row["file"], row["old"], row["new"], tuple(row["tests"])) for row in rows]


def table_findings(mutants: Iterable[Mutant], root: Path = ROOT) -> list[str]:
    """Return what is wrong with the table itself: names used twice, texts that no longer occur exactly once.

    A sabotage after which a module no longer compiles would be found only at its turn, minutes later.
    """
    findings = []
    seen: list[str] = []
    for mutant in mutants:
        if mutant.name in seen:
            findings.append(f"{mutant.name}: named twice")
        seen.append(mutant.name)
        path = root / mutant.file
        text = path.read_text() if path.is_file() else ""
        if text.count(mutant.old) != 1:
            findings.append(f"{mutant.name}: the old text occurs {text.count(mutant.old)} times in {mutant.file}")
        elif path.suffix == ".py":
            findings += _compile_findings(mutant, text.replace(mutant.old, mutant.new))
        if mutant.old == mutant.new:
            findings.append(f"{mutant.name}: changes nothing")
    return findings


def _compile_findings(mutant: Mutant, text: str) -> list[str]:
    try:
        compile(text, mutant.file, "exec", dont_inherit=True)
    except SyntaxError as error:
        return [f"{mutant.name}: {mutant.file} no longer compiles: {error}"]
    return []


def make_copy(folder: Path) -> Path:
    """Copy what a test run needs into `folder` and return it."""
    ignore = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for name in ("p2pdns", "tests", "zones", "deploy", "docs", "bench"):
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


def run_tests(copy: Copy, tests: Iterable[str], seconds: float = RUN_SECONDS_MAX) -> Run:
    """Run `tests` in the copy and return what happened; the package must come from the copy."""
    report = copy.folder / "report.xml"
    report.unlink(missing_ok=True)
    # One seed for what hypothesis draws: a sabotage that was killed is killed again.
    arguments = ["-x", "-q", "-p", "no:cacheprovider", "-p", "no:randomly", "-p", "no:xdist", "--hypothesis-seed=1"]
    output = copy.run(seconds, [*arguments, f"--junitxml={report}", *tests])
    if output is None:
        # A hang is noticed by whoever runs the tests: it counts as a failure, and is named.
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


def verdict_of(mutant: Mutant, copy: Copy) -> str | None:
    """Apply one sabotage, run its tests, undo it; return None when it was killed, else what happened."""
    path = copy.folder / mutant.file
    original = path.read_text()
    path.write_text(original.replace(mutant.old, mutant.new))
    try:
        run = run_tests(copy, mutant.tests)
    finally:
        path.write_text(original)
    if run.errors:
        return f"broke the run instead of failing a test\n{run.output}"
    return None if run.failures else f"survived {run.passed} tests"


def main() -> int:
    """Check the table, see the unchanged copy green, then try every sabotage; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="run only the sabotages whose name contains this")
    only = parser.parse_args().only
    mutants = [mutant for mutant in read_table() if only in mutant.name]
    say = sys.stdout.write
    findings = table_findings(mutants)
    if findings:
        say("\n".join(findings) + "\n")
        return 1
    with tempfile.TemporaryDirectory(prefix="p2pdns-mutants-") as folder:
        copies: Queue[Copy] = Queue()
        for index in range(WORKERS):
            copies.put(Copy(Path(folder) / str(index)))
        every = list(dict.fromkeys(test for mutant in mutants for test in mutant.tests))

        def green(share: list[str]) -> Run:
            copy = copies.get()
            try:
                return run_tests(copy, share, GREEN_SECONDS_MAX)
            finally:
                copies.put(copy)

        with ThreadPoolExecutor(WORKERS) as pool:
            for run in pool.map(green, filter(None, (every[index::WORKERS] for index in range(WORKERS)))):
                if run.failures or run.errors or not run.passed:
                    say(f"the unchanged copy is not green:\n{run.output}\n")
                    return 1

        def one(mutant: Mutant) -> tuple[str | None, float]:
            copy = copies.get()
            began = time.monotonic()
            try:
                return verdict_of(mutant, copy), time.monotonic() - began
            finally:
                copies.put(copy)

        killed = 0
        with ThreadPoolExecutor(WORKERS) as pool:
            for mutant, (verdict, seconds) in zip(mutants, pool.map(one, mutants), strict=True):
                killed += verdict is None
                say(f"{'killed' if verdict is None else 'ALIVE '} {seconds:6.1f} s  {mutant.name}\n")
                if verdict is not None:
                    say(f"        {mutant.file}: {verdict}\n")
        while not copies.empty():
            copies.get().close()
    say(f"{killed}/{len(mutants)} killed\n")
    return 0 if killed == len(mutants) else 1


if __name__ == "__main__":
    sys.exit(main())
