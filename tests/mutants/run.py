"""`make mutants`: apply one-line sabotages to a copy of the project, and see that a test goes red for each.

The table is `table.toml` beside this file: for each sabotage a name, the file, the old text (which must occur
exactly once), the new text, and the tests that must notice. A sabotage is killed only when a test *fails*; an
error at import or collection is no kill, and the same tests must be green in the unchanged copy.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
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
    """Return what is wrong with the table itself: names used twice, texts that no longer occur exactly once."""
    findings = []
    seen: list[str] = []
    for mutant in mutants:
        if mutant.name in seen:
            findings.append(f"{mutant.name}: named twice")
        seen.append(mutant.name)
        path = root / mutant.file
        count = path.read_text().count(mutant.old) if path.is_file() else 0
        if count != 1:
            findings.append(f"{mutant.name}: the old text occurs {count} times in {mutant.file}")
        if mutant.old == mutant.new:
            findings.append(f"{mutant.name}: changes nothing")
    return findings


def make_copy(folder: Path) -> Path:
    """Copy what a test run needs into `folder` and return it."""
    ignore = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for name in ("p2pdns", "tests", "zones", "deploy", "docs", "bench"):
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=ignore)
    for path in ROOT.iterdir():
        if path.is_file() and path.name != ".git":
            shutil.copy2(path, folder / path.name)
    return folder


def run_tests(copy: Path, tests: Iterable[str]) -> Run:
    """Run `tests` in the copy and return what happened; the package must come from the copy."""
    report = copy / "report.xml"
    report.unlink(missing_ok=True)
    # No bytecode: a sabotage of the same length within the same second would be shadowed by the old one.
    env = {**os.environ, "PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"}
    where = [sys.executable, "-c", "import p2pdns; print(p2pdns.__file__)"]
    location = subprocess.run(where, cwd=copy, env=env, capture_output=True, text=True, check=True).stdout.strip()
    if not Path(location).is_relative_to(copy):
        raise SystemExit(f"p2pdns: error: the tests would import {location}, not the copy")
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "-p", "no:randomly"]
    try:
        done = subprocess.run(
            [*command, f"--junitxml={report}", *tests],
            cwd=copy,
            env=env,
            capture_output=True,
            text=True,
            check=False,
            timeout=RUN_SECONDS_MAX,
        )
    except subprocess.TimeoutExpired:
        # A hang is noticed by whoever runs the tests: it counts as a failure, and is named.
        return Run(failures=1, errors=0, passed=0, output="no end within the time limit")
    if not report.is_file():
        return Run(0, 1, 0, done.stdout + done.stderr)
    suite = ET.parse(report).getroot().find("testsuite")
    assert suite is not None
    count = {name: int(suite.get(name, "0")) for name in ("tests", "failures", "errors", "skipped")}
    import_errors = sum("ImportError" in (case.get("message") or "") for case in suite.iter("failure"))
    failures = count["failures"] - import_errors
    passed = count["tests"] - count["failures"] - count["errors"] - count["skipped"]
    return Run(failures, count["errors"] + import_errors, passed, done.stdout[-3000:])


def verdict_of(mutant: Mutant, copy: Path) -> str | None:
    """Apply one sabotage, run its tests, undo it; return None when it was killed, else what happened."""
    path = copy / mutant.file
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
        copies: Queue[Path] = Queue()
        for index in range(WORKERS):
            copies.put(make_copy(Path(folder) / str(index)))
        first = copies.get()
        green = run_tests(first, dict.fromkeys(test for mutant in mutants for test in mutant.tests))
        copies.put(first)
        if green.failures or green.errors or not green.passed:
            say(f"the unchanged copy is not green:\n{green.output}\n")
            return 1

        def one(mutant: Mutant) -> str | None:
            copy = copies.get()
            try:
                return verdict_of(mutant, copy)
            finally:
                copies.put(copy)

        killed = 0
        with ThreadPoolExecutor(WORKERS) as pool:
            for mutant, verdict in zip(mutants, pool.map(one, mutants), strict=True):
                killed += verdict is None
                say(f"{'killed' if verdict is None else 'ALIVE '}  {mutant.name}\n")
                if verdict is not None:
                    say(f"        {mutant.file}: {verdict}\n")
    say(f"{killed}/{len(mutants)} killed\n")
    return 0 if killed == len(mutants) else 1


if __name__ == "__main__":
    sys.exit(main())
