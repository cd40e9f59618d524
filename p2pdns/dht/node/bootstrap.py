"""Joining the overlay and staying in it: bootstrap contacts, newcomers in quarantine, refresh.

Guarantees: a contact enters the table only after it answered; strangers that write to us are sent pings at a bounded
rate; an idle node sends at most 20 queries a minute; a node that knows no address sends nothing. Does not know sockets.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from operator import attrgetter

from p2pdns.addresses import Address
from p2pdns.dht import krpc
from p2pdns.dht.lookup.verdict import Verdict
from p2pdns.dht.node.bucket_refresh import BucketRefresh, Find, OnDone
from p2pdns.dht.node.core import Core
from p2pdns.dht.node.requests import OutgoingRequest
from p2pdns.dht.node.values import Joined
from p2pdns.dht.node.visits import Visits
from p2pdns.dht.routing.bucket import random_id_in
from p2pdns.dht.routing.contact import Contact, SavedContact
from p2pdns.dht.routing.ids import ID_BYTES
from p2pdns.dht.routing.table import FAILURES_MAX
from p2pdns.rates import RateLimit

BOOTSTRAP_MAX = 256  # Addresses remembered to join by; more than a saved table's best half.
RESTORED_MAX = 192  # Those from an earlier run among them: addresses that are named later must find room.
BOOTSTRAP_AT_ONCE = 16  # Asked in one round; most of yesterday's public contacts are gone.
RETRY_S_MIN, RETRY_S_MAX = 2.0, 300.0  # Between rounds in which no contact answered, doubling.
TICK_S = 15.0  # Between two looks at what is to be refreshed.
BUCKET_AGE_S = 900.0  # BEP 5: a bucket that no look-up went through for 15 minutes is refreshed.
CONTACT_AGE_S = 900.0  # BEP 5: after 15 minutes of silence a contact is questionable.
QUARANTINE_MAX = 32  # Newcomers that a ping is under way to.
QUARANTINE_PER_SECOND, QUARANTINE_BURST = 4.0, 64.0  # A ping for each forged query would be a reflector.
RETRY_LOST_EVERY_TICKS = 2  # Every half a minute one lost contact is tried, so that a healed partition is noticed.
REFRESH_EVERY_TICKS = 4  # One bucket a minute: with the 22 of the public network each has its turn in time enough.
RETRY_KNOWN_EVERY_TICKS = 8  # Every other refresh gives way to a bootstrap address that is not in the table.
VISIT_EVERY_TICKS = 4  # Once a minute, beside the refresh: a read-only node that has asked us is visited.
PING_EVERY_TICKS = 4  # At the least; the ticks between may go to the refresh, to a visit and to a lost contact.
REFRESH_QUERIES_MAX = 12  # In one refresh; with a minute's pings that is 15; a whole look-up would send 40 at once.
EXPIRE_EVERY_TICKS = 20  # Storage is swept every five minutes.
# Contacts named by the other address family that are sent a ping in one go; a machine may have no way to any of them.
HEARSAY_MAX = 64
HEARSAY_PER_SWEEP = 8  # As many more every five minutes: the way may have come.


def dead_contacts_gone_s(dead_count: int) -> float:
    """Return after how many seconds an idle node has no dead contact any more when so many die at once."""
    return CONTACT_AGE_S + (dead_count * FAILURES_MAX + 1) * PING_EVERY_TICKS * TICK_S


class Bootstrap:
    """How a node joins, and keeps its table fresh."""

    def __init__(self, core: Core, find: Find, now: float) -> None:
        self._core = core
        self._find = find
        self._known: dict[Address, None] = {}
        self._credit: dict[krpc.NodeInfo, float] = {}
        # A list, because an empty deque takes 620 bytes, and there are 256 addresses at most.
        self._untried: list[Address] = []
        self._asked: set[OutgoingRequest] = set()
        self.has_joined = False
        self._is_joining = False
        self._is_searching = False
        self._is_to_be_announced = False
        self._on_own_found: OnDone = _ignore  # Called at the end of the search by which we join, or come back.
        self._retry_s = RETRY_S_MIN
        self._retry_is_set = False
        self._first_refresh = BucketRefresh(core, find)
        # Newcomers that a ping is under way to, and whether a node of the other address family has named them.
        self._asked_back: dict[Address, bool] = {}
        self._newcomer_rate = RateLimit(QUARANTINE_PER_SECOND, QUARANTINE_BURST, now)
        self.hearsay_left = HEARSAY_MAX
        self._visits = Visits()
        self._witness_turn = 0
        self._tick_count = 0
        self._known_turn = 0
        core.at(now + TICK_S, self._tick)

    # Joining

    def add_bootstrap(self, addresses: Sequence[Address], now: float) -> None:
        """Remember addresses to join by, and ask them before the saved contacts, all of which may be dead."""
        self._remember([*reversed(addresses)], now, is_first=True)

    def restore_contacts(self, contacts: Sequence[SavedContact], now: float) -> None:
        """Remember contacts of an earlier run, best first, and join by them; they enter the table when they answer."""
        contacts = [contact for contact in contacts if self._core.can_send_to(contact.address)][:RESTORED_MAX]
        for contact in contacts:
            self._credit[krpc.NodeInfo(contact.node_id, contact.address)] = contact.known_s
        self._remember([contact.address for contact in contacts], now)

    def _remember(self, addresses: Sequence[Address], now: float, *, is_first: bool = False) -> None:
        for address in addresses:
            if is_first and address in self._untried:
                self._untried.remove(address)
                self._untried.insert(0, address)
            elif len(self._known) < BOOTSTRAP_MAX and address not in self._known and self._core.can_send_to(address):
                self._known[address] = None
                if is_first:
                    self._untried.insert(0, address)
                else:
                    self._untried.append(address)
        if (is_first and addresses) or not self._is_joining:
            self._join(now)

    def _join(self, now: float) -> None:
        self._is_joining = bool(self._untried)
        for _ in range(min(BOOTSTRAP_AT_ONCE, len(self._untried))):
            address = self._untried.pop(0)
            self._ask_way_in(self._core.search_request(self._core.node_id, address, now), address, None, now)

    def _ask_way_in(self, message: krpc.Request, address: Address, rpc_max: int | None, now: float) -> None:
        """Send a search for our own id; the search that goes on from its reply has `rpc_max` requests."""

        def answered(reply: krpc.Reply, _: int, then: float) -> None:
            self._asked.discard(request)
            self._way_in_answered(address, rpc_max, reply, then)

        def silent(then: float) -> None:
            self._asked.discard(request)
            self._way_in_silent(then)

        def timed_out(is_sent_again: bool, then: float) -> bool:
            if is_sent_again:
                silent(then)
            return not is_sent_again

        # A node at the address may have another id by now, and serves as well.
        request = OutgoingRequest(message, address, None, answered, lambda _, then: silent(then), timed_out)
        self._asked.add(request)
        self._core.ask(request, now)

    def _way_in_answered(self, address: Address, rpc_max: int | None, reply: krpc.Reply, now: float) -> None:
        if reply.token is not None:
            self._core.note_token(address, self._core.node_id, reply.token, now)
        contact = self._core.table.get(krpc.NodeInfo(reply.node_id, address))
        if contact is not None:
            contact.first_at -= self._credit.pop(contact.wire, 0.0)
        self._retry_s = RETRY_S_MIN
        if not self._is_searching:
            self._is_searching = True
            nodes = reply.nodes6 if self._core.settings.is_ipv6 else reply.nodes
            on_done = self._neighbours_found if rpc_max is None else self._looked_round
            self._search_own(nodes, on_done, now, rpc_max=rpc_max, source=address)

    def _search_own(
        self,
        seeds: Iterable[krpc.NodeInfo],
        on_done: OnDone,
        now: float,
        *,
        rpc_max: int | None = None,
        source: Address | None = None,
    ) -> None:
        """Search for our own id, as long as it is ours."""
        core, node_id = self._core, self._core.node_id
        if on_done is not _ignore:
            self._on_own_found = on_done

        def has_moved() -> bool:
            return core.node_id != node_id

        def done(verdict: Verdict, then: float) -> None:
            if not has_moved():
                on_done(verdict, then)

        self._find(node_id, seeds, done, now, rpc_max=rpc_max, source=source, is_enough=has_moved)

    def id_changed(self, now: float) -> None:
        """Search for our new id, in the place of a search for the old one that is under way."""
        self._search_own((), self._on_own_found if self._is_searching else _ignore, now)

    def became_full(self, now: float) -> None:
        """Search for our own id, now that we are not read-only any more: so the neighbours hear of us.

        A read-only node is named to nobody. Until its neighbours know that it is full, items are put past it.
        """
        if self._is_searching:
            self._is_to_be_announced = True
        else:
            self._search_own((), _ignore, now)

    def _way_in_silent(self, now: float) -> None:
        """Ask the next addresses when a whole round was silent, and all of them again after a while."""
        if self._asked or self._is_searching or len(self._core.table):
            return
        if self._untried:
            self._join(now)
        elif not self._retry_is_set:
            self._retry_is_set = True
            self._core.at(now + self._retry_s, self._retry)
            self._retry_s = min(2 * self._retry_s, RETRY_S_MAX)

    def _retry(self, now: float) -> None:
        self._retry_is_set = False
        if len(self._core.table) or self._is_searching or self._asked:
            return
        self._untried = list(self._known)
        self._join(now)

    def network_changed(self, now: float) -> None:
        """Ask the silent addresses again at once: this machine may have a way to them now."""
        self._retry_s = RETRY_S_MIN
        if not len(self._core.table):
            self._untried = list(self._known)
            self._join(now)
            return
        lost = self._core.table.lost
        for _ in range(min(BOOTSTRAP_AT_ONCE, len(lost))):
            self._ask_again(lost.pop(0), None, now)

    def _neighbours_found(self, verdict: Verdict, now: float) -> None:
        core = self._core
        self._is_searching = False
        self._is_joining = False
        self.has_joined = True
        core.events.append(Joined(len(core.table)))
        self._announce(now)
        if core.settings.fills_table:
            self._first_refresh.begin(now)

    def _looked_round(self, verdict: Verdict, now: float) -> None:
        self._is_searching = False
        self._announce(now)

    def _announce(self, now: float) -> None:
        if self._is_to_be_announced:
            self._is_to_be_announced = False
            self._search_own((), _ignore, now)

    # Newcomers

    def newcomer_heard(self, node_id: bytes, address: Address, now: float, *, is_hearsay: bool = False) -> None:
        """Send a ping to a stranger if the table has room for it.

        The stranger wrote to us or, `is_hearsay`, was named by a node of the other address family.
        """
        core, waiting = self._core, self._asked_back
        if address in waiting or len(waiting) >= QUARANTINE_MAX or not core.can_send_to(address):
            return
        if not core.table.wants(node_id, address) or not core.turns.room():
            return
        if not (self._newcomer_rate.left(now) >= 1 and core.guard.may_ask_back(address, now)):
            core.counters["newcomer-not-asked"] += 1
            return
        self._newcomer_rate.take(now)
        self.hearsay_left -= is_hearsay
        self._ask_back(node_id, address, now, is_hearsay=is_hearsay)

    def reader_heard(self, node_id: bytes, address: Address, now: float) -> None:
        """Note a query of a read-only node, which is visited later: perhaps strangers can reach it."""
        if self._core.can_send_to(address) and not self._core.table.has_address(address):
            self._visits.heard(node_id, address, now)

    def _visit(self, now: float) -> bool:
        """Send a ping to a read-only node that has left us alone for long enough; return whether there was one."""
        due = self._visits.next_due(now)
        if due is None or due[1] in self._asked_back or not self._core.guard.may_ask_back(due[1], now):
            return False
        self._core.counters["reader-visited"] += 1
        self._ask_back(*due, now)
        return True

    def _ask_back(
        self,
        node_id: bytes,
        address: Address,
        now: float,
        *,
        is_hearsay: bool = False,
        on_silence: Callable[[float], None] = lambda then: None,
    ) -> None:
        """Send a ping whose reply lets a newcomer into the table, or shows that an old contact is still there."""

        def answered(_reply: krpc.Reply, _size: int, then: float) -> None:
            # The node joins by the first contact that the other family has named, where it knows no other way in.
            if self._asked_back.pop(address, False) and not (self.has_joined or self._is_searching):
                self._is_searching = True
                self._search_own((), self._neighbours_found, then)

        def refused(_error: krpc.Error, _then: float) -> None:
            self._asked_back.pop(address, None)

        def silent(_is_sent_again: bool, then: float) -> bool:
            # No second ping: there may be no node at the address.
            self._asked_back.pop(address, None)
            on_silence(then)
            return False

        self._asked_back[address] = is_hearsay
        self._core.ask(OutgoingRequest(krpc.Ping(), address, node_id, answered, refused, silent), now)

    # Refresh

    def _tick(self, now: float) -> None:
        core = self._core
        core.at(now + TICK_S, self._tick)
        self._tick_count += 1
        if self._tick_count % EXPIRE_EVERY_TICKS == 0:
            core.storage.expire(now)
            core.forget_old(now)
            self.hearsay_left = min(HEARSAY_MAX, self.hearsay_left + HEARSAY_PER_SWEEP)
        if self._tick_count % VISIT_EVERY_TICKS == 1 and self._visit(now):
            return
        if not len(core.table):
            if self._known and not (self._is_searching or self._asked or self._retry_is_set):
                self._retry(now)
            return
        if self._tick_count % RETRY_LOST_EVERY_TICKS == 1 and self._retry_lost(now):
            return
        if self._tick_count % RETRY_KNOWN_EVERY_TICKS == REFRESH_EVERY_TICKS and self._retry_known(now):
            return
        if self._tick_count % REFRESH_EVERY_TICKS == 0 and self._refresh(now):
            return
        oldest: Contact = min(core.table, key=attrgetter("answered_at"))
        if now - oldest.answered_at >= CONTACT_AGE_S and oldest.address not in self._asked_back:
            self._ask_back(oldest.id, oldest.address, now, on_silence=lambda then: self._silent(oldest, now, then))

    def _silent(self, contact: Contact, sent_at: float, now: float) -> None:
        """Ask another contact when one left a ping unanswered: its reply shows that the silence is not our own.

        A node that nobody uses sends nothing else at that moment. Without a witness it would keep the dead contact, and
        would ask none of the others as long as that one was silent for the longest time.
        """
        core = self._core
        others = sorted((other for other in core.table if other is not contact), key=lambda other: -other.answered_at)
        if core.last_reply_at >= sent_at or not others:
            return
        witness = others[self._witness_turn % len(others)]

        def answered(*_: object) -> None:
            self._witness_turn = 0
            if contact.answered_at < sent_at:
                core.table.failed(contact.wire)

        def silent(*_: object) -> bool:
            # The next time another one is asked: this one may be dead too.
            self._witness_turn += 1
            return False

        core.ask(OutgoingRequest(krpc.Ping(), witness.address, witness.id, answered, answered, silent), now)

    def _refresh(self, now: float) -> bool:
        """Search in the stalest bucket; return whether there was one."""
        core = self._core
        stale = core.table.stale_buckets(now, BUCKET_AGE_S)
        if not stale:
            return False
        bucket = min(stale, key=lambda bucket: bucket.last_updated)
        # Noted at once, so that a search that finds no contact does not begin again every minute.
        bucket.touch_last_updated(now)
        target = random_id_in(bucket, core.entropy(ID_BYTES))
        self._find(target, (), _ignore, now, rpc_max=REFRESH_QUERIES_MAX)
        return True

    def _retry_lost(self, now: float) -> bool:
        """Ask one contact that the table dropped for silence; its reply begins a search for our own id."""
        lost = self._core.table.lost
        if not lost or self._is_searching or self._asked:
            return False
        self._ask_again(lost.pop(0), None, now)
        return True

    def _retry_known(self, now: float) -> bool:
        """Ask one bootstrap address that is not in the table: after a long partition it is the last way back."""
        missing = [address for address in self._known if not self._core.table.has_address(address)]
        if not missing or self._is_searching or self._asked:
            return False
        self._known_turn += 1
        # The table may only lack room for it, so the search that its reply begins is bounded.
        self._ask_again(missing[self._known_turn % len(missing)], REFRESH_QUERIES_MAX, now)
        return True

    def _ask_again(self, address: Address, rpc_max: int | None, now: float) -> None:
        self._ask_way_in(self._core.find_request(self._core.node_id), address, rpc_max, now)


def _ignore(verdict: Verdict, now: float) -> None:
    """Take no notice of how a search ended: what it found is in the table."""
