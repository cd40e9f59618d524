"""The data files of the program: example zones and the example configuration.

Guarantees: they are found in a checkout and in every installation; the user can open a path that is shown. Does not
know their content.
"""

from __future__ import annotations

from pathlib import Path

import p2pdns

SHARE = Path("share") / "p2pdns"
ZONES = "zones"
EXAMPLE_CONFIG = "deploy/p2pdns.example.toml"


def found(name: str, package: Path | None = None) -> Path | None:
    """Return a shipped folder or file by its path in a checkout; None if it is missing."""
    package = package or Path(p2pdns.__file__).resolve().parent
    beside = package.parent / name
    if beside.exists() and (package.parent / "pyproject.toml").exists():
        return beside
    # An installer puts them below PREFIX/share, and the modules at PREFIX/lib/python3.11/site-packages/p2pdns.
    for prefix in package.parents:
        installed = prefix / SHARE / Path(name).relative_to("deploy" if name.startswith("deploy/") else ".")
        if installed.exists():
            return installed
    return None


def shown(name: str) -> str:
    """Return a path by which the user can open a shipped file: relative in a checkout, else absolute."""
    if Path(name).exists():
        return name
    path = found(name)
    return name if path is None else str(path)
