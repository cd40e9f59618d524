"""The manual pages say what the help says, and a formatter of pages finds nothing wrong with them."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from deploy.man import pages
from p2pdns.cli.main import p2pdns_command
from p2pdns.cli.verbs import VERBS, Family

FOLDER = Path(__file__).resolve().parents[2] / "deploy" / "man"
assert isinstance(p2pdns_command, Family)
PAGES = pages(p2pdns_command)


def test_there_is_a_page_for_the_program_and_each_of_its_verbs() -> None:
    assert set(PAGES) == {"p2pdns.1", *(f"p2pdns-{verb}.1" for verb in VERBS)}


def test_the_pages_kept_are_those_that_the_help_makes() -> None:
    kept = {path.name: path.read_text() for path in FOLDER.iterdir()}
    assert kept == PAGES, "the help has changed: make man"


@pytest.mark.parametrize("name", PAGES)
def test_a_page_has_what_a_reader_looks_for(name: str) -> None:
    heads = [line for line in PAGES[name].splitlines() if line.startswith(".SH ")]
    for head in ("NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "EXAMPLES"):
        assert f".SH {head}" in heads


def test_a_formatter_finds_nothing_wrong() -> None:
    groff = shutil.which("groff")
    if groff is None:
        # Part of every Debian with man; where it is missing, nobody reads pages either.
        return
    for name, text in PAGES.items():
        done = subprocess.run(
            [groff, "-man", "-ww", "-Tutf8", "-P-cbou"], input=text, capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stderr) == (0, ""), name
        assert "EXAMPLES" in done.stdout
