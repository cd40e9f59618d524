"""The running overlay that every scenario works with: how it comes up, how its containers are asked, how it goes.

In each container that is asked, a Python waits for requests (`inside.py`): loading the program anew for each question
would take most of the story's time. Guarantees: a request ends with its reply or within its time; a Python that ended
with its container is started again; after `World.end` nothing of the overlay is left, and a row of the story says so.
Does not know faults (`deploy.testbed` has them) nor the scenarios.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import execnet

from deploy.testbed import Container, Testbed, engine, sidecars
from p2pdns.errors import Unavailable
from p2pdns.sim.report import quantiles
from tests.live.front_process import wait_until
from tests.testbed import inside as inside_source
from tests.testbed.story import Story
from tests.testbed.traces import Traces, temporary_files
from tests.testbed.zones import ZONES, Expected, Signed

BED = Testbed(os.environ.get("COMPOSE_PROJECT_NAME", "p2pdns"))
ENGINE_S_MAX = 30.0  # An engine that takes longer is taken for none.
REQUEST_S_MAX = 120.0  # Forty questions over bad links take half a minute on a busy machine.
AT_ONCE = 8  # Containers asked at a time; more than that, and the questions wait for the cores and not for the overlay.
STOP_S = 10
DAEMON_COUNT = 14  # Twelve nodes of the overlay, and the publisher and the resolver, which are nodes too.
# Contacts that are enough to go on with. A node that joins while others do hears of the last at its next look-up only.
JOINED_MIN = 8
NO_RIGHTS = {"is root": False, "capabilities": 0, "may gain more": False, "writes to its root": False}
PUBLISHED_S_MAX = 120.0
DOWN_S = 2  # Nothing is worth waiting for any more.
DOWN_TRIES = 3
GONE_S_MAX = 10.0
_pythons, _channels = execnet.Group(), dict[str, execnet.Channel]()


def why_no_engine() -> str | None:
    try:
        engine.run(["docker", "info", "--format", "{{.ServerVersion}}"], seconds_max=ENGINE_S_MAX)
    except Unavailable as trouble:
        return str(trouble)
    return None


def daemons(side: str = "") -> list[Container]:
    return [each for each in BED.places().overlay() if side in ("", each.side)]


def one(role: str) -> Container:
    """Return our container with this role, which runs."""
    (found,) = (each for each in BED.places() if each.is_running and each.role == role)
    return found


def dht_of(place: Container) -> str:
    return f"{place.addresses[place.side or '']}:6881"


def inside(place: Container, **words: Any) -> dict[str, Any]:
    """Do something inside a container, see `inside.py`, and return the results. One request at a time in each."""
    command = f"popen//python=docker exec -i {place.id} python -I"
    for _ in range(2):
        try:
            channel = _channels.pop(place.id, None) or _pythons.makegateway(command).remote_exec(inside_source)
            channel.send(words)
            reply: dict[str, Any] = json.loads(channel.receive(REQUEST_S_MAX))
        except execnet.TimeoutError:
            raise
        except (EOFError, OSError):
            # It has ended with its container; there may be another one by now.
            continue
        # Kept only after its reply, so that a late one is never taken for that to the next request.
        _channels[place.id] = channel
        return reply
    raise AssertionError(f"{place.place}: the Python inside ends without a reply")


def everywhere(places: Iterable[Container], what: Callable[[Container], Any]) -> dict[Container, Any]:
    """Do something with each container, some at a time, and return the results by container."""
    where = list(places)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return dict(zip(where, pool.map(what, where), strict=True))


def control(place: Container, verb: str) -> dict[str, Any]:
    reply: dict[str, Any] = inside(place, control=[{"verb": verb}])["control"][0]
    return reply


def status(place: Container) -> dict[str, Any]:
    """Return the status of a daemon; an empty table where it does not answer."""
    found: dict[str, Any] = control(place, "status").get("status", {})
    return found


def wait_for_each(
    places: Iterable[Container], is_so: Callable[[Container], bool], what: str, seconds_max: float
) -> float:
    """Wait until something was so at each of these containers once; return after how many seconds it was."""
    waiting = set(places)

    def were_all() -> bool:
        found = everywhere(sorted(waiting, key=lambda place: place.place), is_so)
        waiting.difference_update(place for place, was_so in found.items() if was_so)
        return not waiting

    return wait_until(were_all, what, seconds_max)


def wait_for_contacts(places: Iterable[Container], count: int) -> float:
    """Wait until each of these daemons answers and has this many contacts."""

    def has_them(place: Container) -> bool:
        # It may not have started yet.
        with contextlib.suppress(AssertionError):
            return bool(status(place).get("contacts", 0) >= count)
        return False

    return wait_for_each(places, has_them, f"{count} contacts each", 90.0)


def left_behind(volumes: Iterable[str]) -> list[str]:
    """Return the containers, networks and volumes of our project that are still there, and those of some volumes."""
    labels = (BED.label, f"{sidecars.PROJECT}={BED.project}")
    found = [f"container {own_id}" for label in labels for own_id in engine.container_ids(label)]
    for kind in ("network", "volume"):
        listed = engine.docker(kind, "ls", "-q", f"--filter=label={BED.label}")
        found += [f"{kind} {own_id}" for own_id in listed.split()]
    # One without a name has no label to be found by.
    return found + sorted(set(volumes) & set(engine.docker("volume", "ls", "-q").split()))


@dataclass
class World:
    """The overlay, its story, and the zones that were published in it."""

    story: Story
    port: int
    run: str = field(default_factory=lambda: secrets.token_hex(4))
    files_before: frozenset[str] = field(default_factory=temporary_files)
    keys: dict[str, str] = field(default_factory=dict)
    signed: dict[str, Signed] = field(default_factory=dict)

    def start(self) -> None:
        with self.story.scenario("the start") as story:
            story.row("the images are built", "yes", f"yes, on {engine.build_images()}", True)
            Testbed.up()
            found = daemons()
            story.count("containers with a daemon run", len(found), DAEMON_COUNT)
            wait_for_contacts(found, JOINED_MIN)
            story.row("every daemon knows the others", f">= {JOINED_MIN} contacts each", "yes", True)
            rights = everywhere(found, lambda place: inside(place, rights=None)["rights"])
            wrong = {place.place: own for place, own in rights.items() if own != NO_RIGHTS}
            title = "no root, no capability, root file system read-only"
            story.count(title, len(found) - len(wrong), len(found), wrong)

    def end(self) -> None:
        _pythons.terminate(DOWN_S)
        networks = engine.docker("network", "ls", "-q", "--no-trunc", f"--filter=label={BED.label}").split()
        containers = frozenset(engine.container_ids(BED.label))
        marks = Traces(containers, frozenset(networks), self.port, self.files_before)
        volumes = engine.volumes_of(BED.label)
        # After an interruption while the containers were being made, one more of them may appear.
        for _ in range(DOWN_TRIES):
            BED.down(seconds=DOWN_S)
            if not (left := left_behind(volumes)):
                break
        self.story.none("containers, networks and volumes left", left)
        # The engine's own processes end a moment after their containers.
        with contextlib.suppress(AssertionError):
            wait_until(lambda: not marks.left(), "the end of processes", GONE_S_MAX)
        self.story.none("processes, interfaces, filter rules, files left", marks.left())

    def publisher_keys(self) -> dict[str, str]:
        """Return the keys of zones/ once the publisher has published all of them."""
        publisher = one("publisher")

        def is_published() -> bool:
            facts = status(publisher)
            return bool(facts) and facts["counters"]["publisher"].get("published", 0) >= len(ZONES)

        wait_until(is_published, f"{len(ZONES)} published zones", PUBLISHED_S_MAX)
        listed = engine.docker("exec", publisher.id, "cat", "/var/lib/p2pdns/keys/.flags")
        self.keys = dict(line.removeprefix("--zone=").split("=") for line in listed.split())
        return self.keys

    def ask_published(self, questions: Sequence[list[Any]]) -> list[dict[str, Any]]:
        """Return the replies at the published port of this machine to questions as `inside.py` takes them."""
        return inside_source.ask({"port": self.port, "questions": questions})

    def sign(self, *names: str, ttl: int = 300) -> list[Signed]:
        """Return new zones, each under a key that no node has heard of."""
        for name in names:
            assert name not in self.signed, "a name of the story is used once"
            self.signed[name] = Signed(name, f"198.51.100.{len(self.signed) + 1}", ttl, run=self.run)
        return [self.signed[name] for name in names]

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
        self.story.none(title, known)


def ask(place: Container, expected: Sequence[Expected], bootstrap: Sequence[Container] = ()) -> list[dict[str, Any]]:
    """Return the replies of a container's own resolver, or those of a node of a moment that begins with others."""
    questions = [[entry.name, entry.type] for entry in expected]
    if not bootstrap:
        return ask_questions(place, questions)
    options = {"bootstrap": [dht_of(other) for other in bootstrap], "questions": questions}
    replies: list[dict[str, Any]] = inside(place, direct=options)["direct"]
    return replies


def ask_questions(place: Container, questions: Sequence[list[Any]]) -> list[dict[str, Any]]:
    """Return the replies of a container's own resolver to questions as `inside.py` takes them."""
    replies: list[dict[str, Any]] = inside(place, ask={"port": place.dns_port, "questions": questions})["ask"]
    return replies


@dataclass
class Tally:
    """The answers that were wrong, and how many ms each of the right ones took."""

    wrong: list[str] = field(default_factory=list)
    ms: list[float] = field(default_factory=list)

    def take(self, place: Container, expected: Sequence[Expected], replies: Sequence[dict[str, Any]]) -> None:
        for entry, reply in zip(expected, replies, strict=True):
            if entry.is_met_by(reply):
                self.ms.append(reply["ms"])
            else:
                said = reply.get("error") or f"{reply['rcode']} {[r['data'] for r in reply['answer']]}"
                why = [error["text"] for error in reply.get("extended_errors", ())]
                self.wrong.append(f"{place.place}: {entry.name} {entry.type}: {said} {why}")

    def tell(self, story: Story, title: str) -> None:
        half_ms, most_ms, _ = quantiles(self.ms)
        title = title.format(times=f"p50 {half_ms:.0f} ms, p95 {most_ms:.0f} ms")
        story.count(title, len(self.ms), len(self.ms) + len(self.wrong), self.wrong)


def holdings(places: Sequence[Container]) -> dict[Container, dict[str, int]]:
    """Return the items that each of these nodes keeps: seq by zone key."""
    stored = everywhere(places, lambda place: control(place, "stored")["stored"])
    return {place: {entry["key"]: entry["seq"] for entry in entries} for place, entries in stored.items()}


def memory_of(place: Container) -> dict[str, Any]:
    """Return all that a daemon must not lose: who it is, the seq of each mark on its disk and of each item it keeps."""
    reply = inside(place, control=[{"verb": "status"}, {"verb": "stored"}], marks=None)
    status, kept = reply["control"][0]["status"], reply["control"][1]["stored"]
    return {
        "node id": status["node_id"],
        "address": status["dht_address_seen"],
        "items kept alive": status["reader"]["kept_alive"],
        "roll-back protection": status["roll_back_protection"],
        **{f"mark {key}": seq for key, seq in reply["marks"].items()},
        **{f"item {entry['target']}": entry["seq"] for entry in kept},
    }


def lost_between(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """Return the entries of a daemon's memory that are gone, or older than they were."""
    # A newer mark or item may have arrived meanwhile.
    return [
        name
        for name, value in before.items()
        if (after.get(name, -1) < value if name.startswith(("mark ", "item ")) else after.get(name) != value)
    ]
