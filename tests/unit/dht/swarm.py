"""Nodes alone on the simulated network: no endpoint, overlay or publisher is above them, and a test turns the time.

Guarantees: the same seed gives the same history; nothing here opens a socket or reads a clock.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from p2pdns.addresses import Address
from p2pdns.dht import krpc
from p2pdns.dht.node.machine import Node
from p2pdns.dht.node.values import (
    Event,
    GetDone,
    GetOutcome,
    Inquiry,
    InquiryDone,
    InquiryOutcome,
    ItemFound,
    Joined,
    NodeSettings,
    PutDone,
    PutOutcome,
    Wanted,
)
from p2pdns.dht.routing.ids import distance
from p2pdns.dht.storage import Storage
from p2pdns.items.item import ImmutableItem, MutableItem, Present
from p2pdns.items.keys import SecretKey, ZoneKey
from p2pdns.items.shards.pinned import Pinned
from p2pdns.sim.loop import VirtualLoop
from p2pdns.sim.network import LOST, Datagram, Fate, VirtualNetwork, Weather

DELAY_S = 0.005
DATAGRAM_BYTES_MAX = 2_049  # As an endpoint reads.
UNIX_NOW = 1_800_000_000.0

# The loops of the swarms of one test; they are closed after it, see conftest.
LOOPS: list[VirtualLoop] = []

E = TypeVar("E")


class _Shell:
    """Between a node and the network: receive, send, hear events, set the timer; and nothing of its own."""

    def __init__(self, swarm: Swarm, address: Address, node: Node) -> None:
        self._swarm = swarm
        self._address = address
        self._node = node
        self._socket = swarm.network.open(address)
        self._timer: asyncio.TimerHandle | None = None
        swarm.loop.add_reader(self._socket, self._receive)

    def _receive(self) -> None:
        data, sender = self._socket.recvfrom(DATAGRAM_BYTES_MAX)
        if self._address not in self._swarm.dead:
            self._node.receive_datagram(data, sender, self._swarm.now)
            self.flush()

    def _timer_is_due(self, due: float) -> None:
        if self._address not in self._swarm.dead and self._node.get_timer() == due:
            self._node.handle_timer(due)
        self.flush()

    def flush(self) -> None:
        """Send what the node would send now, keep its events, and set the timer that it asks for."""
        for data, target in self._node.datagrams_to_send(self._swarm.now):
            self._socket.sendto(data, target)
        while (event := self._node.next_event()) is not None:
            self._swarm.events[self._address].append(event)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        due = self._node.get_timer()
        if due is not None and self._address not in self._swarm.dead:
            self._timer = self._swarm.loop.call_at(due, self._timer_is_due, due)
        self._swarm.something_happened()


class Swarm:
    """A world of nodes without what is above them. `is_lost(data, source, target)` decides what does not arrive."""

    def __init__(self, seed: int = 1, *, network: str = "swarm", **settings: object) -> None:
        self.loop = VirtualLoop()
        LOOPS.append(self.loop)
        self.network = VirtualNetwork(self.loop, seed)
        self.set_delay(DELAY_S)
        self.network.rules.append(self._fate)
        self.rng = random.Random(seed)
        self.nodes: dict[Address, Node] = {}
        self.dead: dict[Address, None] = {}
        self.events: dict[Address, list[Event]] = {}
        self.trace: list[tuple[Address, Address, int]] = []
        self.seen: dict[Address, list[tuple[bytes, Address]]] = {}
        self.is_lost: Callable[[bytes, Address, Address], bool] = lambda data, source, target: False
        self._network_name = network
        self._settings = settings
        self._shells: dict[Address, _Shell] = {}
        self._is_injecting = False
        self._is_enough: Callable[[], bool] = lambda: False
        self._enough: asyncio.Future[None] | None = None

    @property
    def now(self) -> float:
        """The virtual time, which a test may turn."""
        return self.loop.time()

    @now.setter
    def now(self, now: float) -> None:
        self.loop.now = now

    def set_delay(self, delay_s: float, jitter: float = 0.0) -> None:
        """Have each datagram take so long from now on, and up to a share `jitter` longer."""
        self.network.weather = Weather(rtt_s_median=2 * delay_s, rtt_sigma=0.0, jitter=jitter)

    def _fate(self, datagram: Datagram) -> Fate | None:
        if self._is_injecting:
            return (0.0,)
        data, source, target = datagram.data, datagram.sender, datagram.receiver
        self.trace.append((source, target, len(data)))
        self.seen.setdefault(target, []).append((data, source))
        return LOST if source in self.dead or self.is_lost(data, source, target) else (0.0,)

    def new_node(self, host: str = "127.0.0.1", **more: object) -> Node:
        """Add a node that knows nobody."""
        settings = NodeSettings(**({"bind_host": host} | self._settings | more))  # type: ignore[arg-type]
        node = Node(
            node_id=None,
            network=self._network_name,
            entropy=self.rng.randbytes,
            storage=Storage(),
            settings=settings,
            now=self.now,
        )
        address = (host, 10_000 + len(self.nodes))
        self.nodes[address] = node
        self.events[address] = []
        return node

    def grow(self, count: int) -> None:
        """Add nodes that join by an earlier one, and let everything settle."""
        for _ in range(count):
            known = list(self.nodes)
            node = self.new_node()
            if known:
                node.add_bootstrap([self.rng.choice(known)], self.now)
                self.run_until(partial(self._has_joined, node))
        self.run_until(lambda: not any(node.operation_count for node in self.nodes.values()))
        self.run_for(1.0)
        for events in self.events.values():
            events.clear()

    def _has_joined(self, node: Node) -> bool:
        return self.took(node, Joined) is not None

    def address_of(self, node: Node) -> Address:
        """Return where a node is."""
        return next(address for address, other in self.nodes.items() if other is node)

    def took(self, node: Node, kind: type[E]) -> E | None:
        """Return the first event of this kind that the node has told of."""
        return next((event for event in self.events[self.address_of(node)] if isinstance(event, kind)), None)

    def kill(self, node: Node) -> None:
        """Make a node silent for ever."""
        self.dead[self.address_of(node)] = None

    def inject(self, data: bytes, source: Address, target: Address) -> None:
        """Have a datagram arrive that no node of ours has sent."""
        self._open_shells()
        self._is_injecting = True
        self.network.send(data, source, target)
        self._is_injecting = False

    def run_until(self, is_enough: Callable[[], bool], limit_s: float = 30.0) -> None:
        """Let datagrams arrive and timers fire until something holds; AssertionError when it does not in time."""
        self._is_enough = is_enough
        self._enough = self.loop.create_future()
        self._begin()
        try:
            self.loop.run_until_complete(asyncio.wait_for(self._enough, limit_s))
        except TimeoutError:
            raise AssertionError(f"not within {limit_s} s") from None
        finally:
            self._enough = None

    def run_for(self, seconds: float) -> None:
        """Let time pass."""
        self._begin()
        self.loop.run_until_complete(asyncio.sleep(seconds))

    def something_happened(self) -> None:
        """Look whether what is waited for holds now."""
        if self._enough is not None and not self._enough.done() and self._is_enough():
            self._enough.set_result(None)

    def _begin(self) -> None:
        # Between two runs a test may have done anything to any node.
        self._open_shells()
        for shell in self._shells.values():
            shell.flush()
        self.something_happened()

    def _open_shells(self) -> None:
        for address, node in self.nodes.items():
            if address not in self._shells:
                self._shells[address] = _Shell(self, address, node)

    # Operations

    def put(self, node: Node, item: MutableItem | ImmutableItem, **more: tuple[int, ...]) -> PutOutcome:
        """Put and wait for the end."""
        number = node.start_put(item, self.now, **more)  # type: ignore[arg-type]
        return self._outcome(node, PutDone, number).outcome

    def get(
        self,
        node: Node,
        target: bytes,
        key: ZoneKey | None,
        **more: float | bytes | Present | frozenset[Address] | Pinned | None,
    ) -> GetOutcome:
        """Get and wait for the end."""
        number = node.start_get(Wanted(target, key, **more), self.now)  # type: ignore[arg-type]
        return self._outcome(node, GetDone, number).outcome

    def inquire(self, node: Node, inquiry: Inquiry) -> InquiryOutcome:
        """Ask one node and wait for the end."""
        number = node.start_inquiry(inquiry, self.now)
        return self._outcome(node, InquiryDone, number).outcome

    def _outcome(self, node: Node, kind: type[E], number: int) -> E:
        events = self.events[self.address_of(node)]

        def found() -> E | None:
            ours = (event for event in events if isinstance(event, kind))
            return next((event for event in ours if getattr(event, "operation", None) == number), None)

        self.run_until(lambda: found() is not None)
        done = found()
        assert done is not None
        return done

    def found_items(self, node: Node) -> list[MutableItem | ImmutableItem]:
        """Return the items that a node has handed out, in order."""
        return [event.item for event in self.events[self.address_of(node)] if isinstance(event, ItemFound)]


def acquaint(node: Node, contact: krpc.NodeInfo, rtt: float | None, now: float) -> None:
    """Have a node know a contact as one that has just answered; a test need not play the exchange for each."""
    node._core.table.answered(contact, rtt, now)


def prove(node: Node, address: Address, now: float) -> None:
    """Have a node know that an address receives what is sent to it."""
    node._core.guard.prove(address, now)


def nearest_of(node: Node, target: bytes, count: int, now: float) -> tuple[krpc.NodeInfo, ...]:
    """Return the contacts of a node that are nearest to a target."""
    known = sorted(node.contacts(now), key=lambda contact: distance(contact.node_id, target))
    return tuple(krpc.NodeInfo(contact.node_id, contact.address) for contact in known[:count])


def secret_of(number: int) -> SecretKey:
    """Return a secret key of its own for each number."""
    return SecretKey.generate(number.to_bytes(32))


def item_of(number: int, seq: int = int(UNIX_NOW * 1e6), value: bytes = b"value") -> MutableItem:
    """Return a signed item of that key."""
    return MutableItem.signed(secret_of(number), seq, value)
