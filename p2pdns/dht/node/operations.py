"""The operations of a node: a search, and what is to be done at its end.

Guarantees: each operation ends, with an event that says how; its requests are counted in its outcome. Does not know
datagrams (`core` does), nor the caller.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection

from p2pdns.addresses import Address
from p2pdns.dht import krpc
from p2pdns.dht.lookup.search import Lookup
from p2pdns.dht.lookup.shortlist import Request
from p2pdns.dht.lookup.verdict import Verdict
from p2pdns.dht.node.core import Core
from p2pdns.dht.node.requests import OutgoingRequest
from p2pdns.dht.node.values import FindDone
from p2pdns.dht.routing.contact import Contact
from p2pdns.items.item import Item

# A first answer costs four requests, or some eight among many dead contacts. After eight without an answer, the key
# probably does not exist: other look-ups begin in the place of this one, and after twice as many requests the others
# send first.
SLOT_RPCS_MAX = 8
URGENT_RPCS_MAX = 2 * SLOT_RPCS_MAX
SEEDS_MAX = 80  # Own contacts a look-up begins with; with 20 it could run out of them among many dead.


class Operation(ABC):
    """One look-up with its purpose. `pump` sends what may be sent; the node sets `number` and `on_end`."""

    on_end: Callable[[], object]
    avoided: frozenset[Address] = frozenset()

    def __init__(self, core: Core, lookup: Lookup, now: float, deadline: float | None) -> None:
        self.number = 0
        self.core = core
        self.lookup = lookup
        self.started_at = now
        self.is_over = False
        self.is_searching = True
        self.bytes_sent = 0
        self.bytes_received = 0
        self._patient_until: float | None = None
        self._has_asked_all = False
        if deadline is not None:
            core.at(deadline, self._deadline_passed)

    def start(self, now: float) -> None:
        """Begin with the nearest contacts of the table."""
        self._begin_with_table(now)
        self.pump(now)

    def _begin_with_table(self, now: float) -> None:
        core = self.core
        core.table.touch(self.lookup.target, now)
        k_distance = core.table.k_distance(core.settings.k)
        self.lookup.begin_with(self._first_contacts(), typical_s=core.typical_s, k_distance=k_distance)

    def _first_contacts(self) -> list[Contact]:
        table, target = self.core.table, self.lookup.target
        if self.avoided:
            others = [one for one in table.closest(target, len(table)) if one.address not in self.avoided]
            if others:
                return others[:SEEDS_MAX]
        return table.closest(target, SEEDS_MAX)

    @property
    def is_urgent(self) -> bool:
        """Whether a caller waits for a first answer that may be near."""
        return False

    @property
    def is_young(self) -> bool:
        """Whether it has sent no more requests than a first answer may cost."""
        return self.lookup.rpc_count < SLOT_RPCS_MAX

    def pump(self, now: float) -> None:
        """Send what may be sent now; end when no reply is waited for any more."""
        if not self.is_searching:
            return
        lookup, core = self.lookup, self.core
        is_first, own_count = not lookup.rpc_count, lookup.in_flight_count
        turn = core.turns.turn_of(is_urgent=self.is_urgent, is_first=is_first, own_count=own_count)
        requests = lookup.requests_to_send(max(turn, 0))
        self._has_asked_all = turn > 0 and not requests and lookup.has_slots
        for request in requests:
            self._ask(request, self._message(request, now), now)
        if len(requests) >= turn and lookup.has_slots:
            core.turns.wait_for_room(self, now, is_urgent=self.is_urgent)
        if not requests and (lookup.is_done or lookup.is_cut) and not self._is_patient(now):
            self._lookup_done(now, is_late=False)

    def _is_patient(self, now: float) -> bool:
        """Return whether the end waits for contacts that may only be late: once, and as long as any reply may take."""
        if self._patient_until is None:
            if not self.lookup.is_doubtful:
                return False
            self._patient_until = now + self.core.settings.timeout_s_max
            self.core.counters["lookup-waited-for-the-late"] += 1
            self.core.at(self._patient_until, self.pump)
        return now < self._patient_until and self.lookup.has_given_up

    def _message(self, request: Request, now: float) -> krpc.Request:
        lookup, core = self.lookup, self.core
        is_padded = lookup.shortlist.may_pad(request.candidate)
        if request.is_follow_up:
            return core.find_request(request.place, is_padded=is_padded)
        address = request.candidate.contact.address
        if lookup.sought is None:
            return core.search_request(lookup.target, address, now, is_padded=is_padded)
        return core.get_request(lookup.target, lookup.seq, address, now, is_padded=is_padded)

    def _ask(self, request: Request, message: krpc.Request, now: float, unproven: krpc.Reply | None = None) -> None:
        """Send a request of the look-up. `unproven` is a reply of the contact that asked for proof of our address."""

        def answered(reply: krpc.Reply, size_bytes: int, then: float) -> None:
            self.bytes_received += size_bytes
            if reply.token is not None:
                self.core.note_token(contact.address, self.lookup.target, reply.token, then)
            if self.is_searching and (unproven is not None or not self._proves_itself(request, reply, then)):
                item = self.lookup.reply_received(request, reply, ipv6=self.core.settings.is_ipv6)
                if item is not None:
                    self.item_found(item, then)
                self.pump(then)
            elif not (self.is_searching or self.is_over):
                self.answered_late(request, reply, then)

        def refused(_: krpc.Error, then: float) -> None:
            if self.is_searching:
                self.lookup.refused(request)
                self.pump(then)

        def timed_out(_: bool, then: float) -> bool:
            # The slot is free, whether or not the request is sent again.
            if not self.is_searching:
                return False
            is_sent_again = self.lookup.timed_out(request)
            said = None if is_sent_again else unproven
            if said is not None:
                self.lookup.reply_received(request, said, ipv6=self.core.settings.is_ipv6)
            self.pump(then)
            return is_sent_again

        contact = request.candidate.contact
        asked = OutgoingRequest(message, contact.address, contact.node_id, answered, refused, timed_out, self.is_urgent)
        self.bytes_sent += self.core.ask(asked, now)
        if self.is_urgent:
            late_at = now + self.core.late_after_s(contact.node_id, contact.address)
            self.core.at(late_at, lambda then: self._is_late(request, then), asked)

    def _is_late(self, request: Request, now: float) -> None:
        """Ask another contact while a reply is late that a caller waits for: the contact may be dead."""
        if self.is_searching and self.is_urgent:
            self.lookup.is_late(request)
            self.pump(now)

    def _proves_itself(self, request: Request, reply: krpc.Reply, now: float) -> bool:
        """Ask again with the token of a reply that is short for want of proof; return whether this was done.

        A request is sent with a token once, and the short reply counts if the second one does not come.
        """
        if not reply.is_proof_wanted or reply.token is None or reply.value is not None:
            return False
        if request.is_follow_up or not self.lookup.may_send(request.candidate):
            return False
        self.core.counters["asked-again-with-token"] += 1
        self._ask(request, krpc.Get(self.lookup.target, self.lookup.seq, reply.token), now, unproven=reply)
        return True

    def item_found(self, item: Item, now: float) -> None:
        """Take in an item better than the one before; a search for nodes has no use for it."""
        del item, now

    def answered_late(self, request: Request, reply: krpc.Reply, now: float) -> None:
        """Take in a reply that came after the search and before the end; most operations have no use for it."""
        del request, reply, now

    def _deadline_passed(self, now: float) -> None:
        if not self.is_over:
            self._cut(now)

    def _cut(self, now: float) -> None:
        self._lookup_done(now, is_late=True)

    @abstractmethod
    def _lookup_done(self, now: float, *, is_late: bool) -> None:
        """Go on, or end with an outcome, now that the look-up is done."""

    def _end(self) -> None:
        self.cancel()
        for reason, count in self.lookup.bad_items.items():
            self.core.counters[f"item-{reason}"] += count
        for reason, count in self.lookup.contacts_dropped.items():
            self.core.counters[f"contact-{reason}"] += count
        self.on_end()

    def cancel(self) -> None:
        """Stop without an outcome; replies under way still feed the table."""
        self.is_over = True
        self.end_search()
        self.lookup.end()

    def end_search(self) -> None:
        """Send and learn no more; replies under way still feed the table."""
        self.is_searching = False
        self.core.turns.waits_no_more(self)

    def verdict(self, *, is_late: bool) -> Verdict:
        """Return how the look-up ended, judged by what the table says of the network's density."""
        core = self.core
        return self.lookup.verdict(core.table.k_distance(core.settings.k), is_late=is_late)


class FindOperation(Operation):
    """Find the contacts nearest to a target. With `on_done`, the node's own use, there is no event.

    `is_enough` ends it early; the peers at `asked_before` have just been asked for contacts near this target.
    """

    on_done: Callable[[Verdict, float], None] | None = None
    is_enough: Callable[[], bool] | None = None
    asked_before: Collection[Address] = ()

    def start(self, now: float) -> None:
        """Begin with the nearest contacts of the table."""
        self._begin_with_table(now)
        self.lookup.asked_before(self.asked_before)
        self.pump(now)

    def pump(self, now: float) -> None:
        """Send what may be sent now; end when enough is known, or when no reply is waited for any more."""
        if self.is_searching and self.is_enough is not None and self.is_enough():
            self._lookup_done(now, is_late=False)
        else:
            super().pump(now)

    def _lookup_done(self, now: float, *, is_late: bool) -> None:
        verdict, answered_count = self.verdict(is_late=is_late), len(self.lookup.answered())
        self._end()
        if self.on_done is not None:
            self.on_done(verdict, now)
        else:
            self.core.events.append(FindDone(self.number, verdict, answered_count))
