"""The containers of the story: building, starting, finding and asking them, all by labels and never by name.

Guarantees: every command has an end; a command that fails raises with its own words; what was started here can be
taken down completely. Does not know faults (`deploy.testbed` has them) nor what an answer should be.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deploy.testbed import engine
from p2pdns.errors import Unavailable
from tests.testbed.agents import AgentEnded, Agents
from tests.testbed.traces import Traces

ROOT = Path(__file__).resolve().parents[2]
PROJECT = os.environ.get("COMPOSE_PROJECT_NAME", "p2pdns")
ENGINE_SECONDS_MAX = 30.0  # One that does not answer in this time does not answer.
COMMAND_SECONDS_MAX = 180.0  # Fifteen containers on two busy cores start in a tenth of it.
BUILD_SECONDS_MAX = 600.0  # A base image, two package managers and a slow network.
AT_ONCE = 8  # Containers asked at a time; more than that, and the questions wait for the cores and not for the overlay.
LOOK_AGAIN_SECONDS = 0.25
STOP_SECONDS = 10
DAEMON_ROLES = ("boot", "node", "publisher", "resolver", "newcomer")
AGENTS = Agents()
LABEL_PROJECT, LABEL_SERVICE = "com.docker.compose.project", "com.docker.compose.service"
LABEL_NUMBER, LABEL_ROLE, LABEL_SIDE = "com.docker.compose.container-number", "org.p2pdns.role", "org.p2pdns.side"


class CommandFailed(AssertionError):
    """A command of the engine's failed; its message is what it said."""


def run(command: Sequence[str], *, seconds_max: float = COMMAND_SECONDS_MAX) -> str:
    """Return what a command printed; CommandFailed with its words when it failed or took too long."""
    try:
        return engine.run(command, seconds_max=seconds_max)
    except Unavailable as trouble:
        raise CommandFailed(str(trouble)) from None


def why_no_engine() -> str | None:
    """Return why there are no containers here, or None where there can be."""
    if shutil.which("docker") is None:
        return "docker is not installed"
    try:
        run(["docker", "info", "--format", "{{.ServerVersion}}"], seconds_max=ENGINE_SECONDS_MAX)
    except CommandFailed as trouble:
        return str(trouble)
    return None


def build() -> str:
    """Build the images from this checkout, and return the name of their base."""
    return run([str(ROOT / "deploy" / "images.sh")], seconds_max=BUILD_SECONDS_MAX).strip()


@dataclass(frozen=True)
class Container:
    """One container: what it is, where it is, and whether it runs."""

    id: str
    service: str
    number: int
    role: str
    side: str
    address: str
    is_running: bool = field(compare=False)
    exit_code: int = field(compare=False)

    def __str__(self) -> str:
        """Return service and number, as people name it."""
        return self.service if self.service not in ("west", "east") else f"{self.service}/{self.number}"

    @property
    def dht(self) -> str:
        """Where its node is asked."""
        return f"{self.address}:6881"

    @property
    def dns_port(self) -> int:
        """Where its resolver listens inside."""
        return 53 if self.role == "resolver" else 5300


def containers(*, role: str | Sequence[str] = (), side: str = "", running: bool = True) -> list[Container]:
    """Return our containers with one of these roles on this side, in the order of their names."""
    ids = run(["docker", "ps", "-aq", "--no-trunc", "--filter", f"label={LABEL_PROJECT}={PROJECT}"]).split()
    if not ids:
        return []
    found = []
    for facts in json.loads(run(["docker", "inspect", *ids])):
        labels = facts["Config"]["Labels"]
        networks = facts["NetworkSettings"]["Networks"]
        own_side = labels.get(LABEL_SIDE, "")
        on_side = networks.get(f"{PROJECT}_{own_side}", {})
        config = on_side.get("IPAMConfig") or {}
        found.append(
            Container(
                id=facts["Id"],
                service=labels[LABEL_SERVICE],
                number=int(labels.get(LABEL_NUMBER, "1")),
                role=labels.get(LABEL_ROLE, ""),
                side=own_side,
                address=on_side.get("IPAddress") or config.get("IPv4Address", ""),
                is_running=facts["State"]["Running"],
                exit_code=facts["State"]["ExitCode"],
            )
        )
    roles = (role,) if isinstance(role, str) else tuple(role)
    return sorted(
        (c for c in found if (not roles or c.role in roles) and side in ("", c.side) and (c.is_running or not running)),
        key=lambda c: (c.role != "boot", c.service, c.number),
    )


def daemons(side: str = "") -> list[Container]:
    """Return every running container with a daemon of ours."""
    return containers(role=DAEMON_ROLES, side=side)


def one(role: str) -> Container:
    """Return the only container of a role."""
    (found,) = containers(role=role)
    return found


def inside(container: Container, **words: Any) -> dict[str, Any]:
    """Do something inside a container, see `inside.py`, and return what came of it."""
    try:
        reply: dict[str, Any] = AGENTS.request(container.id, words)
    except AgentEnded as trouble:
        raise CommandFailed(f"{container}: {trouble}") from None
    if "trouble" in reply:
        raise CommandFailed(f"{container}: {reply['trouble']}")
    return reply


def everywhere(places: Iterable[Container], what: Callable[[Container], Any]) -> dict[Container, Any]:
    """Do something with each container, some at a time, and return the results by container."""
    where = list(places)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return dict(zip(where, pool.map(what, where), strict=True))


def control(container: Container, verb: str, **arguments: Any) -> dict[str, Any]:
    """Return the reply of a daemon to one request."""
    reply: dict[str, Any] = inside(container, control=[{"verb": verb, **arguments}])["control"][0]
    return reply


def status(container: Container) -> dict[str, Any]:
    """Return what a daemon says about itself; an empty table where it does not answer."""
    found: dict[str, Any] = control(container, "status").get("status", {})
    return found


def wait_until(condition: Callable[[], bool], what: str, guard_s: float) -> float:
    """Wait until a condition holds; return after how many seconds it did."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < guard_s, f"waited {guard_s} s in vain: {what}"
        time.sleep(LOOK_AGAIN_SECONDS)
    return time.monotonic() - began


def wait_for_contacts(places: Iterable[Container], count: int, guard_s: float = 90.0) -> float:
    """Wait until each of these daemons answers and knows so many others."""
    waiting = set(places)

    def all_joined() -> bool:
        facts = everywhere(sorted(waiting, key=str), _status_or_nothing)
        waiting.difference_update(c for c, found in facts.items() if found.get("contacts", 0) >= count)
        return not waiting

    return wait_until(all_joined, f"{count} contacts each", guard_s)


def _status_or_nothing(container: Container) -> dict[str, Any]:
    try:
        return status(container)
    except CommandFailed:
        # It has not started yet.
        return {}


def router_counter(name: str) -> tuple[int, int]:
    """Return packets and bytes of a named counter of the router."""
    listed = run(["docker", "exec", one("router").id, "nft", "-j", "list", "counter", "inet", "faults", name])
    (counter,) = (entry["counter"] for entry in json.loads(listed)["nftables"] if "counter" in entry)
    return counter["packets"], counter["bytes"]


def left_behind() -> list[str]:
    """Return every container, network and volume of our project that is still there."""
    found = []
    for kind, words in (("container", ["ps", "-a"]), ("network", ["network", "ls"]), ("volume", ["volume", "ls"])):
        form = "{{.Name}}" if kind != "container" else "{{.Names}}"
        listed = run(["docker", *words, "--filter", f"label={LABEL_PROJECT}={PROJECT}", "--format", form])
        found += [f"{kind} {name}" for name in listed.split()]
    listed = run(["docker", "ps", "-a", "--filter", f"label=org.p2pdns.project={PROJECT}", "--format", "{{.Names}}"])
    return [*found, *(f"sidecar {name}" for name in listed.split())]


def traces(port: int, files_before: frozenset[str]) -> Traces:
    """Return by what everything that belongs to our containers can be told from the rest of the machine."""
    label = f"label={LABEL_PROJECT}={PROJECT}"
    ids = run(["docker", "ps", "-aq", "--no-trunc", "--filter", label]).split()
    networks = run(["docker", "network", "ls", "-q", "--no-trunc", "--filter", label]).split()
    return Traces(frozenset(ids), frozenset(networks), port, files_before)


def volumes_left(volumes: Iterable[str]) -> list[str]:
    """Return those of some volumes that are still there; one without a name has no label to be found by."""
    return sorted(set(volumes) & set(run(["docker", "volume", "ls", "-q"]).split()))
