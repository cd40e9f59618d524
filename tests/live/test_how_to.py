"""The sessions of docs/how-to go as written, each page in a home of its own."""

from __future__ import annotations

import os
import re
import subprocess
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


@pytest.mark.parametrize(("known", "is_set"), [("93.184.216.34:51820", False), ("93.184.216.99:51820", True)])
def test_the_script_of_the_wireguard_page_sets_an_endpoint_that_has_changed(
    tmp_path: Path, known: str, is_set: bool
) -> None:
    page = next(page for page in PAGES if page.stem == "wireguard").read_text()
    (script,) = re.findall(r"^```sh\n(#!/bin/sh\n.*?)^```$", page, re.MULTILINE | re.DOTALL)
    done = follow(tmp_path, script, answer="echo 93.184.216.34; echo 93.184.216.35", known=known)
    assert done.returncode == 0, done.stderr
    calls = (tmp_path / "calls").read_text().splitlines()
    wanted = ["set wg0 peer PEER= endpoint 93.184.216.34:51820"] if is_set else []
    assert calls == ["show wg0 endpoints", *wanted]
    # Where the name is not found, the endpoint stays.
    (tmp_path / "calls").unlink()
    assert follow(tmp_path, script, answer="exit 1", known=known).returncode == 1
    assert not (tmp_path / "calls").exists()


def follow(folder: Path, script: str, *, answer: str, known: str) -> subprocess.CompletedProcess[str]:
    """Run the script with a `p2pdns` and a `wg` that answer so."""
    programs = {
        "p2pdns": f'[ "$*" = "resolve --short wg.home A" ] || exit 9\n{answer}\n',
        "wg": f'echo "$*" >> {folder}/calls\n[ "$1" = set ] || printf "PEER=\\t{known}\\n"\n',
        "follow": script,
    }
    for name, text in programs.items():
        (folder / name).write_text(text if text.startswith("#!") else f"#!/bin/sh\n{text}")
        (folder / name).chmod(0o755)
    environ = {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"}
    words = [str(folder / "follow"), "wg0", "PEER=", "wg.home", "51820"]
    return subprocess.run(words, env=environ, capture_output=True, text=True, timeout=60, check=False)
