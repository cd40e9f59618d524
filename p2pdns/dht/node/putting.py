"""Putting an item: a search for the nearest nodes, and then a `Storing` at them.

Guarantees: a put ends, with an outcome that counts the others that were asked, keep the item or refused it, and says
separately what our own storage did. Does not know how a search goes (`lookup` does), nor the caller.
"""

from __future__ import annotations

from p2pdns.dht import krpc
from p2pdns.dht.lookup.search import Lookup
from p2pdns.dht.lookup.shortlist import Candidate, CandidateState, Request
from p2pdns.dht.lookup.sought import Sought
from p2pdns.dht.lookup.verdict import Verdict
from p2pdns.dht.node.core import Core
from p2pdns.dht.node.operations import Operation
from p2pdns.dht.node.storing import Storing
from p2pdns.dht.node.values import Cas, PutDone, PutOutcome, PutProgress
from p2pdns.dht.routing.ids import distance
from p2pdns.errors import BadRequest
from p2pdns.items.item import Item, MutableItem, Present


class PutOperation(Operation):
    """Find the k nodes nearest to an item and have them keep it, and our own storage where it is among them."""

    def __init__(
        self, core: Core, item: Item, cas: Cas | None, lookup: Lookup, now: float, deadline: float | None
    ) -> None:
        super().__init__(core, lookup, now, deadline)
        self.storing = Storing(core, item, cas, lookup.may_send, self._tell_progress, self._put_done)
        self._verdict = Verdict.COMPLETE
        self._is_kept_here = False
        self._refused_here: int | None = None
        self._passed_count = 0
        self._has_looked_beyond = False
        self._farthest: int | None = None

    def _lookup_done(self, now: float, *, is_late: bool) -> None:
        has_looked, self._has_looked_beyond = self._has_looked_beyond, True
        if not (is_late or has_looked or self.lookup.is_cut) and self.lookup.look_beyond():
            self.core.counters["put-looked-beyond"] += 1
            self.pump(now)
            return
        self._verdict = self.verdict(is_late=is_late)
        nearest = self._storers()
        k = self.core.settings.k
        if len(nearest) < k and not (is_late or self.lookup.is_done or self.lookup.is_cut):
            self.pump(now)
            return
        self.end_search()
        if self._is_ours_near(nearest):
            # Beside the others and in the place of none: a copy here is of no use while this machine is off.
            self._put_here(now)
        self._farthest = nearest[k - 1].distance if len(nearest) == k else None
        self.storing.begin(nearest, now)

    def answered_late(self, request: Request, reply: krpc.Reply, now: float) -> None:
        """Have a near node keep the item, too, whose reply was slower than two timeouts.

        A round trip can be longer than that on a sound way, and the node would keep its older item until the next put.
        """
        candidate = request.candidate
        if request.is_follow_up or (self._farthest is not None and candidate.distance >= self._farthest):
            return
        if candidate.state is CandidateState.ANSWERED:
            return
        self.lookup.reply_received(request, reply, ipv6=self.core.settings.is_ipv6)
        if candidate.is_counted and candidate.token is not None and self.storing.fits(candidate):
            self.core.counters["put-to-the-late"] += 1
            self.storing.add(candidate, now)

    def _storers(self) -> list[Candidate]:
        """Return the k nearest that count and can be asked to keep the item."""
        storers: list[Candidate] = []
        for candidate in self.lookup.shortlist.counted():
            # A node that gave no token keeps no items; the next nearest stands in for it.
            if candidate.token is None:
                self._passed_count += 1
                self.lookup.pass_over(candidate)
                continue
            # A node cannot be asked either if its token leaves no room for the item in a datagram.
            if not self.storing.fits(candidate):
                self.storing.refused["put-too-long"] += 1
                self._passed_count += 1
                self.core.counters["put-too-long"] += 1
                self.lookup.pass_over(candidate)
                continue
            storers.append(candidate)
            if len(storers) == self.core.settings.k:
                break
        return storers

    def _is_ours_near(self, nearest: list[Candidate]) -> bool:
        core = self.core
        if not core.settings.store or core.is_read_only():
            return False
        k = core.settings.k
        return len(nearest) < k or distance(core.node_id, self.lookup.target) < nearest[k - 1].distance

    def _put_here(self, now: float) -> None:
        try:
            self._check_cas(now)
            self.core.storage.put_own(self.storing.item, now)
        except BadRequest as refusal:
            self._refused_here = refusal.code
        else:
            self._is_kept_here = True
        self._tell_progress()

    def _check_cas(self, now: float) -> None:
        """Refuse by the rule of all other storers, or this node would serve an item that they have refused."""
        storage, cas = self.core.storage, self.storing.cas
        held = storage.held(self.lookup.target, now)
        if held is None or storage.precedence.is_ahead(held.seq, now):
            return
        item = self.storing.item
        if isinstance(item, MutableItem) and cas is not None and held.seq not in (*cas, item.seq):
            raise BadRequest("cas-mismatch", krpc.CAS_MISMATCH)

    def _tell_progress(self) -> None:
        self.core.events.append(PutProgress(self.number, self.storing.sent_count, self.storing.stored_count))

    def _cut(self, now: float) -> None:
        if self.is_searching:
            # It is too late to finish the look-up, but the nodes that answered may still be asked to keep the item.
            self._lookup_done(now, is_late=True)
            return
        self.storing.cut()
        self._verdict = Verdict.DEADLINE
        self._put_done(now)

    def cancel(self) -> None:
        """Stop without an outcome, whether it searches or has the item kept."""
        super().cancel()
        self.storing.end()

    def _put_done(self, now: float) -> None:
        seen, storing = self.lookup.item, self.storing
        outcome = PutOutcome(
            sent_count=storing.sent_count,
            stored_count=storing.stored_count,
            refused=dict(+storing.refused),
            seq_seen=seen.seq if isinstance(seen, MutableItem) else None,
            verdict=self._verdict,
            rpc_count=self.lookup.rpc_count + storing.sent_count,
            done_s=now - self.started_at,
            is_kept_here=self._is_kept_here,
            refused_here=self._refused_here,
            passed_count=self._passed_count,
            asked=tuple(self.lookup.asked),
            held_at=tuple(storing.held_at),
            storers=tuple(sorted(storing.storers, key=lambda one: distance(one.node_id, storing.item.target))),
        )
        self._end()
        self.core.events.append(PutDone(self.number, outcome))


def sought_for(item: Item, present: Present | None) -> Sought:
    """Return what a put looks for on its way: tokens, and an item newer than its own.

    An item from the future is superseded by a saner one with a lower seq, so for it no seq is named.
    """
    if isinstance(item, MutableItem):
        is_ahead = present is not None and present.is_ahead(item.seq)
        return Sought(item.key, item.salt, known_seq=None if is_ahead else item.seq, present=present)
    return Sought()
