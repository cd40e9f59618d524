"""A testbed as an object: brought up and down, looked at, broken and healed.

Guarantees: the faults that are on are kept in the containers themselves (the router's set of cut networks, sidecars
with labels), so that every program which looks sees the same; what a method returns is JSON. Does not print, and does
not wait for the overlay inside to do something.
"""

from __future__ import annotations

import ipaddress
import json
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from deploy.testbed import engine, sidecars
from deploy.testbed.impair import Impairment
from deploy.testbed.places import ROLE, SIDES, Container, Network, Places, added, container_of, removed
from p2pdns.errors import Unavailable, UsageError

DEFAULT_PROJECT = "p2pdns"
DEFAULT_PORT = 5301
SET = ("set", "inet", "faults", "cut")
STOP_S = 10  # A node that was told to stop writes its contacts down, which takes a moment on a busy machine.
# With the profiles on, compose would start those of LATER too: the others have to be named.
AT_FIRST = ("router", "boot-west", "boot-east", *SIDES, "publisher", "resolver", "upstream")
LATER = ("newcomer", "hostile")


class Testbed:
    """The containers of one compose project."""

    __test__ = False  # pytest takes every class of such a name for tests.

    def __init__(self, project: str) -> None:
        self.project = project
        self.label = f"{engine.PROJECT}={project}"

    @classmethod
    def find(cls) -> Testbed:
        """Return the testbed that is up; `Unavailable` when none is."""
        testbed = cls(cls.project_here())
        if not engine.container_ids(ROLE, testbed.label):
            raise Unavailable("nothing is up", place="testbed", hint="python -m deploy.testbed up")
        return testbed

    @staticmethod
    def project_here() -> str:
        """Return the compose project of the testbed on this machine, or the project for a new one."""
        # Its networks have fixed addresses, so a machine has one at a time, under any name.
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
        sizes = [f"--scale={service}={count}" for service, count in (scale or {}).items()]
        before = engine.volumes_of(testbed.label)
        engine.compose(testbed.project, "up", "--detach", *sizes, *AT_FIRST)
        # Where a side has become smaller, compose takes the containers away and leaves their state.
        engine.remove_volumes(before - engine.volumes_of(testbed.label))
        return testbed

    def down(self, *, seconds: int = STOP_S) -> int:
        """Take everything away, with all faults and all state; return how many containers there were.

        What has not ended within `seconds` is killed.
        """
        count = len(engine.container_ids(self.label))
        volumes = engine.volumes_of(self.label)
        sidecars.remove(self.project)
        engine.compose(self.project, "down", "--volumes", "--remove-orphans", "--timeout", str(seconds))
        engine.remove_volumes(volumes)
        return count

    # Looking

    def places(self) -> Places:
        """Return the places as they are now."""
        facts = engine.inspected(*engine.container_ids(self.label))
        found = [container for each in facts if (container := container_of(each)) is not None]
        return Places(sorted(found, key=lambda container: (container.service, container.number)))

    def status(self) -> dict[str, Any]:
        """Return containers and faults."""
        places = self.places()
        is_router_up = places.router().is_running
        return {
            "project": self.project,
            "sides": {side: str(network) for side, network in SIDES.items()},
            "containers": [container.facts() for container in places],
            "faults": {
                "cut": [str(network) for network in self.cut_now()] if is_router_up else [],
                "impaired": self.impaired_now(),
                "stopped": [container.place for container in places if not container.is_running],
            },
            "counters": self.counters() if is_router_up else {},
        }

    def counters(self) -> dict[str, int]:
        """Return the packets that the router has counted, by the names of its counters: "cut", "outside", "answers"."""
        counters = [entry["counter"] for entry in self.nft("list", "counters") if "counter" in entry]
        return {counter["name"]: counter["packets"] for counter in counters}

    def nft(self, *words: str) -> list[dict[str, Any]]:
        """Run a command of the router's packet filter; return its list."""
        router = self._running(self.places().router())
        printed = engine.docker("exec", router.id, "nft", "--json", *words)
        listed: list[dict[str, Any]] = json.loads(printed)["nftables"] if printed.strip() else []
        return listed

    @staticmethod
    def _running(container: Container) -> Container:
        if not container.is_running:
            hint = f"python -m deploy.testbed start {container.place}"
            raise Unavailable("does not run", place=container.place, hint=hint)
        return container

    # Cutting

    def cut_now(self) -> list[Network]:
        """Return the networks that are cut off now."""
        elements = [each for entry in self.nft("list", *SET) for each in entry.get("set", {}).get("elem", [])]
        return added(network for element in elements for network in networks_of(element))

    def cut(self, *words: str) -> list[str]:
        """Cut places off from the other side until they are healed; return all that is cut off now.

        Neighbours on one side go on hearing each other, as they do when a line between two cities breaks.
        """
        return self._set_cut(added(self.cut_now(), self.places().networks_at(*words)))

    def heal(self, *words: str) -> list[str]:
        """Join places again, all if none is named; return the networks that stay cut, none if the router is down."""
        places = self.places()
        networks = places.networks_at(*words)
        if not places.router().is_running:
            return []
        return self._set_cut(removed(self.cut_now(), networks) if words else [])

    def _set_cut(self, networks: list[Network]) -> list[str]:
        words = [str(network) for network in networks]
        # Both at once, so that there is no moment without a cut in between.
        more = f"; add element {' '.join(SET[1:])} {{ {', '.join(words)} }}" if words else ""
        self.nft(f"flush {' '.join(SET)}{more}")
        return words

    # Impairing

    def impaired_now(self, fault: str = "") -> list[dict[str, Any]]:
        """Return where packets are impaired now and how, or where one fault does so."""
        return [{"where": each.where, **each.what} for each in sidecars.impairing(self.project, fault=fault)]

    def impair(
        self,
        impairment: Impairment,
        *,
        at: Sequence[str] = (),
        to: Sequence[str] = (),
        every_link: bool = False,
        seed: int = 0,
        fault: str = "",
    ) -> list[dict[str, Any]]:
        """Impair packets that leave the places `at`, or every node of the overlay, or else those that cross the router.

        `to` names the destinations; none is all. Each place has a seed of its own, counted up from `seed`; netem takes
        none. The list that is returned says where packets are impaired now and how: by "netem", or by "tun", our own
        way where the kernel has none.
        """
        if impairment == Impairment():
            raise UsageError("it changes nothing", place="impair", hint="say --delay-ms, --loss-percent or another")
        places = self.places()
        destinations = places.networks_at(*to)
        if at or every_link:
            named = places.overlay() if every_link else places.containers_at(*at)
            targets = [each for each in named if each.is_running]
            paths = [("any", str(destination)) for destination in destinations]
        else:
            targets = [self._running(places.router())]
            paths = crossing(destinations)
        method = "tun" if paths or not sidecars.has_netem(self.project) else "netem"
        impaired = {sidecar.of for sidecar in sidecars.impairing(self.project)}
        if again := [each.place for each in targets if each.id in impaired]:
            raise UsageError("is impaired already", place=again[0], hint="python -m deploy.testbed unimpair")
        sidecars.start(self.project, fault, targets, method, impairment, paths, seed)
        return self.impaired_now(fault)

    def unimpair(self, *, fault: str = "") -> list[dict[str, Any]]:
        """End all impairing, or that of one fault; return the places and their counters."""
        return sidecars.end(sidecars.impairing(self.project, fault=fault))

    # Processes

    def kill(self, *words: str, signal_name: str = "KILL") -> list[str]:
        """Send a signal to the containers that run at places; return their places."""
        running = [container for container in self.places().containers_at(*words) if container.is_running]
        if running:
            engine.docker("kill", f"--signal={signal_name}", *(container.id for container in running))
        return [container.place for container in running]

    def start(self, *words: str) -> list[str]:
        """Start containers that do not run, with their impairments; those of LATER are made the first time."""
        known = {container.service for container in self.places()}
        made = [word for word in words if word in LATER and word not in known]
        if made:
            engine.compose(self.project, "up", "--detach", "--no-deps", "--no-recreate", *made)
        places = self.places()
        stopped = [each for each in places.containers_at(*words) if not each.is_running]
        self.start_ids([container.id for container in stopped])
        return [container.place for container in [*places.containers_at(*made), *stopped]]

    def start_ids(self, ids: Sequence[str]) -> None:
        """Start containers that are still there, with their impairments."""
        if there := [str(facts["Id"]) for facts in engine.inspected(*ids)]:
            engine.docker("start", *there)
            sidecars.again(self.project, there)

    def restart(self, *words: str) -> list[str]:
        """Restart places one after the other, so that the service stays up; return them."""
        containers = self.places().containers_at(*words)
        for container in containers:
            engine.docker("restart", f"--time={STOP_S}", container.id)
            sidecars.again(self.project, [container.id])
        return [container.place for container in containers]

    # Asking

    def dig(self, name: str, kind: str, *, at: str | None, port: int) -> dict[str, Any]:
        """Ask a question of the server inside the container `at`, or of the port of this machine that is published.

        The answer is that of `p2pdns resolve --json`, with "error" and "exit" where there is none.
        """
        prefix = [sys.executable]
        if at is not None:
            container = self._running(self.places().containers_at(at)[0])
            prefix, port = ["docker", "exec", container.id, "python"], container.dns_port
        # The petnames of this machine end no name that ends in a dot.
        words = ["-m", "p2pdns", "resolve", "--json", "--", f"{name.rstrip('.')}.", kind, f"@127.0.0.1:{port}"]
        answer: dict[str, Any] = json.loads(engine.run([*prefix, *words], check=False))
        return answer


def networks_of(element: Any) -> list[Network]:
    """Return the networks of an element of nft's set: an address, a prefix, or a range of neighbours."""
    if not isinstance(element, dict):
        return [Network(element)]
    if "prefix" in element:
        return [Network((element["prefix"]["addr"], element["prefix"]["len"]))]
    first, last = (ipaddress.IPv4Address(end) for end in element["range"])
    return list(ipaddress.summarize_address_range(first, last))


def crossing(destinations: Sequence[Network]) -> list[tuple[str, str]]:
    """Return the paths over the router to the destinations, or to both sides, from the other side of each.

    A question on the published port comes from neither side, so its way to the resolver is never impaired.
    """
    sides = SIDES.values()
    return [(str(side), str(end)) for end in destinations or sides for side in sides if not end.subnet_of(side)]
