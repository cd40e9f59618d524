"""The testbed without an engine: its tool, its faults, its places, and the instruments of its story."""

import os
from pathlib import Path


def stand_ins(folder: Path, **scripts: str) -> dict[str, str]:
    """Write shell scripts into a folder; return the environment in which they are found by the names of commands."""
    for name, lines in scripts.items():
        (folder / name).write_text(f"#!/bin/sh\n{lines}\n")
        (folder / name).chmod(0o755)
    return {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"}
