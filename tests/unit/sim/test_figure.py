"""The picture of a world: it is drawn of a report alone, and a report with nothing in it is drawn too."""

from __future__ import annotations

import importlib.util
import struct
from pathlib import Path

import pytest

from p2pdns.errors import UsageError
from p2pdns.sim.figure import DPI, INCHES, check, draw
from p2pdns.sim.report import Picture, Report, Ring, Scale

RING = Ring(
    alive=[0.1, 0.2, 0.9], dead=[0.5], target=0.21, reader=0.1, asked=[(0.9, 0.0), (0.5, 0.0), (0.2, 0.1)], first=2
)
SHOWN = Picture({"0% dead": [0.05, 0.1, 0.2], "50% dead": []}, {"0% dead": [0.7, 1.0], "50% dead": [2.0]}, ring=RING)


def size_of(path: Path) -> tuple[int, int]:
    """Return width and height of a PNG, which are in its first chunk."""
    data = path.read_bytes()
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    width, height = struct.unpack(">II", data[16:24])
    return width, height


@pytest.mark.parametrize(
    "picture",
    [SHOWN, Picture(), Picture(availability={"60 minutes": [(0.0, 1.0), (1.0, 0.98)]})],
    ids=["whole", "empty", "availability"],
)
def test_every_report_becomes_a_picture(picture: Picture, tmp_path: Path) -> None:
    path = tmp_path / "world.png"
    draw(Report("lookup", Scale(1), {"loss": 0.01}, picture=picture), path)
    assert size_of(path) == tuple(int(inches * DPI) for inches in INCHES)


def test_the_same_report_is_the_same_picture_and_another_is_another(tmp_path: Path) -> None:
    pictures = []
    for name, ring in (("one", RING), ("same", RING), ("other", None)):
        draw(Report("lookup", Scale(1), picture=Picture(ring=ring)), tmp_path / name)
        pictures.append((tmp_path / name).read_bytes())
    assert pictures[0] == pictures[1] != pictures[2]


def test_a_picture_that_cannot_be_written_is_a_usage_error_with_the_path(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be written") as caught:
        draw(Report("lookup", Scale(1)), tmp_path)
    assert caught.value.place == str(tmp_path)


def test_a_missing_folder_is_told_before_the_world_runs(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such directory"):
        check(tmp_path / "missing" / "world.png")
    check(tmp_path / "world.png")


def test_without_matplotlib_the_line_that_installs_it_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(UsageError) as caught:
        check(tmp_path / "world.png")
    assert caught.value.hint == "pip install 'p2pdns[sim]'"
