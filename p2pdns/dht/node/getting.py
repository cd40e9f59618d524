"""Getting an item: the search, its first valid item at once, and a confirmation at its end.

Guarantees: a get ends within its requests and its deadline, with an outcome that says what contacts confirmed. Does not
know how a search goes (`lookup` does), nor who asked.
"""

from __future__ import annotations

from p2pdns.addresses import Address
from p2pdns.dht import krpc
from p2pdns.dht.confirmation import CHECKS_MAX, CHECKS_SILENT_MAX
from p2pdns.dht.lookup import Candidate, Item, Verdict
from p2pdns.dht.node.operations import URGENT_RPCS_MAX, Operation
from p2pdns.dht.node.requests import OutgoingRequest
from p2pdns.dht.node.values import GetDone, GetOutcome, GetPatient, ItemFound


class _CheckRequest(OutgoingRequest):
    """One more get without a seq, to a contact that named the seq and did not return the item."""

    __slots__ = ("_get", "candidate", "is_sent_again")

    def __init__(self, get: GetOperation, message: krpc.Request, candidate: Candidate) -> None:
        contact = candidate.contact
        super().__init__(message, contact.address, contact.node_id)
        self._get = get
        self.candidate = candidate
        self.is_sent_again = False

    def reply_received(self, reply: krpc.Reply, size_bytes: int, now: float) -> None:
        """Take in what it returns."""
        self._get.check_answered(self, reply, size_bytes, now)

    def error_received(self, error: krpc.Error, now: float) -> None:
        """Let another contact be asked."""
        del error
        self._get.check_over(self, now)

    def timed_out(self, now: float) -> bool:
        """Have it sent again once, then take the contact for silent."""
        return self._get.check_timed_out(self, now)


class GetOperation(Operation):
    """Find the best item under a target, the first valid one at once, and have a contact confirm it at the end."""

    first_s: float | None = None
    tells_patience = False
    _check: _CheckRequest | None = None
    _checked: tuple[Address, ...] = ()
    _silent_checks = 0

    @property
    def is_urgent(self) -> bool:
        """Whether somebody waits for a first answer that may be near."""
        return self.first_s is None and self.lookup.rpc_count < URGENT_RPCS_MAX

    @property
    def is_patient(self) -> bool:
        """Whether others may begin in its place: it has an item, has asked enough, or nobody new is left to ask."""
        lookup = self.lookup
        # Before the first contact has answered or was silent, the few that were asked may tell of others.
        is_waiting = self._has_asked_all and lookup.rpc_count > lookup.in_flight_count
        return is_waiting or self.first_s is not None or not self.is_young

    def pump(self, now: float) -> None:
        """Send what may be sent now, and tell once when what follows is only patience; an item tells that as well."""
        super().pump(now)
        if self.tells_patience and not self.is_over and self.is_patient:
            self.tells_patience = False
            if self.first_s is None:
                self.core.events.append(GetPatient(self.number))

    def item_found(self, item: Item, now: float) -> None:
        """Hand the item out at once; a better one may follow."""
        if self.first_s is None:
            self.first_s = now - self.started_at
        self.core.events.append(ItemFound(self.number, item))

    def check_answered(self, check: _CheckRequest, reply: krpc.Reply, size_bytes: int, now: float) -> None:
        """Take in the reply of a contact that was asked again."""
        self.bytes_received += size_bytes
        if self.is_over:
            return
        item = self.lookup.checked(check.candidate, reply)
        if item is not None:
            self.item_found(item, now)
        self.check_over(check, now)

    def check_timed_out(self, check: _CheckRequest, now: float) -> bool:
        """Send a request again once; then take the contact for silent."""
        if self.is_over:
            return False
        if not check.is_sent_again and self.lookup.count_request(check.candidate, is_retransmit=True):
            check.is_sent_again = True
            return True
        self._silent_checks += 1
        self.check_over(check, now)
        return False

    def check_over(self, check: _CheckRequest, now: float) -> None:
        """Go on: another contact may be asked again."""
        if self.is_over:
            return
        if self._check is check:
            self._check = None
        self.pump(now)

    def _is_checking(self, now: float) -> bool:
        """Return whether the end waits for a contact to return what it has only named; ask the next one if need be."""
        if self._check is not None:
            return True
        lookup, core = self.lookup, self.core
        # A look-up that is not complete confirms nothing anyway.
        if self.verdict(is_late=False) is not Verdict.COMPLETE:
            return False
        if len(self._checked) >= CHECKS_MAX or self._silent_checks >= CHECKS_SILENT_MAX:
            return False
        candidate = next((one for one in lookup.to_check() if one.contact.address not in self._checked), None)
        if candidate is None:
            return False
        if not core.turns.room(is_urgent=False):
            core.turns.wait_for_room(self, now, is_urgent=False)
            return True
        if not lookup.count_request(candidate):
            return False
        contact = candidate.contact
        self._checked += (contact.address,)
        core.counters["asked-again-without-seq"] += 1
        is_padded = lookup.may_pad(candidate)
        request = core.get_request(lookup.target, None, contact.address, now, is_padded=is_padded)
        self._check = _CheckRequest(self, request, candidate)
        self.bytes_sent += core.ask(self._check, now)
        return True

    def _lookup_done(self, now: float, *, is_late: bool) -> None:
        lookup = self.lookup
        if not is_late and self._is_checking(now):
            return
        outcome = GetOutcome(
            item=lookup.item,
            verdict=self.verdict(is_late=is_late),
            rpc_count=lookup.rpc_count,
            retransmit_count=lookup.retransmit_count,
            peer_count=lookup.peer_count,
            answered_count=lookup.answered_count,
            first_s=self.first_s,
            done_s=now - self.started_at,
            bytes_sent=self.bytes_sent,
            bytes_received=self.bytes_received,
            rpcs_to_first=lookup.rpcs_to_first,
            confirmed_count=lookup.confirmed_count,
            answered=tuple(candidate.contact.address for candidate in lookup.answered()),
            dropped=dict(lookup.bad_items),
            confirmation=lookup.confirmation,
        )
        self._end(now)
        self.core.events.append(GetDone(self.number, outcome))
