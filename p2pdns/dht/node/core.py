"""The state that the parts of a node share: settings, table, outgoing datagrams, events, timers, requests in flight.

Guarantees: a reply counts only when transaction, address and (where known) id match a request; every request ends
in an answer or in silence. Does not know the purpose of a request.
"""

from __future__ import annotations

import heapq
from collections import Counter, deque
from collections.abc import Callable

from p2pdns.addresses import Address, AddressClass, class_of
from p2pdns.dht import krpc
from p2pdns.dht.guard import AMPLIFICATION_MAX, TOKEN_BYTES, TOKEN_PERIOD_S, Guard
from p2pdns.dht.krpc.compact import CONTACT6_BYTES, CONTACT_BYTES
from p2pdns.dht.krpc.writing import compose
from p2pdns.dht.node.reply_times import ReplyTimes
from p2pdns.dht.node.requests import OutgoingRequest, Stage
from p2pdns.dht.node.turns import Turns
from p2pdns.dht.node.values import Event, NodeSettings, Sibling
from p2pdns.dht.recent import Recent
from p2pdns.dht.routing.table import RoutingTable
from p2pdns.dht.storage import Storage

VERSION = b"PD\x00\x01"
TRANSACTION_BYTES = 4  # Rust mainline from 6 on answers no other length.
RETRANSMIT_TRANSACTION_BYTES = 2  # Rust mainline 5, inside pkdns, answers no other length.
LATE_S = 2.0  # How long after we gave up an answer still counts; a contact that slow is of no use.
# A reply is late after so many typical times; of the replies of living contacts a quarter come later. By `p2pdns sim
# --scenario lookup --nodes 1000`, half of them dead, p95 of the first item is 390 ms with 1.5, above half a second with
# 2 or without, and no less with 1.2, which costs half a request more.
LATE_FACTOR = 1.5
# A contact that was measured is late after so many of its own times. A small delay says nothing, so a third of the time
# of others is the least that counts. Among 1,000 placed nodes p95 was 411 ms with this, and 464 without.
QUICK_FACTOR_MAX = 3
RTT_FACTOR = 4  # The timeout of an unmeasured contact, in typical times: in the public network twice the p95.
PAD_BYTES_MAX = 400  # With the rest of a get a third of the longest reply, so that no peer must doubt our address.
QUERY_BYTES = 125  # A get of ours without pad.
REPLY_BYTES = 120  # A reply of ours without contacts and value.
CONTACTS_IN_REPLY = 8  # BEP 5
TOKENS_MAX = 1_024  # Nodes whose last token we remember: the table, and those that a minute of look-ups asks.
ASKED_S = 600.0  # For how long a NAT may let in an address that we wrote to; most do for half a minute, some for five.
ASKED_MAX = 1_024  # Addresses remembered as written to; a busy node that is read-only writes to fewer in that time.
EVENTS_MAX = 100_000  # More means that no caller reads them.


class Core:
    """The middle of a node."""

    def __init__(
        self,
        node_id: bytes,
        network: str,
        entropy: Callable[[int], bytes],
        storage: Storage,
        settings: NodeSettings,
        now: float,
    ) -> None:
        self.settings = settings
        self.node_id = node_id
        self.entropy = entropy
        self.storage = storage
        self.sibling: Sibling | None = None
        self.guard = Guard(entropy, now)
        self.table = RoutingTable(node_id, now, size=settings.k, far_sizes=settings.far_sizes)
        self.is_named = network not in ("mainline", "unnamed")
        self.network = krpc.network_of(network) if self.is_named else None
        # A named network is ours alone; in Mainline eight contacts are what everybody expects and sends.
        self.contacts_in_reply = settings.k if self.is_named else CONTACTS_IN_REPLY
        self.counters: Counter[str] = Counter()
        self.out: list[tuple[bytes, Address]] = []
        self.events: deque[Event] = deque(maxlen=EVENTS_MAX)
        self.is_read_only: Callable[[], bool] = lambda: bool(settings.read_only)
        self.last_reply_at = float("-inf")
        self._pending: dict[bytes, OutgoingRequest] = {}
        self._tokens: dict[Address, tuple[bytes, bytes, float]] = {}
        self._asked: Recent[Address] = Recent(ASKED_S, ASKED_MAX)
        self._timers: list[tuple[float, int, Callable[[float], None], OutgoingRequest | None, int]] = []
        self._serial = 0
        self.reply_times = ReplyTimes()
        self.turns = Turns()

    def change_id(self, node_id: bytes, now: float) -> None:
        """Go by another id from now on, with the same contacts."""
        self.storage.node_ids = tuple(node_id if other == self.node_id else other for other in self.storage.node_ids)
        self.node_id = node_id
        self.table = self.table.moved_to(node_id, now)

    # Timers

    def at(self, due: float, action: Callable[[float], None], request: OutgoingRequest | None = None) -> None:
        """Have `action(now)` called once `due` has come; it cannot be called off, so the action checks the state.

        With `request`, `get_timer` leaves the action out once the request has passed its present stage.
        """
        self._serial += 1
        heapq.heappush(self._timers, (due, self._serial, action, request, 0 if request is None else request.stage))

    def get_timer(self) -> float | None:
        """Return when `run_timers` is due next."""
        timers = self._timers
        # Nearly every request is answered before its timeout; to wake up for each would cost as much as the request.
        while timers and (request := timers[0][3]) is not None and request.stage != timers[0][4]:
            heapq.heappop(timers)
        return timers[0][0] if timers else None

    def run_timers(self, now: float) -> None:
        """Run every action that is due, in the order of their times."""
        timers = self._timers
        while timers and timers[0][0] <= now:
            heapq.heappop(timers)[2](now)

    # Requests

    def can_send_to(self, address: Address) -> bool:
        """Return whether there can be a node at this address that our socket reaches."""
        host, port = address
        settings = self.settings
        if not port or (":" in host) != settings.is_ipv6:
            return False
        kind = class_of(host)
        if kind is AddressClass.UNUSABLE or kind is AddressClass.DOCUMENTATION:
            return False
        return kind is AddressClass.LOOPBACK or not settings.is_on_loopback

    def ask(self, request: OutgoingRequest, now: float) -> int:
        """Send a request; return its size in bytes."""
        request.sent_at = now
        self._asked.note(request.address, now)
        self.turns.count_in_flight(1, is_urgent=request.is_urgent)
        size = self._transmit(request, TRANSACTION_BYTES)
        wait = self._timeout_of(request.node_id, request.address)
        self.at(now + wait, lambda then: self._timed_out(request, Stage.FIRST_WAIT, then), request)
        return size

    def has_asked(self, address: Address, now: float) -> bool:
        """Return whether we wrote to this address so recently that a NAT may still let its datagrams in."""
        return self._asked.has(address, now)

    def _transmit(self, request: OutgoingRequest, transaction_bytes: int) -> int:
        transaction = self.entropy(transaction_bytes)
        while transaction in self._pending:
            transaction = self.entropy(transaction_bytes)
        self._pending[transaction] = request
        request.transactions.append(transaction)
        data = self._composed(transaction, request.message)
        self.out.append((data, request.address))
        return len(data)

    def size_of(self, request: krpc.Request) -> int:
        """Return how many bytes the datagram of a request has."""
        return len(self._composed(bytes(TRANSACTION_BYTES), request))

    def _composed(self, transaction: bytes, request: krpc.Request) -> bytes:
        query = krpc.RequestMessage(
            transaction=transaction,
            node_id=self.node_id,
            request=request,
            read_only=self.is_read_only(),
            want=self._wanted(request),
            # A put has none: beside the longest value and our tokens, an IPv6 link may lack room for these nine bytes.
            version=None if isinstance(request, krpc.Put) else VERSION,
            network=self.network,
        )
        return compose(query)

    def _wanted(self, request: krpc.Request) -> tuple[bytes, ...]:
        """Return the families to ask for contacts of: both where one DHT helps the other to begin (BEP 32)."""
        if isinstance(request, krpc.FindNode) and self.sibling is not None and self.sibling.wants_contacts:
            return (b"n4", b"n6")
        return ()

    def note_token(self, address: Address, target: bytes, token: bytes, now: float) -> None:
        """Remember the last token of a node, which proves our address to it."""
        if len(token) != TOKEN_BYTES:
            # A foreign node: it does not ration us, so it needs no proof.
            return
        self._tokens.pop(address, None)
        self._tokens[address] = (target, token, now)
        if len(self._tokens) > TOKENS_MAX:
            del self._tokens[next(iter(self._tokens))]

    def forget_old(self, now: float) -> None:
        """Drop tokens, and addresses asked or proven, that count no more; call it every few minutes."""
        kept = {at: token for at, token in self._tokens.items() if now - token[2] < TOKEN_PERIOD_S}
        if len(kept) < len(self._tokens):
            self._tokens = kept
        self._asked.forget_old(now)
        self.guard.forget_old(now)

    def get_request(
        self, target: bytes, seq: int | None, address: Address, now: float, *, is_padded: bool = True
    ) -> krpc.Get:
        """Return a get with the last token of its receiver, or padded to a third of the longest reply."""
        token_of, token, given_at = self._tokens.get(address, (b"", b"", float("-inf")))
        if now - given_at < TOKEN_PERIOD_S:
            return krpc.Get(target, seq, token, 0, None if token_of == target else token_of)
        # At least one byte: it says that we read `prove`, so that the node sends a short reply instead of none.
        pad_bytes = self._pad_bytes(may_bring_more=seq is None) if is_padded else 0
        return krpc.Get(target, seq, None, max(1, pad_bytes))

    def find_request(self, target: bytes, *, is_padded: bool = True) -> krpc.FindNode:
        """Return a find_node padded to a third of the whole reply: newcomers need more than eight contacts."""
        request = krpc.FindNode(target)
        if not is_padded:
            return request
        return krpc.FindNode(target, self._pad_bytes(may_bring_more=bool(self._wanted(request))))

    def search_request(self, target: bytes, address: Address, now: float, *, is_padded: bool = True) -> krpc.Request:
        """Return the request for contacts near `target`.

        A read-only node answers no ping, so it can prove its address with a token only, and find_node brings none. In a
        named network, where every node understands get, it sends that instead: for its first minute a newcomer would
        otherwise share the budget of all unproven addresses of its prefix.
        """
        request = self.find_request(target, is_padded=is_padded)
        if self.is_named and self.is_read_only() and not self._wanted(request):
            return self.get_request(target, None, address, now, is_padded=is_padded)
        return request

    def _pad_bytes(self, *, may_bring_more: bool) -> int:
        """Return how much pad earns a reply full of contacts, or the longest reply."""
        size = CONTACT6_BYTES if self.settings.is_ipv6 else CONTACT_BYTES
        expected = krpc.REPLY_BYTES_MAX if may_bring_more else REPLY_BYTES + size * self.contacts_in_reply
        return max(0, min(PAD_BYTES_MAX, -(-expected // AMPLIFICATION_MAX) - QUERY_BYTES))

    @property
    def typical_s(self) -> float:
        """The time that a reply takes, as far as we know."""
        return self.reply_times.typical_s or self.settings.timeout_s_first / RTT_FACTOR

    def late_after_s(self, node_id: bytes, address: Address) -> float:
        """Return after how long a reply is late; it may still come, and its contact does not count as silent yet."""
        contact = self.table.contact_at(address, node_id)
        srtt = None if contact is None else contact.srtt
        if srtt is None:
            return LATE_FACTOR * self.typical_s
        return LATE_FACTOR * min(self.typical_s, max(srtt, self.typical_s / QUICK_FACTOR_MAX))

    def _timeout_of(self, node_id: bytes | None, address: Address) -> float:
        settings = self.settings
        timeout = None
        if node_id is not None:
            contact = self.table.contact_at(address, node_id)
            timeout = None if contact is None else contact.timeout
        if timeout is None:
            typical_s = self.reply_times.typical_s
            timeout = settings.timeout_s_first if typical_s is None else RTT_FACTOR * typical_s
        return min(max(timeout, settings.timeout_s_min), settings.timeout_s_max)

    def _timed_out(self, request: OutgoingRequest, stage: Stage, now: float) -> None:
        if request.stage is not stage:
            return
        is_first = stage is Stage.FIRST_WAIT
        if is_first:
            self.turns.count_in_flight(-1, is_urgent=request.is_urgent)
            request.stage = Stage.SECOND_WAIT
        if request.on_timeout(not is_first, now) and is_first:
            self.counters["retransmit"] += 1
            request.resent_at = now
            self._transmit(request, RETRANSMIT_TRANSACTION_BYTES)
            wait = self._timeout_of(request.node_id, request.address)
            self.at(now + wait, lambda then: self._timed_out(request, Stage.SECOND_WAIT, then), request)
            return
        request.stage = Stage.GIVEN_UP
        self.counters["request-unanswered"] += 1
        # If no contact at all has answered meanwhile, our own network is down, and not this contact.
        if request.node_id is not None and self.last_reply_at >= request.sent_at:
            self.table.failed(krpc.NodeInfo(request.node_id, request.address))
        self.at(now + LATE_S, lambda then: self._forget(request))

    def _forget(self, request: OutgoingRequest) -> None:
        request.stage = Stage.OVER
        for transaction in request.transactions:
            if self._pending.get(transaction) is request:
                del self._pending[transaction]

    def match(self, transaction: bytes, node_id: bytes | None, address: Address, now: float) -> OutgoingRequest | None:
        """Return the request that an answer belongs to, and note the answer; None with a reason counted.

        `node_id` is None for an error, which carries no id.
        """
        request = self._pending.get(transaction)
        if request is None:
            self.counters["dropped-unknown-transaction"] += 1
            return None
        if request.address != address:
            self.counters["dropped-wrong-address"] += 1
            return None
        if node_id is not None:
            if node_id == self.node_id:
                self.counters["dropped-own-id"] += 1
                return None
            if request.node_id is not None and request.node_id != node_id:
                # The node has taken another id, or another node the address: the contact is gone, and our own network
                # is up. Without that a node all of whose contacts have other ids would keep them for ever.
                self.last_reply_at = now
                self.counters["dropped-wrong-id"] += 1
                return None
        if request.stage is Stage.FIRST_WAIT:
            self.turns.count_in_flight(-1, is_urgent=request.is_urgent)
        elif request.stage is Stage.GIVEN_UP:
            self.counters["reply-late"] += 1
        self._forget(request)
        # The transaction says which of the two datagrams was answered, so the time is exact (Karn's problem).
        rtt = now - (request.sent_at if transaction == request.transactions[0] else request.resent_at)
        self.last_reply_at = now
        self.guard.prove(request.address, now)
        self.reply_times.note(request.address, rtt)
        if node_id is not None:
            self.table.answered(krpc.NodeInfo(node_id, request.address), rtt, now)
        return request
