"""The places of a testbed by the words of its users: sides, addresses, SERVICE and SERVICE/N.

Guarantees: what a word means depends on the labels of the containers and on nothing else; an unknown one is a
`UsageError` with the nearest known. Does not ask the engine: it is given what the engine has said.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from deploy.testbed import engine
from p2pdns.errors import UsageError, did_you_mean

ROLE, SIDE = "org.p2pdns.role", "org.p2pdns.side"
# Who takes part in the overlay; the others are the ground it stands on, or its enemies.
OVERLAY_ROLES = ("boot", "node", "publisher", "resolver", "newcomer")
Network = ipaddress.IPv4Network
SIDES = {"west": Network("10.91.1.0/24"), "east": Network("10.91.2.0/24")}


@dataclass(frozen=True)
class Container:
    """A container of the testbed. `addresses` is by network and empty while it does not run."""

    id: str
    service: str
    number: int
    role: str
    side: str | None
    state: str = field(compare=False)
    health: str | None = field(compare=False)
    addresses: Mapping[str, str] = field(compare=False)

    @property
    def place(self) -> str:
        """Return the word for this one, SERVICE/N."""
        return f"{self.service}/{self.number}"

    @property
    def is_running(self) -> bool:
        """Return whether it runs."""
        return self.state == "running"

    def facts(self) -> dict[str, object]:
        """Return what a person or a script wants to know of it."""
        told = ("role", "side", "state", "health", "addresses")
        return {"place": self.place, **{name: value for name, value in asdict(self).items() if name in told}}


def container_of(facts: Mapping[str, Any]) -> Container | None:
    """Return the container that `docker inspect` describes, or None when it is none of the testbed's services."""
    labels = facts["Config"].get("Labels") or {}
    if ROLE not in labels or engine.SERVICE not in labels or labels.get(engine.ONE_OFF, "").lower() == "true":
        return None
    # What precedes the network's name is the project, which compose writes with another separator now and then.
    project = labels[engine.PROJECT]
    addresses = {
        name.removeprefix(project).lstrip("_-"): network["IPAddress"]
        for name, network in sorted(facts["NetworkSettings"]["Networks"].items())
        if network.get("IPAddress")
    }
    return Container(
        id=facts["Id"],
        service=labels[engine.SERVICE],
        number=int(labels[engine.NUMBER]),
        role=labels[ROLE],
        side=labels.get(SIDE),
        state=facts["State"]["Status"],
        health=(facts["State"].get("Health") or {}).get("Status"),
        addresses=addresses,
    )


@dataclass(frozen=True)
class Places:
    """All containers of a testbed."""

    containers: Sequence[Container]

    def containers_at(self, word: str) -> list[Container]:
        """Return the containers that SERVICE, SERVICE/N or an address means, at least one."""
        service, slash, number = word.partition("/")
        found = [
            container
            for container in self.containers
            if (container.service == service and (not slash or str(container.number) == number))
            or word in container.addresses.values()
        ]
        if not found:
            raise self._unknown(word)
        return found

    def networks_at(self, word: str) -> list[Network]:
        """Return the networks that a side, an address, a network, SERVICE or SERVICE/N means, at least one.

        A word that is both a side and a service is the side: what is cut or impaired is a place in the network.
        """
        if word in SIDES:
            return [SIDES[word]]
        try:
            network = Network(word)
        except ValueError:
            return self._networks_of(word)
        if not any(network.subnet_of(side) for side in SIDES.values()):
            sides = " or ".join(str(side) for side in SIDES.values())
            raise UsageError("not within the testbed", place=f'"{word}"', hint=f"say an address in {sides}")
        return [network]

    def _networks_of(self, word: str) -> list[Network]:
        found = self.containers_at(word)
        if any(container.role == "router" for container in found):
            hint = "say which side or container shall be cut off"
            raise UsageError("the router is what joins the sides", place=f'"{word}"', hint=hint)
        addresses = [Network(address) for container in found for address in container.addresses.values()]
        if not addresses:
            hint = f"python -m deploy.testbed start {word}"
            raise UsageError("has no address while it does not run", place=f'"{word}"', hint=hint)
        return addresses

    def router(self) -> Container:
        """Return the router, running or not."""
        for container in self.containers:
            if container.role == "router":
                return container
        raise UsageError("there is no router", place="testbed", hint="python -m deploy.testbed up")

    def overlay(self) -> list[Container]:
        """Return the nodes of the overlay that run."""
        return [each for each in self.containers if each.role in OVERLAY_ROLES and each.is_running]

    def _unknown(self, word: str) -> UsageError:
        services = sorted({container.service for container in self.containers})
        near = did_you_mean(word, [*services, *(container.place for container in self.containers)])
        hint = near or f"the services are {', '.join(services)}; SERVICE/N is one"
        return UsageError("no such place", place=f'"{word}"', hint=hint)


def added(networks: Sequence[Network], more: Sequence[Network]) -> list[Network]:
    """Return networks that cover both, none inside another.

    >>> [str(each) for each in added([Network("10.91.1.7")], [Network("10.91.1.0/24")])]
    ['10.91.1.0/24']
    """
    return list(ipaddress.collapse_addresses([*networks, *more]))


def removed(networks: Sequence[Network], fewer: Sequence[Network]) -> list[Network]:
    """Return networks that cover the first and nothing of the second.

    >>> [str(each) for each in removed([Network("10.91.1.0/30")], [Network("10.91.1.0")])]
    ['10.91.1.1/32', '10.91.1.2/31']
    """
    left = list(networks)
    for hole in fewer:
        pieces: list[Network] = []
        for network in left:
            if hole.subnet_of(network):
                pieces += network.address_exclude(hole)
            elif not network.subnet_of(hole):
                pieces.append(network)
        left = pieces
    return added(left, [])
