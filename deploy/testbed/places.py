"""The places of a testbed by the words of its users: sides, addresses, SERVICE and SERVICE/N.

Guarantees: what a word means depends on the labels of the containers and on nothing else; an unknown one is a
`UsageError` with the nearest known. Does not ask the engine: it is given what the engine has said.
"""

from __future__ import annotations

import ipaddress
import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from deploy.testbed import engine
from p2pdns.errors import UsageError, did_you_mean

ROLE, SIDE = "org.p2pdns.role", "org.p2pdns.side"
# The roles that take part in the overlay; the others carry it, or attack it.
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
        return f"{self.service}/{self.number}"

    @property
    def is_running(self) -> bool:
        return self.state == "running"

    @property
    def dns_port(self) -> int:
        return 53 if self.role in ("resolver", "upstream") else 5300

    def facts(self) -> dict[str, object]:
        """Return the facts that `status` shows."""
        shown = ("place", "role", "side", "state", "health", "addresses")
        return {name: getattr(self, name) for name in shown}


def container_of(facts: Mapping[str, Any]) -> Container | None:
    """Return the container that `docker inspect` describes, or None when it is none of the testbed's services."""
    labels = facts["Config"].get("Labels") or {}
    if ROLE not in labels or engine.SERVICE not in labels or labels.get(engine.ONE_OFF, "").lower() == "true":
        return None
    # The project precedes the network's name; the separator differs between the generations of compose.
    project = labels[engine.PROJECT]
    networks = facts["NetworkSettings"]["Networks"]
    addresses = {name.removeprefix(project).lstrip("_-"): networks[name].get("IPAddress") for name in sorted(networks)}
    return Container(
        id=facts["Id"],
        service=labels[engine.SERVICE],
        number=int(labels[engine.NUMBER]),
        role=labels[ROLE],
        side=labels.get(SIDE),
        state=facts["State"]["Status"],
        health=(facts["State"].get("Health") or {}).get("Status"),
        addresses={name: address for name, address in addresses.items() if address},
    )


class Places(tuple[Container, ...]):
    """All containers of a testbed."""

    def containers_at(self, *words: str) -> list[Container]:
        """Return the containers that SERVICE, SERVICE/N or an address means, at least one a word, each once."""
        return list(dict.fromkeys(container for word in words for container in self._at(word)))

    def _at(self, word: str) -> list[Container]:
        if found := [each for each in self if word in (each.service, each.place, *each.addresses.values())]:
            return found
        services = sorted({container.service for container in self})
        near = did_you_mean(word, [*services, *(container.place for container in self)])
        hint = near or f"the services are {', '.join(services)}; SERVICE/N is one"
        raise UsageError("no such place", place=f'"{word}"', hint=hint)

    def networks_at(self, *words: str) -> list[Network]:
        """Return the networks that a side, an address, a network, SERVICE or SERVICE/N means, none inside another.

        A word that is both a side and a service is the side: networks are cut and impaired.
        """
        return added(network for word in words for network in self._networks_of(word))

    def _networks_of(self, word: str) -> list[Network]:
        if word in SIDES:
            return [SIDES[word]]
        try:
            network = Network(word)
        except ValueError:
            return self._addresses_of(word)
        if not any(network.subnet_of(side) for side in SIDES.values()):
            sides = " or ".join(str(side) for side in SIDES.values())
            raise UsageError("not within the testbed", place=f'"{word}"', hint=f"say an address in {sides}")
        return [network]

    def _addresses_of(self, word: str) -> list[Network]:
        found = self._at(word)
        if any(container.role == "router" for container in found):
            hint = "say which side or container shall be cut off"
            raise UsageError("the router is what joins the sides", place=f'"{word}"', hint=hint)
        if addresses := [Network(address) for container in found for address in container.addresses.values()]:
            return addresses
        hint = f"python -m deploy.testbed start {word}"
        raise UsageError("has no address while it does not run", place=f'"{word}"', hint=hint)

    def router(self) -> Container:
        """Return the router, running or not."""
        for container in self:
            if container.role == "router":
                return container
        raise UsageError("there is no router", place="testbed", hint="python -m deploy.testbed up")

    def overlay(self) -> list[Container]:
        """Return the nodes of the overlay that run."""
        return [each for each in self if each.role in OVERLAY_ROLES and each.is_running]


def added(*networks: Iterable[Network]) -> list[Network]:
    """Return networks that cover all of these, none inside another."""
    return list(ipaddress.collapse_addresses(itertools.chain(*networks)))


def removed(networks: Iterable[Network], fewer: Iterable[Network]) -> list[Network]:
    """Return networks that cover the first and nothing of the second. Both sides together are 512 addresses."""
    holes = list(fewer)
    addresses = (address for network in networks for address in network if not any(address in hole for hole in holes))
    return added(map(Network, addresses))
