"""The tables of sabotages, one a room: read, checked against the sources, and turned into texts to try.

Each `*.toml` beside this file is a room. A row has a name, an anchor, the old fragment, the new text, and the tests
that must notice. The anchor is `at`, for Python, as `anchors` explains; for any other file it is `file`, and the old
text must occur in that exactly once, letter for letter.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.mutants import anchors

ROOT = Path(__file__).resolve().parents[2]
TABLES = Path(__file__).parent


@dataclass(frozen=True)
class Mutant:
    """One row of a table: `old` becomes `new`, and one of `tests` must go red."""

    name: str
    old: str
    new: str
    tests: tuple[str, ...]
    at: str = ""
    file: str = ""
    room: str = ""


@dataclass(frozen=True)
class Sabotage:
    """A row that fits: the text that the file at `path`, relative to the root, gets."""

    mutant: Mutant
    path: Path
    text: str


def read_tables(folder: Path = TABLES) -> list[Mutant]:
    """Return the rows of all rooms, in order."""
    rooms = {path.stem: tomllib.loads(path.read_text("utf-8")) for path in sorted(folder.glob("*.toml"))}
    return [_mutant(row, room) for room, rows in rooms.items() for row in rows.get("mutant", ())]


def _mutant(row: Mapping[str, Any], room: str) -> Mutant:
    try:
        return Mutant(**{**row, "tests": tuple(row["tests"])}, room=room)
    except (KeyError, TypeError) as error:
        raise SystemExit(f"p2pdns: error: {room}.toml: {row.get('name', 'a row without a name')}: {error}") from None


def sabotages(mutants: Iterable[Mutant], root: Path = ROOT) -> tuple[list[Sabotage], list[str]]:
    """Return the rows that fit, and what is wrong with the others and with the table itself.

    What is found here at once would be found only at its turn otherwise, minutes later.
    """
    modules = anchors.Modules(root)
    fitting: list[Sabotage] = []
    findings: list[str] = []
    seen: set[str] = set()
    for mutant in mutants:
        if mutant.name in seen:
            findings.append(f"{mutant.name}: named twice")
        seen.add(mutant.name)
        findings += [f"{mutant.name}: no such test: {test}" for test in mutant.tests if not _is_test(test, root)]
        try:
            path, text = _applied(mutant, modules, root)
        except anchors.AnchorError as error:
            findings.append(f"{mutant.name}: {error}")
        else:
            fitting.append(Sabotage(mutant, path.relative_to(root), text))
    return fitting, findings


def _applied(mutant: Mutant, modules: anchors.Modules, root: Path) -> tuple[Path, str]:
    if bool(mutant.at) == bool(mutant.file):
        raise anchors.AnchorError("a row has either `at` or `file`")
    if mutant.at:
        return modules.sabotage(mutant.at, mutant.old, mutant.new)
    path = root / mutant.file
    text = path.read_text("utf-8") if path.is_file() else ""
    count = text.count(mutant.old)
    if count != 1:
        raise anchors.AnchorError(f"{mutant.file}: the old text occurs {count} times")
    if mutant.old == mutant.new:
        raise anchors.AnchorError("changes nothing")
    return path, text.replace(mutant.old, mutant.new)


def _is_test(test: str, root: Path) -> bool:
    """Return whether there is a file, and in it a test of that name, whatever its parameters are."""
    file, _, name = test.partition("::")
    path = root / file
    if not path.is_file():
        return False
    function = re.escape(name.partition("[")[0].rpartition("::")[2])
    return re.search(rf"^\s*(async )?def {function}\(", path.read_text("utf-8"), re.MULTILINE) is not None
