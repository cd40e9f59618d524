"""Putting an item: a search for the nearest nodes, and a request to each of them to keep it.

Guarantees: a put ends, with an outcome that counts who was asked, who keeps the item and who refused. Does not know how
a search goes (`lookup` does), nor who asked.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace

from p2pdns.dht import bencode, krpc
from p2pdns.dht.lookup import Candidate, Item, Lookup, Sought, Verdict
from p2pdns.dht.node.core import Core
from p2pdns.dht.node.operations import Operation, SearchRequest
from p2pdns.dht.node.requests import OutgoingRequest
from p2pdns.dht.node.values import NOT_HERE, Here, PutDone, PutOutcome, PutProgress
from p2pdns.dht.routing.ids import distance
from p2pdns.errors import BadRequest
from p2pdns.items.item import MutableItem, Present

# A put has no second form to fall back to, so it must arrive whole: below what tunnels and home lines leave of an
# Ethernet frame on IPv4, and within the least that every IPv6 link carries.
PUT_BYTES_MAX_IPV4 = 1_300
PUT_BYTES_MAX_IPV6 = 1_232


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
