"""Behaviours of hostile machines: each runs our node, and changes what this node says.

So a hostile machine joins, answers pings and stands in the tables of others as honest ones do. In here: the node that
changes datagrams, the behaviours that say how, and which machine of a world gets which.

Guarantees: every draw comes from the generator that a behaviour is given, so one seed decides everything; every table
and every rate has a bound. Does not know the world, nor whether an attack succeeds.
"""

from __future__ import annotations

import heapq
import random
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from p2pdns.addresses import Address
from p2pdns.dht import bencode, krpc
from p2pdns.dht.krpc.reading import parse
from p2pdns.dht.krpc.writing import compose
from p2pdns.dht.node.core import CONTACTS_IN_REPLY
from p2pdns.dht.node.machine import Node
from p2pdns.dht.node.values import TIMEOUT_S_FIRST, TIMEOUT_S_MAX
from p2pdns.dht.routing.ids import ID_BITS, ID_BYTES
from p2pdns.errors import FormatError
from p2pdns.items.item import MutableItem
from p2pdns.items.keys import L, SecretKey
from p2pdns.sim.engine import PORT, MakeNode
from p2pdns.sim.places import INVENTED_OCTETS, Estate, drawn_hosts
from p2pdns.values import replace

QUERIES_KEPT_MAX = 4_096  # Queries whose answer may still leave; those that get none are forgotten, oldest first.
ITEMS_KEPT_MAX = 4_096  # Items that one machine keeps for its attack; a world has fewer zones.
INVENTED_COUNT = 20  # Contacts in a reply, as many as an honest one has.
INVENTED_HOSTS = 512  # Hosts that one machine invents; with eight ids at each, some ids are near any key.
# A reader waits 0.35 s for a contact that it knows nothing of, and never longer than one second.
DRIPS_S = (0.9 * TIMEOUT_S_FIRST, 1.1 * TIMEOUT_S_FIRST, 0.9 * TIMEOUT_S_MAX, 1.1 * TIMEOUT_S_MAX)
FLOOD_EVERY_S = 1.0
FLOOD_QUERIES = 20  # In one go; an idle node sends so many in a minute.
GARBAGE_BYTES_MAX = 300


class Parcel(NamedTuple):
    """A datagram in place of an honest one, and how long it is held back."""

    data: bytes
    held_back_s: float = 0.0


class Exchange(NamedTuple):
    """A query, what the node of a hostile machine would answer, and the id of that node."""

    query: krpc.RequestMessage
    answer: krpc.Reply | krpc.Error
    node_id: bytes


class Behaviour:
    """The honest behaviour, from which each other one differs in a few answers."""

    every_s: float | None = None  # How often it sends datagrams that were not asked for.

    def __init__(self, draws: random.Random) -> None:
        self.draws = draws

    def answers(self, exchange: Exchange) -> Sequence[Parcel]:
        """Return what is sent in place of an answer."""
        return (Parcel(compose(self.changed(exchange))),)

    def changed(self, exchange: Exchange) -> krpc.Reply | krpc.Error:
        """Return the answer in place of the node's own."""
        return exchange.answer

    def asks(self, query: krpc.RequestMessage) -> krpc.RequestMessage:
        """Return the query in place of one of the node's own."""
        return query

    def unprompted(self, node: Node, now: float) -> list[tuple[bytes, Address]]:
        """Return the datagrams that are sent every `every_s` seconds."""
        del node, now
        return []


class Mute(Behaviour):
    """Answers pings and searches for contacts, so that others keep it, and never a get."""

    def answers(self, exchange: Exchange) -> Sequence[Parcel]:
        """Return nothing for a get."""
        return () if isinstance(exchange.query.request, krpc.Get) else super().answers(exchange)


class Replay(Behaviour):
    """Serves the item with the lowest seq that it was ever put under a target, and acknowledges every put."""

    def __init__(self, draws: random.Random) -> None:
        super().__init__(draws)
        self.kept: OrderedDict[bytes, krpc.PutMutable] = OrderedDict()

    def changed(self, exchange: Exchange) -> krpc.Reply | krpc.Error:
        """Keep the oldest item, and answer gets with it."""
        request, answer = exchange.query.request, exchange.answer
        if isinstance(request, krpc.PutMutable):
            if isinstance(answer, krpc.Reply):
                self._keep(request)
                return answer
            query = exchange.query
            return krpc.Reply(transaction=query.transaction, node_id=exchange.node_id, network=query.network)
        kept = self.kept.get(request.target) if isinstance(request, krpc.Get) else None
        return answer if kept is None or isinstance(answer, krpc.Error) else with_item(answer, kept)

    def _keep(self, put: krpc.PutMutable) -> None:
        oldest = self.kept.get(put.target)
        if oldest is None or put.seq < oldest.seq:
            self.kept[put.target] = put
        if len(self.kept) > ITEMS_KEPT_MAX:
            self.kept.popitem(last=False)


class Claim(Behaviour):
    """Acknowledges every put, names the seq of the item when it is asked, and never shows the item."""

    def changed(self, exchange: Exchange) -> krpc.Reply | krpc.Error:
        """Take the item out of an answer, and leave its seq."""
        answer = exchange.answer
        if isinstance(answer, krpc.Error) or answer.value is None:
            return answer
        return replace(answer, key=None, value=None, signature=None)


class Forge(Behaviour):
    """Answers gets with items of another key, and with items that the zone's key has not signed."""

    def __init__(self, draws: random.Random) -> None:
        super().__init__(draws)
        self._secret = SecretKey.generate(draws.randbytes(32))
        self._keys: OrderedDict[bytes, bytes] = OrderedDict()

    def changed(self, exchange: Exchange) -> krpc.Reply | krpc.Error:
        """Note which key belongs to a target, and answer gets with a forgery."""
        request, answer = exchange.query.request, exchange.answer
        if isinstance(request, krpc.PutMutable):
            self._keys[request.target] = request.key
            if len(self._keys) > ITEMS_KEPT_MAX:
                self._keys.popitem(last=False)
        if isinstance(answer, krpc.Error) or not isinstance(request, krpc.Get):
            return answer
        seq = max(request.seq or 0, answer.seq or 0) + 1
        signed = MutableItem.signed(self._secret, seq, b"forged")
        item = krpc.PutMutable(signed.key.raw, seq, bencode.encode(signed.value), signed.signature, b"")
        if self.draws.random() < 0.5:
            return with_item(answer, item)
        # A machine that forged each time would never be among those that are put to, and so never hear of a zone's key.
        key = self._keys.get(request.target)
        return answer if key is None else with_item(answer, replace(item, key=key))


class Garbage(Behaviour):
    """Answers with random bytes, broken bencode, and transactions of nobody."""

    def answers(self, exchange: Exchange) -> Sequence[Parcel]:
        """Return one kind of garbage, but an honest answer to a ping."""
        if isinstance(exchange.query.request, krpc.Ping):
            return super().answers(exchange)
        draws, data = self.draws, compose(exchange.answer)
        kind = draws.randrange(3)
        if kind == 0:
            return (Parcel(draws.randbytes(draws.randrange(1, GARBAGE_BYTES_MAX))),)
        if kind == 1:
            return (Parcel(data[: draws.randrange(1, len(data))]),)
        transaction = draws.randbytes(len(exchange.query.transaction))
        return (Parcel(compose(replace(exchange.answer, transaction=transaction))),)


class Invent(Behaviour):
    """Names contacts that do not exist: some with ids that BEP 42 allows, some nearer to the target than it allows."""

    def __init__(self, draws: random.Random) -> None:
        super().__init__(draws)
        self._estate = Estate(drawn_hosts(draws, INVENTED_OCTETS, INVENTED_HOSTS, 1))

    def changed(self, exchange: Exchange) -> krpc.Reply | krpc.Error:
        """Replace the contacts of a reply."""
        request, answer = exchange.query.request, exchange.answer
        if isinstance(answer, krpc.Error) or not isinstance(request, krpc.Get | krpc.FindNode):
            return answer
        return replace(answer, nodes=invented(self._estate, request.target, INVENTED_COUNT, self.draws))


class Drip(Behaviour):
    """Holds each answer back until just before, or just after, a reader gives it up; pings are answered at once."""

    def answers(self, exchange: Exchange) -> Sequence[Parcel]:
        """Return the honest answer, late."""
        (parcel,) = super().answers(exchange)
        is_ping = isinstance(exchange.query.request, krpc.Ping)
        return (parcel if is_ping else parcel._replace(held_back_s=self.draws.choice(DRIPS_S)),)


class Flood(Behaviour):
    """Sends queries for random targets to all nodes that it knows."""

    every_s = FLOOD_EVERY_S

    def unprompted(self, node: Node, now: float) -> list[tuple[bytes, Address]]:
        """Return `FLOOD_QUERIES` queries."""
        addresses = [contact.address for contact in node.contacts(now)]
        return [(self._query(node), self.draws.choice(addresses)) for _ in range(FLOOD_QUERIES if addresses else 0)]

    def _query(self, node: Node) -> bytes:
        draws = self.draws
        target = draws.randbytes(ID_BYTES)
        # A put without a token that was given, a get and a search cost their receiver different things.
        put = krpc.PutImmutable(bencode.encode(target), draws.randbytes(8))
        request = draws.choice((krpc.Get(target), krpc.FindNode(target), put))
        network = None if node.network == "mainline" else krpc.network_of(node.network)
        query = krpc.RequestMessage(
            transaction=draws.randbytes(4), node_id=node.node_id, request=request, network=network
        )
        return compose(query)


class Malleate(Behaviour):
    """Changes one thing of an item and keeps its signature, or gives the signature its other form."""

    def changed(self, exchange: Exchange) -> krpc.Reply | krpc.Error:
        """Change the item in a reply."""
        answer = exchange.answer
        if isinstance(answer, krpc.Error) or not (answer.key and answer.value and answer.signature and answer.seq):
            return answer
        item = krpc.PutMutable(answer.key, answer.seq, answer.value, answer.signature, b"")
        # A reply has no salt.
        return with_item(answer, self._malleated(item, self.draws.choice(("value", "seq", "signature"))))

    def asks(self, query: krpc.RequestMessage) -> krpc.RequestMessage:
        """Change the item in a put."""
        put = query.request
        if not isinstance(put, krpc.PutMutable):
            return query
        return replace(query, request=self._malleated(put, self.draws.choice(("value", "seq", "salt", "signature"))))

    @staticmethod
    def _malleated(item: krpc.PutMutable, what: str) -> krpc.PutMutable:
        if what == "value":
            return replace(item, value=item.value[:-1] + bytes([item.value[-1] ^ 1]))
        if what == "seq":
            return replace(item, seq=item.seq + 1)
        if what == "salt":
            return replace(item, salt=item.salt + b"x")
        return replace(item, signature=twin_of(item.signature))


BEHAVIOURS: Mapping[str, type[Behaviour]] = {
    "mute": Mute,
    "forge": Forge,
    "replay": Replay,
    "garbage": Garbage,
    "invent": Invent,
    "drip": Drip,
    "flood": Flood,
    "malleate": Malleate,
}


def with_item(reply: krpc.Reply, item: krpc.PutMutable) -> krpc.Reply:
    """Return a reply with an item, and with as few contacts as one that has an item."""
    return replace(
        reply,
        key=item.key,
        seq=item.seq,
        value=item.value,
        signature=item.signature,
        nodes=reply.nodes[:CONTACTS_IN_REPLY],
        version=None,
        ip=None,
    )


def twin_of(signature: bytes) -> bytes:
    """Return the other signature that lenient verifiers accept: with the group order added to S."""
    s = int.from_bytes(signature[32:], "little")
    return signature[:32] + ((s + L) if s < L else s).to_bytes(32, "little")


def invented(estate: Estate, target: bytes, count: int, draws: random.Random) -> tuple[krpc.NodeInfo, ...]:
    """Return contacts that do not exist near a target, each second one nearer than BEP 42 allows at its address."""
    contacts = []
    for number, allowed in enumerate(estate.nearest(target, count)):
        near = (int.from_bytes(target) ^ draws.getrandbits(ID_BITS // 2)).to_bytes(ID_BYTES)
        contacts.append(krpc.NodeInfo(near if number % 2 else allowed.id_like(near), (allowed.host, PORT)))
    return tuple(contacts)


class LyingNode(Node):
    """A node of ours whose datagrams a behaviour changes on their way out."""

    def __init__(self, behaviour: Behaviour, **arguments: Any) -> None:
        self._behaviour = behaviour
        self._queries: OrderedDict[tuple[Address, bytes], krpc.RequestMessage] = OrderedDict()
        self._late: list[tuple[float, int, bytes, Address]] = []
        self._late_count = 0
        self._unprompted_at = arguments["now"] + (behaviour.every_s or 0.0)
        super().__init__(**arguments)

    def receive_datagram(self, data: bytes, address: Address, now: float) -> None:
        """Take in a datagram; a query is remembered until it is answered."""
        message = _message_in(data)
        if isinstance(message, krpc.RequestMessage):
            self._queries[address, message.transaction] = message
            if len(self._queries) > QUERIES_KEPT_MAX:
                self._queries.popitem(last=False)
        super().receive_datagram(data, address, now)

    def datagrams_to_send(self, now: float) -> list[tuple[bytes, Address]]:
        """Return what the behaviour makes of the node's own datagrams, and what is due of its own."""
        out: list[tuple[bytes, Address]] = []
        for data, address in super().datagrams_to_send(now):
            for parcel in self._parcels(data, address):
                if parcel.held_back_s:
                    self._late_count += 1
                    heapq.heappush(self._late, (now + parcel.held_back_s, self._late_count, parcel.data, address))
                else:
                    out.append((parcel.data, address))
        while self._late and self._late[0][0] <= now:
            out.append(heapq.heappop(self._late)[2:])
        every_s = self._behaviour.every_s
        if every_s is not None and self._unprompted_at <= now:
            self._unprompted_at = now + every_s
            out += self._behaviour.unprompted(self, now)
        return out

    def _parcels(self, data: bytes, address: Address) -> Sequence[Parcel]:
        message = _message_in(data)
        if isinstance(message, krpc.RequestMessage):
            query = self._behaviour.asks(message)
            return (Parcel(data if query is message else compose(query)),)
        asked = None if message is None else self._queries.pop((address, message.transaction), None)
        if message is None or asked is None:
            return (Parcel(data),)
        return self._behaviour.answers(Exchange(asked, message, self.node_id))

    def get_timer(self) -> float | None:
        """Return when something is due next."""
        dues = [super().get_timer(), self._late[0][0] if self._late else None]
        if self._behaviour.every_s is not None:
            dues.append(self._unprompted_at)
        return min((due for due in dues if due is not None), default=None)


def _message_in(data: bytes) -> krpc.Message | None:
    try:
        return parse(data)
    except FormatError:
        return None


def casting(seed: int, nodes: int, shares: Mapping[type[Behaviour], float]) -> Callable[[int], MakeNode | None]:
    """Return a function for `World.cast`: by the number of a machine, the maker of its hostile node, or None.

    Each behaviour gets its share of `nodes`. A larger share adds machines to those of a smaller one.
    """
    # Machine 0 is the only way in for the next ones, so it is honest.
    order = random.Random(f"{seed}/hostile").sample(range(1, nodes), nodes - 1)
    parts: dict[int, MakeNode] = {}
    for kind, share in shares.items():
        for number in order[len(parts) : len(parts) + round(share * nodes)]:
            draws = random.Random(f"{seed}/{kind.__name__}/{number}")
            parts[number] = partial(LyingNode, kind(draws))
    return parts.get
