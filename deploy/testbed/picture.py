"""The picture of the testbed, drawn from its compose file.

    python -m deploy.testbed.picture        writes docs/figures/testbed.svg

Guarantees: everything it shows (services, sides, addresses, how many, the published port) stands in the file; the same
file gives the same bytes. Needs PyYAML, which the development tools bring. Does not know which faults there are, only
where they act.
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

# The purpose of each role, and its colour: dark enough for white beside it, and unlike its neighbours for eyes that see
# fewer colours.
ROLES = {
    "boot": ("the others join by these", "#1b6ca8"),
    "node": ("nodes of the overlay", "#4a90c2"),
    "publisher": ("publishes zones/", "#2a7f62"),
    "resolver": ("answers the published port", "#6a4c93"),
    "upstream": ("unbound: the names of the old DNS", "#7a6f5d"),
    "newcomer": ("is told no address, finds its neighbours", "#2a9d8f"),
    "hostile": ("sends what it should not", "#b5373d"),
    "dig": ("asks", "#8a8a8a"),
}
INK, FAINT, GROUND, PANEL, EDGE, FAULT = "#1d1d1f", "#5f6368", "#ffffff", "#f5f7fa", "#c9d1d9", "#b5373d"
DASHED = ' stroke-dasharray="5 4"'
WIDTH, MARGIN, PANEL_WIDTH, ROW, PANEL_TOP, PANEL_HEAD, FOOT = 1000, 24, 344, 56, 128, 50, 78
# Below the router: where the faults act, and how far below.
FAULTS = ((24, "cut, heal"), (42, "impair"), (92, "impair --at, --all"), (142, "kill, start, restart"))
NOTES = ((60, "what crosses"), (110, "what a node sends"))
LEGEND = "Nodes have no capability and no way out; what acts on them has, in a container beside each."

Facts = Mapping[str, Any]


def read(path: Path = COMPOSE_FILE) -> dict[str, Any]:
    """Return the contents of a compose file, with its variables at their defaults."""
    document: dict[str, Any] = yaml.safe_load(re.sub(r"\$\{\w+:-([^}]+)\}", r"\1", path.read_text()))
    return document


def draw(document: Facts) -> str:
    """Return the picture as SVG."""
    services: Mapping[str, Facts] = document["services"]
    sides = {name: facts["ipam"]["config"][0] for name, facts in document["networks"].items() if facts}
    # Services that are started only when asked for come last.
    ordered = sorted(services, key=lambda name: "profiles" in services[name])
    rows = {side: [name for name in ordered if services[name]["labels"].get(SIDE) == side] for side in sides}
    panel_height = PANEL_HEAD + max(map(len, rows.values())) * ROW + 6
    height, foot = PANEL_TOP + panel_height + FOOT, PANEL_TOP + panel_height + 26
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
            _text(left + 16, PANEL_TOP + 31, side, size=18, weight=600),
            _text(left + PANEL_WIDTH - 16, PANEL_TOP + 30, network["subnet"], FAINT, anchor="end"),
        ]
        for index, name in enumerate(rows[side]):
            parts += _row(left + 12, PANEL_TOP + PANEL_HEAD + index * ROW, name, services[name], side, network)
    parts += _middle(services, sides, PANEL_TOP + panel_height / 2)
    parts += [
        _box(MARGIN, foot - 11, 26, 14, GROUND, FAINT, radius=3, more=DASHED),
        _text(MARGIN + 36, foot, "started only when asked for", FAINT, size=12),
        _text(MARGIN, foot + 26, LEGEND, FAINT, size=12),
    ]
    return "\n".join([*parts, "</svg>", ""])


def _box(
    x: float, y: float, width: float, height: float, fill: str, edge: str, *, radius: int = 8, more: str = ""
) -> str:
    place = f'x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="{radius}"'
    return f'<rect {place} fill="{fill}" stroke="{edge}"{more}/>'


def _text(
    x: float, y: float, text: str, colour: str = INK, *, size: int = 13, anchor: str = "start", weight: int = 400
) -> str:
    style = f'fill="{colour}" font-size="{size}" text-anchor="{anchor}" font-weight="{weight}"'
    return f'<text x="{x:g}" y="{y:g}" {style}>{escape(text)}</text>'


def _row(left: float, top: float, name: str, facts: Facts, side: str, network: Facts) -> Iterator[str]:
    what, colour = ROLES.get(facts["labels"][ROLE], ("", FAINT))
    right, count = left + PANEL_WIDTH - 36, facts.get("scale", 1)
    edge, more = (colour, DASHED) if "profiles" in facts else (EDGE, "")
    yield _box(left, top, right + 12 - left, ROW - 10, GROUND, edge, more=more)
    yield _box(left, top, 6, ROW - 10, colour, colour, radius=3)
    yield _text(left + 18, top + 19, name if count == 1 else f"{name}/1 … {name}/{count}", weight=600)
    yield _text(left + 18, top + 37, what, FAINT, size=12)
    address = f"from {ipaddress.IPv4Network(network['ip_range']).network_address} on"
    if isinstance(facts["networks"], dict):
        address = facts["networks"][side]["ipv4_address"]
    yield _text(right, top + 19, address, FAINT, size=12, anchor="end")
    for index in range(count if count > 1 else 0):
        yield _box(right + 4 - (count - index) * 16, top + 27, 12, 12, colour, colour, radius=3)


def _middle(services: Mapping[str, Facts], sides: Mapping[str, Facts], middle: float) -> Iterator[str]:
    centre, half, top = WIDTH / 2, 66, middle - 39
    (router,) = (name for name, facts in services.items() if facts["labels"][ROLE] == "router")
    address, port, _ = services[router]["ports"][0].split(":")
    # The lines of the router to both sides, and the one on which a question from outside comes in.
    yield _box(MARGIN + PANEL_WIDTH, middle - 1, WIDTH - 2 * (MARGIN + PANEL_WIDTH), 2, INK, INK, radius=0)
    yield _box(centre - 1, 74, 2, top - 74, FAINT, FAINT, radius=0)
    yield _box(centre - 110, 24, 220, 50, GROUND, INK)
    yield _text(centre, 45, "this machine", weight=600, anchor="middle")
    yield _text(centre, 63, f"dig @{address} -p {port}", FAINT, size=12, anchor="middle")
    yield _text(centre + 8, 106, "access: in, never out", FAINT, size=12)
    yield _box(centre - half, top, 2 * half, 78, INK, INK)
    yield _text(centre, middle - 12, router, GROUND, weight=600, anchor="middle")
    for offset, network in zip((8, 26), sides.values(), strict=True):
        yield _text(centre, middle + offset, network["gateway"], "#d8dee4", size=12, anchor="middle")
    for below, words in FAULTS:
        yield _text(centre, top + 78 + below, words, FAULT, weight=600, anchor="middle")
    for below, words in NOTES:
        yield _text(centre, top + 78 + below, words, FAINT, size=12, anchor="middle")


if __name__ == "__main__":
    PICTURE.write_text(draw(read()))
