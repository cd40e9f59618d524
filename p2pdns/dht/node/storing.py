"""Having nodes keep an item: one request to each of them, which is sent again once.

Guarantees: every node that was asked is counted once, as one that keeps the item, that refused it, or that was silent;
no request is longer than a datagram may be. Does not know how the nodes were found (`putting` does).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace

from p2pdns.dht import bencode, krpc
from p2pdns.dht.lookup import Candidate, Item
from p2pdns.dht.node.core import Core
from p2pdns.dht.node.requests import OutgoingRequest
from p2pdns.items.item import MutableItem

# A put has no second form to fall back to, so it must arrive whole: below what tunnels and home lines leave of an
# Ethernet frame on IPv4, and within the least that every IPv6 link carries.
PUT_BYTES_MAX_IPV4 = 1_300
PUT_BYTES_MAX_IPV6 = 1_232

PutMessage = krpc.PutMutable | krpc.PutImmutable


class _PutRequest(OutgoingRequest):
    """A request to a node to keep the item."""

    __slots__ = ("_storing", "candidate", "is_given_up", "is_sent_again")

    def __init__(self, storing: Storing, message: PutMessage, candidate: Candidate) -> None:
        contact = candidate.contact
        super().__init__(message, contact.address, contact.node_id)
        self._storing = storing
        self.candidate = candidate
        self.is_sent_again = False
        self.is_given_up = False

    def reply_received(self, reply: krpc.Reply, size_bytes: int, now: float) -> None:
        """Count that it keeps the item."""
        del reply, size_bytes
        self._storing.stored(self, now)

    def error_received(self, error: krpc.Error, now: float) -> None:
        """Count its refusal."""
        self._storing.refused_by(self, error.code, now)

    def timed_out(self, now: float) -> bool:
        """Have it sent again once, then count the silence."""
        return self._storing.timed_out(self, now)


class Storing:
    """The requests to keep one item, and what came of them.

    `may_send` says whether a contact may be sent a datagram more; `on_stored` is called for each node that keeps the
    item, `on_done` when nobody is waited for any more. `item` may be exchanged until `begin`.
    """

    is_young = False

    def __init__(
        self,
        core: Core,
        item: Item,
        cas: int | None,
        may_send: Callable[[Candidate], bool],
        on_stored: Callable[[], None],
        on_done: Callable[[float], None],
    ) -> None:
        self.item = item
        self.cas = cas
        self.sent_count = 0
        self.stored_count = 0
        self.refused: Counter[int | str] = Counter()
        self._core = core
        self._may_send = may_send
        self._on_stored = on_stored
        self._on_done = on_done
        self._to_send: list[Candidate] = []
        self._waiting_count = 0
        self._is_over = False

    def fits(self, candidate: Candidate) -> bool:
        """Return whether the token of a node leaves room for the item in a datagram."""
        return self._core.size_of(self._message(candidate)) <= self._size_bytes_max

    def begin(self, storers: list[Candidate], now: float) -> None:
        """Ask these nodes."""
        self._to_send = storers
        self.pump(now)

    def pump(self, now: float) -> None:
        """Send what there is room for; tell when the last one has answered or was silent."""
        core = self._core
        while self._to_send and not self._is_over:
            if not core.turns.room(is_urgent=False):
                core.turns.wait_for_room(self, now, is_urgent=False)
                return
            candidate = self._to_send.pop(0)
            if not self._may_send(candidate):
                continue
            self.sent_count += 1
            self._waiting_count += 1
            core.ask(_PutRequest(self, self._message(candidate), candidate), now)
        if not self._waiting_count and not self._is_over:
            self._on_done(now)

    def cut(self) -> None:
        """Count those that have not answered as silent."""
        self.refused["timeout"] += self._waiting_count

    def end(self) -> None:
        """Ask and count no more."""
        self._is_over = True
        self._core.turns.waits_no_more(self)

    @property
    def _size_bytes_max(self) -> int:
        return PUT_BYTES_MAX_IPV6 if self._core.settings.is_ipv6 else PUT_BYTES_MAX_IPV4

    def _message(self, candidate: Candidate) -> PutMessage:
        item, token = self.item, candidate.token or b""
        value = bencode.encode(item.value)
        message: PutMessage = krpc.PutImmutable(value, token)
        if isinstance(item, MutableItem):
            message = krpc.PutMutable(item.key.raw, item.seq, value, item.signature, token, item.salt, self.cas)
        if self._core.size_of(message) > self._size_bytes_max:
            # Few storers ask for the target; all of them need the rest.
            message = replace(message, names_target=False)
        return message

    def stored(self, asked: _PutRequest, now: float) -> None:
        """Count a node that keeps the item."""
        if self._is_over:
            return
        self._settle(asked)
        self.stored_count += 1
        self._on_stored()
        self.pump(now)

    def refused_by(self, asked: _PutRequest, code: int, now: float) -> None:
        """Count a refusal by its code."""
        if self._is_over:
            return
        self._settle(asked)
        self.refused[code] += 1
        self.pump(now)

    def timed_out(self, asked: _PutRequest, now: float) -> bool:
        """Return whether to send a request again; count the second silence."""
        if self._is_over:
            return False
        if not asked.is_sent_again and self._may_send(asked.candidate):
            asked.is_sent_again = True
            return True
        self._waiting_count -= 1
        asked.is_given_up = True
        self.refused["timeout"] += 1
        self.pump(now)
        return False

    def _settle(self, asked: _PutRequest) -> None:
        if asked.is_given_up:
            # Late, but an answer all the same.
            self.refused["timeout"] -= 1
        else:
            self._waiting_count -= 1
