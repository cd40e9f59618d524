"""Queries of strangers, and our replies.

Guarantees: all that an unproven address is sent comes out of the guard's budgets, no reply is longer than an
unfragmented datagram, and a put needs a token and passes the storage's rules. Does not know our own requests.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from p2pdns.addresses import Address
from p2pdns.dht import krpc
from p2pdns.dht.guard import AMPLIFICATION_MAX, Answering
from p2pdns.dht.krpc.writing import compose_error, compose_reply_within
from p2pdns.dht.node.challenges import Challenges
from p2pdns.dht.node.core import CONTACTS_IN_REPLY, VERSION, Core
from p2pdns.dht.node.peers import PeerStore
from p2pdns.dht.node.values import ItemArrived
from p2pdns.dht.routing.reach import is_for, is_within, reach_of
from p2pdns.dht.stored import Selected
from p2pdns.errors import BadRequest


class _Near(NamedTuple):
    """The contacts of a reply, by family."""

    nodes: tuple[krpc.NodeInfo, ...]
    nodes6: tuple[krpc.NodeInfo, ...]


NO_CONTACTS = _Near((), ())
NO_ITEM = Selected(None, None, None, None)


class RequestServer:
    """The serving half of a node. `on_query` is called with every query, before it is answered."""

    def __init__(self, core: Core, on_query: Callable[[krpc.RequestMessage, Address, float], None]) -> None:
        self._core = core
        self._on_query = on_query
        self._challenges = Challenges(core)
        self.peers = PeerStore()

    def query_received(self, query: krpc.RequestMessage, size_bytes: int, address: Address, now: float) -> None:
        """Answer a query, or drop it with a reason counted."""
        core = self._core
        if query.node_id == core.node_id:
            core.counters["dropped-own-id"] += 1
            return
        self._on_query(query, address, now)
        if core.settings.read_only:
            # BEP 43: a node that stays read-only does not answer.
            core.counters["dropped-read-only"] += 1
            return
        core.counters["query"] += 1
        if not _has_token(query.request) and core.guard.is_spent(address, now):
            # A query of a flood that gets no reply costs us little.
            core.counters["dropped-reply-budget"] += 1
            return
        try:
            reply = self._reply(query, address, now)
        except BadRequest as refusal:
            self._refuse(query.transaction, refusal.code, refusal.reason, size_bytes, address, now)
            return
        self._send(reply, query, size_bytes, address, now)

    def bad_query_received(self, bad: krpc.BadQuery, size_bytes: int, address: Address, now: float) -> None:
        """Answer a malformed query with its error."""
        if not self._core.settings.read_only:
            self._refuse(bad.transaction, bad.code, bad.reason, size_bytes, address, now)

    def _reply(self, query: krpc.RequestMessage, address: Address, now: float) -> krpc.Reply:
        request = query.request
        if isinstance(request, krpc.Get):
            return self._get(query, request, address, now)
        if isinstance(request, krpc.FindNode):
            return self._envelope(query, address, self._near(query, request.target, address))
        if isinstance(request, krpc.Ping):
            return self._envelope(query, address)
        if isinstance(request, krpc.Put):
            return self._put(query, request, address, now)
        if isinstance(request, krpc.GetPeers):
            return self._get_peers(query, request, address, now)
        if isinstance(request, krpc.AnnouncePeer):
            return self._announce(query, request, address, now)
        if request.target is None:
            raise BadRequest("method-unknown", krpc.METHOD_UNKNOWN)
        # Nodes of later BEPs expect contacts for any method with a target.
        return self._envelope(query, address, self._near(query, request.target, address))

    def contacts(self, target: bytes, asker: Address) -> tuple[krpc.NodeInfo, ...]:
        """Return the contacts to tell `asker`: reliable, nearest first, in its reach, without itself."""
        peer_reach = reach_of(asker[0])
        count = self._core.contacts_in_reply
        # One more than needed, because the asker itself is often among them.
        near = self._core.table.closest(target, count + 1, is_reliable=True)
        told = [
            contact.wire
            for contact in near
            if contact.address != asker and (contact.reach == 0 or is_within(contact.reach, peer_reach))
        ]
        return tuple(told[:count])

    def _near(self, query: krpc.RequestMessage, target: bytes, address: Address) -> _Near:
        """Return the contacts of the families that a query wants: without `want`, of the one that it came by."""
        core = self._core
        families = (b"n6", b"n4") if core.settings.is_ipv6 else (b"n4", b"n6")
        wanted = query.want or families[:1]
        ours = self.contacts(target, address) if families[0] in wanted else ()
        theirs: tuple[krpc.NodeInfo, ...] = ()
        if families[1] in wanted and core.sibling is not None:
            theirs = core.sibling.contacts_near(target, address)
        return _Near(theirs, ours) if core.settings.is_ipv6 else _Near(ours, theirs)

    def _envelope(
        self,
        query: krpc.RequestMessage,
        address: Address,
        near: _Near = NO_CONTACTS,
        *,
        token: bytes | None = None,
        item: Selected = NO_ITEM,
        peers: tuple[Address, ...] | None = None,
    ) -> krpc.Reply:
        core = self._core
        return krpc.Reply(
            transaction=query.transaction,
            node_id=core.node_id,
            nodes=near.nodes,
            nodes6=near.nodes6,
            token=token,
            key=item.key,
            signature=item.signature,
            seq=item.seq,
            value=item.value,
            peers=peers,
            ip=address,
            version=VERSION,
            network=core.network,
        )

    def _get(self, query: krpc.RequestMessage, get: krpc.Get, address: Address, now: float) -> krpc.Reply:
        core = self._core
        if get.token is not None:
            # A token of ours proves the address; a wrong one has no consequence.
            core.guard.show(get.token, address, get.token_of or get.target, now)
        selected = core.storage.select(get.target, get.seq, address, now) if core.settings.store else None
        near = self._near(query, get.target, address)
        token = core.guard.token(address, get.target, now) if core.settings.store else None
        if selected is not None and selected.value is not None:
            near = _Near(near.nodes[:CONTACTS_IN_REPLY], near.nodes6[:CONTACTS_IN_REPLY])
        return self._envelope(query, address, near, token=token, item=selected or NO_ITEM)

    def _put(self, query: krpc.RequestMessage, put: krpc.Put, address: Address, now: float) -> krpc.Reply:
        core = self._core
        if not core.settings.store:
            raise BadRequest("no-storage", krpc.SERVER_ERROR)
        has_token = core.guard.is_token_valid(put.token, address, put.target, now)
        kept = core.storage.put(put, address, now, has_token=has_token)
        if kept.stored.item is not None:
            core.events.append(ItemArrived(kept.stored.target, kept.stored.item))
        return self._envelope(query, address)

    def _get_peers(
        self, query: krpc.RequestMessage, request: krpc.GetPeers, address: Address, now: float
    ) -> krpc.Reply:
        core = self._core
        near = self._near(query, request.info_hash, address)
        if core.is_named:
            return self._envelope(query, address, near)
        token = core.guard.token(address, request.info_hash, now)
        peers = tuple(peer for peer in self.peers.peers(request.info_hash, now) if is_for(peer[0], address[0]))
        return self._envelope(query, address, near, token=token, peers=peers or None)

    def _announce(
        self, query: krpc.RequestMessage, request: krpc.AnnouncePeer, address: Address, now: float
    ) -> krpc.Reply:
        core = self._core
        if core.is_named:
            raise BadRequest("method-unknown", krpc.METHOD_UNKNOWN)
        if not core.guard.is_token_valid(request.token, address, request.info_hash, now):
            raise BadRequest("bad-token", krpc.PROTOCOL_ERROR)
        self.peers.announce(request.info_hash, (address[0], request.port or address[1]), now)
        return self._envelope(query, address)

    # Sizes

    def _send(
        self, reply: krpc.Reply, query: krpc.RequestMessage, size_bytes: int, address: Address, now: float
    ) -> None:
        core = self._core
        fitted = compose_reply_within(reply)
        if fitted.has_lost_value:
            core.counters["value-too-long-for-reply"] += 1
            if not _is_ours(query.request):
                # The rest of the reply would say that we do not hold the value.
                return
        data: bytes | None = fitted.data
        if not core.guard.is_proven(address, now):
            data = self._rationed(reply, fitted.data, query, size_bytes, address, now)
        if data is not None:
            core.out.append((data, address))

    def _rationed(
        self,
        reply: krpc.Reply,
        whole: bytes,
        query: krpc.RequestMessage,
        request_bytes: int,
        address: Address,
        now: float,
    ) -> bytes | None:
        """Return the part of a reply that an unproven address gets now, or None."""
        core = self._core
        if self._challenges.join(address, whole):
            return None
        data = whole
        modest_bytes = AMPLIFICATION_MAX * request_bytes
        if len(whole) > modest_bytes and reply.value is None:
            # Every BEP 5 node sends eight contacts; if they fit, a longer reply is not needed.
            modest = compose_reply_within(reply, modest_bytes)
            left = len(reply.nodes) + len(reply.nodes6) - modest.contacts_dropped
            if left >= CONTACTS_IN_REPLY and len(modest.data) <= modest_bytes:
                data = modest.data
        # A reply to a ping is no longer than the challenge would be, and a read-only node answers none (BEP 43).
        is_short = isinstance(query.request, krpc.Ping)
        can_challenge = not (is_short or query.read_only) and self._challenges.has_room
        # A node of ours gets less, with `prove`, and asks again; a stranger would take less for "not found".
        is_whole_only = (reply.value is not None or bool(reply.peers)) and not _is_ours(query.request)
        answering, bytes_max = core.guard.allowance(
            address,
            request_bytes,
            len(data),
            now,
            can_challenge=can_challenge,
            nearer_count=self._nearer_count(query.request) if is_whole_only else 0,
            is_whole_only=is_whole_only,
        )
        if answering is Answering.FULL:
            return data
        if answering is Answering.CHALLENGE:
            self._challenges.hold(address, whole, now)
        elif answering is Answering.SILENT:
            core.counters["dropped-reply-budget"] += 1
        else:
            return self._short(reply, bytes_max)
        return None

    def _nearer_count(self, request: krpc.Request) -> int:
        """Return how many of the nodes that should hold a target are nearer to it than this one."""
        target = request.target if isinstance(request, krpc.Get) else b""
        if isinstance(request, krpc.GetPeers):
            target = request.info_hash
        return self._core.table.nearer_count(target, self._core.settings.k)

    @staticmethod
    def _short(reply: krpc.Reply, bytes_max: int) -> bytes | None:
        """Return the contacts and the token of a reply, as far as they fit."""
        bare = krpc.Reply(
            transaction=reply.transaction,
            node_id=reply.node_id,
            nodes=reply.nodes,
            nodes6=reply.nodes6,
            token=reply.token,
            # A seq alone means "nothing newer than yours"; a reply without it means "not found".
            seq=None if reply.value is not None else reply.seq,
            # A node of ours asks again with the token, which proves its address; others do not know the word.
            is_proof_wanted=reply.token is not None,
            network=reply.network,
        )
        data = compose_reply_within(bare, bytes_max).data
        return data if len(data) <= bytes_max else None

    def _refuse(
        self, transaction: bytes, code: int, reason: str, request_bytes: int, address: Address, now: float
    ) -> None:
        core = self._core
        core.counters[f"refused-{reason}"] += 1
        error = krpc.Error(transaction=transaction, code=code, text=reason, network=core.network)
        data = compose_error(error)
        allowance = core.guard.allowance(address, request_bytes, len(data), now)
        if allowance.answering is Answering.FULL:
            core.out.append((data, address))


def _is_ours(request: krpc.Request) -> bool:
    """Return whether a request has a word that only nodes of ours write; they read `prove` and ask again."""
    return isinstance(request, krpc.Get) and (request.pad_bytes > 0 or request.token is not None)


def _has_token(request: krpc.Request) -> bool:
    """Return whether a request may prove its sender's address."""
    if isinstance(request, krpc.Get):
        return request.token is not None
    return isinstance(request, krpc.Put | krpc.AnnouncePeer)
