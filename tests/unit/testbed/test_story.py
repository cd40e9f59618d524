"""The story of the testbed: a row that does not hold fails, each is in every report, and answers are judged rightly."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from deploy.testbed import Container
from p2pdns.items.item import MutableItem
from p2pdns.items.keys import SecretKey
from p2pdns.state import State
from p2pdns.state.tables import mark_of
from tests.house.rules import ROOT
from tests.testbed import inside
from tests.testbed.conftest import leave_out
from tests.testbed.story import Row, Story
from tests.testbed.world import Tally, lost_between
from tests.testbed.zones import ZONES, Signed, of_zone_files

GUARD_S = 120.0
PLACE = Container("0", "west", 1, "node", "west", "running", None, {"west": "10.91.1.128"})
ALICE = SecretKey.generate(b"\x01" * 32)
BEFORE = {"node id": "ab", "items kept alive": 8, "mark alice": 7, "mark bob": 3, "item aa": 7, "item bb": 1}
STORY = sorted((ROOT / "tests" / "testbed").glob("test_[12]_*.py"))


def test_a_row_that_did_not_hold_fails_its_scenario_and_no_other() -> None:
    story = Story()
    with pytest.raises(AssertionError, match="names: expected 3 of 3, seen 2 of 3"), story.scenario("first"):
        story.count("names", 2, 3, ["west/1: SERVFAIL"])
        story.row("what comes after", "it is told too", "yes", True)
    with story.scenario("second"):
        story.count("names", 3, 3)
    assert [row.held for row in story.rows] == [False, True, True]
    assert not story.held


@pytest.mark.parametrize(
    ("trouble", "ends_as", "seen"),
    [
        (KeyboardInterrupt(), KeyboardInterrupt, "KeyboardInterrupt"),
        (RuntimeError("out of paper"), RuntimeError, "out of paper"),
        # A signal in a block of faults, which pytest would take for a failure of one test.
        (SystemExit(143), KeyboardInterrupt, "143"),
    ],
)
def test_a_scenario_that_breaks_off_is_a_row_that_did_not_hold_and_a_signal_ends_the_run(
    trouble: BaseException, ends_as: type[BaseException], seen: str
) -> None:
    story = Story()
    with pytest.raises(ends_as), story.scenario("broken"):
        raise trouble
    assert [(row.scenario, row.seen, row.held) for row in story.rows] == [("broken", seen, False)]


def test_nothing_asked_is_not_everything_right() -> None:
    story = Story()
    assert not story.held
    with pytest.raises(AssertionError), story.scenario("empty"):
        story.count("names", 0, 0)


def test_the_report_has_every_row_and_a_picture(tmp_path: Path) -> None:
    story = Story()
    with story.scenario("first"):
        story.count("names", 3, 3, {"of": "west"})
    story.facts["answer_ms"] = {"good links": [3.0, 1.0, 2.0]}
    with pytest.raises(AssertionError), story.scenario("second"):
        story.row("a long line " * 20, "x", "y", False)
    story.write(tmp_path / "report")
    report = json.loads((tmp_path / "report" / "report.json").read_text())
    assert report["held"] is False
    assert [Row(**row) for row in report["rows"]] == story.rows
    assert (tmp_path / "report" / "report.png").read_bytes().startswith(b"\x89PNG\r\n")
    table = story.table()
    assert [line.split()[-1] for line in table[1:]] == ["held", "FAILED"]
    assert all(len(line) < 200 for line in table)


def test_a_reply_counts_only_with_the_whole_rrset_and_no_other() -> None:
    def reply(*data: str, rcode: str = "NOERROR") -> dict[str, Any]:
        records = [{"owner": "www.", "ttl": 1, "type": "A", "data": each} for each in data]
        return {"rcode": rcode, "answer": records, "extended_errors": [], "ms": 1.0}

    wrong = [reply(), reply("192.0.2.2"), reply("192.0.2.1", "192.0.2.2"), reply("192.0.2.1", rcode="SERVFAIL")]
    replies = [reply("192.0.2.1"), *wrong, {"error": "no answer"}]
    tally = Tally()
    tally.take(PLACE, [Signed("alpha", "192.0.2.1").expected] * len(replies), replies)
    assert (len(tally.ms), len(tally.wrong)) == (1, 5)


def test_every_zone_file_is_asked_for() -> None:
    keys = {name: Signed(name, "192.0.2.1").key for name in ZONES}
    expected = of_zone_files(keys)
    assert {name for name in ZONES if any(entry.name.endswith(f"{keys[name]}.") for entry in expected)} == set(ZONES)
    assert all(entry.data for entry in expected)


def test_what_is_left_out_says_why_and_what_is_required_is_not_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    for word, kind, more in (
        ("", pytest.skip.Exception, "; these tests are left out"),
        ("required", pytest.fail.Exception, ", and P2PDNS_TESTBED=required"),
    ):
        monkeypatch.setenv("P2PDNS_TESTBED", word)
        # Any of both is caught, because a test that skips itself is not red.
        with pytest.raises(BaseException, match=f"^network namespaces need root{more}$") as ended:
            leave_out("network namespaces need root")
        assert ended.type is kind


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ("", pytest.ExitCode.NO_TESTS_COLLECTED, "tests of the testbed left out: "),
        ("-m testbed -k published_port", pytest.ExitCode.TESTS_FAILED, ""),
    ],
)
def test_a_run_without_an_engine_fails_if_it_asks_for_the_testbed_and_else_says_what_it_leaves_out_and_why(
    tmp_path: Path, words: str, code: int, said: str
) -> None:
    flags = f"-q -p no:xdist -p no:cacheprovider {words} tests/testbed/test_1_scenarios.py"
    command = [sys.executable, "-m", "pytest", *flags.split()]
    # With no docker on its path there is no engine.
    environ = {"PATH": str(tmp_path), "PYTHONPATH": str(ROOT), "HOME": str(tmp_path)}
    done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=GUARD_S, check=False)
    assert done.returncode == code, done.stdout
    assert f"{said}no container engine: docker: no such command" in done.stdout


@pytest.mark.parametrize(
    ("after", "lost"),
    [
        ({}, []),
        ({"mark alice": 8, "mark new": 1, "item bb": 2}, []),
        ({"node id": "cd"}, ["node id"]),
        ({"node id": None, "items kept alive": None}, ["node id", "items kept alive"]),
        ({"mark alice": 6}, ["mark alice"]),
        ({"mark bob": None}, ["mark bob"]),
        ({"item bb": None}, ["item bb"]),
        ({"item aa": 6}, ["item aa"]),
    ],
)
def test_what_is_gone_or_older_is_lost(after: dict[str, object], lost: list[str]) -> None:
    there = {name: value for name, value in {**BEFORE, **after}.items() if value is not None}
    assert lost_between(BEFORE, there) == lost


def test_marks_are_read_from_the_disk_while_the_daemon_has_its_file_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path))
    state = State.open(tmp_path)
    assert inside.marks(None) == {}
    asyncio.run(state.reader.adopt(MutableItem.signed(ALICE, 7, b"v"), 0.0))
    asyncio.run(state.reader.adopt(MutableItem.signed(ALICE, 9, b"v", b"salt"), 0.0))
    raw = ALICE.zone_key.raw
    assert inside.marks(None) == {mark_of(raw).hex(): 7, mark_of(raw, b"salt").hex(): 9}
    state.close()


def test_the_page_names_scenarios_and_tests_that_there_are() -> None:
    page = (ROOT / "docs" / "testbed.md").read_text()
    rows = re.findall(r"^\| ([^|`]+) \| ((?:`tests/[^`]+`(?:, )?)+) \|$", page, re.MULTILINE)
    told = {name for path in STORY for name in re.findall(r'story\.scenario\("([^"]+)"\)', path.read_text())}
    beside = {scenario for scenario, _ in rows}
    # These have no part without an engine: a published port, a counter of packets, and the tool.
    assert beside == told - {"the published port", "nothing outside", "the tool", "the tool asks"}
    for test in (test for _, tests in rows for test in re.findall(r"`([^`]+)`", tests)):
        path, _, name = test.partition("::")
        assert f"def {name}(" in (ROOT / path).read_text() if name else (ROOT / path).is_file(), test
