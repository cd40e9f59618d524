"""The testbed without an engine: its tool, its faults, its places, and the instruments of its story."""

from pathlib import Path


def stand_ins(folder: Path, **scripts: str) -> None:
    """Write shell scripts into a folder, to be found there by the names of commands."""
    for name, lines in scripts.items():
        (folder / name).write_text(f"#!/bin/sh\n{lines}\n")
        (folder / name).chmod(0o755)
