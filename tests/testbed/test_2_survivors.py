"""The publisher and a third of the nodes are killed, and every name still resolves from every survivor."""

from __future__ import annotations

import pytest

from deploy.testbed import Testbed
from tests.testbed.containers import control, daemons, everywhere, wait_for_contacts
from tests.testbed.world import (
    DAEMON_COUNT,
    JOINED_MIN,
    World,
    ask_directly_everywhere,
    ask_everywhere,
    holdings,
    percentile,
)
from tests.testbed.zones import of_zone_files

pytestmark = pytest.mark.testbed
# One of the two that everybody has joined by, and more of the one side than of the other.
VICTIMS = ("publisher", "boot-west", "west/1", "east/1", "east/2")


def test_names_outlive_their_publisher_and_a_third_of_the_nodes(overlay: World) -> None:
    story = overlay.story
    with story.scenario("kill -9"):
        fresh = overlay.sign(*(f"kept-{number}" for number in range(6)))
        stored = overlay.publish(fresh)
        story.row("new zones are published", "at every node", [reply.get("stored") for reply in stored], True, stored)
        expected = [zone.expected for zone in fresh]
        with Testbed.find().faults() as faults:
            killed = faults.kill(*VICTIMS)
            survivors = daemons()
            story.count("survivors", len(survivors), DAEMON_COUNT - len(VICTIMS), {"killed": killed})
            asked = everywhere(survivors, lambda c: {entry["key"] for entry in control(c, "lookups")["lookups"]})
            known = [f"{place}: {zone.name}" for place, keys in asked.items() for zone in fresh if zone.key in keys]
            story.row("survivors that asked for them before", "none", ", ".join(known) or "none", not known)
            tally = ask_everywhere(survivors, expected)
            story.count("new names at survivors", tally.right, tally.total, tally.wrong)
            # Who keeps an item answers from what it keeps; a node of a moment keeps nothing and has to ask.
            tally = ask_directly_everywhere(survivors, expected)
            title = f"over the wire, p50 {percentile(tally.ms, 50):.0f} ms, p95 {percentile(tally.ms, 95):.0f} ms"
            story.count(title, tally.right, tally.total, tally.wrong)
            story.facts["answer_ms"] = {"a third killed": tally.ms}
            zones = of_zone_files(overlay.keys)
            tally = ask_directly_everywhere(survivors, zones)
            story.count("all of zones/ by who never asked before", tally.right, tally.total, tally.wrong)
            tally = ask_everywhere(survivors, zones)
            story.count("all of zones/ at their resolvers", tally.right, tally.total, tally.wrong)
            story.facts["replicas_after_kill"] = {zone.name: zone.key for zone in fresh}, holdings(survivors)
        seconds = wait_for_contacts(daemons(), JOINED_MIN)
        story.count("daemons after the restart", len(daemons()), DAEMON_COUNT, {"seconds": round(seconds, 1)})
        tally = ask_everywhere(daemons(), expected)
        story.count("new names at all", tally.right, tally.total, tally.wrong)
