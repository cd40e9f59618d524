"""The picture of the testbed, drawn from its compose file.

    python -m deploy.testbed.picture        writes docs/figures/testbed.svg

Guarantees: what it shows (services, sides, addresses, how many, the published port) stands in the file; the same file
gives the same bytes. Needs PyYAML, which the development tools bring. Does not know which faults there are to be had,
only where they act.
"""

from __future__ import annotations

import ipaddress
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
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

WIDTH, MARGIN, PANEL_WIDTH, ROW_HEIGHT, ROW_GAP = 1000, 24, 344, 46, 10
PANEL_TOP, PANEL_HEAD, FOOT = 128, 50, 78
ROUTER_WIDTH, ROUTER_HEIGHT = 132, 78
NODE_SIZE, NODES_SHOWN_MAX = 12, 12


@dataclass(frozen=True)
class Service:
    """A service of the compose file, as far as it is drawn."""

    name: str
    role: str
    side: str | None
    count: int
    addresses: Mapping[str, str]
    profile: str | None


@dataclass(frozen=True)
class Network:
    """A network of the compose file, as far as it is drawn."""

    name: str
    subnet: str
    gateway: str
    shared: str


@dataclass(frozen=True)
class Plan:
    """What the compose file says."""

    services: Sequence[Service]
    networks: Mapping[str, Network]
    published: str

    def on(self, side: str) -> list[Service]:
        """Return the services of a side; those that wait for their hour come last."""
        return sorted((each for each in self.services if each.side == side), key=lambda each: each.profile is not None)

    @property
    def router(self) -> Service:
        """Return the router."""
        return next(each for each in self.services if each.role == "router")


def read(path: Path = COMPOSE_FILE) -> Plan:
    """Return what a compose file says."""
    document = yaml.safe_load(path.read_text())
    services = [_service(name, facts) for name, facts in document["services"].items()]
    networks = {
        name: Network(name, ipam["subnet"], ipam["gateway"], ipam["ip_range"])
        for name, facts in document["networks"].items()
        for ipam in (facts or {}).get("ipam", {}).get("config", [])
    }
    ports = [port for facts in document["services"].values() for port in facts.get("ports", [])]
    defaults = [re.sub(r"\$\{\w+:-(\w+)\}", r"\1", port) for port in ports]
    published = sorted({port.rsplit(":", 1)[0] for port in defaults if port.endswith("/udp")})
    return Plan(services, networks, published[0])


def _service(name: str, facts: Mapping[str, Any]) -> Service:
    networks = facts.get("networks", {})
    named = networks if isinstance(networks, dict) else {}
    addresses = {network: legs["ipv4_address"] for network, legs in named.items() if legs and "ipv4_address" in legs}
    labels = facts.get("labels", {})
    return Service(
        name=name,
        role=labels[ROLE],
        side=labels.get(SIDE),
        count=int(facts.get("scale", 1)),
        addresses=addresses,
        profile=next(iter(facts.get("profiles", [])), None),
    )


def draw(plan: Plan) -> str:
    """Return the picture as SVG."""
    west, east = plan.networks.values()
    rows = max(len(plan.on(west.name)), len(plan.on(east.name)))
    panel_height = PANEL_HEAD + rows * (ROW_HEIGHT + ROW_GAP) + 6
    height = PANEL_TOP + panel_height + FOOT
    east_left = WIDTH - MARGIN - PANEL_WIDTH
    nodes = sum(each.count for each in plan.services if each.role in ("boot", "node"))
    title = f"The testbed: {nodes} nodes of an overlay on two networks that a router joins"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" '
        f'font-family="system-ui, -apple-system, Segoe UI, DejaVu Sans, sans-serif" font-size="13">',
        f"<title>{escape(title)}</title>",
        _box(0, 0, WIDTH, height, GROUND, GROUND, radius=12),
        *_panel(MARGIN, west, plan.on(west.name), panel_height),
        *_panel(east_left, east, plan.on(east.name), panel_height),
        *_middle(plan, west, east, PANEL_TOP + panel_height / 2),
        *_legend(height - FOOT + 26),
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


def _line(x1: float, y1: float, x2: float, y2: float, colour: str, *, width: float = 2, more: str = "") -> str:
    return f'<line x1="{x1:g}" y1="{y1:g}" x2="{x2:g}" y2="{y2:g}" stroke="{colour}" stroke-width="{width:g}"{more}/>'


def _panel(left: float, network: Network, services: Sequence[Service], height: float) -> Iterator[str]:
    yield _box(left, PANEL_TOP, PANEL_WIDTH, height, PANEL, EDGE, radius=12)
    yield _text(left + 16, PANEL_TOP + 31, network.name, size=18, bold=True)
    yield _text(left + PANEL_WIDTH - 16, PANEL_TOP + 30, network.subnet, colour=FAINT, anchor="end")
    for index, service in enumerate(services):
        yield from _row(left + 12, PANEL_TOP + PANEL_HEAD + index * (ROW_HEIGHT + ROW_GAP), network, service)


def _row(left: float, top: float, network: Network, service: Service) -> Iterator[str]:
    what, colour = ROLES.get(service.role, ("", FAINT))
    width = PANEL_WIDTH - 24
    waits = ' stroke-dasharray="5 4"' if service.profile else ""
    yield _box(left, top, width, ROW_HEIGHT, GROUND, colour if service.profile else EDGE, more=waits)
    yield _box(left, top, 6, ROW_HEIGHT, colour, colour, radius=3)
    name = service.name if service.count == 1 else f"{service.name}/1 … {service.name}/{service.count}"
    yield _text(left + 18, top + 19, name, bold=True)
    yield _text(left + 18, top + 37, what, colour=FAINT, size=12)
    address = service.addresses.get(network.name)
    yield _text(left + width - 12, top + 19, address or _first_of(network), colour=FAINT, size=12, anchor="end")
    shown = min(service.count, NODES_SHOWN_MAX)
    for index in range(shown if service.count > 1 else 0):
        x = left + width - 12 - (shown - index) * (NODE_SIZE + 4) + 4
        yield _box(x, top + 27, NODE_SIZE, NODE_SIZE, colour, colour, radius=3)


def _first_of(network: Network) -> str:
    return f"from {ipaddress.IPv4Network(network.shared).network_address} on"


def _middle(plan: Plan, west: Network, east: Network, middle: float) -> Iterator[str]:
    left, right = MARGIN + PANEL_WIDTH, WIDTH - MARGIN - PANEL_WIDTH
    x, y = WIDTH / 2 - ROUTER_WIDTH / 2, middle - ROUTER_HEIGHT / 2
    yield _line(left, middle, x, middle, INK, width=3)
    yield _line(x + ROUTER_WIDTH, middle, right, middle, INK, width=3)
    yield _line(WIDTH / 2, 74, WIDTH / 2, y, INK, more=' stroke-dasharray="2 3"')
    # Where a question from outside comes in.
    yield _box(WIDTH / 2 - 110, 24, 220, 50, GROUND, INK)
    yield _text(WIDTH / 2, 45, "this machine", bold=True, anchor="middle")
    yield _text(WIDTH / 2, 63, f"dig @{plan.published.replace(':', ' -p ')}", colour=FAINT, size=12, anchor="middle")
    yield _text(WIDTH / 2 + 8, 106, "access: in, never out", colour=FAINT, size=12)
    yield _box(x, y, ROUTER_WIDTH, ROUTER_HEIGHT, INK, INK)
    yield _text(WIDTH / 2, middle - 12, plan.router.name, colour=GROUND, bold=True, anchor="middle")
    for offset, network in ((8, west), (26, east)):
        yield _text(WIDTH / 2, middle + offset, network.gateway, colour="#d8dee4", size=12, anchor="middle")
    # Where the faults act.
    yield _text(WIDTH / 2, y + ROUTER_HEIGHT + 24, "cut, heal", colour=FAULT, bold=True, anchor="middle")
    yield _text(WIDTH / 2, y + ROUTER_HEIGHT + 42, "impair", colour=FAULT, bold=True, anchor="middle")
    yield _text(WIDTH / 2, y + ROUTER_HEIGHT + 60, "what crosses", colour=FAINT, size=12, anchor="middle")
    yield _text(WIDTH / 2, y + ROUTER_HEIGHT + 92, "impair --at, --all", colour=FAULT, bold=True, anchor="middle")
    yield _text(WIDTH / 2, y + ROUTER_HEIGHT + 110, "what a node sends", colour=FAINT, size=12, anchor="middle")
    yield _text(WIDTH / 2, y + ROUTER_HEIGHT + 142, "kill, start, restart", colour=FAULT, bold=True, anchor="middle")


def _legend(y: float) -> Iterator[str]:
    yield _box(MARGIN, y - 11, 26, 14, GROUND, FAINT, radius=3, more=' stroke-dasharray="5 4"')
    yield _text(MARGIN + 36, y, "started only when asked for", colour=FAINT, size=12)
    yield _text(
        MARGIN,
        y + 26,
        "Nodes have no capability and no way out; what acts on them has, in a container beside each.",
        colour=FAINT,
        size=12,
    )


def main() -> int:
    """Write the picture."""
    PICTURE.parent.mkdir(exist_ok=True)
    PICTURE.write_text(draw(read()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
