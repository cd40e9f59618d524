"""Queries of strangers, and what they get.

Guarantees: no reply above three times the request goes to an unproven address outside the guard's budgets, none is
longer than an unfragmented datagram, and a put needs a token and passes the storage's rules. Does not know our own
requests.
"""

from __future__ import annotations

from collections.abc import Callable

from p2pdns.addresses import Address
from p2pdns.dht import krpc
from p2pdns.dht.guard import AMPLIFICATION_MAX, Answering
from p2pdns.dht.node.core import CONTACTS_IN_REPLY, VERSION, Core
from p2pdns.dht.node.peers import PeerStore
from p2pdns.dht.node.values import ItemArrived
from p2pdns.dht.routing import is_for, is_within, reach_of
from p2pdns.errors import BadRequest


class Answerer:
    """The serving half of a node. `on_query` hears of every query, before it is answered."""

    def __init__(self, core: Core, on_query: Callable[[krpc.Query, Address, float], None]) -> None:
        self._core = core
        self._on_query = on_query
        self.peers = PeerStore()

    def query_received(self, query: krpc.Query, size_bytes: int, address: Address, now: float) -> None:
        """Answer a query, or drop it with a reason counted."""
        core = self._core
        if query.node_id == core.node_id:
            core.counters["dropped-own-id"] += 1
            return
        self._on_query(query, address, now)
        if core.settings.read_only:
            # BEP 43: who is read-only for good does not answer.
            core.counters["dropped-read-only"] += 1
            return
        core.counters["query"] += 1
        try:
            reply = self._reply(query, address, now)
        except BadRequest as refusal:
            self._refuse(query.transaction, refusal.code, refusal.reason, size_bytes, address, now)
            return
        self._send(reply, size_bytes, address, now)

    def bad_query_received(self, bad: krpc.BadQuery, size_bytes: int, address: Address, now: float) -> None:
        """Tell the sender what was wrong with its query."""
        if not self._core.settings.read_only:
            self._refuse(bad.transaction, bad.code, bad.reason, size_bytes, address, now)

    def _reply(self, query: krpc.Query, address: Address, now: float) -> krpc.Reply:
        request = query.request
        if isinstance(request, krpc.Get):
            return self._get(query, request, address, now)
        if isinstance(request, krpc.FindNode):
            return self._envelope(query, address, self.contacts(query, request.target, address))
        if isinstance(request, krpc.Ping):
            return self._envelope(query, address)
        if isinstance(request, krpc.PutMutable | krpc.PutImmutable):
            return self._put(query, request, address, now)
        if isinstance(request, krpc.GetPeers):
            return self._get_peers(query, request, address, now)
        if isinstance(request, krpc.AnnouncePeer):
            return self._announce(query, request, address, now)
        if request.target is None:
            raise BadRequest("method-unknown", krpc.METHOD_UNKNOWN)
        # BEP 5 descendants expect nodes for any method with a target.
        return self._envelope(query, address, self.contacts(query, request.target, address))

    def contacts(self, query: krpc.Query, target: bytes, address: Address) -> tuple[krpc.Contact, ...]:
        """Return the contacts to tell the sender of a query: reliable, nearest first, in its reach, not itself."""
        peer_reach = reach_of(address[0])
        count = self._core.contacts_in_reply
        # One more than needed, because the asker itself is often among them.
        near = self._core.table.closest(target, count + 1, is_reliable=True)
        return tuple(
            [contact.wire for contact in near if is_within(contact.reach, peer_reach) and contact.address != address][
                :count
            ]
        )

    def _envelope(
        self,
        query: krpc.Query,
        address: Address,
        contacts: tuple[krpc.Contact, ...] = (),
        *,
        token: bytes | None = None,
        peers: tuple[Address, ...] | None = None,
    ) -> krpc.Reply:
        core = self._core
        is_ipv6 = core.settings.is_ipv6
        return krpc.Reply(
            transaction=query.transaction,
            node_id=core.node_id,
            nodes=() if is_ipv6 else contacts,
            nodes6=contacts if is_ipv6 else (),
            token=token,
            peers=peers,
            ip=address,
            version=VERSION,
            network=core.network,
        )

    def _get(self, query: krpc.Query, get: krpc.Get, address: Address, now: float) -> krpc.Reply:
        core = self._core
        if get.token is not None:
            # A token of ours proves the address; a wrong one proves nothing and costs nothing.
            core.guard.is_token_valid(get.token, address, get.target, now)
        selected = core.storage.select(get.target, get.seq, address, now) if core.settings.store else None
        contacts = self.contacts(query, get.target, address)
        token = core.guard.token(address, get.target, now) if core.settings.store else None
        reply = self._envelope(query, address, contacts, token=token)
        if selected is None:
            return reply
        if selected.value is not None:
            contacts = contacts[:CONTACTS_IN_REPLY]
        is_ipv6 = core.settings.is_ipv6
        return krpc.Reply(
            transaction=query.transaction,
            node_id=core.node_id,
            nodes=() if is_ipv6 else contacts,
            nodes6=contacts if is_ipv6 else (),
            token=token,
            key=selected.key,
            signature=selected.signature,
            seq=selected.seq,
            value=selected.value,
            ip=reply.ip,
            version=VERSION,
            network=core.network,
        )

    def _put(
        self, query: krpc.Query, put: krpc.PutMutable | krpc.PutImmutable, address: Address, now: float
    ) -> krpc.Reply:
        core = self._core
        if not core.settings.store:
            raise BadRequest("no-storage", krpc.SERVER_ERROR)
        has_token = core.guard.is_token_valid(put.token, address, put.target, now)
        kept = core.storage.put(put, address, now, has_token=has_token)
        if kept.stored.item is not None:
            core.events.append(ItemArrived(kept.stored.target, kept.stored.item))
        return self._envelope(query, address)

    def _get_peers(self, query: krpc.Query, request: krpc.GetPeers, address: Address, now: float) -> krpc.Reply:
        core = self._core
        contacts = self.contacts(query, request.info_hash, address)
        if core.is_named:
            return self._envelope(query, address, contacts)
        token = core.guard.token(address, request.info_hash, now)
        peers = tuple(peer for peer in self.peers.peers(request.info_hash, now) if is_for(peer[0], address[0]))
        return self._envelope(query, address, contacts, token=token, peers=peers or None)

    def _announce(self, query: krpc.Query, request: krpc.AnnouncePeer, address: Address, now: float) -> krpc.Reply:
        core = self._core
        if core.is_named:
            raise BadRequest("method-unknown", krpc.METHOD_UNKNOWN)
        if not core.guard.is_token_valid(request.token, address, request.info_hash, now):
            raise BadRequest("bad-token", krpc.PROTOCOL_ERROR)
        self.peers.announce(request.info_hash, (address[0], request.port or address[1]), now)
        return self._envelope(query, address)

    # Sizes

    def _send(self, reply: krpc.Reply, request_bytes: int, address: Address, now: float) -> None:
        core = self._core
        fitted = krpc.compose_reply_within(reply)
        if fitted.has_lost_value:
            core.counters["value-too-long-for-reply"] += 1
        data = fitted.data
        modest_bytes = AMPLIFICATION_MAX * request_bytes
        if len(data) > modest_bytes and not core.guard.is_proven(address, now):
            reduced = self._reduced(reply, data, request_bytes, address, now)
            if reduced is None:
                return
            data = reduced
        core.out.append((data, address))

    def _reduced(
        self, reply: krpc.Reply, data: bytes, request_bytes: int, address: Address, now: float
    ) -> bytes | None:
        """Return what an unproven address gets instead of a reply of more than three times its request."""
        core = self._core
        modest_bytes = AMPLIFICATION_MAX * request_bytes
        if reply.value is None:
            # Eight contacts are what every BEP 5 node sends; if they fit, no budget is touched.
            modest = krpc.compose_reply_within(reply, modest_bytes)
            left = len(reply.nodes) + len(reply.nodes6) - modest.contacts_dropped
            if left >= CONTACTS_IN_REPLY and len(modest.data) <= modest_bytes:
                return modest.data
        allowance = core.guard.allowance(address, request_bytes, len(data), now)
        if allowance.answering is Answering.FULL:
            return data
        if allowance.answering is Answering.SILENT:
            core.counters["dropped-reply-budget"] += 1
            return None
        bare = krpc.Reply(
            transaction=reply.transaction,
            node_id=reply.node_id,
            nodes=reply.nodes,
            nodes6=reply.nodes6,
            token=reply.token,
            network=reply.network,
        )
        small = krpc.compose_reply_within(bare, allowance.bytes_max).data
        return small if len(small) <= allowance.bytes_max else None

    def _refuse(
        self, transaction: bytes, code: int, reason: str, request_bytes: int, address: Address, now: float
    ) -> None:
        core = self._core
        core.counters[f"refused-{reason}"] += 1
        error = krpc.Error(transaction=transaction, code=code, text=reason, network=core.network)
        data = krpc.compose_error(error)
        allowance = core.guard.allowance(address, request_bytes, len(data), now)
        if allowance.answering is Answering.FULL:
            core.out.append((data, address))
