"""A node that was told of nobody finds its neighbours on the wire and resolves."""

from __future__ import annotations

import pytest

from deploy.testbed import Testbed
from tests.testbed.containers import control, one, run, status, wait_for_contacts
from tests.testbed.world import Tally, World, ask
from tests.testbed.zones import of_zone_files

pytestmark = pytest.mark.testbed


def test_a_newcomer_without_any_address_finds_the_overlay(overlay: World) -> None:
    story = overlay.story
    with story.scenario("newcomer"):
        Testbed.find().start("newcomer")
        newcomer = one("newcomer")
        seconds = wait_for_contacts([newcomer], 1)
        logged = run(["docker", "logs", newcomer.id])
        told = [word for word in ("--bootstrap", "10.91.") if word in _command_of(newcomer.id)]
        story.row("addresses it was told", "none", ", ".join(told) or "none", not told, logged)
        contacts = status(newcomer)["contacts"]
        story.row("it finds the overlay by LAN discovery", ">= 1 contact", f"{contacts} after {seconds:.0f} s", True)
        (fresh,) = overlay.sign("for-the-newcomer")
        overlay.publish([fresh])
        expected = [*of_zone_files(overlay.keys), fresh.expected]
        tally = Tally()
        tally.take(newcomer, expected, ask(newcomer, expected))
        story.count("names that it resolves", tally.right, tally.total, tally.wrong)
        reports = control(newcomer, "lookups")["lookups"]
        asked = [entry["rpcs"] for entry in reports]
        story.row("by asking others", ">= 1 RPC each", f"{sum(asked)} in {len(asked)} look-ups", min(asked) >= 1)


def _command_of(container_id: str) -> str:
    return run(["docker", "inspect", "--format", "{{json .Config.Cmd}} {{json .Config.Env}}", container_id])
