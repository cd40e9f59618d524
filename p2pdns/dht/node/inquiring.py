"""An inquiry: one get to one node that may keep an item, and a put there if the caller wants its copy renewed.

A look-up finds the nearest nodes; an inquiry knows its node already, so it costs two datagrams where a look-up costs
sixty. The get names a lower seq than that of the item, so that a node which has the item has to send it, signed: a node
without the item can repeat the seq of a get, but not sign.

Guarantees: one node is asked, with at most `REQUESTS_MAX` datagrams; it ends with an event, whatever comes back; an
item in the outcome is verified. Does not know why the node is asked, nor what its answer means for the item.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from p2pdns.dht import krpc
from p2pdns.dht.lookup.shortlist import Candidate
from p2pdns.dht.node.core import Core
from p2pdns.dht.node.requests import OutgoingRequest
from p2pdns.dht.node.storing import Storing
from p2pdns.dht.node.values import Inquiry, InquiryDone, InquiryOutcome
from p2pdns.dht.routing.ids import distance
from p2pdns.errors import BadItem
from p2pdns.items.item import MutableItem, SignatureMemo, mutable_target

REQUESTS_MAX = 6  # A get, a get with a token, and a put, each of them sent twice.


class InquiryOperation:
    """One inquiry; the node sets `number` and `on_end`."""

    on_end: Callable[[], object]
    is_young = False

    def __init__(self, core: Core, inquiry: Inquiry, memo: SignatureMemo) -> None:
        self.number = 0
        self._core = core
        self._inquiry = inquiry
        self._memo = memo
        self._outcome = InquiryOutcome()
        self._has_asked = False
        self._is_over = False
        self._storing: Storing | None = None

    def start(self, now: float) -> None:
        """Ask the node, if a datagram can go there at all."""
        if self._core.can_send_to(self._inquiry.contact.address):
            self.pump(now)
        else:
            self._end()

    def pump(self, now: float) -> None:
        """Send the get once there is room for it."""
        if self._is_over or self._has_asked:
            return
        core, inquiry = self._core, self._inquiry
        if not core.turns.room(is_urgent=False):
            core.turns.wait_for_room(self, now, is_urgent=False)
            return
        self._has_asked = True
        self._ask(core.get_request(inquiry.target, inquiry.seq, inquiry.contact.address, now), now, is_proven=False)

    def cancel(self) -> None:
        """Stop without an outcome."""
        self._is_over = True
        self._core.turns.waits_no_more(self)
        if self._storing is not None:
            self._storing.end()

    def _ask(self, message: krpc.Get, now: float, *, is_proven: bool) -> None:
        contact, sent_at = self._inquiry.contact, now
        sent_count = 1

        def answered(reply: krpc.Reply, size_bytes: int, then: float) -> None:
            del size_bytes
            if self._is_over:
                return
            if reply.token is not None:
                self._core.note_token(contact.address, message.target, reply.token, then)
                if reply.is_proof_wanted and reply.value is None and not is_proven:
                    self._core.counters["asked-again-with-token"] += 1
                    self._ask(krpc.Get(message.target, message.seq, reply.token), then, is_proven=True)
                    return
            self._take(reply, then, None if sent_count > 1 else then - sent_at)

        def refused(_: krpc.Error, then: float) -> None:
            if not self._is_over:
                self._outcome = replace(self._outcome, has_answered=True)
                self._end()

        def timed_out(is_sent_again: bool, then: float) -> bool:
            nonlocal sent_count
            if self._is_over:
                return False
            if not is_sent_again and self._inquiry.sends_again:
                sent_count += 1
                self._count_request()
                return True
            self._end()
            return False

        self._count_request()
        self._core.ask(OutgoingRequest(message, contact.address, contact.node_id, answered, refused, timed_out), now)

    def _count_request(self, count: int = 1) -> None:
        self._outcome = replace(self._outcome, request_count=self._outcome.request_count + count)

    def _take(self, reply: krpc.Reply, now: float, rtt_s: float | None) -> None:
        inquiry, item = self._inquiry, None
        self._outcome = replace(self._outcome, has_answered=True, rtt_s=rtt_s)
        try:
            item = self._item_of(reply)
        except BadItem as error:
            # A forger is asked to keep nothing.
            self._core.counters[f"item-{error.reason}"] += 1
            self._outcome = replace(self._outcome, dropped=error.reason)
            self._end()
            return
        self._outcome = replace(self._outcome, item=item, seq_named=reply.seq if item is None else None)
        again = inquiry.again
        if again is None or reply.token is None or (item is not None and item.supersedes(again)):
            self._end()
            return
        self._put(again, reply.token, now)

    def _item_of(self, reply: krpc.Reply) -> MutableItem | None:
        if reply.value is None:
            return None
        value = krpc.string_of(reply.value)
        if value is None:
            raise BadItem("value-not-a-string")
        if reply.key is None or reply.signature is None or reply.seq is None:
            raise BadItem("item-incomplete")
        inquiry = self._inquiry
        # The cheap comparison first: a foreign key's signature may be perfect.
        if mutable_target(reply.key, inquiry.salt) != inquiry.target:
            raise BadItem("target-wrong")
        return MutableItem.verified(inquiry.key, reply.seq, value, reply.signature, inquiry.salt, self._memo)

    def _put(self, item: MutableItem, token: bytes, now: float) -> None:
        contact = self._inquiry.contact
        candidate = Candidate.of(contact, distance(contact.node_id, item.target))
        candidate.token = token
        sent_max = 2 if self._inquiry.sends_again else 1

        def may_send(_: Candidate) -> bool:
            nonlocal sent_max
            sent_max -= 1
            if sent_max >= 0:
                self._count_request()
            return sent_max >= 0

        def done(then: float) -> None:
            del then
            assert self._storing is not None, "it has begun"
            self._outcome = replace(self._outcome, is_kept=self._storing.stored_count > 0)
            self._end()

        self._storing = Storing(self._core, item, None, may_send, lambda: None, done)
        if self._storing.fits(candidate):
            self._storing.begin([candidate], now)
        else:
            self._end()

    def _end(self) -> None:
        if self._is_over:
            return
        self.cancel()
        self.on_end()
        self._core.events.append(InquiryDone(self.number, self._outcome))
