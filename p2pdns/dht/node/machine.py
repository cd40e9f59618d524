"""The datagram machine of one node, in one address family: bytes in, bytes out, timers and events.

Guarantees: no method blocks, reads a clock or raises on what strangers send; whatever arrives is answered, used or
dropped with a reason counted; the same entropy, datagrams and times give the same history. Does not know sockets.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial

from p2pdns.addresses import Address
from p2pdns.dht import krpc
from p2pdns.dht.krpc.reading import parse
from p2pdns.dht.lookup.search import Lookup
from p2pdns.dht.lookup.sought import Sought
from p2pdns.dht.lookup.verdict import Verdict
from p2pdns.dht.node.bootstrap import Bootstrap
from p2pdns.dht.node.core import Core
from p2pdns.dht.node.getting import GetOperation
from p2pdns.dht.node.identity import Identity
from p2pdns.dht.node.inquiring import InquiryOperation
from p2pdns.dht.node.nat import NatDetector
from p2pdns.dht.node.operations import FindOperation, Operation
from p2pdns.dht.node.putting import PutOperation, sought_for
from p2pdns.dht.node.republish import Done, Republisher, RepublishOperation
from p2pdns.dht.node.server import RequestServer
from p2pdns.dht.node.values import Cas, Event, Inquiry, NodeSettings, Peer, PublicReport, Sibling, Wanted
from p2pdns.dht.routing.contact import SavedContact
from p2pdns.dht.routing.ids import ID_BYTES, id_for
from p2pdns.dht.routing.reach import is_for
from p2pdns.dht.storage import Storage
from p2pdns.errors import FormatError
from p2pdns.items.item import Item, SignatureMemo

HEARD_MAX = 8  # Contacts asked of those that one reply to the other family's node names: as many as BEP 5 has in one.


class Node:
    """A node of the overlay, without socket and clock.

    `entropy(n)` gives n random bytes; `network` is `mainline`, `unnamed` or the name of a network of its own.
    """

    def __init__(
        self,
        *,
        node_id: bytes | None,
        network: str,
        entropy: Callable[[int], bytes],
        storage: Storage,
        settings: NodeSettings | None = None,
        now: float,
    ) -> None:
        settings = settings or NodeSettings()
        if node_id is None:
            node_id = id_for(settings.bind_host, entropy(ID_BYTES))
        self.network = network
        self.settings = settings
        self._core = Core(node_id, network, entropy, storage, settings, now)
        storage.node_ids = (*storage.node_ids, node_id)
        self._nat = NatDetector(settings.bind_host, settings.read_only)
        self._core.is_read_only = lambda: self._nat.is_read_only
        self._server = RequestServer(self._core, self._query_came)
        self._memo = SignatureMemo()
        self._operations: dict[int, Operation | InquiryOperation] = {}
        self._operation_count = 0
        self._bootstrap = Bootstrap(self._core, self._find, now)
        self._identity = Identity(self._core, self._bootstrap.id_changed)
        self._republisher = Republisher(self._core, self._keep, now)

    # What it is

    @property
    def node_id(self) -> bytes:
        return self._core.node_id

    @property
    def storage(self) -> Storage:
        return self._core.storage

    @property
    def counters(self) -> Mapping[str, int]:
        """The counts by reason, those of guard and storage included."""
        total: Counter[str] = Counter(self._core.counters)
        total.update(self._core.guard.counters)
        total.update(self._core.storage.counters)
        return total

    @property
    def contact_count(self) -> int:
        return len(self._core.table)

    @property
    def has_joined(self) -> bool:
        return self._bootstrap.has_joined

    @property
    def is_read_only(self) -> bool:
        return self._nat.is_read_only

    @property
    def read_only_reason(self) -> str:
        return self._nat.reason

    @property
    def address(self) -> Address | None:
        """Our address as enough contacts see it; None while they do not agree."""
        return self._nat.address

    @property
    def public_report(self) -> PublicReport:
        """Our public address as the prefixes of our contacts report it, whatever the port."""
        return self._identity.public_report

    @property
    def operation_count(self) -> int:
        return len(self._operations)

    @property
    def in_flight_count(self) -> int:
        return self._core.turns.in_flight_count

    def contacts(self, now: float) -> list[SavedContact]:
        """Return the contacts to keep over a restart, best first."""
        return self._core.table.saved(now)

    def peers(self, now: float) -> list[Peer]:
        """Return what is known of every contact, the one that answered last first."""
        found = [
            Peer(one.id, one.address, one.srtt, now - one.answered_at, now - one.first_at, one.failures, one.is_allowed)
            for one in self._core.table
        ]
        return sorted(found, key=lambda peer: (peer.silent_s, peer.node_id))

    # Datagrams and time

    def receive_datagram(self, data: bytes, address: Address, now: float) -> None:
        """Take in a datagram of any origin."""
        core = self._core
        core.turns.datagram_received(now)
        try:
            message = parse(data)
        except krpc.BadQuery as bad:
            core.counters[f"dropped-{bad.reason}"] += 1
            if bad.network == core.network and core.can_send_to(address):
                self._server.bad_query_received(bad, len(data), address, now)
            return
        except FormatError as error:
            core.counters[f"dropped-{error.reason}"] += 1
            return
        if message.network != core.network:
            core.counters["dropped-other-network"] += 1
        elif not core.can_send_to(address):
            core.counters["dropped-unusable-address"] += 1
        elif isinstance(message, krpc.RequestMessage):
            self._server.query_received(message, len(data), address, now)
        elif isinstance(message, krpc.Reply):
            self._reply_received(message, len(data), address, now)
        else:
            self._error_received(message, address, now)

    def _reply_received(self, reply: krpc.Reply, size_bytes: int, address: Address, now: float) -> None:
        core = self._core
        request = core.match(reply.transaction, reply.node_id, address, now)
        if request is None:
            return
        core.counters["reply"] += 1
        if reply.portless_count:
            core.counters["contact-port-0"] += reply.portless_count
        theirs = reply.nodes if self.settings.is_ipv6 else reply.nodes6
        if theirs and core.sibling is not None:
            core.sibling.contacts_heard(theirs, address, now)
        if reply.ip is not None:
            was_read_only = self._nat.is_read_only
            self._nat.told(address, reply.ip)
            self._identity.told(address, reply.ip, now)
            self._note_reach(was_read_only, now)
        request.on_reply(reply, size_bytes, now)

    def _error_received(self, error: krpc.Error, address: Address, now: float) -> None:
        core = self._core
        request = core.match(error.transaction, None, address, now)
        if request is None:
            return
        core.counters[f"error-{error.code if 200 <= error.code < 400 else 'other'}"] += 1
        request.on_error(error, now)

    def _query_came(self, query: krpc.RequestMessage, address: Address, now: float) -> None:
        # Our own datagram lets its receiver in through a NAT, so a query from there shows no open way.
        if not self._core.has_asked(address, now) and not self._core.guard.is_proven(address, now):
            was_read_only = self._nat.is_read_only
            self._nat.unsolicited_query_came()
            self._note_reach(was_read_only, now)
        if not query.read_only:
            self._bootstrap.newcomer_heard(query.node_id, address, now)
        elif self._core.is_named:
            # In Mainline there are nodes enough that do not know `ro`.
            self._bootstrap.reader_heard(query.node_id, address, now)

    def _note_reach(self, was_read_only: bool, now: float) -> None:
        if was_read_only and not self._nat.is_read_only:
            self._bootstrap.became_full(now)

    @property
    def has_event(self) -> bool:
        return bool(self._core.events)

    def datagrams_to_send(self, now: float) -> list[tuple[bytes, Address]]:
        """Return the datagrams to send now, in order, with those of the look-ups in turn; they count as sent."""
        core = self._core
        core.turns.give_turns(now)
        out, core.out = core.out, []
        return out

    def get_timer(self) -> float | None:
        """Return when `handle_timer` is due next."""
        due, turn_due = self._core.get_timer(), self._core.turns.get_timer()
        if due is None or turn_due is None:
            return due if turn_due is None else turn_due
        return min(due, turn_due)

    def handle_timer(self, now: float) -> None:
        """Do everything that is due."""
        self._core.run_timers(now)
        self._core.turns.handle_timer(now)

    def next_event(self) -> Event | None:
        """Return the next event, None when there is none."""
        events = self._core.events
        return events.popleft() if events else None

    # Joining

    def add_bootstrap(self, addresses: Sequence[Address], now: float) -> None:
        """Join by these addresses; `Joined` tells when that is done. Silent ones are tried again, ever less often."""
        self._bootstrap.add_bootstrap(addresses, now)

    def restore_contacts(self, contacts: Sequence[SavedContact], now: float) -> None:
        """Join by the contacts of an earlier run, best first."""
        self._bootstrap.restore_contacts(contacts, now)

    def network_changed(self, now: float) -> None:
        """Ask the silent contacts again: this machine has another way to the network."""
        self._bootstrap.network_changed(now)

    # The other family

    def pair_with(self, sibling: Sibling) -> None:
        """Name contacts of the sibling in our replies where they are wanted, and tell it those that we hear of."""
        self._core.sibling = sibling

    @property
    def wants_contacts(self) -> bool:
        """Whether so few contacts are known that the other family's nodes should be asked for some."""
        return self.contact_count < self.settings.k and self._bootstrap.hearsay_left > 0

    def contacts_near(self, target: bytes, asker: Address) -> tuple[krpc.NodeInfo, ...]:
        """Return the contacts to tell an asker of the other family."""
        return self._server.contacts(target, asker)

    def contacts_heard(self, contacts: tuple[krpc.NodeInfo, ...], source: Address, now: float) -> None:
        """Send a few of these contacts, which a node of the other family has named, a ping."""
        if not self.wants_contacts:
            return
        for contact in contacts[: min(HEARD_MAX, self._bootstrap.hearsay_left)]:
            if is_for(contact.address[0], source[0]):
                self._bootstrap.newcomer_heard(contact.node_id, contact.address, now, is_hearsay=True)

    # Operations

    def start_get(self, wanted: Wanted, now: float, *, tells_patience: bool = False) -> int:
        """Look for the best item of those wanted; return the operation's number.

        `tells_patience` asks for the event `GetPatient`.
        """
        sought = Sought(
            wanted.key,
            wanted.salt,
            wanted.known_seq,
            wanted.present,
            wanted.wants_copies,
            wanted.commitment,
            wanted.wants_editions,
            wanted.pinned,
        )
        lookup = self._lookup(wanted.target, sought, wanted.rpc_max, wanted.alpha)
        operation = GetOperation(self._core, lookup, now, wanted.deadline)
        operation.avoided = wanted.avoided
        operation.tells_patience = tells_patience
        return self._begin(operation, now, self._found_here(lookup, now))

    def start_put(self, item: Item, now: float, *, cas: Cas | None = None, deadline: float | None = None) -> int:
        """Have the k nodes nearest to the item's target keep it; return the operation's number."""
        lookup = self._lookup(item.target, sought_for(item, self._core.storage.precedence.present(now)), None)
        self._found_here(lookup, now)
        return self._begin(PutOperation(self._core, item, cas, lookup, now, deadline), now)

    def start_find(self, target: bytes, now: float, *, deadline: float | None = None) -> int:
        """Look for the contacts nearest to `target`; return the operation's number."""
        lookup = self._lookup(target, None, None)
        return self._begin(FindOperation(self._core, lookup, now, deadline), now)

    def start_inquiry(self, inquiry: Inquiry, now: float) -> int:
        """Ask one node whether it still has an item; return the operation's number."""
        operation = InquiryOperation(self._core, inquiry, self._memo)
        self._add(operation)
        operation.start(now)
        return operation.number

    def cancel(self, operation: int, now: float) -> None:
        """Stop an operation without an outcome; unknown or ended ones are no error."""
        found = self._operations.pop(operation, None)
        if found is not None:
            found.cancel()

    def _lookup(self, target: bytes, sought: Sought | None, rpc_max: int | None, alpha: int | None = None) -> Lookup:
        settings = self.settings
        return Lookup(
            target,
            self._core.node_id,
            sought,
            k=settings.k,
            alpha=settings.alpha if alpha is None else alpha,
            rpc_max=settings.rpc_max if rpc_max is None else rpc_max,
            memo=self._memo,
            can_ask=self._core.can_send_to,
        )

    def _find(
        self,
        target: bytes,
        seeds: Iterable[krpc.NodeInfo],
        on_done: Callable[[Verdict, float], None],
        now: float,
        *,
        rpc_max: int | None = None,
        source: Address | None = None,
        is_enough: Callable[[], bool] | None = None,
        asked_before: Collection[Address] = (),
    ) -> None:
        lookup = self._lookup(target, None, rpc_max)
        lookup.add(seeds, source)
        operation = FindOperation(self._core, lookup, now, None)
        operation.on_done, operation.is_enough, operation.asked_before = on_done, is_enough, asked_before
        self._begin(operation, now)

    def _keep(self, item: Item, is_due: bool, on_done: Done, now: float) -> None:
        lookup = self._lookup(item.target, sought_for(item, self._core.storage.precedence.present(now)), None)
        operation = RepublishOperation(self._core, item, None, lookup, now, None)
        operation.is_due = is_due
        operation.on_done = on_done
        self._begin(operation, now)

    def _found_here(self, lookup: Lookup, now: float) -> Item | None:
        """Have a look-up begin with the item in our own storage; return it if it is wanted."""
        held = self._core.storage.held(lookup.target, now)
        return lookup.item_here(held.item) if held is not None and held.item is not None else None

    def _begin(self, operation: Operation, now: float, found: Item | None = None) -> int:
        self._add(operation)
        if found is not None:
            operation.item_found(found, now)
        if not operation.is_over:
            operation.start(now)
        return operation.number

    def _add(self, operation: Operation | InquiryOperation) -> None:
        self._operation_count += 1
        operation.number = self._operation_count
        operation.on_end = partial(self._operations.pop, operation.number, None)
        self._operations[operation.number] = operation
