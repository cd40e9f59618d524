"""The README does what it says: its session runs as it stands, its links lead somewhere, its verbs are all there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from p2pdns.cli.verbs import VERBS
from tests.cli import overlay, runner

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "README.md").read_text()
PORT_IN_TEXT = "5300"


def session_of(text: str) -> str:
    """Return the first session of a document."""
    found = re.search(r"^```console\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert found is not None
    return found[1]


def test_the_session_goes_as_written(tmp_path: Path) -> None:
    port = overlay.free_port()
    # The default port may be taken on a machine that runs tests; everything else is the text's own.
    text = session_of(TEXT)
    assert text.count(PORT_IN_TEXT) == 1
    with overlay.place_in_swarm(tmp_path, port) as place:
        runner.run_session(runner.read_session(text.replace(PORT_IN_TEXT, str(port))), place)


def test_the_first_line_below_the_title_says_what_it_is() -> None:
    lines = TEXT.splitlines()
    assert lines[0] == "# p2pdns"
    assert lines[2].startswith("p2pdns is a DNS resolver")


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\]\(([^)#:]+)\)", TEXT))))
def test_every_link_leads_to_a_file(target: str) -> None:
    assert (ROOT / target).exists()


@pytest.mark.parametrize("test", sorted(set(re.findall(r"`(tests/[\w/]+\.py(?:::\w+)?)`", TEXT))))
def test_every_test_that_a_tick_names_is_there(test: str) -> None:
    path, _, name = test.partition("::")
    assert not name or re.search(rf"^def {name}\(", (ROOT / path).read_text(), re.MULTILINE)


def test_every_tick_names_its_test() -> None:
    ticked = re.findall(r"^\| ✓ .*$", TEXT, re.MULTILINE)
    assert ticked
    assert all("`tests/" in row for row in ticked)


def test_every_verb_is_in_the_table() -> None:
    assert re.findall(r"^\| `(\w+)", TEXT, re.MULTILINE) == list(VERBS)


def test_every_make_target_it_names_is_there() -> None:
    named = set(re.findall(r"make (demo|check|test|mutants|bench|\w+)\b", " ".join(re.findall(r"`(make \w+)`", TEXT))))
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert named
    assert named <= targets
