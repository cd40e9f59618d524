"""A testbed as an object: brought up and down, looked at, broken and healed.

Guarantees: what is on is kept in the containers themselves (the router's set of cut networks, sidecars with labels), so
that every program which looks sees the same; what a method returns is JSON. Does not print, and does not wait for the
overlay inside to do something.
"""

from __future__ import annotations

import ipaddress
import json
import os
import secrets
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from deploy.testbed import engine, sidecars
from deploy.testbed.faults import Faults
from deploy.testbed.impair import Impairment
from deploy.testbed.places import ROLE, SIDES, Container, Network, Places, added, container_of, removed
from deploy.testbed.questions import WAIT_SECONDS, Answer, Digging, read_answers
from p2pdns.errors import Unavailable, UsageError

DEFAULT_PROJECT = "p2pdns"
DEFAULT_PORT = 5301
NODE_DNS_PORT, SERVER_DNS_PORT = 5300, 53
SET = ("set", "inet", "faults", "cut")
STOP_SECONDS = 10  # A node that was told to stop writes its contacts down, which takes a moment on a busy machine.
QUESTIONS_PER_DIG_MAX = 200  # A command line of names is some 10 kB; the limit of the kernel is 128 kB a word.


@dataclass(frozen=True)
class Impaired:
    """A place and how it is impaired there: by "netem" or by "tun", our own way where the kernel has none."""

    where: str
    method: str
    seed: int | None

    def facts(self) -> dict[str, object]:
        """Return this as values for JSON."""
        return {"where": self.where, "method": self.method, "seed": self.seed}


class Testbed:
    """The containers of one compose project."""

    __test__ = False  # pytest takes whatever is called so for tests.

    def __init__(self, project: str) -> None:
        self.project = project
        self._has_netem: bool | None = None
        self._sides: dict[str, Network] = {}

    @classmethod
    def find(cls) -> Testbed:
        """Return the testbed that is up; `Unavailable` when none is."""
        project = cls.project_here()
        if not engine.container_ids(ROLE, f"{engine.PROJECT}={project}"):
            raise Unavailable("nothing is up", place="testbed", hint="python -m deploy.testbed up")
        return cls(project)

    @staticmethod
    def project_here() -> str:
        """Return the project of the testbed on this machine, or the one that it would have."""
        # Its networks have fixed addresses, so that a machine has one at a time, under whatever name it was brought up.
        if named := os.environ.get("COMPOSE_PROJECT_NAME"):
            return named
        labels = engine.docker("ps", "--all", f"--filter=label={ROLE}", f'--format={{{{.Label "{engine.PROJECT}"}}}}')
        projects = sorted(set(labels.split()))
        return projects[0] if projects else DEFAULT_PROJECT

    @classmethod
    def up(cls, *, scale: Mapping[str, int] | None = None, build: bool = False) -> Testbed:
        """Bring the testbed up, or make it as large as `scale` says; the images are built if missing, or if told."""
        testbed = cls(cls.project_here())
        if build or not engine.are_images_there():
            engine.build_images()
        sizes = [word for service, count in (scale or {}).items() for word in ("--scale", f"{service}={count}")]
        # Named, because with the profiles on compose would start what waits for its hour.
        label = f"{engine.PROJECT}={testbed.project}"
        before = engine.volumes_of(label)
        engine.compose(testbed.project, "up", "--detach", *sizes, *testbed._services_of_the_start())
        # Where a side has become smaller, compose takes the containers away and leaves their state.
        engine.remove_volumes(before - engine.volumes_of(label))
        return testbed

    def _services_of_the_start(self) -> list[str]:
        return ["router", "boot-west", "boot-east", *SIDES, "publisher", "resolver", "upstream"]

    def down(self, *, seconds: int = STOP_SECONDS) -> int:
        """Take everything away, with all faults and all state; return how many containers there were.

        What has not ended within `seconds` is killed.
        """
        label = f"{engine.PROJECT}={self.project}"
        count = len(engine.container_ids(label))
        volumes = engine.volumes_of(label)
        helpers = engine.container_ids(f"{sidecars.PROJECT}={self.project}")
        if helpers:
            engine.docker("rm", "--force", *helpers, check=False)
        engine.compose(self.project, "down", "--volumes", "--remove-orphans", "--timeout", str(seconds))
        engine.remove_volumes(volumes)
        return count

    # Looking

    def places(self) -> Places:
        """Return the places as they are now."""
        found = [
            container
            for facts in engine.inspected(*engine.container_ids(f"{engine.PROJECT}={self.project}"))
            if (container := container_of(facts)) is not None
        ]
        found.sort(key=lambda container: (container.service, container.number))
        # The networks stay what they are as long as the containers do.
        self._sides = self._sides or self._networks()
        return Places(found, self._sides)

    def _networks(self) -> dict[str, Network]:
        label = f"label={engine.PROJECT}={self.project}"
        ids = engine.docker("network", "ls", "--quiet", "--filter", label).split()
        found = json.loads(engine.docker("network", "inspect", *ids)) if ids else []
        named = {facts["Labels"].get(engine.NETWORK): facts["IPAM"]["Config"] for facts in found}
        for side in SIDES:
            if not named.get(side):
                hint = "python -m deploy.testbed down, then up"
                raise Unavailable("its network is missing", place=side, hint=hint)
        return {side: Network(named[side][0]["Subnet"]) for side in SIDES}

    def containers_at(self, words: Sequence[str]) -> list[Container]:
        """Return the containers at places, each once, in the order of the words."""
        places = self.places()
        found = {container.id: container for word in words for container in places.containers_at(word)}
        return list(found.values())

    def networks_at(self, words: Sequence[str]) -> list[Network]:
        """Return the networks at places, none inside another."""
        places = self.places()
        return added([network for word in words for network in places.networks_at(word)], [])

    def status(self) -> dict[str, Any]:
        """Return containers and faults."""
        places = self.places()
        impaired = sidecars.impairing(self.project)
        router = places.only("router")
        return {
            "project": self.project,
            "sides": {side: str(network) for side, network in places.sides.items()},
            "containers": [container.facts() for container in places.containers],
            "faults": {
                "cut": [str(network) for network in self._cut(router)] if router.is_running else [],
                "impaired": [{"where": sidecar.where, **sidecar.what} for sidecar in impaired],
                "stopped": [container.place for container in places.containers if not container.is_running],
            },
            "counters": self._counters(router) if router.is_running else {},
        }

    def counters(self) -> dict[str, int]:
        """Return the packets that the router has counted: of a cut, and of its named counters ("outside")."""
        return self._counters(self._router())

    def _router(self) -> Container:
        router = self.places().only("router")
        if not router.is_running:
            hint = "python -m deploy.testbed start router"
            raise Unavailable("does not run", place="router", hint=hint)
        return router

    def _nft(self, router: Container, *words: str) -> list[dict[str, Any]]:
        listed = json.loads(engine.docker("exec", router.id, "nft", "--json", *words))["nftables"]
        assert isinstance(listed, list)
        return listed

    def _counters(self, router: Container) -> dict[str, int]:
        counted = {"cut": 0}
        for entry in self._nft(router, "list", "table", "inet", "faults"):
            if "counter" in entry:
                counted[entry["counter"]["name"]] = entry["counter"]["packets"]
            expressions = entry.get("rule", {}).get("expr", [])
            if "@cut" in json.dumps(expressions):
                counted["cut"] += sum(part["counter"]["packets"] for part in expressions if "counter" in part)
        return counted

    # Cutting

    def _cut(self, router: Container) -> list[Network]:
        for entry in self._nft(router, "list", *SET):
            if "set" in entry:
                return added([each for element in entry["set"].get("elem", []) for each in networks_of(element)], [])
        return []

    def not_yet_cut(self, networks: Sequence[Network]) -> list[Network]:
        """Return the part of networks that is not cut off now."""
        return removed(networks, self._cut(self._router()))

    def cut_networks(self, networks: Sequence[Network]) -> list[Network]:
        """Cut networks off, besides those that are; return all that are."""
        router = self._router()
        return self._set_cut(router, added(self._cut(router), networks))

    def heal_networks(self, networks: Sequence[Network] | None = None) -> list[Network]:
        """Join networks again, or all; return what stays cut. With a router that does not run nothing is."""
        router = self.places().only("router")
        if not router.is_running:
            return []
        return self._set_cut(router, [] if networks is None else removed(self._cut(router), networks))

    def _set_cut(self, router: Container, networks: list[Network]) -> list[Network]:
        # Both at once, so that there is no moment without a cut in between.
        commands = f"flush {' '.join(SET)}"
        if networks:
            commands += f"; add element {' '.join(SET[1:])} {{ {', '.join(str(network) for network in networks)} }}"
        engine.docker("exec", router.id, "nft", commands)
        return networks

    def cut(self, *words: str) -> list[str]:
        """Cut places off from the other side until they are healed; return all that is cut off now.

        Neighbours on one side go on hearing each other, as they do when a line between two cities breaks.
        """
        return [str(network) for network in self.cut_networks(self.networks_at(words))]

    def heal(self, *words: str) -> list[str]:
        """Join places again, all of them if none is named; return what is cut off now."""
        networks = self.networks_at(words) if words else None
        return [str(network) for network in self.heal_networks(networks)]

    # Impairing

    def impair(
        self,
        impairment: Impairment,
        *,
        at: Sequence[str] = (),
        to: Sequence[str] = (),
        every_link: bool = False,
        seed: int = 0,
        fault: str | None = None,
    ) -> list[Impaired]:
        """Impair what leaves the places `at`, or every node of the overlay, or else what crosses between the sides.

        `to` names the destinations; none is all. Each place has a seed of its own, counted up from `seed`.
        """
        if impairment == Impairment():
            raise UsageError("it changes nothing", place="impair", hint="say --delay-ms, --loss-percent or another")
        places = self.places()
        destinations = [str(network) for word in to for network in places.networks_at(word)]
        if at or every_link:
            targets = places.overlay() if every_link else self.containers_at(at)
            paths = [("any", destination) for destination in destinations]
        else:
            targets = [self._router()]
            paths = crossing(list(places.sides.values()), destinations)
        method = "tun" if paths or not self.has_netem() else "netem"
        plans = [
            sidecars.Plan(container, impairment, method, paths, seed + index)
            for index, container in enumerate(each for each in targets if each.is_running)
        ]
        self._refuse_twice(plans)
        sidecars.start(self.project, fault or secrets.token_hex(4), plans)
        return [Impaired(plan.container.place, method, plan.seed if method == "tun" else None) for plan in plans]

    def _refuse_twice(self, plans: Sequence[sidecars.Plan]) -> None:
        impaired = {sidecar.of for sidecar in sidecars.impairing(self.project)}
        for plan in plans:
            if plan.container.id in impaired:
                hint = "python -m deploy.testbed unimpair"
                raise UsageError("is impaired already", place=plan.container.place, hint=hint)

    def has_netem(self) -> bool:
        """Return whether the kernel has netem; asked once."""
        if self._has_netem is None:
            self._has_netem = sidecars.has_netem(self.project)
        return self._has_netem

    def unimpair(self, *, fault: str | None = None) -> list[dict[str, object]]:
        """End all impairing, or that of one fault; return where it was and what it counted."""
        return sidecars.end(sidecars.impairing(self.project, fault=fault))

    # Processes

    def kill(self, *words: str, signal_name: str = "KILL") -> list[str]:
        """Send a signal to what runs at places; return those."""
        running = [container for container in self.containers_at(words) if container.is_running]
        if running:
            engine.docker("kill", f"--signal={signal_name}", *(container.id for container in running))
        return [container.place for container in running]

    def start(self, *words: str) -> list[str]:
        """Start what does not run at places, with their impairments; a service that waits for its hour is made."""
        known = {container.service for container in self.places().containers}
        made = [word for word in words if word.partition("/")[0] not in known and word in self._services_that_wait()]
        if made:
            engine.compose(self.project, "up", "--detach", "--no-deps", "--no-recreate", *made)
        stopped = [each for each in self.containers_at([w for w in words if w not in made]) if not each.is_running]
        self.start_ids([container.id for container in stopped])
        return [container.place for container in [*self.containers_at(made), *stopped]]

    def _services_that_wait(self) -> list[str]:
        listed = engine.compose(self.project, "config", "--services").split()
        return [service for service in listed if service not in self._services_of_the_start() and service != "dig"]

    def start_ids(self, ids: Sequence[str]) -> None:
        """Start containers that are still there, with their impairments."""
        there = [str(facts["Id"]) for facts in engine.inspected(*ids)]
        if there:
            engine.docker("start", *there)
            sidecars.again(self.project, there)

    def restart(self, *words: str) -> list[dict[str, object]]:
        """Restart places one after the other, as somebody does who keeps a service up; return how long each took."""
        restarted: list[dict[str, object]] = []
        for container in self.containers_at(words):
            began = time.monotonic()
            engine.docker("restart", f"--time={STOP_SECONDS}", container.id)
            sidecars.again(self.project, [container.id])
            restarted.append({"place": container.place, "ms": round((time.monotonic() - began) * 1000)})
        return restarted

    # Asking

    def dig(self, questions: Sequence[tuple[str, str]], *, at: str | None = None) -> list[Answer]:
        """Ask questions, one after the other: the server inside the container `at`, or that of the published port."""
        answers: list[Answer] = []
        prefix, digging = self._digger(at)
        for begin in range(0, len(questions), QUESTIONS_PER_DIG_MAX):
            some = questions[begin : begin + QUESTIONS_PER_DIG_MAX]
            # dig says with its exit code what its output says better.
            seconds_max = len(some) * WAIT_SECONDS + engine.COMMAND_SECONDS_MAX
            text = engine.run([*prefix, *digging.command(some)], seconds_max=seconds_max, check=False)
            answers += read_answers(some, text)
        return answers

    def _digger(self, at: str | None) -> tuple[list[str], Digging]:
        if at is None:
            port = published_port()
            if shutil.which("dig") is None:
                hint = "install it (Debian: bind9-dnsutils), or ask inside with --from resolver"
                raise Unavailable("no such command", place="dig", hint=hint)
            return [], Digging("127.0.0.1", port)
        container = self.containers_at([at])[0]
        if not container.is_running:
            hint = f"python -m deploy.testbed start {container.place}"
            raise Unavailable("does not run", place=container.place, hint=hint)
        port = SERVER_DNS_PORT if container.role in ("resolver", "upstream") else NODE_DNS_PORT
        prefix = sidecars.command("dig", self.project, f"container:{container.id}", "--rm", sidecars.TOOLS_IMAGE)
        return ["docker", *prefix], Digging("127.0.0.1", port)

    def faults(self) -> Faults:
        """Return a block of faults that are undone at its end."""
        return Faults(self)


def published_port() -> int:
    """Return the port of this machine that leads to the resolver; UsageError where the environment says none."""
    text = os.environ.get("P2PDNS_TESTBED_PORT") or str(DEFAULT_PORT)
    if not (text.isascii() and text.isdecimal() and len(text) <= 5 and 0 < int(text) < 65_536):
        raise UsageError(f'"{text}" is not a port', place="$P2PDNS_TESTBED_PORT", hint="a number from 1 to 65535")
    return int(text)


def networks_of(element: Any) -> list[Network]:
    """Return the networks of an element of nft's set: an address, a prefix, or a range of neighbours.

    >>> networks_of({"range": ["10.91.1.129", "10.91.1.131"]})
    [IPv4Network('10.91.1.129/32'), IPv4Network('10.91.1.130/31')]
    """
    if not isinstance(element, dict):
        return [Network(element)]
    if "prefix" in element:
        return [Network((element["prefix"]["addr"], element["prefix"]["len"]))]
    first, last = (ipaddress.IPv4Address(end) for end in element["range"])
    return list(ipaddress.summarize_address_range(first, last))


def crossing(sides: Sequence[Network], destinations: Sequence[str]) -> list[tuple[str, str]]:
    """Return the paths over the router that lead to the destinations, from the other side of each.

    Whoever asks on the published port comes from neither side, and finds a resolver as near as ever.
    """
    ends = [Network(destination) for destination in destinations] or sides
    return [
        (str(source), str(destination)) for destination in ends for source in sides if not destination.subnet_of(source)
    ]
