"""The things a node can be asked to do: get an item, put one, find contacts.

Guarantees: each operation ends, with an event that says how; its requests are counted in its outcome. Does not know
datagrams (`core` does), nor who asked.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

from p2pdns.dht import bencode, krpc
from p2pdns.dht.lookup import Candidate, Item, Lookup, Request, Sought, Verdict
from p2pdns.dht.node.core import Core
from p2pdns.dht.node.requests import OutgoingRequest
from p2pdns.dht.node.values import (
    NOT_HERE,
    FindDone,
    Here,
    PutDone,
    PutOutcome,
    PutProgress,
)
from p2pdns.dht.routing.ids import distance
from p2pdns.errors import BadRequest
from p2pdns.items.item import MutableItem, Present

# A put has no second form to fall back to, so it must arrive whole: below what tunnels and home lines leave of an
# Ethernet frame on IPv4, and within the least that every IPv6 link carries.
PUT_BYTES_MAX_IPV4 = 1_300
PUT_BYTES_MAX_IPV6 = 1_232
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
        if self.is_over:
            return
        lookup, core = self.lookup, self.core
        is_first, own_count = not lookup.rpc_count, lookup.in_flight_count
        turn = core.turn_of(is_urgent=self.is_urgent, is_first=is_first, own_count=own_count)
        requests = lookup.requests_to_send(max(turn, 0))
        self._has_asked_all = turn > 0 and not requests and lookup.has_slots
        for request in requests:
            self.bytes_sent += core.ask(SearchRequest(self, self._message(request, now), request), now)
        if len(requests) >= turn and lookup.has_slots:
            core.wait_for_room(self, is_urgent=self.is_urgent)
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
        if self.is_over or self._proves_itself(asked, reply, now):
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
        if not self.is_over:
            self.lookup.refused(asked.request)
            self.pump(now)

    def search_timed_out(self, asked: SearchRequest, now: float) -> bool:
        """Note a timeout; the slot is free, whether or not the request goes out again."""
        if self.is_over:
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
        self.is_over = True
        self.core.waits_no_more(self)
        for reason, count in self.lookup.bad_items.items():
            self.core.counters[f"item-{reason}"] += count
        for reason, count in self.lookup.contacts_dropped().items():
            self.core.counters[f"contact-{reason}"] += count
        self._on_end(self, now)

    def cancel(self) -> None:
        """Stop without an outcome; replies under way still feed the table."""
        self.is_over = True
        self.core.waits_no_more(self)

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


class _PutRequest(OutgoingRequest):
    """A request to a node to keep the item."""

    __slots__ = ("_put", "candidate", "is_given_up", "is_sent_again")

    def __init__(self, put: PutOperation, message: krpc.Request, candidate: Candidate) -> None:
        contact = candidate.contact
        super().__init__(message, contact.address, contact.node_id)
        self._put = put
        self.candidate = candidate
        self.is_sent_again = False
        self.is_given_up = False

    def reply_received(self, reply: krpc.Reply, size_bytes: int, now: float) -> None:
        """Count that it keeps the item."""
        del reply, size_bytes
        self._put.stored(self, now)

    def error_received(self, error: krpc.Error, now: float) -> None:
        """Count its refusal."""
        self._put.refused(self, error.code, now)

    def timed_out(self, now: float) -> bool:
        """Have it sent again once, then count the silence."""
        return self._put.storer_timed_out(self, now)


class PutOperation(Operation):
    """Find the k nodes nearest to an item and have them keep it; our own storage counts where it is among them."""

    def __init__(
        self,
        number: int,
        core: Core,
        item: Item,
        cas: int | None,
        lookup: Lookup,
        now: float,
        deadline: float | None,
        on_end: Callable[[Operation, float], None],
    ) -> None:
        super().__init__(number, core, lookup, now, deadline, on_end)
        self._item = item
        self._cas = cas
        self._to_send: list[Candidate] | None = None
        self._waiting_count = 0
        self._sent_count = 0
        self._stored_count = 0
        self._refused: Counter[int | str] = Counter()
        self._verdict = Verdict.COMPLETE
        self._here = NOT_HERE
        self._passed_count = 0

    def pump(self, now: float) -> None:
        """Send look-up requests, then puts."""
        if self._to_send is None:
            super().pump(now)
            return
        core = self.core
        while self._to_send and not self.is_over:
            if not core.room(is_urgent=False):
                core.wait_for_room(self, is_urgent=False)
                return
            candidate = self._to_send.pop(0)
            if not self.lookup.may_send(candidate):
                continue
            self._sent_count += 1
            self._waiting_count += 1
            message = self._put_request(candidate.token or b"")
            self.bytes_sent += core.ask(_PutRequest(self, message, candidate), now)
        if not self._waiting_count and not self.is_over:
            self._put_done(now)

    def _put_request(self, token: bytes) -> krpc.PutMutable | krpc.PutImmutable:
        item = self._item
        value = bencode.encode(item.value)
        request: krpc.PutMutable | krpc.PutImmutable = krpc.PutImmutable(value, token)
        if isinstance(item, MutableItem):
            request = krpc.PutMutable(item.key.raw, item.seq, value, item.signature, token, item.salt, self._cas)
        if self.core.size_of(request) > self._size_bytes_max:
            # Few storers ask for the target; all of them need the rest.
            request = replace(request, names_target=False)
        return request

    def _lookup_done(self, now: float, *, is_late: bool) -> None:
        self._verdict = self.verdict(is_late=is_late)
        nearest = self._storers()
        k = self.core.settings.k
        if len(nearest) < k and not (is_late or self.lookup.is_done or self.lookup.is_cut):
            super().pump(now)
            return
        if self._is_ours_near(nearest):
            # Beside the others and in the place of none: a copy here helps nobody when this machine is off.
            self._put_here(now)
        self._to_send = nearest[:k]
        self.pump(now)

    def _storers(self) -> list[Candidate]:
        """Return the k nearest that count and can be asked to keep the item."""
        storers: list[Candidate] = []
        for candidate in self.lookup.counted():
            # A node that gave no token keeps nothing for anyone; the next nearest stands in for it.
            if candidate.token is None:
                self._passed_count += 1
                self.lookup.pass_over(candidate)
                continue
            # Nor can one be asked whose token leaves no room for the item in a datagram.
            if self.core.size_of(self._put_request(candidate.token)) > self._size_bytes_max:
                self._refused["put-too-long"] += 1
                self._passed_count += 1
                self.core.counters["put-too-long"] += 1
                self.lookup.pass_over(candidate)
                continue
            storers.append(candidate)
            if len(storers) == self.core.settings.k:
                break
        return storers

    @property
    def _size_bytes_max(self) -> int:
        return PUT_BYTES_MAX_IPV6 if self.core.settings.is_ipv6 else PUT_BYTES_MAX_IPV4

    def _is_ours_near(self, nearest: list[Candidate]) -> bool:
        core = self.core
        if not core.settings.store or core.is_read_only():
            return False
        k = core.settings.k
        return len(nearest) < k or distance(core.node_id, self.lookup.target) < nearest[k - 1].distance

    def _put_here(self, now: float) -> None:
        self._sent_count += 1
        try:
            self._check_cas(now)
            self.core.storage.put_own(self._item, now)
        except BadRequest as refusal:
            self._refused[refusal.code] += 1
            self._here = Here(sent=1, refusal=refusal.code)
        else:
            self._stored_count += 1
            self._here = Here(sent=1, stored=1)
        self._tell_progress()

    def _check_cas(self, now: float) -> None:
        """Refuse by the rule that every other storer goes by, or we would serve what all of them have refused."""
        storage = self.core.storage
        held = storage.held(self._item.target, now)
        if held is None or storage.is_from_the_future(held, now):
            return
        if self._cas is not None and held.seq != self._cas:
            raise BadRequest("cas-mismatch", krpc.CAS_MISMATCH)

    def _tell_progress(self) -> None:
        self.core.events.append(PutProgress(self.number, self._sent_count, self._stored_count, self._here))

    def search_answered(self, asked: SearchRequest, reply: krpc.Reply, size_bytes: int, now: float) -> None:
        """Take in a reply while the look-up goes on."""
        if self._to_send is None:
            super().search_answered(asked, reply, size_bytes, now)

    def search_refused(self, asked: SearchRequest, now: float) -> None:
        """Take in a refusal while the look-up goes on."""
        if self._to_send is None:
            super().search_refused(asked, now)

    def search_timed_out(self, asked: SearchRequest, now: float) -> bool:
        """Note a timeout while the look-up goes on."""
        return super().search_timed_out(asked, now) if self._to_send is None else False

    def stored(self, asked: _PutRequest, now: float) -> None:
        """Count a storer that keeps the item."""
        if self.is_over:
            return
        self._settle(asked)
        self._stored_count += 1
        self._tell_progress()
        self.pump(now)

    def refused(self, asked: _PutRequest, code: int, now: float) -> None:
        """Count a refusal by its code."""
        if self.is_over:
            return
        self._settle(asked)
        self._refused[code] += 1
        self.pump(now)

    def storer_timed_out(self, asked: _PutRequest, now: float) -> bool:
        """Send a put again once; then count it as silence."""
        if self.is_over:
            return False
        if not asked.is_sent_again and self.lookup.may_send(asked.candidate):
            asked.is_sent_again = True
            return True
        self._waiting_count -= 1
        asked.is_given_up = True
        self._refused["timeout"] += 1
        self.pump(now)
        return False

    def _settle(self, asked: _PutRequest) -> None:
        if asked.is_given_up:
            # Late, but an answer all the same.
            self._refused["timeout"] -= 1
        else:
            self._waiting_count -= 1

    def _cut(self, now: float) -> None:
        if self._to_send is None:
            # Too late for a look-up to the end, but what answered may still be asked to keep the item.
            self._lookup_done(now, is_late=True)
            return
        self._refused["timeout"] += self._waiting_count
        self._verdict = Verdict.DEADLINE
        self._put_done(now)

    def _put_done(self, now: float) -> None:
        seen = self.lookup.item
        outcome = PutOutcome(
            sent_count=self._sent_count,
            stored_count=self._stored_count,
            refused=dict(+self._refused),
            seq_seen=seen.seq if isinstance(seen, MutableItem) else None,
            verdict=self._verdict,
            rpc_count=self.lookup.rpc_count + self._sent_count,
            done_s=now - self.started_at,
            here=self._here,
            passed_count=self._passed_count,
        )
        self._end(now)
        self.core.events.append(PutDone(self.number, outcome))


def sought_for(item: Item, present: Present | None) -> Sought:
    """Return what a put looks for on its way: tokens, and an item newer than its own.

    Where its own is from the future, a saner one has a lower seq, so none is named.
    """
    if isinstance(item, MutableItem):
        is_ahead = present is not None and present.is_ahead(item.seq)
        return Sought(item.key, item.salt, known_seq=None if is_ahead else item.seq, present=present)
    return Sought()
