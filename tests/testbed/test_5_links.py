"""Every link is slow, uneven and loses a tenth of its packets; names are found all the same."""

from __future__ import annotations

from typing import Any

import pytest

from deploy.testbed import Container, Impairment
from tests.testbed.containers import BED, control, daemons, wait_for_each
from tests.testbed.world import JOINED_MIN, World, percentile

pytestmark = pytest.mark.testbed
BAD = Impairment(delay_ms=100, jitter_ms=20, loss_percent=10)
SEED = 6
LOOKUPS_S_MAX = 60.0


def test_names_are_found_over_bad_links(overlay: World) -> None:
    with overlay.story.scenario("bad links") as story:
        fresh = overlay.sign(*(f"far-{number}" for number in range(4)))
        overlay.publish(fresh)
        expected = [zone.expected for zone in fresh]
        places = daemons()
        with BED.faults() as faults:
            impaired = faults.impair(BAD, every_link=True, seed=SEED)
            methods = sorted({each["method"] for each in impaired})
            title = "100 ms ± 20, 10 % loss from every node"
            story.count(title, len(impaired), len(places), {"method": methods, "seed": SEED})
            took_ms = overlay.tell_answers("over the wire, {times}", places, expected, directly=True)
            story.facts.setdefault("answer_ms", {})["bad links"] = took_ms
            overlay.tell_answers("at every resolver", places, expected)
            own = _reports(places, {zone.key for zone in fresh})
            rpcs = [entry["rpcs"] for entry in own]
            resent = sum(entry["retransmits"] for entry in own)
            seen = f"p50 {percentile(rpcs, 50):.0f}, p95 {percentile(rpcs, 95):.0f}, {resent} sent again"
            story.row(f"RPCs of {len(own)} look-ups", "each <= 250", seen, max(rpcs) <= 250, own)
            complete = sum(entry["verdict"] == "complete" for entry in own)
            story.count("look-ups that were complete", complete, len(own), own)
            (reply,) = overlay.publish(overlay.sign("from-afar"))
            stored, sent = reply.get("stored", 0), reply.get("sent", 0)
            story.row("a zone is published", f"at >= {JOINED_MIN} nodes", f"{stored} of {sent}", stored >= JOINED_MIN)


def _reports(places: list[Container], keys: set[str]) -> list[dict[str, Any]]:
    """Return what every daemon says of its look-ups of these keys, once all of them have ended."""
    # The publisher knows what it has published, and looks for it no more.
    askers = [place for place in places if place.role != "publisher"]
    found: dict[Container, list[dict[str, Any]]] = {}

    def has_ended(place: Container) -> bool:
        found[place] = [entry for entry in control(place, "lookups")["lookups"] if entry["key"] in keys]
        return {entry["key"] for entry in found[place]} == keys

    wait_for_each(askers, has_ended, "the end of every look-up", LOOKUPS_S_MAX)
    return [entry for own in found.values() for entry in own]
