"""The tool for faults, by its command line: each fault is felt on the wire, shown by status, and undone.

In the end: no packet of all that was done has left the testbed, and a counter that works says so.
"""

from __future__ import annotations

import ipaddress
import json
import re
import signal
import subprocess
import sys
from typing import Any

import pytest

from deploy.testbed import Container, Faults, Impairment, engine, sidecars
from tests.testbed.story import Story
from tests.testbed.world import BED, World, daemons, everywhere, inside, one

pytestmark = pytest.mark.testbed
SECONDS_MAX = 60  # A guard only.
PINGS = 20
PING_S_MAX = 2  # The wait for the last reply, fifty times as long as that may take.
FAR = "10.91.2.10"
HELD_MS = 40.0
OLD_ADDRESS = "2001:db8::53"
OUTSIDE = ("192.0.2.1", 9)
SENT = 3
GATEWAYS = {"west": "10.91.1.1", "east": "10.91.2.1"}
TOOL = [sys.executable, "-m", "deploy.testbed"]


def tool(*words: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(engine.run([*TOOL, *words]))
    return document


def faults_on() -> dict[str, Any]:
    on: dict[str, Any] = tool("status")["faults"]
    return on


def tell_pings(story: Story, title: str, place: Container, *, least_ms: float | None) -> None:
    """Tell of pings from a container to the far side: all come back, and none sooner than that; or none at all."""
    words = sidecars.command("ping", BED.project, f"container:{place.id}", "--rm", "--cap-add=NET_RAW")
    pings = ["ping", "-q", "-n", "-i", "0.02", "-W", str(PING_S_MAX), "-c", str(PINGS), FAR]
    # ping fails where nothing comes back.
    said = engine.docker(*words, sidecars.TOOLS_IMAGE, *pings, check=False)
    received, least = re.search(r"(\d+) received", said), re.search(r"= ([\d.]+)/", said)
    assert received is not None, said
    count, took_ms = int(received[1]), float(least[1]) if least else 0.0
    seen = f"{count} of {PINGS}, >= {took_ms:.0f} ms"
    wanted = 0 if least_ms is None else PINGS
    held = count == wanted and took_ms >= (least_ms or 0)
    story.row(title, f"{wanted} of {PINGS}, >= {least_ms or 0:.0f} ms", seen, held)


def test_every_fault_is_felt_shown_and_undone(overlay: World) -> None:
    with overlay.story.scenario("the tool") as story:
        none: dict[str, Any] = {"cut": [], "impaired": [], "stopped": []}
        story.same("faults at first", none, faults_on())
        west, other = BED.places().containers_at("west/1", "west/2")

        cut = tool("cut", "west")["cut"]
        tell_pings(story, "pings over a cut", west, least_ms=None)
        story.same("status shows the cut", cut, faults_on()["cut"])
        tool("heal", "west")
        tell_pings(story, "pings after healing", west, least_ms=0)

        # On the router: there and back. At the node: there only.
        for at, ways in ([], 2), (["west/1"], 1):
            with Faults(BED) as faults:
                (impaired,) = faults.impair(Impairment(delay_ms=HELD_MS), at=at)
                title = f"{HELD_MS:.0f} ms at {impaired['where']}, by {impaired['method']}"
                tell_pings(story, title, west, least_ms=ways * HELD_MS)

        with Faults(BED) as faults:
            faults.impair(Impairment(delay_ms=HELD_MS), at=["west/1"])
            tool("kill", "west/1")
            tool("start", "west/1")
            tell_pings(story, "the same node after kill and start", west, least_ms=HELD_MS)

        tool("impair", "--at", "west/1", "--to", "east", "--loss-percent", "100")
        tell_pings(story, "pings when everything is lost", west, least_ms=None)
        (ended,) = tool("unimpair")["ended"]
        story.row("and the loss is counted", f">= {PINGS}", ended["counters"], ended["counters"]["lost"] >= PINGS)

        with Faults(BED) as faults:
            killed = faults.kill("west/1")
            story.same("status shows what was killed", killed, faults_on()["stopped"])
        before = engine.inspected(other.id)[0]["State"]["Pid"]
        story.same("what restart says", ["west/2"], tool("restart", "west/2")["restarted"])
        is_another = engine.inspected(other.id)[0]["State"]["Pid"] != before
        story.same("restart makes it another process", True, is_another)
        story.same("faults in the end", none, faults_on())


def test_dig_asks_the_published_port_or_inside_a_container(overlay: World) -> None:
    with overlay.story.scenario("the tool asks") as story:
        for where in ([], ["--from", "west/1"], ["--from", "upstream"]):
            (record,) = tool("dig", "www.old.example", "AAAA", *where)["answer"]
            story.same(" ".join(["dig", *where]), OLD_ADDRESS, record["data"])


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGKILL, -9)])
def test_a_tool_that_is_ended_undoes_its_fault_and_a_killed_one_leaves_it_to_be_seen(
    overlay: World, number: signal.Signals, code: int
) -> None:
    with overlay.story.scenario(f"the tool ended by {number.name}") as story:
        command = [*TOOL, "cut", "west/1", "east/1", "--for", "600"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert process.stderr is not None
        assert process.stderr.readline().startswith("p2pdns-testbed: undone in ")
        on = faults_on()["cut"]
        story.same("networks that are cut", 2, len(on))
        process.send_signal(number)
        process.communicate(timeout=SECONDS_MAX)
        story.same("its exit code", code, process.returncode)
        # A tool that was killed can undo nothing, but its fault is shown.
        story.same("networks that stay cut", on if number == signal.SIGKILL else [], faults_on()["cut"])
        story.same("networks after heal", [], tool("heal")["cut"])


def _gateways_of(place: Container) -> set[str]:
    """Return where the kernel's routes of a container lead: the third word of each, in the order of its bytes."""
    table = engine.docker("exec", place.id, "cat", "/proc/net/route").splitlines()[1:]
    return {str(ipaddress.IPv4Address(bytes.fromhex(line.split()[2])[::-1])) for line in table}


def test_no_packet_has_gone_outside(overlay: World) -> None:
    with overlay.story.scenario("nothing outside") as story:
        packets = BED.counters()["outside"]
        story.same("packets to a place outside, all along", 0, packets)
        places = [place for place in BED.places() if place.is_running and place.role != "router"]
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
