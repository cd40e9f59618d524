"""The files that come with the program beside its modules: example zones, the example configuration.

Guarantees: they are found in a checkout and wherever an installer has put them; a path that is shown can be opened.
Does not know what is in them.
"""

from __future__ import annotations

from pathlib import Path

import p2pdns

SHARE = Path("share") / "p2pdns"
ZONES = "zones"
EXAMPLE_CONFIG = "deploy/p2pdns.example.toml"


def found(name: str, package: Path | None = None) -> Path | None:
    """Return a folder or file that is shipped, by its path in a checkout; None where it is not there."""
    package = package or Path(p2pdns.__file__).resolve().parent
    beside = package.parent / name
    if beside.exists() and (package.parent / "pyproject.toml").exists():
        return beside
    # An installer puts them below share/ of its prefix, some folders above: lib/python3.11/site-packages/p2pdns.
    for prefix in package.parents:
        installed = prefix / SHARE / Path(name).relative_to("deploy" if name.startswith("deploy/") else ".")
        if installed.exists():
            return installed
    return None


def shown(name: str) -> str:
    """Return a path to a shipped file that can be opened from here: short in a checkout, whole elsewhere."""
    if Path(name).exists():
        return name
    path = found(name)
    return name if path is None else str(path)
