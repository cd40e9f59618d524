"""Nodes joined by a loop in memory: time is a number, and loss is not delivering.

Guarantees: the same seed gives the same history; nothing here opens a socket or reads a clock.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from p2pdns.addresses import Address
from p2pdns.dht import krpc
from p2pdns.dht.node.machine import Node
from p2pdns.dht.node.values import (
    Event,
    GetDone,
    GetOutcome,
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

DELAY_S = 0.005
STEPS_MAX = 2_000_000  # A swarm that is not quiet by then never will be.
UNIX_NOW = 1_800_000_000.0

E = TypeVar("E")


@dataclass(order=True)
class _Flight:
    due: float
    serial: int
    data: bytes = field(compare=False)
    source: Address = field(compare=False)
    target: Address = field(compare=False)


class Swarm:
    """A world of nodes. `is_lost(data, source, target)` decides what does not arrive."""

    def __init__(self, seed: int = 1, *, network: str = "swarm", **settings: object) -> None:
        self.now = 1000.0
        self.rng = random.Random(seed)
        self.nodes: dict[Address, Node] = {}
        self.dead: dict[Address, None] = {}
        self.events: dict[Address, list[Event]] = {}
        self.trace: list[tuple[Address, Address, int]] = []
        self.seen: dict[Address, list[tuple[bytes, Address]]] = {}
        self.is_lost: Callable[[bytes, Address, Address], bool] = lambda data, source, target: False
        self._network = network
        self._settings = settings
        self._flights: list[_Flight] = []
        self._serial = 0
        self._order: dict[Address, int] = {}
        self._touched: dict[Address, int] = {}
        self._timers: list[tuple[float, int, Address]] = []

    def new_node(self, host: str = "127.0.0.1", **more: object) -> Node:
        """Add a node that knows nobody."""
        settings = NodeSettings(**({"bind_host": host} | self._settings | more))  # type: ignore[arg-type]
        node = Node(
            node_id=None,
            network=self._network,
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
        self._serial += 1
        heapq.heappush(self._flights, _Flight(self.now + DELAY_S, self._serial, data, source, target))

    def run_until(self, is_enough: Callable[[], bool], limit_s: float = 30.0) -> None:
        """Deliver datagrams and fire timers until something holds; AssertionError when it does not in time."""
        end = self.now + limit_s
        self._look_at_all()
        for _ in range(STEPS_MAX):
            self._collect()
            if is_enough():
                return
            due = self._next_due()
            assert due is not None, "nothing will ever happen again"
            assert due <= end, f"not within {limit_s} s"
            self._advance(max(due, self.now))
        raise AssertionError("too many steps")

    def run_for(self, seconds: float) -> None:
        """Let time pass."""
        end = self.now + seconds
        self._look_at_all()
        while True:
            self._collect()
            due = self._next_due()
            if due is None or due > end:
                self.now = end
                return
            self._advance(max(due, self.now))

    def _look_at_all(self) -> None:
        # Between two runs a test may have done anything to any node; within one, only nodes that were told something
        # have changed. Days of virtual time with a dozen nodes take seconds by that.
        self._order = {address: index for index, address in enumerate(self.nodes)}
        self._touched = dict(self._order)
        self._timers.clear()

    def _collect(self) -> None:
        while self._touched:
            touched, self._touched = sorted(self._touched, key=self._order.__getitem__), {}
            for address in touched:
                node = self.nodes[address]
                for data, target in node.datagrams_to_send(self.now):
                    self.trace.append((address, target, len(data)))
                    self.seen.setdefault(target, []).append((data, address))
                    if address not in self.dead and not self.is_lost(data, address, target):
                        self.inject(data, address, target)
                while (event := node.next_event()) is not None:
                    self.events[address].append(event)
                due = node.get_timer()
                if due is not None:
                    heapq.heappush(self._timers, (due, self._order[address], address))

    def _next_due(self) -> float | None:
        while self._timers and not self._is_set(*self._timers[0]):
            heapq.heappop(self._timers)
        dues = [self._timers[0][0]] if self._timers else []
        dues += [self._flights[0].due] if self._flights else []
        return min(dues, default=None)

    def _is_set(self, due: float, _index: int, address: Address) -> bool:
        return address not in self.dead and self.nodes[address].get_timer() == due

    def _advance(self, due: float) -> None:
        self.now = due
        rung: dict[Address, int] = {}
        while self._timers and self._timers[0][0] <= due:
            timer = heapq.heappop(self._timers)
            if self._is_set(*timer):
                rung[timer[2]] = timer[1]
        for address in sorted(rung, key=rung.__getitem__):
            self.nodes[address].handle_timer(due)
            self._touched[address] = 0
        while self._flights and self._flights[0].due <= due:
            flight = heapq.heappop(self._flights)
            node_there = self.nodes.get(flight.target)
            if node_there is not None and flight.target not in self.dead:
                node_there.receive_datagram(flight.data, flight.source, due)
                self._touched[flight.target] = 0

    # Operations

    def put(self, node: Node, item: MutableItem | ImmutableItem, **more: int) -> PutOutcome:
        """Put and wait for the end."""
        number = node.start_put(item, self.now, **more)
        return self._outcome(node, PutDone, number).outcome

    def get(self, node: Node, target: bytes, key: ZoneKey | None, **more: float | bytes | Present | None) -> GetOutcome:
        """Get and wait for the end."""
        number = node.start_get(Wanted(target, key, **more), self.now)  # type: ignore[arg-type]
        return self._outcome(node, GetDone, number).outcome

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
