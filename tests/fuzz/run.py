"""`make fuzz`: run each target under atheris, guided by coverage, and keep what breaks it.

Each target has a process of its own, for so many seconds. What reached new code stays in the corpus folder, from which
the next run goes on; what broke a target lies in `tests/fuzz/found/`, and belongs into the repository together with
its mending: a test replays that folder. The figures are libFuzzer's: executions, and edges covered at first and at
last. atheris is imported by name here and nowhere else, so that everything else does without it.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
NAMES = ("gate", "compose", "link", "message", "item", "shards")
INPUT_BYTES_MAX = 4096  # A datagram is never longer, and short inputs are tried more often.
INPUT_S_MAX = 20  # A hang is a find as well.
MEMORY_MB_MAX = 1024
GRACE_S = 60  # For a process to start, to read its corpus, and to end.

_PULSE = re.compile(r"cov: (\d+) ft: \d+ corp: (\d+)")
_EXECUTED = re.compile(r"stat::number_of_executed_units:\s*(\d+)")


def fuzz(name: str, seconds: int, corpus: Path) -> None:
    """Run one target in this process, which ends with it."""
    atheris = importlib.import_module("atheris")
    # Only what is imported in here counts as code to be covered.
    with atheris.instrument_imports(include=["p2pdns"]):
        targets = importlib.import_module("tests.fuzz.targets")
    target = targets.TARGETS[name]
    corpus.mkdir(parents=True, exist_ok=True)
    for seed in target.seeds():
        (corpus / hashlib.sha1(seed, usedforsecurity=False).hexdigest()).write_bytes(seed)
    options = [
        f"-max_total_time={seconds}",
        f"-max_len={INPUT_BYTES_MAX}",
        f"-timeout={INPUT_S_MAX}",
        f"-rss_limit_mb={MEMORY_MB_MAX}",
        f"-artifact_prefix={targets.FOUND}/{name}-",
        "-print_final_stats=1",
    ]
    atheris.Setup([sys.argv[0], *options, str(corpus)], target.run)
    atheris.Fuzz()


def run(name: str, seconds: int, corpus: Path) -> bool:
    """Run one target in a process of its own, and tell what came of it; False when something was found."""
    command = [sys.executable, "-m", "tests.fuzz.run", "--inside", name]
    command += ["--seconds", str(seconds), "--corpus", str(corpus)]
    try:
        done = subprocess.run(
            command, cwd=ROOT, stderr=subprocess.PIPE, text=True, check=False, timeout=seconds + GRACE_S
        )
    except subprocess.TimeoutExpired:
        sys.stderr.write(f"p2pdns: error: {name}: no end {GRACE_S} seconds after its time\n")
        return False
    pulses = _PULSE.findall(done.stderr)
    executed = _EXECUTED.search(done.stderr)
    if done.returncode or not pulses or executed is None:
        sys.stderr.write(f"{done.stderr[-4000:]}\np2pdns: error: {name}: exit code {done.returncode}\n")
        sys.stderr.write("p2pdns: hint: the input, if any, is in tests/fuzz/found; `make test` replays it\n")
        return False
    (first, _), (last, size) = pulses[0], pulses[-1]
    told = f"{name:8} {int(executed[1]):>9,} executions, edges covered {first} -> {last}, {size} inputs kept\n"
    sys.stdout.write(told)
    sys.stdout.flush()
    return True


def main() -> int:
    """Run the targets that were named, or all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"one of {', '.join(NAMES)}; all without any")
    parser.add_argument("--seconds", type=int, default=60, help="for each target")
    parser.add_argument("--corpus", type=Path, default=ROOT / ".venv" / "fuzz", help="where inputs are kept")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    unknown = [name for name in given.targets if name not in NAMES]
    if unknown:
        parser.error(f"no such target: {', '.join(unknown)}")
    if given.inside:
        fuzz(given.targets[0], given.seconds, given.corpus)
        return 0
    broken = [name for name in given.targets or NAMES if not run(name, given.seconds, given.corpus / name)]
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
