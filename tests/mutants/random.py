"""`make mutants-random SEED=n COUNT=n`: mutations drawn at random, each of which a test should notice.

The tables beside this file prove the rules that somebody thought of; a draw shows which rules nobody did. The draw and
what happened are printed, the survivors last: each is equivalent, or lacks a test. Judges are tests/unit and
tests/conformance, as far as they are green in the unchanged copy. As with `make mutants`, an error at import or
collection is no kill, and a run that does not end is one.

Neither mutmut nor cosmic-ray is used. mutmut 3 mutates nothing outside of functions, where half of the limits stand;
cosmic-ray runs one command for every mutation, in a new process, and all the tests take minutes. Either would need the
draw by a seed added to it. Here the test files that reach a mutation run in a warm process, its module's own first.
"""

from __future__ import annotations

import argparse
import difflib
import random
import sys
import time
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from queue import Queue

from tests.mutants.draw import Mutation, drawn
from tests.mutants.reach import CONFORMANCE, STEADY, Places, Reach, measured
from tests.mutants.run import RUN_S_MAX, WORKERS, Copy, borrowed, run_tests, some_copies
from tests.mutants.table import ROOT

KILLED_SHARE_MIN = 0.97
SLOWER_MAX = 5  # A busy machine may take so many times what a test file took when it was green.
# Where a fixture breaks, some test that does without it may still fail.
ERRORS_MAX = 20


@dataclass(frozen=True)
class Outcome:
    """What became of a mutation: `killed`, `ALIVE` or `broken`, and which test or why."""

    word: str
    detail: str
    seconds: float


def stages(mutation: Mutation, reaches: dict[str, Reach], places: set[str]) -> list[list[str]]:
    """Return the test files that reach one of the places: the module's own, the rest of tests/unit, conformance."""
    reaching = [file for file, reach in reaches.items() if places.intersection(reach.functions)]
    reaching.sort(key=lambda file: (reaches[file].seconds, file))
    words = set(mutation.path.with_suffix("").parts[2:]) - {"__init__"}
    own = [file for file in reaching if _is_named_after(Path(file).stem, words)]
    rest = [file for file in reaching if file not in own and file != CONFORMANCE]
    last = [file for file in reaching if file == CONFORMANCE]
    return [stage for stage in (own, rest, last) if stage]


def _is_named_after(stem: str, words: set[str]) -> bool:
    return any(f"{stem}_".startswith(f"test_{word}_") for word in words)


def outcome_of(mutation: Mutation, copy: Copy, reaches: dict[str, Reach], places: set[str]) -> Outcome:
    """Apply one mutation, run the tests that reach it until one fails, undo it."""
    path = copy.folder / mutation.path
    original = path.read_bytes()
    began = time.monotonic()
    path.write_text(mutation.text, "utf-8")
    word, detail, passed = "ALIVE", "no test reaches it", 0
    try:
        for files in stages(mutation, reaches, places):
            limit = RUN_S_MAX + SLOWER_MAX * sum(reaches[file].seconds for file in files)
            run = run_tests(copy, [STEADY, *files], limit)
            if run.errors and not run.failures:
                word, detail = "broken", run.output
                run = run_tests(copy, [STEADY, f"--maxfail={ERRORS_MAX}", *files], limit)
            passed += run.passed
            if run.failures:
                word, detail = "killed", _failed(copy) or run.output
                break
            if word == "ALIVE":
                detail = f"{passed} tests passed"
    finally:
        path.write_bytes(original)
    return Outcome(word, detail, time.monotonic() - began)


def _failed(copy: Copy) -> str:
    report = copy.folder / "report.xml"
    cases = ET.parse(report).getroot().iter("testcase") if report.is_file() else ()
    failed = [f"{case.get('classname')}::{case.get('name')}" for case in cases if case.find("failure") is not None]
    return failed[0].removeprefix("tests.") if failed else ""


def _lines_of(mutation: Mutation) -> str:
    before = (ROOT / mutation.path).read_text("utf-8").splitlines()
    lines = difflib.unified_diff(before, mutation.text.splitlines(), n=0, lineterm="")
    return "".join(f"        {line}\n" for line in lines if not line.startswith(("---", "+++", "@@")))


def main() -> int:
    """Print the draw, try each mutation of it, print the survivors; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, help="draw this again; without it, a new one")
    parser.add_argument("--count", type=int, default=60, help="how many to draw (%(default)s)")
    parser.add_argument("--draw", action="store_true", help="print the draw only")
    words = parser.parse_args()
    seed = words.seed if words.seed is not None else random.SystemRandom().randrange(1_000_000)
    mutations = drawn(seed, words.count)
    sys.stdout.write(f"seed {seed}, {len(mutations)} drawn\n")
    for number, mutation in enumerate(mutations, 1):
        sys.stdout.write(f"{number:4} {mutation}\n")
    sys.stdout.flush()
    if words.draw:
        return 0
    with some_copies() as copies:
        reaches, red = measured(copies)
        for file, output in red.items():
            sys.stdout.write(f"{file} judges nothing, because it is not green in the unchanged copy:\n{output}\n")
        return _tried(mutations, copies, reaches)


def _tried(mutations: Sequence[Mutation], copies: Queue[Copy], reaches: dict[str, Reach]) -> int:
    say = sys.stdout.write
    places = Places()

    def one(mutation: Mutation) -> Outcome:
        with borrowed(copies) as copy:
            return outcome_of(mutation, copy, reaches, places.of(mutation))

    outcomes: dict[int, Outcome] = {}
    with ThreadPoolExecutor(WORKERS) as pool:
        doing = {pool.submit(one, mutation): number for number, mutation in enumerate(mutations)}
        # As each ends: behind one that no test notices, others would wait for minutes to be told.
        for done in as_completed(doing):
            outcome = outcomes[doing[done]] = done.result()
            last = outcome.detail.strip().splitlines()[-1:]
            say(f"{doing[done] + 1:4} {outcome.word} {outcome.seconds:6.1f} s  {''.join(last)}\n")
            sys.stdout.flush()
    by_word = {
        word: [number for number in range(len(mutations)) if outcomes[number].word == word]
        for word in ("killed", "ALIVE", "broken")
    }
    # An import that fails proves nothing about the tests, for or against them.
    judged = len(mutations) - len(by_word["broken"])
    for word in ("broken", "ALIVE"):
        for number in by_word[word]:
            say(f"{word} {number + 1:4} {mutations[number]}\n{_lines_of(mutations[number])}")
            say(f"          {outcomes[number].detail[-1000:]}\n")
    killed = len(by_word["killed"])
    say(f"{killed}/{judged} killed, {len(by_word['broken'])} broke the run\n")
    return 0 if killed >= KILLED_SHARE_MIN * judged else 1


if __name__ == "__main__":
    sys.exit(main())
