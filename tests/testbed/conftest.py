"""The needs of the tests of the testbed.

On a machine that lacks something they say what is missing and are left out; with P2PDNS_TESTBED=required, as CI sets
it, that is a failure.
"""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from typing import NoReturn

import pytest

from deploy.testbed import Testbed
from deploy.testbed.faults import first_signal_ends
from deploy.testbed.testbed import DEFAULT_PORT
from p2pdns.demo import free_dns_address
from tests.testbed.story import Story
from tests.testbed.world import BED, DOWN_S, World, why_no_engine
from tests.testbed.zones import ROOT

MARKER = "testbed"
STORY = pytest.StashKey[Story]()
REPORT = ROOT / "deploy" / "report"


def leave_out(why: str) -> NoReturn:
    """End a test, or all tests of a fixture, that cannot run here."""
    if os.environ.get("P2PDNS_TESTBED") == "required":
        pytest.fail(f"{why}, and P2PDNS_TESTBED=required")
    pytest.skip(f"{why}; these tests are left out")


@pytest.fixture(scope="session")
def namespaces() -> None:
    if os.geteuid() != 0:
        leave_out("network namespaces need root")
    if shutil.which("ip") is None:
        leave_out("there is no command ip (Debian: iproute2)")
    if not os.access("/dev/net/tun", os.R_OK | os.W_OK):
        leave_out("there is no /dev/net/tun")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print the story, or say that it was left out and why."""
    story = config.stash.get(STORY, None)
    if story is not None and story.rows:
        terminalreporter.section("the testbed")
        for line in story.table():
            terminalreporter.write_line(line)
        terminalreporter.write_line(f"{REPORT}/report.json and report.png have the details")
    if MARKER not in config.option.markexpr:
        why = why_no_engine()
        hint = "run make testbed" if why is None else f"no container engine: {why}"
        terminalreporter.write_line(f"tests of the testbed left out: {hint}")


@pytest.fixture(scope="session")
def overlay(request: pytest.FixtureRequest) -> Iterator[World]:
    """Build the images, bring everything up once for all scenarios, and take it down, after a failure too."""
    if (why := why_no_engine()) is not None:
        pytest.fail(f"no container engine: {why}")
    if (other := Testbed.project_here()) != BED.project:
        # The networks have fixed addresses, so that there is room for one.
        pytest.fail(f'a testbed is up, the project "{other}" of compose: python -m deploy.testbed down')
    story = request.config.stash.setdefault(STORY, Story())
    # Another one where the usual port is taken.
    port = free_dns_address(DEFAULT_PORT)[1]
    world = World(story, port)
    # Any of the signals is Ctrl-C, which ends the run and not only the test.
    with pytest.MonkeyPatch.context() as environ, first_signal_ends(signal.default_int_handler) as ignore_signals:
        environ.setenv("P2PDNS_TESTBED_PORT", str(port))
        # An earlier run that was killed has left its containers.
        BED.down(seconds=DOWN_S)
        try:
            world.start()
            yield world
        finally:
            ignore_signals()
            try:
                with story.scenario("the end"):
                    world.end()
            finally:
                story.write(REPORT)
