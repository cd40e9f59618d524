"""The contacts that a look-up has heard of, nearest first, and which of them may be asked and count.

Guarantees: at most `HOST_CONTACTS_MAX` contacts of a host and `PREFIX_CONTACTS_MAX` of a public prefix count among the
nearest; contacts that never answered take no place from those that did, nor from those of our own table; a source
whose contacts stay silent has no more of them asked; one host gets at most `HOST_DATAGRAMS_MAX` datagrams. Does not
know requests, items or the end of a look-up.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterator
from enum import IntEnum

from p2pdns.addresses import Address, AddressClass, class_of, host_of, prefix_of
from p2pdns.dht import krpc
from p2pdns.dht.routing.ids import is_id_allowed

SHORTLIST_MAX = 400  # Candidates kept, the nearest ones: made-up contacts cost memory only up to here.
ADDRESS_IDS_MAX = 2  # Ids under which one address is asked: a look-up is no way to make us flood a third party.
VIEW_MAX = 20  # Contacts of our own table that have their turn, as many as a source names.
HOST_CONTACTS_MAX = 2  # Of one host among the nearest: a household has two nodes, an attacker's machine has a thousand.
PREFIX_CONTACTS_MAX = 4  # Of one public /24 or /48 among the nearest: a fifth of them, so that the others outvote it.
HOST_SILENT_MAX = 4  # Contacts of a host that stay silent before no more are asked there on the same kind of word.
PREFIX_SILENT_MAX = 8  # The same for a public prefix.
HOST_DATAGRAMS_MAX = 20  # To one host: what two nodes that lose every second datagram need for a get and a put.
HOST_RETRANSMITS_UNTIL = 10  # Datagrams to a host after which nothing is sent again: the rest is for first requests.
SOURCE_CONTACTS_MAX = 28  # New contacts of one source: a whole reply of ours, and the eight that BEP 5 sends.
SOURCE_SILENT_MAX = 5  # Silent contacts that a source may have named. Those that several have named are shared out.
SOURCE_SILENT_FACTOR = 3  # As many more for each that answered: where half are dead, honest sources gain by it.
SECOND_CHANCES_MAX = 3  # How often the sources may begin anew, where too few have answered and nobody else is left.


class CandidateState(IntEnum):
    """What is known of a candidate, or of a request."""

    NEW = 0
    ASKED = 1
    SLOW = 2  # Its timeout has passed once: the slot is free, the retransmit is on its way.
    DEAD = 3  # Silent for good, or useless; a late reply still brings it back.
    ANSWERED = 4


WAITING = (CandidateState.ASKED, CandidateState.SLOW)


class Word(IntEnum):
    """On whose word a contact is on the shortlist; the lower, the better."""

    OURS = 0  # Our own table's: it has answered us before.
    SEVERAL = 1  # Sources in different prefixes.
    ONE = 2


class Leave(IntEnum):
    """Whether a candidate may be asked."""

    YES = 0
    LATER = 1  # Once others have answered, or have not.
    NEVER = 2


class Source:
    """A host that named contacts, and what became of them; our own table is one too, the one without a prefix."""

    __slots__ = ("_half", "_half_of", "credit", "leave", "named_count", "pick_count", "prefix", "view", "waiting_count")

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.view: list[Candidate] = []
        self._half: list[Candidate] = []
        self._half_of = 0
        self.pick_count = 0
        self.named_count = 0
        self.waiting_count = 0
        self.credit = float(SOURCE_SILENT_MAX)
        self.leave = Leave.YES  # Whether another of its contacts may be asked on its word.

    def farther_half(self) -> list[Candidate]:
        """Return the farther half of what it has named near the key, nearest first."""
        if self._half_of != len(self.view):
            self._half_of = len(self.view)
            self.view.sort(key=lambda candidate: candidate.distance)
            self._half = self.view[self._half_of // 2 :]
        return self._half

    def change(self, credit: float, waiting: int = 0) -> None:
        """Give it credit, or take some, and count its contacts that are waited for."""
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


class Place:
    """A host or a prefix, and the candidates asked there."""

    __slots__ = ("asked", "datagram_count", "padded_for")

    def __init__(self) -> None:
        self.asked: list[Candidate] = []
        self.datagram_count = 0
        self.padded_for: Candidate | None = None


class Candidate:
    """A contact on the shortlist. `is_counted`: it answered, and is among those of its host and prefix that count."""

    __slots__ = (
        "contact",
        "credit",
        "distance",
        "host",
        "is_allowed",
        "is_counted",
        "prefix",
        "sources",
        "state",
        "token",
        "word",
    )

    def __init__(self, contact: krpc.NodeInfo, distance: int, word: Word = Word.OURS) -> None:
        self.contact = contact
        self.distance = distance
        self.state = CandidateState.NEW
        self.token: bytes | None = None
        self.word = word
        self.sources: list[Source] = []
        self.credit = 0.0  # What each of the sources has gained by it.
        self.is_allowed = is_id_allowed(contact.node_id, contact.address[0])
        self.is_counted = False
        self.host: Place | None = None
        self.prefix: Place | None = None


class Request:
    """One question to one candidate; `is_follow_up` asks for contacts that a value had pushed out of a reply."""

    __slots__ = ("candidate", "is_fair", "is_follow_up", "state")

    def __init__(self, candidate: Candidate, is_follow_up: bool, is_fair: bool = False) -> None:
        self.candidate = candidate
        self.is_follow_up = is_follow_up
        self.is_fair = is_fair
        self.state = CandidateState.ASKED


class Shortlist:
    """The candidates of one look-up."""

    def __init__(self) -> None:
        self._by_contact: dict[krpc.NodeInfo, Candidate] = {}
        self._sorted: list[tuple[int, int, Candidate]] = []
        self._serial = 0
        self._places: dict[str, Place] = {}
        self._sources: dict[str, Source] = {}
        self._second_chance_count = 0
        self._table = Source("")

    def __len__(self) -> int:
        """Return how many candidates there are."""
        return len(self._sorted)

    def __iter__(self) -> Iterator[Candidate]:
        """Yield the candidates, nearest first."""
        return (entry[2] for entry in self._sorted)

    def get(self, contact: krpc.NodeInfo) -> Candidate | None:
        """Return the candidate that a contact is, if it is one."""
        return self._by_contact.get(contact)

    # Contacts

    def source_of(self, address: Address) -> Source:
        """Return the source that a peer at an address is."""
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
        candidate = Candidate(contact, distance, word)
        if source is not None:
            source.named_count += 1
            source.view.append(candidate)
            candidate.sources.append(source)
        self._by_contact[contact] = candidate
        self._serial += 1
        insort(self._sorted, (distance, self._serial, candidate))

    def begin_with(self, candidates: list[Candidate]) -> None:
        """Take in the contacts of our own table, nearest first, while there are no others."""
        self._by_contact = {candidate.contact: candidate for candidate in candidates}
        self._sorted = [(one.distance, serial, one) for serial, one in enumerate(candidates)]
        self._serial = len(candidates)
        self._table.view = candidates[:VIEW_MAX]

    def named_again(self, candidate: Candidate, source: Source | None) -> None:
        """Note that our own table, or another source, has a contact that is on the list already."""
        if source is None:
            candidate.word = Word.OURS
            return
        if len(source.view) < SOURCE_CONTACTS_MAX:
            source.view.append(candidate)
        # Nobody is praised for naming a contact that has answered, or blamed for one that has not.
        if candidate.state in (CandidateState.ANSWERED, CandidateState.DEAD) or candidate.word is Word.OURS:
            return
        if source in candidate.sources:
            return
        if source.prefix != candidate.sources[0].prefix:
            candidate.word = Word.SEVERAL
        candidate.sources.append(source)
        source.change(0.0, candidate.state in WAITING)

    def _has_room_for(self, distance: int, word: Word) -> bool:
        # Whatever strangers make up, it pushes out nothing that more than one of them, or our own table, has named.
        for index in range(len(self._sorted) - 1, -1, -1):
            farthest = self._sorted[index][2]
            if farthest.distance <= distance:
                return False
            if farthest.state is CandidateState.NEW and farthest.word >= word:
                del self._sorted[index]
                del self._by_contact[farthest.contact]
                return True
        return False

    # Who may be asked

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
                    # A node has one id; whoever answered here is it.
                    return Leave.NEVER
                answered += other.distance < candidate.distance
            elif other.word <= candidate.word:
                waiting += other.distance < candidate.distance
        if answered >= count_max or id_count >= ADDRESS_IDS_MAX:
            return Leave.NEVER
        if unanswered >= silent_max and candidate.word is not Word.OURS:
            return Leave.NEVER
        return Leave.LATER if answered + waiting >= count_max else Leave.YES

    def fair_pick(self, k: int) -> Candidate | None:
        """Return a candidate of those who have a turn: our own table, and each source; None when none has any left.

        Everybody can be nearest to a key who wants to. So each view has its turn, and gives of its nearest the
        farther half, where nodes are that stand there by chance.
        """
        bound = None
        for candidate in self:
            if candidate.word is Word.OURS or candidate.state is CandidateState.ANSWERED:
                k -= 1
                bound = candidate.distance
                if not k:
                    break
        for source in sorted((*self._sources.values(), self._table), key=lambda source: source.pick_count):
            for candidate in source.farther_half():
                if candidate.state is not CandidateState.NEW or not candidate.is_allowed:
                    continue
                if (bound is None or candidate.distance <= bound) and self.leave_of(candidate) is Leave.YES:
                    source.pick_count += 1
                    return candidate
        return None

    # What becomes of them

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
        # What one contact costs or brings is the same whether one source has named it or all of them: a crowd that
        # makes up contacts together has no more of them asked than each could alone.
        credit = {CandidateState.DEAD: -1.0, CandidateState.ANSWERED: float(SOURCE_SILENT_FACTOR)}.get(
            candidate.state, 0.0
        ) / len(sources)
        for source in sources:
            source.change(credit - candidate.credit, waiting_change)
        candidate.credit = credit

    def absolve(self, candidate: Candidate) -> None:
        """Blame nobody for having named a contact that is alive and of no use."""
        for source in candidate.sources:
            source.change(-candidate.credit)
        candidate.credit = 0.0
        candidate.sources.clear()

    def is_muted(self, candidate: Candidate) -> bool:
        """Whether a candidate could be asked but for the sources that named it."""
        if candidate.state is not CandidateState.NEW or not candidate.is_allowed or candidate.word is Word.OURS:
            return False
        if self._second_chance_count >= SECOND_CHANCES_MAX:
            return False
        return min(source.leave for source in candidate.sources) is Leave.NEVER

    def give_second_chance(self) -> None:
        """Let every source begin anew."""
        self._second_chance_count += 1
        for source in self._sources.values():
            source.change(SOURCE_SILENT_MAX - min(source.credit, 0.0))

    def _count(self, candidate: Candidate) -> None:
        """Say anew which of a place's contacts count: the nearest of those that answered."""
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

    # Who counts, and the end

    def counted(self) -> list[Candidate]:
        """Return the candidates that count, nearest first.

        Ids that BEP 42 forbids count only where nobody with another has answered: in a network too young to have any.
        """
        counted = [candidate for candidate in self if candidate.is_counted]
        return [candidate for candidate in counted if candidate.is_allowed] or counted

    @property
    def has_allowed(self) -> bool:
        """Whether a contact has answered whose id BEP 42 allows."""
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
        """Trust sources again whose contacts were silent, where fewer than k have answered and nobody else is left."""
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

        It is not where one source alone has named it, nor where every source has named more silent ones than others.
        """
        host = candidate.host or self._settle(candidate)
        if candidate.word is Word.ONE or host.datagram_count >= HOST_RETRANSMITS_UNTIL:
            return False
        return candidate.word is Word.OURS or any(one.credit >= SOURCE_SILENT_MAX for one in candidate.sources)

    def may_pad(self, candidate: Candidate) -> bool:
        """Return whether requests to a candidate may be padded: one id a host, for a pad is bytes at its expense."""
        host = candidate.host or self._settle(candidate)
        if host.padded_for is None:
            host.padded_for = candidate
        return host.padded_for is candidate
