"""Sessions: commands with what they print and how they end, kept as text that a person can read.

    # A comment.
    $ p2pdns pubkey alise.key
    p2pdns: error: "alise.key": no such file
    p2pdns: hint: did you mean "alice.key"?
    [1]

Lines that open with `p2pdns:` are standard error, all others standard output. `…` stands for any text inside a line,
and alone on its line for any lines. `[n]` is the exit status, 0 where it is left out. A command that ends in ` &`
runs until the session is over, and the next one begins when it is ready to answer.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.cli.warm import Warm

ANY = "…"
# What of our own environment a session sees: where the package and its compiled modules are, and the language.
KEPT = ("PYTHONPATH", "PYTHONPYCACHEPREFIX", "PYTHONDONTWRITEBYTECODE", "LANG", "LC_ALL")
PROGRAM = (sys.executable, "-m", "p2pdns")
COMMAND_S_MAX = 60
READY_S_MAX = 30
LOOK_AGAIN_S = 0.1
SIGNER_READY = "signer: the signer answers"


@dataclass
class Step:
    """One command and what is expected of it."""

    line: int
    command: str
    expected: list[str] = field(default_factory=list)
    status: int = 0

    def lines(self, *, is_error: bool) -> list[str]:
        """Return what is expected on standard error, or on standard output."""
        return [text for text in self.expected if text == ANY or text.startswith("p2pdns:") == is_error]


def read_session(text: str) -> list[Step]:
    """Return the steps of a session."""
    steps: list[Step] = []
    for number, line in enumerate(text.splitlines(), 1):
        if line.startswith("#") or (not line.strip() and not steps):
            continue
        if line.startswith("$ "):
            steps.append(Step(number, line[2:]))
            continue
        assert steps, f"line {number}: what is expected of which command?"
        if match := re.fullmatch(r"\[(\d+)\]", line):
            steps[-1].status = int(match[1])
        else:
            steps[-1].expected.append(line)
    for step in steps:
        while step.expected and not step.expected[-1].strip():
            step.expected.pop()
    return steps


def matches(expected: list[str], printed: list[str]) -> bool:
    """Return whether the lines printed are the lines expected."""
    pattern = ""
    for line in expected:
        if line == ANY:
            pattern += "(?:.*\n)*"
        else:
            pattern += ".*".join(re.escape(part) for part in line.split(ANY)) + "\n"
    return re.fullmatch(pattern, "".join(line.rstrip() + "\n" for line in printed)) is not None


@dataclass
class Place:
    """Where a session runs: a folder, an environment, and the programs it left running.

    With `warm` a command is a fork of a process that has loaded it; else it is started as a user starts it.
    """

    folder: Path
    environ: dict[str, str]
    running: list[subprocess.Popen[bytes]] = field(default_factory=list)
    warm: Warm | None = None

    @classmethod
    def of(cls, folder: Path, environ: Mapping[str, str] | None = None, *, is_warm: bool = False) -> Place:
        """Return a place whose `p2pdns` is the package under test, with a home of its own."""
        programs = folder / ".programs"
        programs.mkdir(parents=True)
        home = folder / ".home"
        home.mkdir()
        kept = {name: value for name, value in os.environ.items() if name in KEPT}
        kept.update(PATH=f"{programs}:{os.environ['PATH']}", HOME=str(home), NO_COLOR="1", **(environ or {}))
        warm = Warm(programs, kept) if is_warm else None
        shim = programs / "p2pdns"
        shim.write_text(f'#!/bin/sh\nexec {shlex.join(PROGRAM if warm is None else warm.words)} "$@"\n')
        shim.chmod(0o755)
        return cls(folder, kept, warm=warm)

    def run(self, command: str) -> subprocess.CompletedProcess[str]:
        """Run one command to its end."""
        return subprocess.run(
            ["bash", "-c", command],
            cwd=self.folder,
            env=self.environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=COMMAND_S_MAX,
            check=False,
        )

    def start(self, command: str) -> None:
        """Start a daemon, or a signer, and wait until it answers."""
        log = (self.folder / ".daemon.log").open("ab")
        program = shlex.split(command)
        if program[0] == "p2pdns":
            program[:1] = PROGRAM
        process = subprocess.Popen(
            program, cwd=self.folder, env=self.environ, stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
        log.close()
        self.running.append(process)
        deadline = time.monotonic() + READY_S_MAX
        while not self._is_ready(program):
            words = (self.folder / ".daemon.log").read_text()
            assert process.poll() is None, f"{command} ended with {process.returncode}:\n{words}"
            assert time.monotonic() < deadline, f"{command} was not ready in {READY_S_MAX} s:\n{words}"
            # Each question costs a process, and the daemon needs the machine to become ready; its end is told at once.
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(LOOK_AGAIN_S)

    def _is_ready(self, program: list[str]) -> bool:
        if "signer" in program:
            return SIGNER_READY in (self.folder / ".daemon.log").read_text()
        return self.run("p2pdns status").returncode == 0

    def end(self) -> None:
        """End what still runs, and see that it ends well."""
        for process in self.running:
            process.send_signal(signal.SIGTERM)
        for process in self.running:
            assert process.wait(COMMAND_S_MAX) == 0
        if self.warm is not None:
            self.warm.end()


def findings(step: Step, done: subprocess.CompletedProcess[str]) -> Iterator[str]:
    """Yield what is not as the session says."""
    if done.returncode != step.status:
        yield f"exit status {done.returncode}, expected {step.status}"
    for name, is_error, printed in (("output", False, done.stdout), ("error", True, done.stderr)):
        expected = step.lines(is_error=is_error)
        if not matches(expected, printed.splitlines()):
            yield f"standard {name} expected:\n" + "\n".join(expected) + f"\nstandard {name} printed:\n{printed}"


def run_session(steps: list[Step], place: Place) -> None:
    """Run the steps in order; the first that is not as it should be is an AssertionError with its line."""
    try:
        for step in steps:
            if step.command.endswith(" &"):
                place.start(step.command.removesuffix(" &"))
                continue
            done = place.run(step.command)
            wrong = "\n".join(findings(step, done))
            assert not wrong, f"line {step.line}: $ {step.command}\n{wrong}\nstandard error:\n{done.stderr}"
    finally:
        place.end()
