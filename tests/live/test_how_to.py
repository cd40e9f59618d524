"""The sessions of docs/how-to go as written, each page in a home of its own."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli import overlay, runner

PAGES = sorted((Path(__file__).resolve().parents[2] / "docs" / "how-to").glob("*.md"))
SIGNER_PORT_IN_TEXT = "5354"
NETWORK_IN_TEXT, NODE_IN_TEXT = "our-house", "192.168.1.10:6881"


def session_of(page: Path) -> str:
    """Return what a page shows of a terminal, as one session."""
    return "\n".join(re.findall(r"^```console\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL))


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[str]]:
    """Yield the addresses of the nodes that all pages share."""
    with overlay.swarm_nodes(tmp_path_factory.mktemp("how-to") / "nodes") as addresses:
        yield addresses


@pytest.mark.parametrize("page", [page for page in PAGES if session_of(page)], ids=lambda page: page.stem)
def test_the_session_of_a_page_goes_as_written(nodes: list[str], tmp_path: Path, page: Path) -> None:
    text = session_of(page).replace(NETWORK_IN_TEXT, "session").replace(NODE_IN_TEXT, "$NODE")
    port = str(overlay.free_port())
    text = text.replace("--tsig update.tsig &", f"--tsig update.tsig --listen 127.0.0.1:{port} &")
    text = text.replace(SIGNER_PORT_IN_TEXT, port)
    # Nothing may be sent to an address that a reader is to replace.
    assert not re.search(r"--bootstrap (?!\$NODE)|@(?!127\.)\d", text)
    runner.run_session(runner.read_session(text), overlay.place_among(nodes, tmp_path, overlay.free_port()))
