"""The table of sabotages is in order: what is wrong with it is known at once, not after minutes of `make mutants`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.mutants import run


def test_every_sabotage_fits_its_file_and_still_compiles() -> None:
    assert run.table_findings(run.read_table()) == []


@pytest.mark.parametrize(
    ("old", "new", "word"),
    [
        ("        x = 1\n", "", "no longer compiles"),
        ("x = 1", "x == = 1", "no longer compiles"),
        ("x = 2", "x = 3", "occurs 0 times"),
        ("x", "y", "occurs 2 times"),
        ("x = 1", "x = 1", "changes nothing"),
    ],
)
def test_a_sabotage_that_cannot_be_tried_is_found(old: str, new: str, word: str, tmp_path: Path) -> None:
    (tmp_path / "module.py").write_text("def f():\n    if True:\n        x = 1\n    return x\n")
    findings = run.table_findings([run.Mutant("a name", "module.py", old, new, ())], tmp_path)
    assert [word in finding for finding in findings] == [True]


def test_a_name_used_twice_is_found(tmp_path: Path) -> None:
    (tmp_path / "module.py").write_text("x = 1\n")
    mutant = run.Mutant("a name", "module.py", "x = 1", "x = 2", ())
    assert run.table_findings([mutant, mutant], tmp_path) == ["a name: named twice"]
