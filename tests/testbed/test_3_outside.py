"""No packet of all this has left the testbed, and a counter that works says so."""

from __future__ import annotations

import ipaddress

import pytest

from deploy.testbed import Container, engine
from tests.testbed.world import BED, World, containers, daemons, everywhere, inside, one

pytestmark = pytest.mark.testbed
OUTSIDE = ("192.0.2.1", 9)
SENT = 3
GATEWAYS = {"west": "10.91.1.1", "east": "10.91.2.1"}


def _gateways_of(place: Container) -> set[str]:
    """Return where the kernel's routes of a container lead: the third word of each, in the order of its bytes."""
    table = engine.docker("exec", place.id, "cat", "/proc/net/route").splitlines()[1:]
    return {str(ipaddress.IPv4Address(bytes.fromhex(line.split()[2])[::-1])) for line in table}


def test_no_packet_has_gone_outside(overlay: World) -> None:
    with overlay.story.scenario("nothing outside") as story:
        packets = BED.counters()["outside"]
        story.same("packets to a place outside, all along", 0, packets)
        places = [place for place in containers() if place.role != "router"]
        found = everywhere(places, _gateways_of)
        wrong = {place.place: own for place, own in found.items() if own - {"0.0.0.0", GATEWAYS.get(place.side or "")}}
        story.count("containers whose only way out is the router", len(found) - len(wrong), len(found), str(wrong))
        sent = inside(daemons()[0], send={"to": OUTSIDE, "count": SENT})["send"]
        counters = BED.counters()
        counted = counters["outside"] - packets
        seen = f"{counted} counted of {sent} sent"
        story.row("the counter counts, and the router drops", f"{SENT} of {SENT}", seen, counted == SENT)
        answers = counters["answers"]
        story.row("packets back to the published port", "> 0", answers, answers > 0)
        story.facts["containers"] = [place.place for place in [*places, one("router")]]
