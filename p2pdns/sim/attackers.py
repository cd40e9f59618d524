"""An attacker that surrounds keys: many addresses in one hand, with ids near to the keys.

It knows every honest machine and has read the items of the keys, as any crawler can; its nodes know each other's plan.
They answer pings, name contacts like anybody for keys that are not attacked, and acknowledge every put.

Guarantees: ids, addresses and answers come from the draws that it is given. Does not know whether readers believe it.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Sequence
from enum import Enum

from p2pdns.addresses import Address
from p2pdns.dht import bencode, krpc
from p2pdns.dht.krpc.reading import parse
from p2pdns.dht.krpc.writing import compose, compose_reply_within
from p2pdns.dht.lookup.shortlist import HOST_CONTACTS_MAX, PREFIX_CONTACTS_MAX
from p2pdns.dht.routing.ids import ID_BITS, ID_BYTES, distance
from p2pdns.dht.routing.table import K
from p2pdns.errors import FormatError
from p2pdns.items.item import MutableItem
from p2pdns.sim.behaviours import invented, with_item
from p2pdns.sim.engine import NETWORK_NAME, PORT
from p2pdns.sim.loop import VirtualLoop
from p2pdns.sim.network import VirtualNetwork
from p2pdns.sim.places import AllowedHead, Estate, spread
from p2pdns.values import replace

TOKEN = b"hostile!"
DATAGRAM_BYTES_READ = 2_049
INVENTED_COUNT = 28  # As many new contacts as a reader takes from one source.
NAMED_COUNT = K
ANNOUNCED_COUNT = 24  # Honest machines round a key that a node of the attacker makes itself known to.
NEAR_BITS = 24  # Ids that are placed freely have so many bits of the key's target: no honest one of a world has.
# A reader could call a key crowded that has so many nodes in the region where 20 are expected. Today none does.
CROWDED_COUNT = 38


class Ids(Enum):
    """How the ids near a key are chosen; the values are the words of the report."""

    BEP_42 = "BEP 42"  # The nearest that the attacker's addresses allow.
    SPACED = "BEP 42, spaced"  # As many as do not crowd the region, evenly; the others just outside it.
    FREE = "free"  # Nearer than any honest one, whatever the addresses allow.


class Answers(Enum):
    """The answers to a get of an attacked key; the values are the words of the report."""

    OWN = "own nodes"  # No others are named.
    NOBODY = "no nodes"
    INVENTED = "invented nodes"  # Nearer contacts that do not exist.
    OLDER = "older item"  # With the attacker's other nodes.


class Attack:
    """All nodes of an attacker. `answers` may be changed at any time."""

    def __init__(self, loop: VirtualLoop, network: VirtualNetwork, inventions: Estate, draws: random.Random) -> None:
        self.answers = Answers.OWN
        self.sybils: dict[bytes, list[Sybil]] = {}
        self.older: dict[bytes, MutableItem] = {}
        self.honest: list[krpc.NodeInfo] = []
        self.draws = draws
        self._loop = loop
        self._network = network
        self._inventions = inventions

    def surround(self, target: bytes, contacts: Sequence[krpc.NodeInfo], older: MutableItem | None) -> None:
        """Place a node at each contact, to attack the key of a target; an older item of it was read before."""
        if older is not None:
            self.older[target] = older
        self.sybils[target] = [Sybil(self, self._loop, self._network, contact) for contact in contacts]

    @property
    def addresses(self) -> frozenset[Address]:
        return frozenset(sybil.contact.address for group in self.sybils.values() for sybil in group)

    def announce(self, part: int, parts: int) -> None:
        """Have every n-th node send the honest machines nearest to its key a ping, and so be sent one by them."""
        for target, group in self.sybils.items():
            near = heapq.nsmallest(ANNOUNCED_COUNT, self.honest, key=lambda one: distance(one.node_id, target))
            for sybil in group[part::parts]:
                for contact in near:
                    sybil.ask(krpc.Ping(), contact.address)

    def contacts_for(self, target: bytes, asker: Address) -> tuple[krpc.NodeInfo, ...]:
        """Return the contacts that are named for a target."""
        group = self.sybils.get(target)
        if group is None:
            near = heapq.nsmallest(NAMED_COUNT + 1, self.honest, key=lambda one: distance(one.node_id, target))
            return tuple(one for one in near if one.address != asker)[:NAMED_COUNT]
        if self.answers is Answers.NOBODY:
            return ()
        if self.answers is Answers.INVENTED:
            return invented(self._inventions, target, INVENTED_COUNT, self.draws)
        return tuple(sybil.contact for sybil in self.draws.sample(group, min(NAMED_COUNT, len(group))))

    def close(self) -> None:
        """Take all its nodes off the network."""
        for group in self.sybils.values():
            for sybil in group:
                sybil.close()


class Sybil:
    """One node of an attacker, at one address."""

    def __init__(self, attack: Attack, loop: VirtualLoop, network: VirtualNetwork, contact: krpc.NodeInfo) -> None:
        self.contact = contact
        self._attack = attack
        self._loop = loop
        self._socket = network.open(contact.address)
        loop.add_reader(self._socket, self._readable)

    def ask(self, request: krpc.Request, address: Address) -> None:
        """Send a query, whose reply is not read."""
        query = krpc.RequestMessage(
            transaction=self._attack.draws.randbytes(4),
            node_id=self.contact.node_id,
            request=request,
            network=krpc.network_of(NETWORK_NAME),
        )
        self._socket.sendto(compose(query), address)

    def close(self) -> None:
        """Leave the network."""
        self._loop.remove_reader(self._socket)
        self._socket.close()

    def _readable(self) -> None:
        try:
            data, address = self._socket.recvfrom(DATAGRAM_BYTES_READ)
        except BlockingIOError:
            return
        try:
            message = parse(data)
        except FormatError:
            return
        if isinstance(message, krpc.RequestMessage):
            self._socket.sendto(self._reply(message, address), address)

    def _reply(self, query: krpc.RequestMessage, address: Address) -> bytes:
        attack, request = self._attack, query.request
        reply = krpc.Reply(transaction=query.transaction, node_id=self.contact.node_id, network=query.network)
        if isinstance(request, krpc.Get | krpc.FindNode):
            reply = replace(reply, nodes=attack.contacts_for(request.target, address))
        if isinstance(request, krpc.Get):
            reply = replace(reply, token=TOKEN)
        if isinstance(request, krpc.Get) and attack.answers is Answers.OLDER and request.target in attack.older:
            item = attack.older[request.target]
            value = bencode.encode(item.value)
            reply = with_item(reply, krpc.PutMutable(item.key.raw, item.seq, value, item.signature, TOKEN))
        return compose_reply_within(reply).data


def sybil_contacts(
    ids: Ids, target: bytes, count: int, estate: Estate, honest: Sequence[krpc.NodeInfo], draws: random.Random
) -> list[krpc.NodeInfo]:
    """Return where an attacker that has an estate places its nodes round a target."""
    number = int.from_bytes(target)
    if ids is Ids.FREE:
        free = [(number ^ draws.getrandbits(ID_BITS - NEAR_BITS)).to_bytes(ID_BYTES) for _ in range(count)]
        hosts = spread(estate.nearest(target, len(estate)), count, of_host_max=1, of_prefix_max=PREFIX_CONTACTS_MAX)
        return [krpc.NodeInfo(node_id, (one.host, PORT)) for node_id, one in zip(free, hosts, strict=True)]
    if ids is Ids.SPACED:
        heads = _spaced(target, count, estate, honest)
    else:
        near = estate.nearest(target, len(estate))
        heads = spread(near, count, of_host_max=HOST_CONTACTS_MAX, of_prefix_max=PREFIX_CONTACTS_MAX)
    contacts = []
    for index, one in enumerate(heads):
        wanted = (number ^ draws.getrandbits(ID_BITS - NEAR_BITS)).to_bytes(ID_BYTES)
        # A host may have two nodes, at two ports.
        contacts.append(krpc.NodeInfo(one.id_like(wanted), (one.host, PORT + index)))
    return contacts


def _spaced(target: bytes, count: int, estate: Estate, honest: Sequence[krpc.NodeInfo]) -> list[AllowedHead]:
    """Return ids that are nearer than every honest one, but for those that would crowd the region."""
    number = int.from_bytes(target)
    region = (K << ID_BITS) // len(honest)
    nearest = min(distance(contact.node_id, target) for contact in honest)
    inside = min(count, CROWDED_COUNT - K - 1)
    wanted = [nearest * (index + 1) // (inside + 1) for index in range(inside)]
    outside = count - inside
    # In a small world the region is most of the id space.
    beyond = min(region, (1 << ID_BITS) - region)
    wanted += [region + beyond * (index + 1) // (outside + 1) for index in range(outside)]
    heads: list[AllowedHead] = []
    for far in wanted:
        near = estate.nearest((number ^ far).to_bytes(ID_BYTES), count)
        others = [one for one in near if one not in heads]
        # Those that were chosen come first, so they stay.
        heads = spread(
            [*heads, *others], len(heads) + 1, of_host_max=HOST_CONTACTS_MAX, of_prefix_max=PREFIX_CONTACTS_MAX
        )
    return heads
