"""The publisher and a third of the nodes are killed, and every name still resolves from every survivor."""

from __future__ import annotations

import pytest

from tests.testbed.containers import BED, daemons, wait_for_contacts
from tests.testbed.world import DAEMON_COUNT, JOINED_MIN, World, holdings
from tests.testbed.zones import of_zone_files

pytestmark = pytest.mark.testbed
# One of the two by which all have joined, and more nodes of one side than of the other.
VICTIMS = ("publisher", "boot-west", "west/1", "east/1", "east/2")


def test_names_outlive_their_publisher_and_a_third_of_the_nodes(overlay: World) -> None:
    with overlay.story.scenario("kill -9") as story:
        fresh = overlay.sign(*(f"kept-{number}" for number in range(6)))
        stored = overlay.publish(fresh)
        story.row("new zones are published", "at every node", [reply.get("stored") for reply in stored], True, stored)
        expected = [zone.expected for zone in fresh]
        with BED.faults() as faults:
            killed = faults.kill(*VICTIMS)
            survivors = daemons()
            story.count("survivors", len(survivors), DAEMON_COUNT - len(VICTIMS), {"killed": killed})
            overlay.tell_unasked("survivors that asked for them before", survivors, fresh)
            overlay.tell_answers("new names at survivors", survivors, expected)
            # A resolver that keeps the item answers from there; a node of a moment keeps nothing and has to ask.
            took_ms = overlay.tell_answers("over the wire, {times}", survivors, expected, directly=True)
            story.facts["answer_ms"] = {"a third killed": took_ms}
            zones = of_zone_files(overlay.keys)
            overlay.tell_answers("all of zones/ by who never asked before", survivors, zones, directly=True)
            overlay.tell_answers("all of zones/ at their resolvers", survivors, zones)
            replicas = {place.place: kept for place, kept in holdings(survivors).items()}
            story.facts["replicas_after_kill"] = {zone.name: zone.key for zone in fresh}, replicas
        seconds = wait_for_contacts(daemons(), JOINED_MIN)
        story.count("daemons after the restart", len(daemons()), DAEMON_COUNT, {"seconds": round(seconds, 1)})
        overlay.tell_answers("new names at all", daemons(), expected)
