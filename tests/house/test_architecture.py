"""docs/architecture.md tells the truth: its picture is what the command draws, its lists are what a real run passes."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.house import picture
from tests.house.rules import LADDER, PACKAGE, ROOT
from tests.journeys import World

PAGE = ROOT / "docs" / "architecture.md"
JOURNEYS = {"A question": World.ask, "A publication": World.publish, "A stranger's datagram": World.send_as_a_stranger}


def files_of(heading: str, text: str) -> set[str]:
    """Return the paths between ticks below a heading: files, and folders with a slash at the end."""
    found = re.search(rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    assert found is not None, f"no heading {heading}"
    return set(re.findall(r"`([\w/]+(?:\.py|/))`", found[1]))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Return a daemon and its overlay, in which each journey was made once: what is loaded late is loaded."""
    world = World(tmp_path_factory.mktemp("journeys"))
    try:
        for make in JOURNEYS.values():
            make(world)
        yield world
    finally:
        world.close()


@pytest.mark.parametrize("heading", JOURNEYS)
def test_a_journey_passes_the_files_that_the_page_lists_and_no_others(heading: str, world: World) -> None:
    listed = files_of(heading, PAGE.read_text())
    with world.traced() as trace:
        JOURNEYS[heading](world)
    passed = set(trace.files)
    assert {"listed, not passed": listed - passed, "passed, not listed": passed - listed} == {
        "listed, not passed": set(),
        "passed, not listed": set(),
    }


def test_the_picture_in_the_docs_is_the_one_of_the_floors() -> None:
    assert picture.PICTURE.read_text() == picture.draw(), "the floors have changed: make architecture"


def test_every_entry_of_the_ladder_is_in_the_picture() -> None:
    words = set(re.findall(r">([^<]+)</text>", picture.draw()))
    for entry in (entry for row in LADDER for entry in row):
        inner = entry.rpartition(".")[2]
        assert words & {entry, f"{entry}/", inner, f"{inner}/"}, entry


def test_a_room_has_the_mark_of_each_process_that_loads_it() -> None:
    front, engine = picture.loaded_by("front.main"), picture.loaded_by("engine.main")
    assert {"front.cache"} <= front - engine
    assert {"dht.node.machine"} <= engine - front
    assert "link" in front & engine


def test_the_table_of_places_names_files_that_there_are_and_every_room() -> None:
    places = files_of("Where to change what", PAGE.read_text())
    assert not [place for place in places if not (PACKAGE / place).exists()]
    rooms = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert rooms - {place.partition("/")[0] for place in places} == set()


def test_a_page_that_lists_a_file_too_few_is_found(tmp_path: Path) -> None:
    text = PAGE.read_text()
    assert "front/gate.py" in files_of("A question", text)
    assert "front/gate.py" not in files_of("A question", text.replace("`front/gate.py`", "the gate"))
    assert not any(path.startswith("cli/") for path in files_of("A question", text))


def test_the_count_of_handovers_sees_calls_awaits_frames_and_forms() -> None:
    words = [sys.executable, str(ROOT / "bench" / "handovers.py"), "--json"]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    counted = json.loads(done.stdout)
    handovers = {(came_from, module) for came_from, module, _ in counted["handovers"]}
    assert {
        ("front.funnel", "front.gate"),
        ("the event loop", "overlay.lookups"),
        ("front.engine_link", "front.funnel"),
    } <= handovers
    assert {"link.QuestionFrame", "dns.message.Question"} <= set(counted["forms"])
