"""Nothing of all this has left the testbed, and a counter that works says so."""

from __future__ import annotations

import pytest

from tests.testbed.containers import containers, daemons, everywhere, inside, one, router_counter
from tests.testbed.world import World

pytestmark = pytest.mark.testbed
OUTSIDE = ("192.0.2.1", 9)
SENT = 3
GATEWAYS = {"west": "10.91.1.1", "east": "10.91.2.1"}


def _gateway(route: list[str]) -> str:
    return ".".join(str(octet) for octet in bytes.fromhex(route[2])[::-1])


def test_no_packet_has_gone_outside(overlay: World) -> None:
    story = overlay.story
    with story.scenario("nothing outside"):
        packets, _ = router_counter("outside")
        story.row("packets to a place outside, all along", "0", packets, packets == 0)
        places = [place for place in containers() if place.role != "router"]
        tables = everywhere(places, lambda place: inside(place, routes=None)["routes"])
        wrong = [
            f"{place}: {route}"
            for place, table in tables.items()
            for route in table
            if _gateway(route) not in ("0.0.0.0", GATEWAYS[place.side])
        ]
        story.count("containers whose only way out is the router", len(tables) - len(wrong), len(tables), wrong)
        sent = inside(daemons()[0], send={"to": OUTSIDE, "count": SENT})["send"]
        packets_then, _ = router_counter("outside")
        seen = f"{packets_then - packets} counted of {sent} sent"
        story.row("the counter counts, and the router drops", f"{SENT} of {SENT}", seen, packets_then - packets == SENT)
        answers, _ = router_counter("answers")
        story.row("packets back to the published port", "> 0", answers, answers > 0)
        story.facts["containers"] = [str(place) for place in places] + [str(one("router"))]
