"""The things a node can be asked to do: search, and find contacts.

Guarantees: each operation ends, with an event that says how; its requests are counted in its outcome. Does not know
datagrams (`core` does), nor who asked.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

from p2pdns.dht import krpc
from p2pdns.dht.lookup import Item, Lookup, Request, Verdict
from p2pdns.dht.node.core import Core
from p2pdns.dht.node.requests import OutgoingRequest
from p2pdns.dht.node.values import (
    FindDone,
)

# A first answer costs four requests, among many dead contacts some eight. A look-up that has sent so many without one
# is for a key that does not exist, more likely than not: others begin in its place, and after twice as many go first.
SLOT_RPCS_MAX = 8
URGENT_RPCS_MAX = 2 * SLOT_RPCS_MAX
SEEDS_MAX = 80  # Own contacts a look-up begins with; with 20 it could run out of them among many dead.


class SearchRequest(OutgoingRequest):
    """A request of a look-up. `unproven` is what its contact said before it asked for proof of our address."""

    __slots__ = ("_operation", "request", "unproven")

    def __init__(
        self, operation: Operation, message: krpc.Request, request: Request, *, unproven: krpc.Reply | None = None
    ) -> None:
        contact = request.candidate.contact
        super().__init__(message, contact.address, contact.node_id, is_urgent=operation.is_urgent)
        self._operation = operation
        self.request = request
        self.unproven = unproven

    def reply_received(self, reply: krpc.Reply, size_bytes: int, now: float) -> None:
        """Let the look-up learn from it."""
        self._operation.search_answered(self, reply, size_bytes, now)

    def error_received(self, error: krpc.Error, now: float) -> None:
        """Let the look-up pass the contact over."""
        del error
        self._operation.search_refused(self, now)

    def timed_out(self, now: float) -> bool:
        """Let the look-up ask others meanwhile."""
        return self._operation.search_timed_out(self, now)


class Operation(ABC):
    """One look-up with what it is for. `pump` sends what may be sent; `on_end` tells the node."""

    def __init__(
        self,
        number: int,
        core: Core,
        lookup: Lookup,
        now: float,
        deadline: float | None,
        on_end: Callable[[Operation, float], None],
    ) -> None:
        self.number = number
        self.core = core
        self.lookup = lookup
        self.started_at = now
        self.is_over = False
        self.is_searching = True
        self.bytes_sent = 0
        self.bytes_received = 0
        self._on_end = on_end
        self._patient_until: float | None = None
        self._has_asked_all = False
        if deadline is not None:
            core.at(deadline, self._deadline_passed)

    def start(self, now: float) -> None:
        """Begin with the nearest contacts of the table."""
        self.core.table.touch(self.lookup.target, now)
        seeds = self.core.table.closest(self.lookup.target, SEEDS_MAX)
        self.lookup.begin_with([contact.wire for contact in seeds])
        self.pump(now)

    @property
    def is_urgent(self) -> bool:
        """Whether somebody waits for a first answer."""
        return False

    @property
    def is_young(self) -> bool:
        """Whether it has sent no more requests than a first answer may cost."""
        return self.lookup.rpc_count < SLOT_RPCS_MAX

    def pump(self, now: float) -> None:
        """Send what may be sent now; end when there is nothing left to wait for."""
        if not self.is_searching:
            return
        lookup, core = self.lookup, self.core
        is_first, own_count = not lookup.rpc_count, lookup.in_flight_count
        turn = core.turns.turn_of(is_urgent=self.is_urgent, is_first=is_first, own_count=own_count)
        requests = lookup.requests_to_send(max(turn, 0))
        self._has_asked_all = turn > 0 and not requests and lookup.has_slots
        for request in requests:
            self.bytes_sent += core.ask(SearchRequest(self, self._message(request, now), request), now)
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
        is_padded = lookup.may_pad(request.candidate)
        if request.is_follow_up:
            return core.find_request(lookup.target, is_padded=is_padded)
        address = request.candidate.contact.address
        if lookup.sought is None:
            return core.search_request(lookup.target, address, now, is_padded=is_padded)
        return core.get_request(lookup.target, lookup.seq, address, now, is_padded=is_padded)

    def search_answered(self, asked: SearchRequest, reply: krpc.Reply, size_bytes: int, now: float) -> None:
        """Take in the reply to a request of the look-up."""
        self.bytes_received += size_bytes
        if reply.token is not None:
            self.core.note_token(asked.address, self.lookup.target, reply.token, now)
        if not self.is_searching or self._proves_itself(asked, reply, now):
            return
        item = self.lookup.reply_received(asked.request, reply, ipv6=self.core.settings.is_ipv6)
        if item is not None:
            self.item_found(item, now)
        self.pump(now)

    def _proves_itself(self, asked: SearchRequest, reply: krpc.Reply, now: float) -> bool:
        """Ask again with the token where only that is told more; return whether this was done.

        It happens once a request, and what the first reply said is kept for when there is no second.
        """
        if not reply.is_proof_wanted or reply.token is None or reply.value is not None or asked.unproven is not None:
            return False
        request = asked.request
        if request.is_follow_up or not self.lookup.may_send(request.candidate):
            return False
        self.core.counters["asked-again-with-token"] += 1
        get = krpc.Get(self.lookup.target, self.lookup.seq, reply.token)
        self.bytes_sent += self.core.ask(SearchRequest(self, get, request, unproven=reply), now)
        return True

    def search_refused(self, asked: SearchRequest, now: float) -> None:
        """Take in a refusal: this contact is of no use for the look-up."""
        if self.is_searching:
            self.lookup.refused(asked.request)
            self.pump(now)

    def search_timed_out(self, asked: SearchRequest, now: float) -> bool:
        """Note a timeout; the slot is free, whether or not the request goes out again."""
        if not self.is_searching:
            return False
        is_sent_again = self.lookup.timed_out(asked.request)
        said = None if is_sent_again else asked.unproven
        if said is not None:
            self.lookup.reply_received(asked.request, said, ipv6=self.core.settings.is_ipv6)
        self.pump(now)
        return is_sent_again

    def item_found(self, item: Item, now: float) -> None:
        """Take in an item better than the one before; who looks for nodes has no use for it."""
        del item, now

    def _deadline_passed(self, now: float) -> None:
        if not self.is_over:
            self._cut(now)

    def _cut(self, now: float) -> None:
        self._lookup_done(now, is_late=True)

    @abstractmethod
    def _lookup_done(self, now: float, *, is_late: bool) -> None:
        """Go on, or end with an outcome, now that the look-up is done."""

    def _end(self, now: float) -> None:
        self._stop()
        for reason, count in self.lookup.bad_items.items():
            self.core.counters[f"item-{reason}"] += count
        for reason, count in self.lookup.contacts_dropped().items():
            self.core.counters[f"contact-{reason}"] += count
        self._on_end(self, now)

    def cancel(self) -> None:
        """Stop without an outcome; replies under way still feed the table."""
        self._stop()

    def _stop(self) -> None:
        self.is_over = True
        self.end_search()

    def end_search(self) -> None:
        """Send and learn no more; replies under way still feed the table."""
        self.is_searching = False
        self.core.turns.waits_no_more(self)

    def verdict(self, *, is_late: bool) -> Verdict:
        """Return how the look-up ended, judged by what the table says of the network's density."""
        core = self.core
        return self.lookup.verdict(core.table.k_distance(core.settings.k), is_late=is_late)


class FindOperation(Operation):
    """Find the contacts nearest to a target. `on_done` is the node's own use, without an event."""

    on_done: Callable[[Verdict, float], None] | None = None

    def _lookup_done(self, now: float, *, is_late: bool) -> None:
        verdict = self.verdict(is_late=is_late)
        self._end(now)
        if self.on_done is not None:
            self.on_done(verdict, now)
        else:
            self.core.events.append(FindDone(self.number, verdict, self.lookup.answered_count))
