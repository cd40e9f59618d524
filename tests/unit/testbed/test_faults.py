"""Every fault ends with its block: in reverse order, after an exception, a signal, or the failure of another."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from subprocess import DEVNULL, PIPE
from unittest.mock import Mock

import pytest

from deploy.testbed import Container, Faults, Impairment, Places, Testbed
from deploy.testbed.faults import ENDING_SIGNALS, first_signal_ends
from deploy.testbed.places import Network
from tests.house.rules import ROOT

SECONDS_MAX = 30
CHANGES = ("cut", "heal", "impair", "unimpair", "kill", "start_ids")


def bed_that_notes(*cut: str) -> Mock:
    """Return a testbed that only notes its calls; tests/testbed has a real one."""
    states = {"west": "running", "dead": "exited"}
    bed = Mock(spec=Testbed)
    bed.places.return_value = Places(
        Container(word, word, 1, "node", "west", state, None, {}) for word, state in states.items()
    )
    bed.cut_now.return_value = [Network(word) for word in cut]
    bed.kill.side_effect = lambda *places, signal_name: list(places)
    return bed


def changes(bed: Mock) -> list[str]:
    return [name for name, _, _ in bed.method_calls if name in CHANGES]


def test_the_last_fault_is_undone_first() -> None:
    bed = bed_that_notes()
    with Faults(bed) as faults:
        assert faults.cut("10.91.1.0/24") == ["10.91.1.0/24"]
        faults.impair(Impairment(delay_ms=1))
        assert faults.kill("west", "dead") == ["west/1"]
        assert changes(bed) == ["cut", "impair", "kill"]
    assert changes(bed)[3:] == ["start_ids", "unimpair", "heal"]
    bed.start_ids.assert_called_once_with(["west"])
    bed.unimpair.assert_called_once_with(fault=bed.impair.call_args.kwargs["fault"])
    bed.heal.assert_called_once_with("10.91.1.0/24")


@pytest.mark.parametrize("name", ["STOP", "SIGSTOP"])
def test_containers_that_were_stopped_go_on(name: str) -> None:
    bed = bed_that_notes()
    with Faults(bed) as faults:
        faults.kill("west", signal_name=name)
    assert [made.kwargs for made in bed.kill.call_args_list] == [{"signal_name": name}, {"signal_name": "CONT"}]


def test_what_was_cut_before_stays_cut() -> None:
    bed = bed_that_notes("10.91.1.6/32")
    with Faults(bed) as faults:
        faults.cut("10.91.1.6/31")
    bed.heal.assert_called_once_with("10.91.1.7/32")


@pytest.mark.parametrize("fails", ["impair", "unimpair"])
def test_a_fault_that_was_made_in_part_is_undone_and_one_that_cannot_be_does_not_keep_the_others(fails: str) -> None:
    bed = bed_that_notes()
    getattr(bed, fails).side_effect = RuntimeError(fails)
    with pytest.raises(RuntimeError, match=f"^{fails}$"), Faults(bed) as faults:
        faults.cut("10.91.1.1")
        faults.impair(Impairment(delay_ms=1))
    assert changes(bed) == ["cut", "impair", "unimpair", "heal"]


# The program prints its steps, so that the test sends its signals at known moments.
PROGRAM = """
import sys, threading
from deploy.testbed import Faults, Places

class Told:
    def places(self): return Places()
    def cut_now(self): return []
    def cut(self, network): print("cut", flush=True)
    def heal(self, network):
        print("healing", flush=True)
        sys.stdin.readline()
        print("healed", flush=True)

faults = Faults(Told())
if sys.argv[1] == "without a block":
    faults.__enter__().cut("west")
    sys.exit(5)
with faults:
    faults.cut("west")
    threading.Event().wait(int(sys.argv[2]))
"""


@pytest.mark.parametrize(
    ("mode", "numbers", "code"),
    [
        # An uncaught Ctrl-C ends Python by the signal itself, which a shell shows as 130.
        pytest.param("a block", [2], -2, id="SIGINT"),
        pytest.param("a block", [15], 143, id="SIGTERM"),
        pytest.param("a block", [1], 129, id="SIGHUP"),
        pytest.param("a block", [2, 2, 15, 2], -2, id="further signals, which do not interrupt the undoing"),
        pytest.param("without a block", [], 5, id="its own end, in the midst of a block"),
    ],
)
def test_they_are_undone_before_the_program_ends_by(mode: str, numbers: list[int], code: int) -> None:
    command = [sys.executable, "-c", PROGRAM, mode, str(SECONDS_MAX)]
    with subprocess.Popen(command, cwd=ROOT, stdin=PIPE, stdout=PIPE, stderr=DEVNULL, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "cut\n"
        for number in numbers[:1]:
            process.send_signal(number)
        assert process.stdout.readline() == "healing\n"
        for number in numbers[1:]:
            process.send_signal(number)
        print("go on", file=process.stdin, flush=True)
        assert process.stdout.read() == "healed\n"
        assert process.wait(SECONDS_MAX) == code


def is_heard(number: int) -> bool:
    """Return whether a signal is Ctrl-C to this process."""
    try:
        os.kill(os.getpid(), number)
    except KeyboardInterrupt:
        return True
    return False


@pytest.mark.parametrize("first", ENDING_SIGNALS)
def test_the_first_signal_is_ctrl_c_and_after_it_or_at_the_end_none_is_heard(first: signal.Signals) -> None:
    with first_signal_ends(signal.default_int_handler):
        assert [is_heard(number) for number in (first, *ENDING_SIGNALS)] == [True, False, False, False]
    with first_signal_ends(signal.default_int_handler) as ignore_signals:
        ignore_signals()
        assert not is_heard(first)
        # A program that is started then does not hear it either.
        said = subprocess.run(["sh", "-c", f"kill -{first:d} $$; echo alive"], stdout=PIPE, check=False)
        assert said.stdout == b"alive\n"
    assert signal.getsignal(first) is not signal.SIG_IGN
