"""The running overlay that every scenario works with: how it comes up, what is published in it, how it goes.

Guarantees: after `end` nothing of it is left, and a row of the story says so. Does not know the scenarios.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from deploy.testbed import Container, Testbed, engine
from deploy.testbed.testbed import NODE_DNS_PORT, SERVER_DNS_PORT
from tests.testbed import containers
from tests.testbed.containers import BED, control, daemons, dht_of, everywhere, inside, one
from tests.testbed.story import Story
from tests.testbed.zones import ZONES, Expected, Signed

OVERLAY_NODE_COUNT = 12
DAEMON_COUNT = OVERLAY_NODE_COUNT + 2  # The publisher and the resolver are nodes too.
# Contacts that are enough to go on with. Who joins while others do hears of the last of them at its next look-up only.
JOINED_MIN = 8
NO_RIGHTS = {"is root": False, "capabilities": 0, "may gain more": False, "writes to its root": False}
PUBLISHED_S_MAX = 120.0
STOP_S = 2  # Nothing is worth waiting for any more.
DOWN_TRIES = 3
GONE_S_MAX = 10.0


@dataclass
class World:
    """The overlay, and what has been told of it so far."""

    story: Story
    run: str
    port: int
    files_before: frozenset[str]
    keys: dict[str, str] = field(default_factory=dict)
    signed: dict[str, Signed] = field(default_factory=dict)

    def start(self) -> None:
        """Build, bring up, and wait until everybody knows everybody."""
        with self.story.scenario("the start"):
            self.story.row("the images are built", "yes", f"yes, on {containers.build()}", True)
            Testbed.up()
            found = daemons()
            self.story.count("containers with a daemon run", len(found), DAEMON_COUNT)
            containers.wait_for_contacts(found, JOINED_MIN)
            self.story.row("every daemon knows the others", f">= {JOINED_MIN} contacts each", "yes", True)
            rights = everywhere(found, lambda place: inside(place, rights=None)["rights"])
            wrong = {place.place: own for place, own in rights.items() if own != NO_RIGHTS}
            title = "no root, no capability, root file system read-only"
            self.story.count(title, len(found) - len(wrong), len(found), wrong)

    def end(self) -> None:
        """Take everything down, and look for what is left of it."""
        containers.end_all_inside()
        traces = containers.traces(self.port, self.files_before)
        volumes = engine.volumes_of(BED.label)
        # Whoever was interrupted while the containers were being made may meet one more of them afterwards.
        for _ in range(DOWN_TRIES):
            BED.down(seconds=STOP_S)
            if not (left := containers.left_behind(volumes)):
                break
        self.story.row("containers, networks and volumes left", "none", ", ".join(left) or "none", not left)
        # The engine's own processes end a moment after their containers.
        with contextlib.suppress(AssertionError):
            containers.wait_until(lambda: not traces.left(), "the end of processes", GONE_S_MAX)
        left = traces.left()
        self.story.row("processes, interfaces, filter rules, files left", "none", "; ".join(left) or "none", not left)

    def publisher_keys(self) -> dict[str, str]:
        """Return the keys of zones/ once the publisher has published all of them."""
        publisher = one("publisher")

        def is_published() -> bool:
            facts = containers.status(publisher)
            return bool(facts) and facts["counters"]["publisher"].get("published", 0) >= len(ZONES)

        containers.wait_until(is_published, f"{len(ZONES)} published zones", PUBLISHED_S_MAX)
        listed = engine.docker("exec", publisher.id, "cat", "/var/lib/p2pdns/keys/.flags")
        self.keys = dict(line.removeprefix("--zone=").split("=") for line in listed.split())
        return self.keys

    def sign(self, *names: str, ttl: int = 300) -> list[Signed]:
        """Return new zones, each under a key that nobody has heard of."""
        made = []
        for name in names:
            assert name not in self.signed, "a name of the story is used once"
            address = f"198.51.100.{len(self.signed) + 1}"
            self.signed[name] = Signed(name, address, ttl, run=self.run)
            made.append(self.signed[name])
        return made

    def publish(self, zones: Sequence[Signed], at: Container | None = None) -> list[dict[str, Any]]:
        """Have a daemon, the publisher's unless another is named, publish signed zones; return its replies."""
        requests = [{"verb": "publish", "item": zone.item.to_bytes().hex()} for zone in zones]
        replies: list[dict[str, Any]] = inside(at or one("publisher"), control=requests)["control"]
        return replies

    def tell_answers(
        self, title: str, places: Sequence[Container], expected: Sequence[Expected], *, directly: bool = False
    ) -> list[float]:
        """Tell how every one of these resolvers answers, and return how many ms each right answer took.

        Directly, a node of a moment in each container is asked instead, which holds nothing and begins with others.
        """
        tally = Tally()

        def replies_of(place: Container) -> list[dict[str, Any]]:
            return ask(place, expected, [other for other in places if other != place][:4] if directly else ())

        for place, replies in everywhere(places, replies_of).items():
            tally.take(place, expected, replies)
        tally.tell(self.story, title)
        return tally.ms

    def tell_unasked(self, title: str, places: Sequence[Container], zones: Sequence[Signed]) -> None:
        """Tell which of these daemons have looked for any of the zones before: none must."""
        asked = everywhere(places, lambda place: {entry["key"] for entry in control(place, "lookups")["lookups"]})
        known = [f"{place.place}: {zone.name}" for place, keys in asked.items() for zone in zones if zone.key in keys]
        self.story.row(title, "none", ", ".join(known) or "none", not known)


def ask(place: Container, expected: Sequence[Expected], bootstrap: Sequence[Container] = ()) -> list[dict[str, Any]]:
    """Return the replies of a container's own resolver, or those of a node of a moment that begins with others."""
    questions = [entry.question for entry in expected]
    if not bootstrap:
        return ask_questions(place, questions)
    options = {"bootstrap": [dht_of(other) for other in bootstrap], "questions": questions}
    replies: list[dict[str, Any]] = inside(place, direct=options)["direct"]
    return replies


def ask_questions(place: Container, questions: Sequence[list[Any]]) -> list[dict[str, Any]]:
    """Return the replies of a container's own resolver to questions as `inside.py` takes them."""
    port = SERVER_DNS_PORT if place.role == "resolver" else NODE_DNS_PORT
    replies: list[dict[str, Any]] = inside(place, ask={"port": port, "questions": questions})["ask"]
    return replies


@dataclass
class Tally:
    """How many answers were right, and which were not."""

    right: int = 0
    total: int = 0
    wrong: list[str] = field(default_factory=list)
    ms: list[float] = field(default_factory=list)

    def take(self, place: Container, expected: Sequence[Expected], replies: Sequence[dict[str, Any]]) -> None:
        """Count the replies of one place."""
        for entry, reply in zip(expected, replies, strict=True):
            self.total += 1
            if entry.is_met_by(reply):
                self.right += 1
                self.ms.append(reply["ms"])
            else:
                said = reply.get("error") or f"{reply['rcode']} {[r['data'] for r in reply['answer']]}"
                why = [error["text"] for error in reply.get("extended_errors", ())]
                self.wrong.append(f"{place.place}: {entry.name} {entry.type}: {said} {why}")

    def tell(self, story: Story, title: str) -> None:
        """Add a row that holds if all answers were right."""
        title = title.format(times=f"p50 {percentile(self.ms, 50):.0f} ms, p95 {percentile(self.ms, 95):.0f} ms")
        story.count(title, self.right, self.total, self.wrong)


def holdings(places: Sequence[Container]) -> dict[Container, dict[str, int]]:
    """Return what each of these nodes keeps: seq by zone key."""
    stored = everywhere(places, lambda place: control(place, "stored")["stored"])
    return {place: {entry["key"]: entry["seq"] for entry in entries} for place, entries in stored.items()}


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the value below which so many percent lie; 0 for none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))] if ordered else 0.0
