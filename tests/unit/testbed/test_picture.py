"""The picture of the testbed is that of its compose file, and changes with it."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest

from deploy.testbed.engine import COMPOSE_FILE
from deploy.testbed.picture import PICTURE, draw, read


def words_of(path: Path) -> list[str]:
    return [text for element in ElementTree.fromstring(draw(read(path))).iter() if (text := element.text)]


def test_the_picture_in_the_docs_is_the_one_of_the_compose_file() -> None:
    # After a change of the file: python -m deploy.testbed.picture
    assert PICTURE.read_text() == draw(read())


@pytest.mark.parametrize(
    ("old", "new", "word"),
    [
        ("scale: 5", "scale: 7", "west/1 … west/7"),
        ("10.91.1.0/24", "10.92.0.0/16", "10.92.0.0/16"),
        ("ipv4_address: 10.91.2.53", "ipv4_address: 10.91.2.54", "10.91.2.54"),
        ("P2PDNS_TESTBED_PORT:-5301", "P2PDNS_TESTBED_PORT:-5454", "dig @127.0.0.1 -p 5454"),
        ("  upstream:", "  up<stream:", "up<stream"),
        ("  newcomer:", "  late:", "late"),
    ],
)
def test_a_change_of_the_file_is_a_change_of_the_picture(tmp_path: Path, old: str, new: str, word: str) -> None:
    text = COMPOSE_FILE.read_text()
    assert old in text
    changed = tmp_path / "compose.yml"
    changed.write_text(text.replace(old, new))
    assert word not in words_of(COMPOSE_FILE)
    assert word in words_of(changed)
