"""What `make mutants-random` draws is the same for the same seed and tree, and is one token that decides something."""

from __future__ import annotations

import builtins
import os
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest

from tests.mutants.draw import Mutation, drawn
from tests.mutants.random import stages
from tests.mutants.reach import CONFORMANCE, PROBE, Places, Reach
from tests.mutants.table import ROOT

MODULE = '''
"""Head."""
LIMIT: int = 8
BOTH = LIMIT


@cached(size=3)
def hold(items, more: "1 < 2" = ()):
    """Hold."""
    assert items != more
    if len(items) < BOTH and not more:
        note(items)
    for old, new in zip(items, more, strict=True):
        items -= old + max(new, f"{old + 1}")
    return items


def other(items):
    return None
'''


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A tree with one module in it."""
    folder = tmp_path / "p2pdns/dht"
    folder.mkdir(parents=True)
    (folder / "holding.py").write_text(MODULE)
    return tmp_path


def test_every_site_is_drawn_once_and_nothing_that_decides_nothing(root: Path) -> None:
    mutations = drawn(1, 100, root)
    assert {(one.line, one.before) for one in mutations} == {
        (3, "8"),
        (11, "len(items) < BOTH"),
        (11, "len(items) < BOTH and (not more)"),
        (11, "not more"),
        (12, "note(items)"),
        (14, "items -= old + max(new, f'{old + 1}')"),
        (14, "old + max(new, f'{old + 1}')"),
        (14, "max(new, f'{old + 1}')"),
        (15, "return items"),
    }
    assert len(mutations) == 9


def test_a_mutation_is_one_line_that_still_compiles(root: Path) -> None:
    for one in drawn(2, 100, root):
        compile(one.text, "holding.py", "exec")
        differing = [pair for pair in zip(MODULE.split("\n"), one.text.split("\n"), strict=True) if pair[0] != pair[1]]
        assert len(differing) == 1, one


def test_the_same_seed_draws_the_same_under_any_hash_seed(root: Path) -> None:
    code = dedent(f"""
        from pathlib import Path
        from tests.mutants.draw import drawn
        print(*drawn(3, 5, Path({str(root)!r})), sep="\\n")
    """)

    def said(hash_seed: str) -> str:
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        command = [sys.executable, "-c", code]
        return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True).stdout

    expected = "".join(f"{one}\n" for one in drawn(3, 5, root))
    assert said("1") == said("2") == expected
    assert expected.count("\n") == 5


def at(root: Path, before: str) -> Mutation:
    """Return the mutation of that token."""
    (found,) = [one for one in drawn(1, 100, root) if one.before == before]
    return found


def test_a_mutation_shows_in_its_function_and_a_constant_where_it_is_used(root: Path) -> None:
    places = Places(root)
    assert places.of(at(root, "note(items)")) == {"p2pdns/dht/holding.py:8"}
    # By way of another constant.
    assert places.of(at(root, "8")) == {"p2pdns/dht/holding.py:8"}


def test_a_function_is_noted_also_while_a_test_stands_for_a_full_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "reached.txt"
    monkeypatch.setattr(builtins, "p2pdns_reached", None, raising=False)
    exec(PROBE.format(path=str(log)), {})
    with monkeypatch.context() as full:
        full.delattr(os, "write")
        assert builtins.p2pdns_reached["p2pdns/errors.py:86"] is None  # type: ignore[attr-defined]
    assert log.read_text() == "p2pdns/errors.py:86\n"


def test_its_own_tests_judge_a_mutation_first_and_conformance_last(root: Path) -> None:
    here = ["p2pdns/dht/holding.py:8"]
    reaches = {
        CONFORMANCE: Reach("", 1, here),
        "tests/unit/test_slow.py": Reach("", 9, here),
        "tests/unit/test_quick.py": Reach("", 2, here),
        "tests/unit/test_elsewhere.py": Reach("", 3, ["p2pdns/dht/holding.py:20"]),
        "tests/unit/test_holding_long.py": Reach("", 99, here),
    }
    assert stages(at(root, "note(items)"), reaches, set(here)) == [
        ["tests/unit/test_holding_long.py"],
        ["tests/unit/test_quick.py", "tests/unit/test_slow.py"],
        [CONFORMANCE],
    ]
