"""Every session beside this file is run as it stands."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.cli import overlay, runner

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
SESSIONS = sorted(HERE.glob("*.txt"))
SWARM_SESSIONS = sorted((HERE / "swarm").glob("*.txt"))


@pytest.fixture
def place(tmp_path: Path) -> runner.Place:
    """A folder with the zones and the example configuration, and a `p2pdns` that is the code under test."""
    shutil.copytree(ROOT / "zones", tmp_path / "zones")
    shutil.copytree(ROOT / "deploy", tmp_path / "deploy")
    return runner.Place.of(tmp_path, is_warm=True)


@pytest.mark.parametrize("path", SESSIONS, ids=[path.stem for path in SESSIONS])
def test_the_session_goes_as_written(path: Path, place: runner.Place) -> None:
    runner.run_session(runner.read_session(path.read_text()), place)


@pytest.mark.parametrize("path", SWARM_SESSIONS, ids=[path.stem for path in SWARM_SESSIONS])
def test_the_session_goes_as_written_in_a_swarm(path: Path, tmp_path: Path) -> None:
    with overlay.place_in_swarm(tmp_path, overlay.free_port(), is_warm=True) as place:
        runner.run_session(runner.read_session(path.read_text()), place)


def test_a_session_is_read_into_steps() -> None:
    steps = runner.read_session("# why\n$ a\nout\np2pdns: err\n[3]\n\n$ b\n")
    assert [(step.command, step.expected, step.status) for step in steps] == [
        ("a", ["out", "p2pdns: err"], 3),
        ("b", [], 0),
    ]
    assert steps[0].lines(is_error=True) == ["p2pdns: err"]
    assert steps[0].lines(is_error=False) == ["out"]


@pytest.mark.parametrize(
    ("expected", "printed", "is_match"),
    [
        (["a"], ["a"], True),
        (["a"], ["a", "b"], False),
        (["a", "b"], ["a"], False),
        (["a…c"], ["abbbc"], True),
        (["a…c"], ["abbb"], False),
        (["a", "…"], ["a", "b", "c"], True),
        (["…"], [], True),
        (["a.c"], ["abc"], False),
    ],
)
def test_an_ellipsis_stands_for_anything_and_nothing_else_does(
    expected: list[str], printed: list[str], is_match: bool
) -> None:
    assert runner.matches(expected, printed) is is_match
