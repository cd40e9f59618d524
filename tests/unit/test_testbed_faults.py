"""Every fault ends with its block: in reverse order, after an exception, after a signal, and whatever else fails."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from typing import Any, cast

import pytest

from deploy.testbed.faults import Faults
from deploy.testbed.impair import Impairment
from deploy.testbed.places import Container, Network, added, removed
from deploy.testbed.testbed import Impaired, Testbed
from tests.house.rules import ROOT

SECONDS_MAX = 30


class Told:
    """A testbed that notes what it is told; what a real one does with it, tests/testbed shows."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.cut: list[Network] = []
        self.fails_at = ""

    def _say(self, what: str) -> None:
        self.said.append(what)
        if self.fails_at and what.startswith(self.fails_at):
            raise RuntimeError(what)

    def networks_at(self, words: Sequence[str]) -> list[Network]:
        """Read addresses."""
        return [Network(word) for word in words]

    def containers_at(self, words: Sequence[str]) -> list[Container]:
        """Return containers that run, but for those called dead."""
        return [Container(word, word, 1, "node", "west", _state(word), None, {}) for word in words]

    def not_yet_cut(self, networks: Sequence[Network]) -> list[Network]:
        """Return what is not cut."""
        return removed(networks, self.cut)

    def cut_networks(self, networks: Sequence[Network]) -> None:
        """Cut."""
        self._say("cut")
        self.cut = added(self.cut, networks)

    def heal_networks(self, networks: Sequence[Network]) -> None:
        """Heal."""
        self._say("heal")
        self.cut = removed(self.cut, networks)

    def impair(self, *_: Any, fault: str, **__: Any) -> list[Impaired]:
        """Impair."""
        self._say("impair")
        return [Impaired("router/1", "tun", 0)]

    def unimpair(self, *, fault: str) -> None:
        """End an impairment."""
        self._say("unimpair")

    def kill(self, *places: str, signal_name: str) -> None:
        """Kill."""
        self._say("kill " + " ".join(places))

    def start_ids(self, ids: Sequence[str]) -> None:
        """Start."""
        self._say("start " + " ".join(ids))


def _state(word: str) -> str:
    return "exited" if word == "dead" else "running"


def faults_of(told: Told) -> Faults:
    """Return faults of a testbed that only notes."""
    return Faults(cast(Testbed, told))


def test_the_last_fault_is_undone_first() -> None:
    told = Told()
    with faults_of(told) as faults:
        faults.cut("10.91.1.0/24")
        faults.impair(Impairment(delay_ms=1))
        assert faults.kill("west", "dead") == ["west/1"]
        assert [str(network) for network in told.cut] == ["10.91.1.0/24"]
    assert told.said == ["cut", "impair", "kill west/1", "start west", "unimpair", "heal"]
    assert told.cut == []


def test_what_was_cut_before_stays_cut() -> None:
    told = Told()
    told.cut = [Network("10.91.1.7")]
    with faults_of(told) as faults:
        faults.cut("10.91.1.0/24")
    assert [str(network) for network in told.cut] == ["10.91.1.7/32"]


def test_an_exception_undoes_them_too() -> None:
    told = Told()
    with pytest.raises(ZeroDivisionError), faults_of(told) as faults:
        faults.cut("10.91.1.1")
        raise ZeroDivisionError
    assert told.said == ["cut", "heal"]


def test_a_fault_that_was_made_in_part_is_undone() -> None:
    told = Told()
    told.fails_at = "impair"
    with pytest.raises(RuntimeError, match=r"^impair"), faults_of(told) as faults:
        faults.impair(Impairment(delay_ms=1))
    assert told.said == ["impair", "unimpair"]


def test_one_that_cannot_be_undone_does_not_keep_the_others() -> None:
    told = Told()
    told.fails_at = "unimpair"
    with pytest.raises(RuntimeError, match=r"^unimpair"), faults_of(told) as faults:
        faults.cut("10.91.1.1")
        faults.impair(Impairment(delay_ms=1))
    assert told.said[-2:] == ["unimpair", "heal"]


# The program says what it does, so that the test sends its signals at known moments and waits for nothing else.
PROGRAM = """
import signal, sys, threading
from deploy.testbed.faults import Faults

class Told:
    def say(self, what):
        print(what, flush=True)
    def networks_at(self, words): return []
    def not_yet_cut(self, networks): return []
    def cut_networks(self, networks): self.say("cut")
    def heal_networks(self, networks):
        self.say("healing")
        if MODE != "once":
            sys.stdin.readline()
        self.say("healed")

MODE = sys.argv[1]
faults = Faults(Told())
if MODE == "without a block":
    faults.__enter__().cut()
    sys.exit(5)
with faults:
    faults.cut()
    threading.Event().wait(int(sys.argv[2]))
"""


def started(mode: str) -> subprocess.Popen[str]:
    """Start the program; return when its fault is on."""
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, mode, str(SECONDS_MAX)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "cut\n"
    return process


def rest_of(process: subprocess.Popen[str], typed: str = "") -> str:
    """Return what the program says until it ends, after a line was typed for it."""
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    with process.stdin, process.stdout, process.stderr:
        process.stdin.write(typed)
        process.stdin.flush()
        said = process.stdout.read()
        process.wait(SECONDS_MAX)
    return said


@pytest.mark.parametrize(("number", "code"), [(2, -2), (15, 143), (1, 129)])
def test_a_signal_undoes_them_and_ends_the_program(number: int, code: int) -> None:
    process = started("once")
    process.send_signal(number)
    assert rest_of(process) == "healing\nhealed\n"
    # Ctrl-C that nobody caught ends Python by the signal itself, which a shell shows as 130.
    assert process.returncode == code


def test_further_signals_do_not_interrupt_the_undoing() -> None:
    process = started("twice")
    process.send_signal(2)
    assert process.stdout is not None
    assert process.stdout.readline() == "healing\n"
    for number in (2, 15, 2):
        process.send_signal(number)
    assert rest_of(process, "go on\n") == "healed\n"


def test_a_program_that_ends_without_leaving_its_block_undoes_them() -> None:
    process = started("without a block")
    assert rest_of(process, "go on\n") == "healing\nhealed\n"
    assert process.returncode == 5
