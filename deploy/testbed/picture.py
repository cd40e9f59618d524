"""The picture of the testbed, drawn from its compose file.

    python -m deploy.testbed.picture        writes docs/figures/testbed.svg

Guarantees: what it shows (services, sides, addresses, how many, the published port) stands in the file; the same file
gives the same bytes. Needs PyYAML, which the development tools bring. Does not know which faults there are to be had,
only where they act.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import yaml

from deploy.testbed.engine import COMPOSE_FILE
from deploy.testbed.places import ROLE, SIDE

PICTURE = COMPOSE_FILE.parents[1] / "docs" / "figures" / "testbed.svg"

# What each role is there for, and its colour: dark enough for white beside it, far enough from its neighbours for
# eyes that see fewer colours.
ROLES = {
    "boot": ("whom the others ask first", "#1b6ca8"),
    "node": ("nodes of the overlay", "#4a90c2"),
    "publisher": ("publishes zones/", "#2a7f62"),
    "resolver": ("answers the published port", "#6a4c93"),
    "upstream": ("unbound: the names of the old DNS", "#7a6f5d"),
    "newcomer": ("knows nobody, finds its neighbours", "#2a9d8f"),
    "hostile": ("sends what it should not", "#b5373d"),
    "dig": ("asks", "#8a8a8a"),
}
INK, FAINT, GROUND, PANEL, EDGE, FAULT = "#1d1d1f", "#5f6368", "#ffffff", "#f5f7fa", "#c9d1d9", "#b5373d"
DASHED = ' stroke-dasharray="5 4"'

WIDTH, MARGIN, PANEL_WIDTH, ROW_HEIGHT, ROW_GAP = 1000, 24, 344, 46, 10
PANEL_TOP, PANEL_HEAD, FOOT = 128, 50, 78
ROUTER_WIDTH, ROUTER_HEIGHT = 132, 78
# Below the router: where the faults act, and how far below.
FAULTS = (
    (24, "cut, heal", FAULT),
    (42, "impair", FAULT),
    (60, "what crosses", FAINT),
    (92, "impair --at, --all", FAULT),
    (110, "what a node sends", FAINT),
    (142, "kill, start, restart", FAULT),
)
LEGEND = "Nodes have no capability and no way out; what acts on them has, in a container beside each."

Facts = Mapping[str, Any]


def read(path: Path = COMPOSE_FILE) -> dict[str, Any]:
    """Return what a compose file says, with its variables at their defaults."""
    document: dict[str, Any] = yaml.safe_load(re.sub(r"\$\{\w+:-([^}]+)\}", r"\1", path.read_text()))
    return document


def draw(document: Facts) -> str:
    """Return the picture as SVG."""
    services: Mapping[str, Facts] = document["services"]
    sides = {name: facts["ipam"]["config"][0] for name, facts in document["networks"].items() if facts}
    rows: dict[str, list[str]] = {side: [] for side in sides}
    # What waits for its hour comes last.
    for name in sorted(services, key=lambda name: "profiles" in services[name]):
        if side := services[name]["labels"].get(SIDE):
            rows[side].append(name)
    panel_height = PANEL_HEAD + max(map(len, rows.values())) * (ROW_HEIGHT + ROW_GAP) + 6
    height = PANEL_TOP + panel_height + FOOT
    count = sum(facts.get("scale", 1) for facts in services.values() if facts["labels"][ROLE] in ("boot", "node"))
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" '
        f'font-family="system-ui, -apple-system, Segoe UI, DejaVu Sans, sans-serif" font-size="13">',
        f"<title>The testbed: {count} nodes of an overlay on two networks that a router joins</title>",
        _box(0, 0, WIDTH, height, GROUND, GROUND, radius=12),
    ]
    for left, (side, network) in zip((MARGIN, WIDTH - MARGIN - PANEL_WIDTH), sides.items(), strict=True):
        parts += [
            _box(left, PANEL_TOP, PANEL_WIDTH, panel_height, PANEL, EDGE, radius=12),
            _text(left + 16, PANEL_TOP + 31, side, size=18, bold=True),
            _text(left + PANEL_WIDTH - 16, PANEL_TOP + 30, network["subnet"], colour=FAINT, anchor="end"),
        ]
        for index, name in enumerate(rows[side]):
            top = PANEL_TOP + PANEL_HEAD + index * (ROW_HEIGHT + ROW_GAP)
            parts += _row(left + 12, top, name, services[name], side, network)
    parts += _middle(services, sides, PANEL_TOP + panel_height / 2)
    foot = height - FOOT + 26
    parts += [
        _box(MARGIN, foot - 11, 26, 14, GROUND, FAINT, radius=3, more=DASHED),
        _text(MARGIN + 36, foot, "started only when asked for", colour=FAINT, size=12),
        _text(MARGIN, foot + 26, LEGEND, colour=FAINT, size=12),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _box(
    x: float, y: float, width: float, height: float, fill: str, edge: str, *, radius: int = 8, more: str = ""
) -> str:
    return (
        f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="{radius}" fill="{fill}" '
        f'stroke="{edge}"{more}/>'
    )


def _text(
    x: float, y: float, text: str, *, colour: str = INK, size: int = 13, anchor: str = "start", bold: bool = False
) -> str:
    weight = ' font-weight="600"' if bold else ""
    return (
        f'<text x="{x:g}" y="{y:g}" fill="{colour}" font-size="{size}" text-anchor="{anchor}"{weight}>'
        f"{escape(text)}</text>"
    )


def _line(x1: float, y1: float, x2: float, y2: float, *, width: float = 3, more: str = "") -> str:
    return f'<line x1="{x1:g}" y1="{y1:g}" x2="{x2:g}" y2="{y2:g}" stroke="{INK}" stroke-width="{width:g}"{more}/>'


def _row(left: float, top: float, name: str, facts: Facts, side: str, network: Facts) -> Iterator[str]:
    what, colour = ROLES.get(facts["labels"][ROLE], ("", FAINT))
    right, count, waits = left + PANEL_WIDTH - 36, facts.get("scale", 1), "profiles" in facts
    yield _box(
        left, top, right + 12 - left, ROW_HEIGHT, GROUND, colour if waits else EDGE, more=DASHED if waits else ""
    )
    yield _box(left, top, 6, ROW_HEIGHT, colour, colour, radius=3)
    yield _text(left + 18, top + 19, name if count == 1 else f"{name}/1 … {name}/{count}", bold=True)
    yield _text(left + 18, top + 37, what, colour=FAINT, size=12)
    address = f"from {ipaddress.IPv4Network(network['ip_range']).network_address} on"
    if isinstance(facts["networks"], dict):
        address = facts["networks"][side]["ipv4_address"]
    yield _text(right, top + 19, address, colour=FAINT, size=12, anchor="end")
    for index in range(count if count > 1 else 0):
        yield _box(right + 4 - (count - index) * 16, top + 27, 12, 12, colour, colour, radius=3)


def _middle(services: Mapping[str, Facts], sides: Mapping[str, Facts], middle: float) -> Iterator[str]:
    centre, half = WIDTH / 2, ROUTER_WIDTH / 2
    top, bottom = middle - ROUTER_HEIGHT / 2, middle + ROUTER_HEIGHT / 2
    (router,) = (name for name, facts in services.items() if facts["labels"][ROLE] == "router")
    address, port, _ = services[router]["ports"][0].split(":")
    yield _line(MARGIN + PANEL_WIDTH, middle, centre - half, middle)
    yield _line(centre + half, middle, WIDTH - MARGIN - PANEL_WIDTH, middle)
    yield _line(centre, 74, centre, top, width=2, more=' stroke-dasharray="2 3"')
    # Where a question from outside comes in.
    yield _box(centre - 110, 24, 220, 50, GROUND, INK)
    yield _text(centre, 45, "this machine", bold=True, anchor="middle")
    yield _text(centre, 63, f"dig @{address} -p {port}", colour=FAINT, size=12, anchor="middle")
    yield _text(centre + 8, 106, "access: in, never out", colour=FAINT, size=12)
    yield _box(centre - half, top, ROUTER_WIDTH, ROUTER_HEIGHT, INK, INK)
    yield _text(centre, middle - 12, router, colour=GROUND, bold=True, anchor="middle")
    for offset, network in zip((8, 26), sides.values(), strict=True):
        yield _text(centre, middle + offset, network["gateway"], colour="#d8dee4", size=12, anchor="middle")
    for below, words, colour in FAULTS:
        size = 13 if colour == FAULT else 12
        yield _text(centre, bottom + below, words, colour=colour, size=size, anchor="middle", bold=colour == FAULT)


if __name__ == "__main__":
    PICTURE.write_text(draw(read()))
