"""Having nodes keep an item: one request to each of them, which is sent again once.

Guarantees: every node that was asked is counted once, as one that keeps the item, that refused it, or that was silent;
no request is longer than a datagram may be. Does not know how the nodes were found (`putting` does).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from p2pdns.addresses import Address
from p2pdns.dht import bencode, krpc
from p2pdns.dht.lookup.shortlist import Candidate
from p2pdns.dht.node.core import Core
from p2pdns.dht.node.requests import OutgoingRequest
from p2pdns.dht.node.values import Cas
from p2pdns.items.item import Item, MutableItem
from p2pdns.values import replace

# A put has no second form to fall back to, so it must arrive whole: below what tunnels and home lines leave of an
# Ethernet frame on IPv4, and within the least that every IPv6 link carries.
PUT_BYTES_MAX_IPV4 = 1_300
PUT_BYTES_MAX_IPV6 = 1_232


HELD_CODES = (krpc.CAS_MISMATCH, krpc.SEQ_TOO_LOW)


def cas_for(cas: Cas, named_seq: int | None) -> int:
    """Return the cas for a node that has named this seq.

    >>> cas_for((7, 9), 7), cas_for((7, 9), 8), cas_for((7, 9), None), cas_for((), None)
    (7, 9, 9, 0)
    """
    return named_seq if named_seq is not None and named_seq in cas else max(cas, default=0)


class Storing:
    """The requests to keep one item, and what came of them.

    `may_send` says whether a contact may be sent a datagram more; `on_stored` is called for each node that keeps the
    item, `on_done` when no answer is waited for any more. `item` may be exchanged until `begin`.
    """

    is_young = False

    def __init__(
        self,
        core: Core,
        item: Item,
        cas: Cas | None,
        may_send: Callable[[Candidate], bool],
        on_stored: Callable[[], None],
        on_done: Callable[[float], None],
    ) -> None:
        self.item = item
        self.cas = cas
        self.sent_count = 0
        self.stored_count = 0
        self.refused: Counter[int | str] = Counter()
        self.held_at: list[Address] = []
        self.storers: list[krpc.NodeInfo] = []  # Those that said that they keep it.
        self._core = core
        self._size_bytes_max = PUT_BYTES_MAX_IPV6 if core.settings.is_ipv6 else PUT_BYTES_MAX_IPV4
        self._may_send = may_send
        self._on_stored = on_stored
        self._on_done = on_done
        self._to_send: list[Candidate] = []
        self._waited_for: set[Candidate] = set()
        self._is_over = False

    def fits(self, candidate: Candidate) -> bool:
        """Return whether the token of a node leaves room for the item in a datagram."""
        return self._core.size_of(self._message(candidate)) <= self._size_bytes_max

    def begin(self, storers: list[Candidate], now: float) -> None:
        """Ask these nodes."""
        self._to_send = storers
        self.pump(now)

    def add(self, storer: Candidate, now: float) -> None:
        """Ask one node more."""
        self._to_send.append(storer)
        self.pump(now)

    def pump(self, now: float) -> None:
        """Send what there is room for; call `on_done` when the last node has answered or was silent."""
        core = self._core
        while self._to_send and not self._is_over:
            if not core.turns.room(is_urgent=False):
                core.turns.wait_for_room(self, now, is_urgent=False)
                return
            candidate = self._to_send.pop(0)
            if self._may_send(candidate):
                self.sent_count += 1
                self._waited_for.add(candidate)
                self._ask(candidate, now)
        if not self._waited_for and not self._is_over:
            self._on_done(now)

    def cut(self) -> None:
        """Count those that have not answered as silent."""
        self.refused["timeout"] += len(self._waited_for)

    def end(self) -> None:
        """Ask and count no more."""
        self._is_over = True
        self._core.turns.waits_no_more(self)

    def _message(self, candidate: Candidate) -> krpc.Put:
        item, token = self.item, candidate.token or b""
        value = bencode.encode(item.value)
        message: krpc.Put = krpc.PutImmutable(value, token)
        if isinstance(item, MutableItem):
            cas = None if self.cas is None else cas_for(self.cas, candidate.seq)
            message = krpc.PutMutable(item.key.raw, item.seq, value, item.signature, token, item.salt, cas)
        if self._core.size_of(message) > self._size_bytes_max:
            # Few storers ask for the target; all of them need the rest.
            message = replace(message, names_target=False)
        return message

    def _ask(self, candidate: Candidate, now: float) -> None:
        def stored(reply: krpc.Reply, size_bytes: int, then: float) -> None:
            if not self._is_over:
                self._settle(candidate)
                self.stored_count += 1
                self.storers.append(candidate.contact)
                self._on_stored()
                self.pump(then)

        def refused(error: krpc.Error, then: float) -> None:
            if not self._is_over:
                self._settle(candidate)
                self.refused[error.code] += 1
                if error.code in HELD_CODES:
                    self.held_at.append(candidate.contact.address)
                self.pump(then)

        def timed_out(is_sent_again: bool, then: float) -> bool:
            if self._is_over:
                return False
            if not is_sent_again and self._may_send(candidate):
                return True
            self._waited_for.discard(candidate)
            self.refused["timeout"] += 1
            self.pump(then)
            return False

        contact, message = candidate.contact, self._message(candidate)
        self._core.ask(OutgoingRequest(message, contact.address, contact.node_id, stored, refused, timed_out), now)

    def _settle(self, candidate: Candidate) -> None:
        if candidate in self._waited_for:
            self._waited_for.discard(candidate)
        else:
            # A late answer counts as well.
            self.refused["timeout"] -= 1
