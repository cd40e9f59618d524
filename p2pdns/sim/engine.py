"""One machine of a simulated world: a node and its endpoint, and above them the other parts of an engine.

Guarantees: only the socket and the database are stand-ins, all else is our own code. Does not know the scenario.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from p2pdns.addresses import Address
from p2pdns.clock import boot_now, unix_now
from p2pdns.dht.node.machine import Node
from p2pdns.dht.node.values import NodeSettings
from p2pdns.dht.routing.contact import SavedContact
from p2pdns.dht.storage import Storage
from p2pdns.items.keys import ZoneId
from p2pdns.limits import QUESTION_S_MAX
from p2pdns.net.endpoint import Endpoint
from p2pdns.net.upstream.asking import Upstream
from p2pdns.overlay.finder import Overlay
from p2pdns.overlay.ports import Tell
from p2pdns.publishing.upkeep import Publisher
from p2pdns.resolver.names import ResolverSettings
from p2pdns.resolver.service import Service
from p2pdns.resolver.steps import Budget
from p2pdns.sim.memory import MemoryState
from p2pdns.sim.network import VirtualNetwork

PORT = 6_881
NETWORK_NAME = "simulated"
FIRST_OCTETS = range(11, 91)  # Public space that no block of special use reaches into.
SPREADING = 40_503  # Odd, and 2¹⁶ divided by the golden ratio: its multiples fill 16 bits evenly, each once.
HOSTS_MAX = 1 << 16

MakeNode = Callable[..., Node]
"""Makes the node of a machine from the arguments of `Node`; that of a hostile machine lies."""


def host_of(number: int) -> str:
    """Return the address of a machine, another for each number: in a /16 of its own as long as there are some.

    BEP 42 derives the first bits of an id from the address, from the low bits of each octet. So these must differ much,
    or the ids of a world would lie on a few points of the circle.

    >>> host_of(0), host_of(1), host_of(20_480)
    ('11.0.0.1', '12.0.158.56', '11.0.48.1')
    """
    assert number < HOSTS_MAX, "no more addresses of this kind"
    rest, first = divmod(number, len(FIRST_OCTETS))
    third, fourth = divmod((number * SPREADING + 1) % HOSTS_MAX, 256)
    return f"{FIRST_OCTETS[first]}.{rest % 256}.{third}.{fourth}"


class VirtualEngine:
    """A machine that can be started, stopped and started again."""

    def __init__(
        self, network: VirtualNetwork, host: str, seed: str, tell: Tell, make_node: MakeNode | None = None
    ) -> None:
        self.address: Address = (host, PORT)
        self.is_honest = make_node is None
        self.state = MemoryState()
        self.is_up = False
        self._network = network
        self._tell = tell
        self._make_node: MakeNode = make_node or Node
        self._random = random.Random(seed)
        self._node_id: bytes | None = None
        self._saved: Sequence[SavedContact] = ()

    async def start(self, known: Sequence[Address] = ()) -> None:
        """Start, or start again with the kept state; return once the neighbourhood is known."""
        self.node = self._make_node(
            node_id=self._node_id,
            network=NETWORK_NAME,
            entropy=self._random.randbytes,
            storage=Storage(),
            settings=NodeSettings(bind_host=self.address[0]),
            now=boot_now(),
        )
        self.node.restore_contacts(self._saved, boot_now())
        self.endpoint = Endpoint(self.node, self._network.open(self.address))
        self.overlay = Overlay(self.endpoint, self.state, clock=boot_now, unix_clock=unix_now, tell=self._tell)
        self.endpoint.on_arrival = self.overlay.item_arrived
        self.service = Service(self.overlay, Upstream((), clock=boot_now), ResolverSettings(), clock=boot_now)
        self.overlay.on_invalidate = self.service.invalidate
        self.endpoint.on_joined = self.overlay.joined
        self.publisher = Publisher(
            self.endpoint,
            self.state,
            clock=boot_now,
            unix_clock=unix_now,
            jitter=self._random.random,
            tell=self._tell,
            on_published=self.overlay.published,
            look_up=self._look_up,
        )
        self.is_up = True
        if known:
            await self.endpoint.bootstrap(known)
        self.publisher.start()

    async def _look_up(self, zone_id: ZoneId) -> None:
        self.overlay.flush(zone_id)
        await self.overlay.zone(zone_id, True, Budget(deadline=boot_now() + QUESTION_S_MAX))

    async def stop(self) -> None:
        """End as a process does: items stored for others are gone, its own state stays."""
        self.is_up = False
        self._node_id, self._saved = self.node.node_id, self.node.contacts(boot_now())
        self.service.close()
        await self.publisher.close()
        await self.overlay.close()
        self.endpoint.close()
