"""Every link is slow, uneven and loses a tenth of what goes over it; names are found all the same."""

from __future__ import annotations

from typing import Any

import pytest

from deploy.testbed import Testbed
from deploy.testbed.impair import Impairment
from tests.testbed.containers import Container, control, daemons, everywhere, wait_until
from tests.testbed.world import JOINED_MIN, World, ask_directly_everywhere, ask_everywhere, percentile

pytestmark = pytest.mark.testbed
BAD = Impairment(delay_ms=100, jitter_ms=20, loss_percent=10)
SEED = 6
LOOKUPS_SECONDS_MAX = 60.0


def test_names_are_found_over_bad_links(overlay: World) -> None:
    story = overlay.story
    with story.scenario("bad links"):
        fresh = overlay.sign(*(f"far-{number}" for number in range(4)))
        overlay.publish(fresh)
        expected = [zone.expected for zone in fresh]
        places = daemons()
        with Testbed.find().faults() as faults:
            impaired = faults.impair(BAD, every_link=True, seed=SEED)
            methods = sorted({each.method for each in impaired})
            title = "100 ms ± 20, 10 % loss from every node"
            story.count(title, len(impaired), len(places), {"method": methods, "seed": SEED})
            tally = ask_directly_everywhere(places, expected)
            words = f"over the wire, p50 {percentile(tally.ms, 50):.0f} ms, p95 {percentile(tally.ms, 95):.0f} ms"
            story.count(words, tally.right, tally.total, tally.wrong)
            story.facts.setdefault("answer_ms", {})["bad links"] = tally.ms
            tally = ask_everywhere(places, expected)
            story.count("at every resolver", tally.right, tally.total, tally.wrong)
            own = _reports(places, {zone.key for zone in fresh})
            rpcs = [entry["rpcs"] for entry in own]
            resent = sum(entry["retransmits"] for entry in own)
            seen = f"p50 {percentile(rpcs, 50):.0f}, p95 {percentile(rpcs, 95):.0f}, {resent} sent again"
            story.row(f"RPCs of {len(own)} look-ups", "each <= 250", seen, max(rpcs) <= 250, own)
            complete = sum(entry["verdict"] == "complete" for entry in own)
            story.count("look-ups that were complete", complete, len(own), own)
            (news,) = overlay.sign("from-afar")
            (reply,) = overlay.publish([news])
            stored, sent = reply.get("stored", 0), reply.get("sent", 0)
            story.row("a zone is published", f"at >= {JOINED_MIN} nodes", f"{stored} of {sent}", stored >= JOINED_MIN)


def _reports(places: list[Container], keys: set[str]) -> list[dict[str, Any]]:
    """Return what every daemon says of its look-ups of these keys, once all of them have ended."""
    # The publisher knows what it has published, and looks for it no more.
    askers = [place for place in places if place.role != "publisher"]
    found: dict[Container, list[dict[str, Any]]] = {}

    def all_ended() -> bool:
        reports = everywhere(askers, lambda place: control(place, "lookups")["lookups"])
        found.update({place: [entry for entry in own if entry["key"] in keys] for place, own in reports.items()})
        return all({entry["key"] for entry in own} == keys for own in found.values())

    wait_until(all_ended, "the end of every look-up", LOOKUPS_SECONDS_MAX)
    return [entry for own in found.values() for entry in own]
