"""The contacts that a look-up has heard of, nearest first: which of them may be asked, and which count.

Guarantees: at most `HOST_CONTACTS_MAX` contacts of a host and `PREFIX_CONTACTS_MAX` of a public prefix count among the
nearest; contacts that never answered take no place from those that did, nor from those of our own table; a source
whose contacts stay silent has no more of them asked; one host gets at most `HOST_DATAGRAMS_MAX` datagrams. Does not
know requests, items or the end of a look-up.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import IntEnum
from operator import itemgetter

from p2pdns.addresses import Address, AddressClass, class_of, host_of, prefix_of
from p2pdns.dht import krpc
from p2pdns.dht.routing.ids import is_id_allowed

SHORTLIST_MAX = 400  # Candidates kept, the nearest ones: made-up contacts cost memory only up to here.
ADDRESS_IDS_MAX = 2  # Ids under which one address is asked: a look-up is no way to make us flood a third party.
VIEW_MAX = 20  # Contacts of our own table in its view, as many as a source names.
HOST_CONTACTS_MAX = 2  # Of one host among the nearest: a household has two nodes, an attacker's machine has a thousand.
PREFIX_CONTACTS_MAX = 4  # Of one public /24 or /48 among the nearest: a fifth of them, so that the others outvote it.
HOST_SILENT_MAX = 4  # Silent contacts of a host after which no more from the same kind of source are asked there.
PREFIX_SILENT_MAX = 8  # The same for a public prefix.
HOST_DATAGRAMS_MAX = 20  # To one host: what two nodes that lose every second datagram need for a get and a put.
HOST_RETRANSMITS_UNTIL = 10  # Datagrams to a host after which nothing is sent again: the rest is for first requests.
SOURCE_CONTACTS_MAX = 28  # New contacts of one source: a whole reply of ours, and the eight that BEP 5 sends.
SOURCE_SILENT_MAX = 5  # Silent contacts that a source may have named. Those that several have named are shared out.
SOURCE_SILENT_FACTOR = 3  # As many more for each that answered: where half are dead, honest sources gain by it.
SECOND_CHANCES_MAX = 3  # How often all sources get their credit back, if too few contacts answered and none is left.


_CANDIDATE = itemgetter(2)


class CandidateState(IntEnum):
    """What is known of a candidate, or of a request."""

    NEW = 0
    ASKED = 1
    SLOW = 2  # Its timeout has passed once: the slot is free, the retransmit is on its way.
    DEAD = 3  # Silent for good, or useless; a late reply still brings it back.
    ANSWERED = 4


WAITING = (CandidateState.ASKED, CandidateState.SLOW)


class Word(IntEnum):
    """The source of a contact on the shortlist; the lower, the better."""

    OURS = 0  # Our own table's: it has answered us before.
    SEVERAL = 1  # Sources in different prefixes.
    ONE = 2


class Leave(IntEnum):
    """Whether a candidate may be asked."""

    YES = 0
    LATER = 1  # Once others have answered or were silent.
    NEVER = 2


@dataclass(slots=True, eq=False)
class Source:
    """A host that named contacts, and what became of them. Our own table is a source as well, with an empty prefix."""

    prefix: str
    view: list[Candidate] = field(default_factory=list)
    pick_count: int = 0
    named_count: int = 0
    waiting_count: int = 0
    credit: float = SOURCE_SILENT_MAX
    leave: Leave = Leave.YES  # Whether another contact may be asked that this source has named.
    _half: list[Candidate] = field(default_factory=list)
    _half_of: int = 0

    def farther_half(self) -> list[Candidate]:
        """Return the farther half of the contacts it has named near the key, nearest first."""
        if self._half_of != len(self.view):
            self._half_of = len(self.view)
            self.view.sort(key=lambda candidate: candidate.distance)
            self._half = self.view[self._half_of // 2 :]
        return self._half

    def change(self, credit: float, waiting: int = 0) -> None:
        """Change its credit, and the count of its contacts that are waited for."""
        self.credit += credit
        self.waiting_count += waiting
        if self.credit <= 0:
            self.leave = Leave.NEVER
        else:
            self.leave = Leave.YES if self.credit > self.waiting_count else Leave.LATER


def _leave_by(sources: list[Source]) -> Leave:
    leave = Leave.NEVER
    for source in sources:
        if source.leave is Leave.YES:
            return Leave.YES
        if source.leave is Leave.LATER:
            leave = Leave.LATER
    return leave


@dataclass(slots=True, eq=False)
class Place:
    """A host or a prefix, and the candidates asked there."""

    asked: list[Candidate] = field(default_factory=list)
    datagram_count: int = 0
    padded_for: Candidate | None = None


@dataclass(slots=True, eq=False)
class Candidate:
    """A contact on the shortlist. `is_counted`: it answered, and is among those of its host and prefix that count."""

    contact: krpc.NodeInfo
    distance: int
    word: Word = Word.OURS
    state: CandidateState = CandidateState.NEW
    token: bytes | None = None
    seq: int | None = None  # Of the item that it says it holds.
    sources: list[Source] = field(default_factory=list)
    credit: float = 0.0  # Gained by each of the sources for this contact.
    is_counted: bool = False
    host: Place | None = None
    prefix: Place | None = None
    is_allowed: bool = True  # BEP 42 allows the id at the address.

    @classmethod
    def of(cls, contact: krpc.NodeInfo, distance: int, word: Word = Word.OURS) -> Candidate:
        """Return a candidate for a contact, judged by BEP 42."""
        return cls(contact, distance, word, is_allowed=is_id_allowed(contact.node_id, contact.address[0]))


@dataclass(slots=True, eq=False)
class Request:
    """One request to one candidate; `is_follow_up` asks one that has answered for further contacts, near `place`."""

    candidate: Candidate
    is_follow_up: bool
    is_fair: bool = False
    state: CandidateState = CandidateState.ASKED
    place: bytes = b""
    is_late: bool = False


class Shortlist:
    """The candidates of one look-up."""

    def __init__(self) -> None:
        self.by_contact: dict[krpc.NodeInfo, Candidate] = {}
        self._sorted: list[tuple[int, int, Candidate]] = []
        self._serial = 0
        self._places: dict[str, Place] = {}
        self._sources: dict[str, Source] = {}
        self._second_chance_count = 0
        self._fair_pick_count = 0
        self._table = Source("")

    def __len__(self) -> int:
        return len(self._sorted)

    def __iter__(self) -> Iterator[Candidate]:
        return map(_CANDIDATE, self._sorted)

    # Contacts

    def source_of(self, address: Address) -> Source:
        """Return the source for a peer at an address."""
        key = host_of(address)
        source = self._sources.get(key)
        if source is None:
            source = self._sources[key] = Source(prefix_of(address))
        return source

    def add(self, contact: krpc.NodeInfo, distance: int, source: Source | None) -> None:
        """Take in a contact of our own table (no source), or one that a source has named first."""
        word = Word.OURS if source is None else Word.ONE
        if source is not None and source.named_count >= SOURCE_CONTACTS_MAX:
            return
        if len(self._sorted) >= SHORTLIST_MAX and not self._has_room_for(distance, word):
            return
        candidate = Candidate.of(contact, distance, word)
        if source is not None:
            source.named_count += 1
            source.view.append(candidate)
            candidate.sources.append(source)
        self.by_contact[contact] = candidate
        self._serial += 1
        insort(self._sorted, (distance, self._serial, candidate))

    def begin_with(self, candidates: list[Candidate]) -> None:
        """Take in the contacts of our own table, nearest first, while there are no others."""
        self.by_contact = {candidate.contact: candidate for candidate in candidates}
        self._sorted = [(one.distance, serial, one) for serial, one in enumerate(candidates)]
        self._serial = len(candidates)
        self._table.view = candidates[:VIEW_MAX]

    def named_again(self, candidate: Candidate, source: Source | None) -> None:
        """Note that our own table, or another source, has named a contact that is on the list already."""
        if source is None:
            candidate.word = Word.OURS
            return
        view, state = source.view, candidate.state
        if len(view) < SOURCE_CONTACTS_MAX:
            view.append(candidate)
        # A source gains nothing by a contact that has answered already, and loses nothing by one that was silent.
        if candidate.word is Word.OURS or state is CandidateState.ANSWERED or state is CandidateState.DEAD:
            return
        if source in candidate.sources:
            return
        if source.prefix != candidate.sources[0].prefix:
            candidate.word = Word.SEVERAL
        candidate.sources.append(source)
        source.change(0.0, candidate.state in WAITING)

    def clear(self) -> None:
        """Drop all contacts, and free them at once.

        Candidates, their sources and their places refer to each other, so without this they would stay until Python
        searches for garbage: some hundred objects a look-up, which made a sixth of the memory of a simulated world.
        """
        for candidate in self:
            candidate.sources.clear()
            candidate.host = candidate.prefix = None
        self.by_contact.clear()
        self._sorted.clear()
        self._places.clear()
        self._sources.clear()
        self._table = Source("")

    def _has_room_for(self, distance: int, word: Word) -> bool:
        # Made-up contacts of one source push out none that several sources, or our own table, have named.
        for index in range(len(self._sorted) - 1, -1, -1):
            farthest = self._sorted[index][2]
            if farthest.distance <= distance:
                return False
            if farthest.state is CandidateState.NEW and farthest.word >= word:
                del self._sorted[index]
                del self.by_contact[farthest.contact]
                return True
        return False

    # Which candidates may be asked

    def _place_of(self, key: str) -> Place:
        place = self._places.get(key)
        if place is None:
            place = self._places[key] = Place()
        return place

    def _settle(self, candidate: Candidate) -> Place:
        address = candidate.contact.address
        host = candidate.host = self._place_of(host_of(address))
        if class_of(address[0]) is AddressClass.PUBLIC:
            candidate.prefix = self._place_of(prefix_of(address))
        return host

    def leave_of(self, candidate: Candidate) -> Leave:
        """Return whether a candidate that was not asked yet may be."""
        host = candidate.host or self._settle(candidate)
        if host.datagram_count >= HOST_DATAGRAMS_MAX:
            return Leave.NEVER
        leave = Leave.YES
        if candidate.sources and candidate.word is not Word.OURS:
            leave = _leave_by(candidate.sources)
        if leave is not Leave.NEVER and host.asked:
            leave = max(leave, self._room_in(host, candidate, HOST_CONTACTS_MAX, HOST_SILENT_MAX))
        if leave is not Leave.NEVER and candidate.prefix is not None and candidate.prefix.asked:
            leave = max(leave, self._room_in(candidate.prefix, candidate, PREFIX_CONTACTS_MAX, PREFIX_SILENT_MAX))
        return leave

    def _room_in(self, place: Place, candidate: Candidate, count_max: int, silent_max: int) -> Leave:
        answered = waiting = unanswered = id_count = 0
        for other in place.asked:
            is_like = other.word is candidate.word
            if is_like and other.contact.address == candidate.contact.address:
                id_count += 1
            if other.state is not CandidateState.ANSWERED:
                unanswered += is_like
            if other.state is CandidateState.DEAD:
                continue
            if candidate.is_allowed and not other.is_allowed:
                continue
            if other.state is CandidateState.ANSWERED:
                if other.contact.address == candidate.contact.address:
                    # A node has one id, and one at this address has answered.
                    return Leave.NEVER
                answered += other.distance < candidate.distance
            elif other.word <= candidate.word:
                waiting += other.distance < candidate.distance
        if answered >= count_max or id_count >= ADDRESS_IDS_MAX:
            return Leave.NEVER
        if unanswered >= silent_max and candidate.word is not Word.OURS:
            return Leave.NEVER
        return Leave.LATER if answered + waiting >= count_max else Leave.YES

    def fair_pick(self, k: int, nearest_bound: int | None = None) -> Candidate | None:
        """Return a candidate that an attacker round the key has hardly chosen; None when there is none left.

        An attacker can choose ids nearest to a key. Farther away than `nearest_bound` most nodes have their place by
        chance: there it is the nearest. Every other time, and where no bound is known, our own table and each source in
        turn give one of the farther half of their nearest contacts, for the attacker may have chosen places beyond.
        """
        bound = None
        for candidate in self:
            if candidate.word is Word.OURS or candidate.state is CandidateState.ANSWERED:
                k -= 1
                bound = candidate.distance
                if not k:
                    break
        if nearest_bound is None or bound is None:
            return self._pick_of_views(bound)
        self._fair_pick_count += 1
        beyond = filter(self._may_be_picked, (one for one in self if nearest_bound < one.distance <= bound))
        if self._fair_pick_count % 2:
            return next(beyond, None) or self._pick_of_views(min(bound, nearest_bound))
        return self._pick_of_views(min(bound, nearest_bound)) or next(beyond, None)

    def _pick_of_views(self, bound: int | None) -> Candidate | None:
        for source in sorted((*self._sources.values(), self._table), key=lambda source: source.pick_count):
            for candidate in source.farther_half():
                if (bound is None or candidate.distance <= bound) and self._may_be_picked(candidate):
                    source.pick_count += 1
                    return candidate
        return None

    def _may_be_picked(self, candidate: Candidate) -> bool:
        is_open = candidate.state is CandidateState.NEW and candidate.is_allowed
        return is_open and self.leave_of(candidate) is Leave.YES

    # Answers and silence

    def change(self, candidate: Candidate, state: CandidateState) -> None:
        """Note a candidate's new state."""
        old, candidate.state = candidate.state, state
        if old is CandidateState.NEW:
            host = candidate.host or self._settle(candidate)
            host.asked.append(candidate)
            if candidate.prefix is not None:
                candidate.prefix.asked.append(candidate)
        self._credit(candidate, (state in WAITING) - (old in WAITING))
        if state is CandidateState.ANSWERED or old is CandidateState.ANSWERED:
            self._count(candidate)

    def _credit(self, candidate: Candidate, waiting_change: int) -> None:
        sources = candidate.sources
        if not sources:
            return
        # A contact costs or brings the same in total, however many sources named it: sources that make up contacts
        # together get no more of them asked than each could alone.
        credit = 0.0
        if candidate.state is CandidateState.DEAD:
            credit = -1.0
        elif candidate.state is CandidateState.ANSWERED:
            credit = float(SOURCE_SILENT_FACTOR)
        credit /= len(sources)
        for source in sources:
            source.change(credit - candidate.credit, waiting_change)
        candidate.credit = credit

    def absolve(self, candidate: Candidate) -> None:
        """Take back the credit that a contact, alive but useless, has cost or brought its sources."""
        for source in candidate.sources:
            source.change(-candidate.credit)
        candidate.credit = 0.0
        candidate.sources.clear()

    def is_muted(self, candidate: Candidate) -> bool:
        """Return whether only the silence of its sources' other contacts keeps a candidate from being asked."""
        if candidate.state is not CandidateState.NEW or not candidate.is_allowed or candidate.word is Word.OURS:
            return False
        if self._second_chance_count >= SECOND_CHANCES_MAX:
            return False
        return min(source.leave for source in candidate.sources) is Leave.NEVER

    def give_second_chance(self) -> None:
        """Restore the credit of every source."""
        self._second_chance_count += 1
        for source in self._sources.values():
            source.change(SOURCE_SILENT_MAX - min(source.credit, 0.0))

    def _count(self, candidate: Candidate) -> None:
        """Decide again which contacts of a place count: the nearest of those that answered."""
        group = candidate.prefix or candidate.host
        assert group is not None
        by_place: dict[int, int] = {}
        addresses: dict[Address, None] = {}
        for one in sorted(group.asked, key=lambda one: (not one.is_allowed, one.distance)):
            one.is_counted = False
            if one.state is not CandidateState.ANSWERED or one.contact.address in addresses:
                continue
            places = [(one.host, HOST_CONTACTS_MAX), (one.prefix, PREFIX_CONTACTS_MAX)]
            if all(by_place.get(id(place), 0) < limit for place, limit in places if place is not None):
                one.is_counted = True
                addresses[one.contact.address] = None
                for place, _ in places:
                    by_place[id(place)] = by_place.get(id(place), 0) + 1

    # Which candidates count, and the end

    def counted(self) -> list[Candidate]:
        """Return the candidates that count, nearest first.

        Ids that BEP 42 forbids count only where no node with an allowed id has answered: in a very young network.
        """
        counted = [candidate for candidate in self if candidate.is_counted]
        return [candidate for candidate in counted if candidate.is_allowed] or counted

    @property
    def has_allowed(self) -> bool:
        return any(candidate.is_allowed and candidate.is_counted for candidate in self)

    def is_settled(self, left: int, *, is_allowed: bool) -> bool:
        """Return whether `left` of the allowed ids, or of the others, have answered and no nearer one can be asked."""
        for candidate in self:
            if candidate.is_allowed is not is_allowed:
                continue
            state = candidate.state
            if state is CandidateState.ANSWERED:
                left -= candidate.is_counted
                if left <= 0:
                    return True
            elif state is CandidateState.NEW:
                if self.leave_of(candidate) is not Leave.NEVER:
                    return False
            elif state is not CandidateState.DEAD:
                return False
        return True

    def relent(self, k: int) -> None:
        """Trust sources again whose contacts were silent, if fewer than k have answered and no others can be asked."""
        if len(self.counted()) < k and self.is_settled(k, is_allowed=True) and any(map(self.is_muted, self)):
            self.give_second_chance()

    # Datagrams

    def datagram_sent(self, candidate: Candidate) -> None:
        """Count a datagram to a candidate's host."""
        host = candidate.host or self._settle(candidate)
        host.datagram_count += 1

    def may_send(self, candidate: Candidate) -> bool:
        """Return whether a further datagram may go to a candidate's host."""
        host = candidate.host or self._settle(candidate)
        return host.datagram_count < HOST_DATAGRAMS_MAX

    def may_send_again(self, candidate: Candidate) -> bool:
        """Return whether a silent candidate is worth a second datagram.

        It is not if only one source has named it, nor if all of its sources have less credit than at their beginning.
        """
        host = candidate.host or self._settle(candidate)
        if candidate.word is Word.ONE or host.datagram_count >= HOST_RETRANSMITS_UNTIL:
            return False
        return candidate.word is Word.OURS or any(one.credit >= SOURCE_SILENT_MAX for one in candidate.sources)

    def may_pad(self, candidate: Candidate) -> bool:
        """Return whether requests to a candidate may be padded: one id a host, as the host pays for the bytes."""
        host = candidate.host or self._settle(candidate)
        if host.padded_for is None:
            host.padded_for = candidate
        return host.padded_for is candidate
