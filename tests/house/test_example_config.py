"""deploy/p2pdns.example.toml is the manual: it has every setting, at its default, with prose before it."""

from __future__ import annotations

import dataclasses
import re

from p2pdns import config as configuration
from p2pdns.config import Config, parse
from tests.house.rules import PACKAGE, ROOT

EXAMPLE = ROOT / "deploy" / "p2pdns.example.toml"
LINE_CHARACTERS_MAX = 120  # As everywhere in the house.


def lines() -> list[str]:
    """Return the lines of the example."""
    return EXAMPLE.read_text().splitlines()


def uncommented() -> str:
    """Return the example with the one `#` before each setting removed; prose stays a comment."""
    return "\n".join(re.sub(r"^#(?!#)", "", line) for line in lines())


def settings_of(text: str) -> dict[str, list[str]]:
    """Return the settings of each table, in the order in which they stand there."""
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        if header := re.fullmatch(r"\[(\w+)\]", line):
            found[header[1]] = []
        elif entry := re.match(r"(\w+) = ", line):
            found[list(found)[-1]].append(entry[1])
    return found


def test_the_example_as_it_stands_changes_nothing() -> None:
    assert parse(EXAMPLE.read_text(), str(EXAMPLE)) == Config()


def test_the_example_with_every_setting_uncommented_is_the_defaults() -> None:
    assert parse(uncommented(), str(EXAMPLE)) == Config()


def test_every_setting_is_in_the_example_in_the_order_of_the_code() -> None:
    expected = {
        table: [entry.name for entry in dataclasses.fields(kind)] for table, kind in configuration.TABLES.items()
    }
    assert settings_of(uncommented()) == {**expected, "names": []}


def test_every_setting_and_every_table_has_prose_before_it() -> None:
    before = ""
    for line in lines():
        # Two settings that are explained together stand together.
        if re.match(r"#\w|\[", line):
            assert before.startswith("#"), f"nothing is said before {line!r}"
        if line:
            assert len(line) <= LINE_CHARACTERS_MAX, line
            assert re.match(r"##( |$)|#\w+ = |\[\w+\]$", line), f"neither prose, setting nor table: {line!r}"
        before = line


def test_every_setting_is_read_by_some_room() -> None:
    rooms = [path for path in PACKAGE.rglob("*.py") if "config" not in path.relative_to(PACKAGE).parts]
    source = "\n".join(path.read_text() for path in rooms)
    for table, kind in configuration.TABLES.items():
        for entry in dataclasses.fields(kind):
            assert re.search(rf"\.{entry.name}\b", source), f"[{table}] {entry.name} is read by nobody"


def test_the_petname_of_the_prose_is_one() -> None:
    shown = re.search(r'##   (\w+ = "\w+")', EXAMPLE.read_text())
    assert shown is not None
    assert list(parse(f"[names]\n{shown[1]}", "example").names) == ["alice"]
