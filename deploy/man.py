"""`python -m deploy.man`: writes the manual pages beside this file, for the wheel; `make man` calls it.

Guarantees: what is in deploy/man afterwards is what the help of the program says, and nothing else. Does not know the
verbs.
"""

from __future__ import annotations

from pathlib import Path

from p2pdns.cli.main import p2pdns_command
from p2pdns.cli.manual import pages
from p2pdns.cli.verbs import Family

FOLDER = Path(__file__).parent / "man"


def write() -> None:
    """Write every page, and take away those of verbs that are gone."""
    assert isinstance(p2pdns_command, Family), "the program is a family of verbs"
    made = pages(p2pdns_command)
    FOLDER.mkdir(exist_ok=True)
    for path in FOLDER.glob("*.1"):
        if path.name not in made:
            path.unlink()
    for name, text in made.items():
        (FOLDER / name).write_text(text)


if __name__ == "__main__":
    write()
