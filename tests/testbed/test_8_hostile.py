"""A hostile neighbour floods two nodes: honest names go on, quotas hold, and nobody else is flooded through them."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from deploy.testbed import Testbed
from tests.testbed.containers import Container, containers, daemons, one, run, status
from tests.testbed.world import Tally, World, ask, holdings
from tests.testbed.zones import of_zone_files

pytestmark = pytest.mark.testbed
VICTIM = "10.91.2.99"  # Nobody lives there; what is sent to it passes the router.
PUTS, GETS, GARBAGE = 300, 3_000, 2_000
RATE = 1_000
REFLECTED_BYTES_PER_SECOND = 8_000  # What a node gives unproven addresses beyond three times their questions.
BURST_ALLOWED = 64  # New keys of one prefix at once (docs/spec.md), then one a second.


def _dht_counters(place: Container) -> dict[str, int]:
    counters: dict[str, int] = status(place)["counters"]["dht"]
    return counters


def _reflected() -> tuple[int, int]:
    listed = run(["docker", "exec", one("router").id, "nft", "-j", "list", "chain", "inet", "faults", "link"])
    for entry in json.loads(listed)["nftables"]:
        for part in entry.get("rule", {}).get("expr", []):
            if "counter" in part and VICTIM in json.dumps(entry):
                return part["counter"]["packets"], part["counter"]["bytes"]
    raise AssertionError("the router counts nothing for the victim")


def test_a_flood_is_counted_and_nobody_else_feels_it(overlay: World) -> None:
    story = overlay.story
    with story.scenario("hostile neighbour"):
        Testbed.find().start("hostile")
        (hostile,) = containers(role="hostile")
        targets = [place for place in daemons("west") if place.service in ("boot-west", "west")][:2]
        others = [place for place in daemons() if place not in targets]
        (fresh,) = overlay.sign("in-the-flood")
        overlay.publish([fresh])
        kept_before = holdings(targets)
        before = {place: _dht_counters(place) for place in targets}
        rule = f"add rule inet faults link ip daddr {VICTIM} counter drop"
        run(["docker", "exec", one("router").id, "nft", rule])
        words = [f"--puts={PUTS}", f"--gets={GETS}", f"--garbage={GARBAGE}", f"--rate={RATE}", f"--victim={VICTIM}"]
        words += [f"--key={overlay.keys['large']}", *(place.dht for place in targets)]
        expected = [*of_zone_files(overlay.keys), fresh.expected]
        tally = Tally()
        with ThreadPoolExecutor(1) as pool:
            flood = pool.submit(run, ["docker", "exec", hostile.id, "hostile", *words])
            while not flood.done():
                for place in [*targets, others[-1]]:
                    tally.take(place, expected, ask(place, expected))
            said = json.loads(flood.result())
        story.count("honest names during the flood", tally.right, tally.total, tally.wrong)
        after = {place: _dht_counters(place) for place in targets}
        for place, report in zip(targets, said, strict=True):
            _quotas_hold(overlay, place, report, before[place], after[place])
        packets, size_bytes = _reflected()
        spoofed = sum(report["sent"]["gets"] for report in said)
        seconds = spoofed / RATE
        # Whatever a forged question gets is at most three times itself, or comes out of the budget of the node.
        allowed = (len(targets) + seconds) * REFLECTED_BYTES_PER_SECOND + 28 * packets
        seen = f"{size_bytes} bytes in {packets} packets for {spoofed} questions"
        story.row("what the victim gets", f"<= {allowed:.0f} bytes", seen, size_bytes <= allowed)
        kept = holdings(targets)
        lost = [key for place, own in kept_before.items() for key in own if key not in kept[place]]
        story.row("honest items that were pushed out", "none", ", ".join(lost) or "none", not lost)
        run(["docker", "rm", "-f", "-v", hostile.id])


def _quotas_hold(
    overlay: World, place: Container, report: dict[str, dict[str, int]], before: dict[str, int], after: dict[str, int]
) -> None:
    story = overlay.story
    grown = {name: count - before.get(name, 0) for name, count in after.items() if count > before.get(name, 0)}
    stored = report["said"].get("put stored", 0)
    refused = grown.get("put-refused-rate", 0)
    # While it puts, a second or two pass, each of which allows another.
    story.row(
        f"{place} keeps of {PUTS} made-up items", f"<= {BURST_ALLOWED + 30}", stored, stored <= BURST_ALLOWED + 30
    )
    story.row(f"{place} counts what it refused", ">= 100 by rate", refused, refused >= 100, {**report, "grown": grown})
    dropped = sum(count for name, count in grown.items() if name.startswith(("dropped", "unproven-silent")))
    story.row(f"{place} counts what it dropped", "> 0", dropped, dropped > 0)
