"""The README does what it says: its session runs as it stands, its links lead somewhere, its verbs are all there."""

from __future__ import annotations

import re
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from p2pdns.cli.demo.swarm import Swarm
from p2pdns.cli.main import VERBS
from tests.cli import runner

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "README.md").read_text()
PORT_IN_TEXT = "5300"


def session_of(text: str) -> str:
    """Return the first session of a document."""
    found = re.search(r"^```console\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert found is not None
    return found[1]


def free_port() -> int:
    """Return a port of loopback that nobody uses now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


@pytest.fixture
def swarm(tmp_path: Path) -> Iterator[Swarm]:
    """Three nodes in a network of their own."""
    folder = tmp_path / "swarm"
    folder.mkdir()
    with Swarm(folder, "readme") as nodes:
        nodes.grow(3)
        yield nodes


def test_the_session_goes_as_written(swarm: Swarm, tmp_path: Path) -> None:
    folder = tmp_path / "checkout"
    folder.mkdir()
    shutil.copytree(ROOT / "zones", folder / "zones")
    port = free_port()
    bootstrap = [node.status()["dht_address"] for node in swarm.nodes]
    config = folder / "p2pdns.toml"
    config.write_text(
        f'[dns]\nlisten = ["127.0.0.1:{port}"]\n\n[upstream]\nservers = "none"\n\n'
        f'[dht]\nnetwork = "readme"\nlisten = "127.0.0.1:0"\nbootstrap = {bootstrap!r}\n'
    )
    place = runner.Place.of(folder, {"P2PDNS_CONFIG": str(config)})
    # The default port may be taken on a machine that runs tests; everything else is the text's own.
    text = session_of(TEXT)
    assert text.count(PORT_IN_TEXT) == 1
    runner.run_session(runner.read_session(text.replace(PORT_IN_TEXT, str(port))), place)


def test_the_first_line_below_the_title_says_what_it_is() -> None:
    lines = TEXT.splitlines()
    assert lines[0] == "# p2pdns"
    assert lines[2].startswith("p2pdns is a DNS resolver")


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\]\(([^)#:]+)\)", TEXT))))
def test_every_link_leads_to_a_file(target: str) -> None:
    assert (ROOT / target).exists()


def test_every_verb_is_in_the_table() -> None:
    assert re.findall(r"^\| `(\w+)", TEXT, re.MULTILINE) == list(VERBS)


def test_every_make_target_it_names_is_there() -> None:
    named = set(re.findall(r"make (demo|check|test|mutants|bench|\w+)\b", " ".join(re.findall(r"`(make \w+)`", TEXT))))
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert named
    assert named <= targets
