"""One iterative look-up: a shortlist by distance, α requests in flight, and when it is over.

Guarantees: it ends within `rpc_max` requests; every item it hands out is verified and better than the one before;
a lower seq never wins; one address is asked under few ids, whatever contacts strangers make up; the same replies in
the same order give the same requests. Does not know datagrams, transactions, the clock or the routing table: the
node says what arrived, and which request it has given up waiting for.

A look-up is *done* when every known contact nearer than the k-th nearest that answered is dead or has
answered, and *complete* when moreover somebody answered, neither budget nor deadline cut it, and the k-th is about
as near as the k-th nearest of the whole network should be. Both are statements about the contacts we heard of.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence

from p2pdns.addresses import Address
from p2pdns.dht import krpc
from p2pdns.dht.confirmation import Confirmation
from p2pdns.dht.lookup.beyond import behind_the_dead
from p2pdns.dht.lookup.editions import Editions
from p2pdns.dht.lookup.promise import by_promise
from p2pdns.dht.lookup.shortlist import WAITING, Candidate, CandidateState, Leave, Request, Shortlist
from p2pdns.dht.lookup.sought import Sought
from p2pdns.dht.lookup.verdict import Verdict, verdict_at
from p2pdns.dht.lookup.width import ALPHA, FIRST_RPCS, width_of
from p2pdns.dht.routing.contact import Contact
from p2pdns.dht.routing.reach import is_for
from p2pdns.dht.routing.table import K
from p2pdns.errors import BadItem
from p2pdns.items.item import Item, MutableItem, SignatureMemo
from p2pdns.limits import QUESTION_RPCS_MAX

SPARE = 1  # Candidates asked ahead once a contact was silent: without, one look-up in twenty lasts a timeout longer.
NODES_MIN = 8  # BEP 44 nodes send 8 contacts; if a value comes with fewer, it has pushed the others out.
DOUBTFUL_SILENT_MIN = 3  # Silent contacts for each that answered; where half are dead, hardly a look-up has so many.
# While there is no item, every second request goes to a contact that is not among the nearest: an attacker may have
# surrounded the key. By `bench/eclipse.py`, one request in four is too few: one dead contact ends their use.
FAIR_SHARE = 2
FORBIDDEN_MAX = 8  # Contacts whose ids BEP 42 forbids, asked if the others had nothing: as many as in a Mainline reply.
ODD = "odd"  # The reason under which items are counted that lack the commitment of their key.
# An attacker may have surrounded a key. Half of the k nearest are expected within half of the distance of the k-th, and
# beyond are the others. If all of it counts, a first item costs 0.4 requests more, and 1.2 if nothing is beyond (by
# `p2pdns sim --scenario lookup --nodes 10000`).
NEAREST_SHARE = 2


class Lookup:
    """The search for the k nodes nearest to a target, and for the best item on the way."""

    def __init__(
        self,
        target: bytes,
        own_id: bytes,
        sought: Sought | None = None,
        *,
        k: int = K,
        alpha: int = ALPHA,
        rpc_max: int = QUESTION_RPCS_MAX,
        memo: SignatureMemo | None = None,
        can_ask: Callable[[Address], bool] = lambda address: True,
    ) -> None:
        self.target = target
        self.sought = sought
        self.item: Item | None = None
        self.rpc_count = 0
        self.retransmit_count = 0
        self.rpcs_to_first: int | None = None
        self.confirmed_count = 0
        self.confirmation = Confirmation()
        self.copies: dict[Address, MutableItem] = {}
        self.editions = Editions() if sought is None else Editions(sought.commitment, wants_all=sought.wants_editions)
        self.bad_items: Counter[str] = Counter()
        # Contacts that were named in vain, by reason. Many are "repeated": each look-up hears of its contacts again.
        self.contacts_dropped: Counter[str] = Counter()
        self._own_id = own_id
        self._number = int.from_bytes(target)
        self._k = k
        self._alpha = alpha
        self._rpc_max = rpc_max
        self._memo = memo
        self._can_ask = can_ask
        self.shortlist = Shortlist()
        self.asked: dict[Address, None] = {}
        self.in_flight_count = 0
        self._slow_count = 0
        self._fair_count = 0
        self._silent_count = 0
        self._late_count = 0
        self._answered_count = 0
        self._given_up_count = 0
        # Contacts to ask for more contacts, and near which place.
        self._follow_ups: list[tuple[Candidate, bytes]] = []
        self._follow_up_count = 0
        self._needs_older = False
        self._promising: list[Candidate] = []
        self._nearest_bound: int | None = None

    # Candidates

    def add(self, contacts: Iterable[krpc.NodeInfo], source: Address | None = None) -> None:
        """Put contacts on the shortlist: our own table's, or those that the peer at `source` named."""
        shortlist = self.shortlist
        named_by = None if source is None else shortlist.source_of(source)
        candidate_of, named_again = shortlist.by_contact.get, shortlist.named_again
        repeated_count = 0
        for contact in contacts:
            candidate = candidate_of(contact)
            if candidate is not None:
                repeated_count += 1
                named_again(candidate, named_by)
            elif contact.node_id == self._own_id:
                self.contacts_dropped["own-id"] += 1
            elif not (source is None or is_for(contact.address[0], source[0])) or not self._can_ask(contact.address):
                self.contacts_dropped["out-of-reach"] += 1
            else:
                shortlist.add(contact, int.from_bytes(contact.node_id) ^ self._number, named_by)
        if repeated_count:
            self.contacts_dropped["repeated"] += repeated_count

    def begin_with(
        self, contacts: Sequence[Contact], *, typical_s: float | None = None, k_distance: int | None = None
    ) -> None:
        """Put contacts of our own table on the shortlist, nearest first: they have answered us, so can be asked.

        `typical_s` is the time that a reply takes, `k_distance` how far the k-th nearest node should be, as for
        `verdict`.
        """
        self._nearest_bound = None if k_distance is None else k_distance // NEAREST_SHARE
        if len(self.shortlist):
            self.add([contact.wire for contact in contacts])
            return
        # Faster than `add`: each look-up begins with as many contacts as a table has, before its first request.
        number = self._number
        candidates = [Candidate(one.wire, one.long_id ^ number, is_allowed=one.is_allowed) for one in contacts]
        self.shortlist.begin_with(candidates)
        if self._is_searching and typical_s is not None:
            self._promising = by_promise(candidates, contacts, typical_s)

    def asked_before(self, addresses: Collection[Address]) -> None:
        """Count contacts of our own table as having answered: they have just told us what they know of this target."""
        if not addresses:
            return
        for candidate in list(self.shortlist):
            if candidate.contact.address in addresses:
                self.shortlist.change(candidate, CandidateState.ANSWERED)

    # Requests

    @property
    def seq(self) -> int | None:
        """The seq in our gets: nodes with no newer item then send contacts instead of the value."""
        if self.sought is None or self.sought.wants_copies or self._needs_older:
            return None
        known = self.sought.known_seq
        if isinstance(self.item, MutableItem) and not self.sought.is_ahead(self.item):
            return self.item.seq if known is None else max(known, self.item.seq)
        return known

    @property
    def _width(self) -> int:
        is_beginning = self._is_searching and self.rpc_count < FIRST_RPCS
        return width_of(self._alpha, self._silent_count + self._late_count, is_beginning=is_beginning)

    @property
    def _is_searching(self) -> bool:
        return self.sought is not None and self.item is None

    @property
    def _slot_count(self) -> int:
        return min(self._width - self.in_flight_count, self._rpc_max - self.rpc_count)

    @property
    def has_slots(self) -> bool:
        return self._slot_count > 0

    def requests_to_send(self, count_max: int = QUESTION_RPCS_MAX) -> list[Request]:
        """Return the requests to send now, at most `count_max`; they count as sent."""
        if not (self.in_flight_count or self._slow_count):
            self.shortlist.relent(self._k)
        room = min(count_max, self._slot_count)
        requests: list[Request] = []
        while room > 0 and self._follow_ups:
            requests.append(self._asked(*self._follow_ups.pop(0)))
            room -= 1
        if room <= 0:
            return requests
        # If turns are short, the first request goes to the nearest.
        fair_room = min(room, (self.in_flight_count + room) // FAIR_SHARE - self._fair_count)
        if self._is_searching:
            while fair_room > 0 and (candidate := self.shortlist.fair_pick(self._k, self._nearest_bound)) is not None:
                requests.append(self._asked(candidate, is_fair=True))
                fair_room -= 1
                room -= 1
        if room <= 0:
            return requests
        requests += self._nearest(room, self._k, is_allowed=True)
        if not requests and self._wants_forbidden and self.shortlist.is_settled(self._k, is_allowed=True):
            requests += self._nearest(room, self._forbidden_max, is_allowed=False)
        return requests

    def _nearest(self, room: int, count: int, *, is_allowed: bool) -> list[Request]:
        """Ask the nearest until probably `count` will have answered."""
        # A contact that was just asked will probably answer, and a request to the next one would be wasted. The share
        # of answers so far says how probably: if a third is dead, two further ones are asked at once for every six.
        hope = (self._answered_count + 1) / (self._answered_count + self._silent_count + 1)
        expected = 0.0
        wanted = count + (SPARE if self._silent_count else 0)
        requests: list[Request] = []
        has_heard = self._answered_count or not self._is_searching
        for candidate in self.shortlist if has_heard or not self._promising else self._promising:
            if candidate.is_allowed is not is_allowed:
                continue
            state = candidate.state
            if state is CandidateState.ANSWERED or state is CandidateState.ASKED:
                expected += candidate.is_counted if state is CandidateState.ANSWERED else hope
                if expected >= wanted:
                    break
            elif state is CandidateState.NEW and self.shortlist.leave_of(candidate) is Leave.YES:
                requests.append(self._asked(candidate))
                expected += hope
                room -= 1
                if room <= 0 or expected >= wanted:
                    break
        return requests

    def _asked(self, candidate: Candidate, place: bytes = b"", *, is_fair: bool = False) -> Request:
        self.rpc_count += 1
        self.in_flight_count += 1
        self.shortlist.datagram_sent(candidate)
        if place:
            self._follow_up_count += 1
        else:
            self.shortlist.change(candidate, CandidateState.ASKED)
            self.asked[candidate.contact.address] = None
        self._fair_count += is_fair
        return Request(candidate, bool(place), is_fair, place=place)

    def is_late(self, request: Request) -> None:
        """Note that a reply takes longer than most: while it is waited for, another contact may be asked."""
        if request.state is CandidateState.ASKED and not request.is_late:
            request.is_late = True
            self._late_count += 1

    def timed_out(self, request: Request) -> bool:
        """Note that a request was not answered in time; return whether to send it again (which then counts)."""
        if request.state is CandidateState.ASKED:
            self._waited(request)
            self._silent_count += 1
            if self.rpc_count < self._rpc_max and self.shortlist.may_send_again(request.candidate):
                self.shortlist.datagram_sent(request.candidate)
                self.rpc_count += 1
                self.retransmit_count += 1
                self._slow_count += 1
                self._set_state(request, CandidateState.SLOW)
                return True
            self._give_up(request)
        elif request.state is CandidateState.SLOW:
            self._slow_count -= 1
            self._give_up(request)
        return False

    def _give_up(self, request: Request) -> None:
        self._set_state(request, CandidateState.DEAD)
        if not request.is_follow_up:
            self._given_up_count += 1

    def refused(self, request: Request) -> None:
        """Note that a request was answered with an error: alive, but of no use here."""
        self._settle(request)
        self._set_state(request, CandidateState.DEAD)
        self.shortlist.absolve(request.candidate)

    def pass_over(self, candidate: Candidate) -> None:
        """Leave out a candidate that answered and is of no use, so that the next nearest stands in for it."""
        self.shortlist.change(candidate, CandidateState.DEAD)
        self.shortlist.absolve(candidate)

    def _set_state(self, request: Request, state: CandidateState) -> None:
        if request.is_follow_up:
            self._follow_up_count -= request.state in WAITING and state not in WAITING
        else:
            self.shortlist.change(request.candidate, state)
        request.state = state

    def _settle(self, request: Request) -> None:
        if request.state is CandidateState.ASKED:
            self._waited(request)
        elif request.state is CandidateState.SLOW:
            self._slow_count -= 1
        elif request.state is CandidateState.DEAD and not request.is_follow_up:
            # It was only late.
            self._given_up_count -= 1

    def _waited(self, request: Request) -> None:
        self.in_flight_count -= 1
        self._fair_count -= request.is_fair
        self._late_count -= request.is_late
        request.is_late = False

    def count_request(self, candidate: Candidate, *, is_retransmit: bool = False) -> bool:
        """Count a request outside the search and return True; False if a budget is spent."""
        if self.rpc_count >= self._rpc_max or not self.may_send(candidate):
            return False
        self.rpc_count += 1
        self.retransmit_count += is_retransmit
        return True

    # Replies

    def reply_received(self, request: Request, reply: krpc.Reply, *, ipv6: bool = False) -> Item | None:
        """Take in a reply, early or late; return the item in it when that is valid and the best so far."""
        if request.state is CandidateState.ANSWERED:
            return None
        self._settle(request)
        candidate = request.candidate
        try:
            item = self._item_in(reply)
        except BadItem as error:
            # A contact that returns a forgery does not count as answered, and the contacts it names are not asked.
            self.bad_items[error.reason] += 1
            self._set_state(request, CandidateState.DEAD)
            self.shortlist.absolve(candidate)
            return None
        self._set_state(request, CandidateState.ANSWERED)
        self._answered_count += 1
        nodes = reply.nodes6 if ipv6 else reply.nodes
        self.add(nodes, candidate.contact.address)
        if reply.token is not None:
            candidate.token = reply.token
        self._note_word(candidate, reply, item)
        if item is None:
            if reply.seq is not None and reply.seq == self.seq:
                self.confirmed_count += 1
            return None
        if len(nodes) < NODES_MIN and not request.is_follow_up:
            self._follow_ups.append((candidate, self.target))
        return self.item_found(item)

    def _note_word(self, candidate: Candidate, reply: krpc.Reply, item: Item | None) -> None:
        candidate.seq = reply.seq
        if isinstance(item, MutableItem):
            if self.editions.is_odd(item):
                return
            self.confirmation.item_returned(candidate.contact.address, item)
            if self.sought is not None and self.sought.wants_copies:
                self.copies[candidate.contact.address] = item
        elif item is None and self.sought is not None and reply.seq is not None:
            self.confirmation.seq_named(candidate.contact.address, reply.seq)

    @property
    def copy_count(self) -> int:
        """In how many places contacts say that they hold the item that is looked for."""
        seq = self.item.seq if isinstance(self.item, MutableItem) else self.seq
        return 0 if seq is None else self.confirmation.copies_of(seq)

    def to_check(self) -> list[Candidate]:
        """Return the contacts to ask again without a seq, in order; none where the seq is confirmed or unknown."""
        seq = self.seq
        if seq is None or self.confirmation.is_of_seq(seq):
            return []
        by_address = {candidate.contact.address: candidate for candidate in reversed(self.answered())}
        addresses = self.confirmation.addresses_to_check(seq)
        return [by_address[address] for address in addresses if address in by_address]

    def checked(self, candidate: Candidate, reply: krpc.Reply) -> Item | None:
        """Take in the reply of a contact that was asked again; return the item in it when it is the best so far."""
        self.confirmation.withdrawn(candidate.contact.address)
        try:
            item = self._item_in(reply)
        except BadItem as error:
            self.bad_items[error.reason] += 1
            return None
        if item is None:
            return None
        self._note_word(candidate, reply, item)
        return self.item_found(item)

    def item_found(self, item: Item) -> Item | None:
        """Take in a valid item; return it when it is the best so far."""
        if isinstance(item, MutableItem):
            if self.editions.is_odd(item):
                self.bad_items[ODD] += 1
                return None
            self.editions.note(item)
            known = self.sought.known_seq if self.sought is not None else None
            if known is not None and item.seq <= known:
                return None
            if isinstance(self.item, MutableItem):
                if item.seq == self.item.seq and item.value == self.item.value:
                    self.confirmed_count += 1
                    return None
                if self.sought is None or not self.sought.prefers(item, self.item):
                    return None
        elif self.item is not None:
            return None
        if self.rpcs_to_first is None:
            self.rpcs_to_first = self.rpc_count - self.retransmit_count
        self.item = item
        self._needs_older = isinstance(item, MutableItem) and self.editions.needs_older(item)
        return item

    def _item_in(self, reply: krpc.Reply) -> Item | None:
        return None if self.sought is None else self.sought.item_in(reply, self.target, self._memo)

    def look_beyond(self) -> bool:
        """Have a few contacts name the living that the dead hide; return whether there are such contacts."""
        asked = behind_the_dead(self.shortlist, self.target, self._k)
        self._follow_ups += [(one, place) for one, place in asked if self.shortlist.may_send(one)]
        return bool(self._follow_ups)

    def item_here(self, item: Item) -> Item | None:
        """Take in the item of our own storage; return it when it is wanted."""
        try:
            if self.sought is not None:
                self.sought.check(item)
        except BadItem as error:
            self.bad_items[error.reason] += 1
            return None
        return self.item_found(item)

    # The end

    @property
    def is_decided(self) -> bool:
        """Whether no other reply can change the outcome: the item is there that a pin asks for."""
        return self.item is not None and self.sought is not None and self.sought.pinned is not None

    @property
    def is_done(self) -> bool:
        """Whether the k nearest known contacts that are not dead have answered, and no follow-up is waited for."""
        if self._follow_ups or self._follow_up_count:
            return False
        return self.shortlist.is_settled(self._k, is_allowed=True) and (
            not self._wants_forbidden or self.shortlist.is_settled(self._forbidden_max, is_allowed=False)
        )

    @property
    def _wants_forbidden(self) -> bool:
        """Whether ids that BEP 42 forbids are asked at the end: they may hold an item that no other contact has."""
        return self._is_searching or len(self.shortlist.counted()) < self._k

    @property
    def _forbidden_max(self) -> int:
        return FORBIDDEN_MAX if self.shortlist.has_allowed else self._k

    @property
    def has_given_up(self) -> bool:
        """Whether a contact counts as dead that may only be late."""
        return self._given_up_count > 0

    @property
    def is_doubtful(self) -> bool:
        """Whether so many were silent that the timeouts were too short, rather than the contacts dead.

        Timeouts are measured. When the way to all contacts becomes slower at once, as on a train or behind a tunnel,
        every measure is wrong, and the look-up would end before the first reply can be there.
        """
        return self.has_given_up and self._answered_count * DOUBTFUL_SILENT_MIN <= self._given_up_count

    @property
    def is_cut(self) -> bool:
        """Whether the budget is spent and no request is in flight."""
        return self.rpc_count >= self._rpc_max and not self.in_flight_count and not self._slow_count

    def end(self) -> None:
        """Let go of all contacts; the counts and the item stay."""
        self._promising = []
        self.shortlist.clear()

    def answered(self) -> list[Candidate]:
        """Return the candidates that answered, nearest first."""
        return [candidate for candidate in self.shortlist if candidate.state is CandidateState.ANSWERED]

    def may_send(self, candidate: Candidate) -> bool:
        """Return whether a further datagram may go to a candidate; it counts as sent."""
        if not self.shortlist.may_send(candidate):
            return False
        self.shortlist.datagram_sent(candidate)
        return True

    def verdict(self, k_distance: int | None, *, is_late: bool = False) -> Verdict:
        """Return how the look-up ended: complete, or why it is not.

        `k_distance` is how far the k-th nearest node should be, None where the table is too small to tell.
        """
        if self.is_decided:
            return Verdict.FOUND
        if not self.is_done:
            return Verdict.DEADLINE if is_late else Verdict.BUDGET
        if not len(self.shortlist):
            return Verdict.NO_CONTACTS
        answered = self.shortlist.counted()[: self._k]
        if not answered:
            return Verdict.NO_ANSWER
        return Verdict.COMPLETE if k_distance is None else verdict_at(answered, self._k, k_distance)
