"""Every daemon is stopped and started, one after the other, and loses nothing."""

from __future__ import annotations

from dataclasses import asdict

import pytest

from deploy.testbed import engine
from p2pdns.cli import dnsclient
from p2pdns.errors import Unavailable
from tests.testbed.containers import STOP_S, daemons, wait_for_contacts
from tests.testbed.world import JOINED_MIN, Memory, World
from tests.testbed.zones import of_zone_files

pytestmark = pytest.mark.testbed


def test_a_rolling_restart_loses_neither_items_nor_marks(overlay: World) -> None:
    with overlay.story.scenario("rolling restart") as story:
        places = daemons()
        expected = of_zone_files(overlay.keys)
        lost, codes, gaps, answered = {}, {}, [], 0
        counts = {"marks": 0, "items": 0}
        for index, place in enumerate(places):
            before = Memory.of(place)
            engine.docker("stop", f"--time={STOP_S}", place.id)
            codes[place.place] = engine.inspected(place.id)[0]["State"]["ExitCode"]
            if place.role != "resolver":
                # Questions go on while one node after the other is away.
                entry = expected[index % len(expected)]
                try:
                    reply = dnsclient.ask(entry.name, entry.type, ("127.0.0.1", overlay.port))
                    answered += entry.is_met_by(reply.as_json())
                except Unavailable as trouble:
                    gaps.append(f"{place.place} away: {trouble}")
            engine.docker("start", place.id)
            wait_for_contacts([place], 1)
            if missing := before.lost_in(after := Memory.of(place)):
                lost[place.place] = {"lost": missing, "before": asdict(before), "after": asdict(after)}
            counts["marks"] += len(before.marks)
            counts["items"] += len(before.stored)
        ended = sum(code == 0 for code in codes.values())
        story.count("daemons that end by themselves on SIGTERM", ended, len(places), codes)
        story.count("questions answered meanwhile", answered, len(places) - 1, gaps)
        title = f"daemons that kept id, {counts['marks']} marks, {counts['items']} items"
        story.count(title, len(places) - len(lost), len(places), lost)
        story.row("marks and items there were", ">= 1 each", counts, all(counts.values()))
        wait_for_contacts(daemons(), JOINED_MIN)
        overlay.tell_answers("every name at every resolver", daemons(), expected)
