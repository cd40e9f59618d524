"""Getting an item: the search, its first valid item at once, and a confirmation at its end.

Guarantees: a get ends within its requests and its deadline, with an outcome that says what contacts confirmed. Does not
know how a search goes (`lookup` does), nor who asked.
"""

from __future__ import annotations

from typing import Any

from p2pdns.addresses import Address
from p2pdns.dht import krpc
from p2pdns.dht.confirmation import CHECKS_MAX, CHECKS_SILENT_MAX
from p2pdns.dht.lookup import Candidate, Item, Verdict
from p2pdns.dht.node.operations import URGENT_RPCS_MAX, Operation
from p2pdns.dht.node.values import GetDone, GetOutcome, GetPatient, ItemFound


class _Check:
    """One more get without a seq, to a contact that named the seq and did not return the item."""

    __slots__ = ("candidate", "is_sent_again")

    def __init__(self, candidate: Candidate) -> None:
        self.candidate = candidate
        self.is_sent_again = False


class GetOperation(Operation):
    """Find the best item under a target, the first valid one at once, and have a contact confirm it at the end."""

    first_s: float | None = None
    tells_patience = False
    _check: _Check | None = None
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

    def reply_received(self, ticket: Any, reply: krpc.Reply, size_bytes: int, now: float) -> None:
        """Take in a look-up's reply, or that of a contact that was asked again."""
        if not isinstance(ticket, _Check):
            super().reply_received(ticket, reply, size_bytes, now)
            return
        self.bytes_received += size_bytes
        if self.is_over:
            return
        item = self.lookup.checked(ticket.candidate, reply)
        if item is not None:
            self.item_found(item, now)
        self._check_over(ticket, now)

    def error_received(self, ticket: Any, error: krpc.Error, now: float) -> None:
        """Take in a refusal; another contact may be asked again."""
        if not isinstance(ticket, _Check):
            super().error_received(ticket, error, now)
        elif not self.is_over:
            self._check_over(ticket, now)

    def timed_out(self, ticket: Any, now: float) -> bool:
        """Send a request again once; then take the contact for silent."""
        if not isinstance(ticket, _Check):
            return super().timed_out(ticket, now)
        if self.is_over:
            return False
        if not ticket.is_sent_again and self.lookup.count_request(ticket.candidate, is_retransmit=True):
            ticket.is_sent_again = True
            return True
        self._silent_checks += 1
        self._check_over(ticket, now)
        return False

    def _check_over(self, check: _Check, now: float) -> None:
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
        if not core.room(is_urgent=False):
            core.wait_for_room(self, is_urgent=False)
            return True
        if not lookup.count_request(candidate):
            return False
        contact = candidate.contact
        self._check = _Check(candidate)
        self._checked += (contact.address,)
        core.counters["asked-again-without-seq"] += 1
        is_padded = lookup.may_pad(candidate)
        request = core.get_request(lookup.target, None, contact.address, now, is_padded=is_padded)
        self.bytes_sent += core.ask(self, self._check, contact.node_id, contact.address, request, now)
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
