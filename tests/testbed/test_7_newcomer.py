"""A node that was told no address finds its neighbours on the wire and resolves."""

from __future__ import annotations

import json

import pytest

from deploy.testbed import engine
from tests.testbed.containers import BED, control, one, status, wait_for_contacts
from tests.testbed.world import World
from tests.testbed.zones import of_zone_files

pytestmark = pytest.mark.testbed


def test_a_newcomer_without_any_address_finds_the_overlay(overlay: World) -> None:
    with overlay.story.scenario("newcomer") as story:
        BED.start("newcomer")
        newcomer = one("newcomer")
        seconds = wait_for_contacts([newcomer], 1)
        (facts,) = engine.inspected(newcomer.id)
        command = json.dumps([facts["Config"]["Cmd"], facts["Config"]["Env"]])
        told = [word for word in ("--bootstrap", "10.91.") if word in command]
        story.none("addresses it was told", told, engine.docker("logs", newcomer.id))
        contacts = status(newcomer)["contacts"]
        story.row("it finds the overlay by LAN discovery", ">= 1 contact", f"{contacts} after {seconds:.0f} s", True)
        fresh = overlay.sign("for-the-newcomer")
        overlay.publish(fresh)
        overlay.tell_answers("names that it resolves", [newcomer], [*of_zone_files(overlay.keys), fresh[0].expected])
        asked = [entry["rpcs"] for entry in control(newcomer, "lookups")["lookups"]]
        story.row("by asking others", ">= 1 RPC each", f"{sum(asked)} in {len(asked)} look-ups", min(asked) >= 1)
