"""Getting an item: the search, its first valid item at once, and a confirmation at its end.

Guarantees: a get ends within its requests and its deadline, with an outcome that says what contacts confirmed. A get of
a pinned item ends with the first reply that has it. Does not know how a search goes (`lookup` does), nor the caller.
"""

from __future__ import annotations

from p2pdns.addresses import Address
from p2pdns.dht import krpc
from p2pdns.dht.confirmation import CHECKS_MAX, CHECKS_SILENT_MAX
from p2pdns.dht.lookup.shortlist import Candidate
from p2pdns.dht.lookup.verdict import Verdict
from p2pdns.dht.node.operations import URGENT_RPCS_MAX, Operation
from p2pdns.dht.node.requests import OutgoingRequest
from p2pdns.dht.node.values import GetDone, GetOutcome, GetPatient, ItemFound
from p2pdns.items.item import Item


class GetOperation(Operation):
    """Find the best item under a target, the first valid one at once, and have a contact confirm it at the end."""

    first_s: float | None = None
    tells_patience = False
    _check: Candidate | None = None  # The contact whose reply to a check is waited for.
    _checked: tuple[Address, ...] = ()
    _silent_checks = 0

    @property
    def is_urgent(self) -> bool:
        return self.first_s is None and self.lookup.rpc_count < URGENT_RPCS_MAX

    @property
    def is_patient(self) -> bool:
        """Whether others may begin in its place: it has an item, has asked enough, or no new contact is left to ask."""
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
        """Hand the item out at once; a better one may follow, unless a pin asks for just this one."""
        if self.first_s is None:
            self.first_s = now - self.started_at
        self.core.events.append(ItemFound(self.number, item))
        if self.lookup.is_decided:
            self._lookup_done(now, is_late=False)

    def _is_checking(self, now: float) -> bool:
        """Return whether the end waits for a contact to return the item whose seq it has named; ask the next one.

        A check is a get without a seq, to a contact that named the seq and did not return the item.
        """
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
        self._check = candidate
        self._checked += (candidate.contact.address,)
        core.counters["asked-again-without-seq"] += 1
        self._send_check(candidate, now)
        return True

    def _send_check(self, candidate: Candidate, now: float) -> None:
        def answered(reply: krpc.Reply, size_bytes: int, then: float) -> None:
            self.bytes_received += size_bytes
            item = None if self.is_over else self.lookup.checked(candidate, reply)
            if item is not None:
                self.item_found(item, then)
            self._check_over(candidate, then)

        def refused(_: krpc.Error, then: float) -> None:
            self._check_over(candidate, then)

        def timed_out(is_sent_again: bool, then: float) -> bool:
            if self.is_over:
                return False
            if not is_sent_again and self.lookup.count_request(candidate, is_retransmit=True):
                return True
            self._silent_checks += 1
            self._check_over(candidate, then)
            return False

        contact, lookup = candidate.contact, self.lookup
        is_padded = lookup.shortlist.may_pad(candidate)
        message = self.core.get_request(lookup.target, None, contact.address, now, is_padded=is_padded)
        check = OutgoingRequest(message, contact.address, contact.node_id, answered, refused, timed_out)
        self.bytes_sent += self.core.ask(check, now)

    def _check_over(self, candidate: Candidate, now: float) -> None:
        if self._check is candidate:
            self._check = None
        self.pump(now)

    def _lookup_done(self, now: float, *, is_late: bool) -> None:
        lookup = self.lookup
        if not is_late and self._is_checking(now):
            return
        outcome = GetOutcome(
            item=lookup.item,
            verdict=self.verdict(is_late=is_late),
            rpc_count=lookup.rpc_count,
            retransmit_count=lookup.retransmit_count,
            peer_count=len(lookup.asked),
            answered_count=len(lookup.answered()),
            first_s=self.first_s,
            done_s=now - self.started_at,
            bytes_sent=self.bytes_sent,
            bytes_received=self.bytes_received,
            rpcs_to_first=lookup.rpcs_to_first,
            confirmed_count=lookup.confirmed_count,
            answered=tuple(candidate.contact.address for candidate in lookup.answered()),
            dropped=dict(lookup.bad_items),
            confirmation=lookup.confirmation,
            copies=dict(lookup.copies),
            editions=lookup.editions.met,
            nearest=tuple(one.contact for one in lookup.shortlist.counted()[: self.core.settings.k]),
        )
        self._end()
        self.core.events.append(GetDone(self.number, outcome))
