"""A hostile neighbour floods two nodes: honest names go on, quotas hold, and no third machine is flooded by them."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from deploy.testbed import Container, engine
from tests.testbed.containers import BED, daemons, dht_of, one, status
from tests.testbed.world import Tally, World, ask, holdings
from tests.testbed.zones import of_zone_files

pytestmark = pytest.mark.testbed
VICTIM = "10.91.2.99"  # No container has it; packets to it pass the router.
PUTS, GETS, GARBAGE = 300, 3_000, 2_000
RATE = 1_000
REFLECTED_BYTES_PER_SECOND = 8_000  # What a node gives unproven addresses beyond three times their questions.
BURST_ALLOWED = 64  # New keys of one prefix at once (docs/spec.md), then one a second.


def _dht_counters(place: Container) -> dict[str, int]:
    counters: dict[str, int] = status(place)["counters"]["dht"]
    return counters


def test_a_flood_is_counted_and_nobody_else_feels_it(overlay: World) -> None:
    with overlay.story.scenario("hostile neighbour") as story:
        BED.start("hostile")
        hostile = one("hostile")
        targets = [place for place in daemons("west") if place.service in ("boot-west", "west")][:2]
        others = [place for place in daemons() if place not in targets]
        fresh = overlay.sign("in-the-flood")
        overlay.publish(fresh)
        kept_before = holdings(targets)
        before = {place: _dht_counters(place) for place in targets}
        BED.nft("add", "rule", "inet", "faults", "link", "ip", "daddr", VICTIM, "counter", "drop")
        words = [f"--puts={PUTS}", f"--gets={GETS}", f"--garbage={GARBAGE}", f"--rate={RATE}", f"--victim={VICTIM}"]
        words += [f"--key={overlay.keys['large']}", *map(dht_of, targets)]
        expected = [*of_zone_files(overlay.keys), fresh[0].expected]
        tally = Tally()
        with ThreadPoolExecutor(1) as pool:
            flood = pool.submit(engine.docker, "exec", hostile.id, "hostile", *words)
            while not flood.done():
                for place in [*targets, others[-1]]:
                    tally.take(place, expected, ask(place, expected))
            said = json.loads(flood.result())
        tally.tell(story, "honest names during the flood")
        for place, report in zip(targets, said, strict=True):
            _quotas_hold(overlay, place, report, before[place])
        reflected = _reflected()
        spoofed = sum(report["sent"]["gets"] for report in said)
        # The reply to a forged question is at most three times as long, or comes out of the budget of the node.
        allowed = (len(targets) + spoofed / RATE) * REFLECTED_BYTES_PER_SECOND + 28 * reflected["packets"]
        seen = f"{reflected['bytes']} bytes in {reflected['packets']} packets for {spoofed} questions"
        story.row("what the victim gets", f"<= {allowed:.0f} bytes", seen, reflected["bytes"] <= allowed)
        kept = holdings(targets)
        lost = [key for place, own in kept_before.items() for key in own if key not in kept[place]]
        story.none("honest items that were pushed out", lost)
        engine.docker("rm", "--force", "--volumes", hostile.id)


def _reflected() -> dict[str, int]:
    """Return what the router has counted for the victim: packets and bytes."""
    rules = [entry["rule"]["expr"] for entry in BED.nft("list", "chain", "inet", "faults", "link") if "rule" in entry]
    (counter,) = (part["counter"] for rule in rules if VICTIM in json.dumps(rule) for part in rule if "counter" in part)
    counted: dict[str, int] = counter
    return counted


def _quotas_hold(overlay: World, place: Container, report: dict[str, Any], before: dict[str, int]) -> None:
    story = overlay.story
    after = _dht_counters(place)
    grown = {name: count - before.get(name, 0) for name, count in after.items() if count > before.get(name, 0)}
    stored = report["said"].get("put stored", 0)
    refused = grown.get("put-refused-rate", 0)
    # While it puts, a second or two pass, each of which allows another.
    allowed = BURST_ALLOWED + 30
    story.row(f"{place.place} keeps of {PUTS} made-up items", f"<= {allowed}", stored, stored <= allowed)
    details = {**report, "grown": grown}
    story.row(f"{place.place} counts what it refused", ">= 100 by rate", refused, refused >= 100, details)
    dropped = sum(count for name, count in grown.items() if name.startswith(("dropped", "unproven-silent")))
    story.row(f"{place.place} counts what it dropped", "> 0", dropped, dropped > 0)
