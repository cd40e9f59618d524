"""The usual names of a domain, asked for one by one, because most servers do not transfer their zone.

Guarantees: at most `QUESTIONS_MAX` questions, whatever the answers are; a record is kept only if it belongs to the name
that was asked for, or is the DNAME above it; a record that a wildcard has made up is told from one that is there. Does
not know servers, sockets, or how many questions are on their way at once: its caller asks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from p2pdns.dns.message import RR, Question
from p2pdns.dns.message.rdata import names_in
from p2pdns.dns.name import Name
from p2pdns.dns.registry import Class, Rcode, Type
from p2pdns.errors import FormatError
from p2pdns.moving.usual import APEX_TYPES, HOST_TYPES, PROBE_TYPES, USUAL
from p2pdns.values import replace

QUESTIONS_MAX = 400  # About twice the usual ones; a public resolver answers them in seconds and takes no offence.
FOLLOWED_MAX = 64  # Names that records of the domain point to; an item does not hold more addresses anyway.
ROUNDS_MAX = 4  # A target may point further. Zones of people need two rounds.


@dataclass(frozen=True)
class ServerReply:
    """The reply of a server to one question."""

    rcode: int
    answer: tuple[RR, ...] = ()
    authority: tuple[RR, ...] = ()


Ask = Callable[[Sequence[Question]], Sequence[ServerReply | None]]
"""Returns the reply to each question, None where there was none."""


@dataclass
class Gathered:
    """The records that were found, and what is known of the rest.

    `asked` are the names in the order of asking, `unanswered` those about which a server said nothing useful.
    `wildcard` are the records that a random name got, at `*`; `made_up` the names that had nothing but those. `circles`
    are the names whose CNAME leads back to itself.
    """

    records: list[RR] = field(default_factory=list)
    asked: list[Name] = field(default_factory=list)
    unanswered: list[Name] = field(default_factory=list)
    wildcard: list[RR] = field(default_factory=list)
    made_up: list[Name] = field(default_factory=list)
    circles: list[Name] = field(default_factory=list)
    question_count: int = 0


def gather(domain: Name, ask: Ask, probe: bytes) -> Gathered:
    """Ask for the usual names of a domain; `probe` is a random label, which nobody can have given to a name."""
    return _Gathering(domain, ask).run(probe)


class _Gathering:
    def __init__(self, domain: Name, ask: Ask) -> None:
        self._domain = domain
        self._ask = ask
        self._found = Gathered()
        self._seen: dict[Name, None] = {}
        self._silent: dict[Name, None] = {}
        self._by_name: dict[Name, dict[int, list[RR]]] = {}

    def run(self, probe: bytes) -> Gathered:
        """Return what was found."""
        self._round({self._domain: APEX_TYPES})
        self._round(dict(self._usual()))
        for _ in range(ROUNDS_MAX):
            targets = list(self._targets())[:FOLLOWED_MAX]
            if not targets:
                break
            self._round(dict.fromkeys(targets, HOST_TYPES))
        self._probe(probe)
        self._tell_made_up()
        self._cut_circles()
        found = self._found
        found.records = [record for types in self._by_name.values() for group in types.values() for record in group]
        found.asked, found.unanswered = list(self._seen), list(self._silent)
        return found

    def _usual(self) -> Iterator[tuple[Name, tuple[int, ...]]]:
        for text, types in USUAL.items():
            try:
                yield Name.read(text).under(self._domain), types
            except FormatError:
                continue  # A long domain has no room for it.

    def _round(self, wanted: dict[Name, tuple[int, ...]]) -> None:
        """Ask for the first type of each name, and for its others if the name may have them."""
        self._seen |= dict.fromkeys(wanted)
        there = self._asked([(name, types[0]) for name, types in wanted.items()])
        more = [
            (name, rtype)
            for name in there
            if Type.CNAME not in self._by_name.get(name, {})
            for rtype in wanted[name][1:]
        ]
        self._asked(more)

    def _asked(self, wanted: list[tuple[Name, int]]) -> list[Name]:
        """Ask, keep the records, and return the names that exist or may do."""
        wanted = wanted[: QUESTIONS_MAX - len(PROBE_TYPES) - self._found.question_count]
        self._found.question_count += len(wanted)
        replies = self._ask([Question(name, rtype, Class.IN) for name, rtype in wanted])
        there = []
        for (name, rtype), reply in zip(wanted, replies, strict=True):
            if reply is None or reply.rcode not in (Rcode.NOERROR, Rcode.NXDOMAIN):
                self._silent[name] = None
            elif reply.rcode == Rcode.NOERROR:
                there.append(name)
                self._keep(name, rtype, reply.answer)
        return there

    def _keep(self, name: Name, rtype: int, answer: Iterable[RR]) -> None:
        for record in _of(name, rtype, self._domain, answer):
            group = self._by_name.setdefault(record.owner.folded(), {}).setdefault(record.rtype, [])
            if all(other.rdata != record.rdata for other in group):
                group.append(record)

    def _targets(self) -> Iterator[Name]:
        """Yield the names of the domain that records point to and that were not asked for."""
        found: dict[Name, None] = {}
        for types in self._by_name.values():
            for group in types.values():
                for record in group:
                    if record.rtype not in (Type.SOA, Type.DNAME):
                        found |= dict.fromkeys(names_in(record.rtype, record.rdata))
        for name in found:
            if name.is_at_or_below(self._domain) and name not in self._seen:
                yield name.folded()

    def _probe(self, label: bytes) -> None:
        try:
            name, star = self._domain.child(label), self._domain.child(b"*")
        except FormatError:
            return
        replies = self._ask([Question(name, rtype, Class.IN) for rtype in PROBE_TYPES])
        self._found.question_count += len(PROBE_TYPES)
        for rtype, reply in zip(PROBE_TYPES, replies, strict=True):
            if reply is None or reply.rcode != Rcode.NOERROR:
                continue
            for record in _of(name, rtype, self._domain, reply.answer):
                known = {(other.rtype, other.rdata) for other in self._found.wildcard}
                if record.owner == name and (record.rtype, record.rdata) not in known:
                    self._found.wildcard.append(replace(record, owner=star))

    def _tell_made_up(self) -> None:
        """Take out the names that have nothing but what the wildcard gives to every name."""
        if not self._found.wildcard:
            return
        made = {(record.rtype, record.rdata) for record in self._found.wildcard}
        alike = [
            name
            for name, types in self._by_name.items()
            if name != self._domain and all((rtype, r.rdata) in made for rtype, group in types.items() for r in group)
        ]
        real = [name for name in self._by_name if name not in alike]
        for name in alike:
            # RFC 4592 §3.3.1: the wildcard makes up nothing where a name exists at or below the next label.
            branch = name.ancestor(len(self._domain.labels) + 1)
            if not any(other.is_at_or_below(branch) for other in real):
                self._found.made_up.append(name)
                del self._by_name[name]
        star = self._domain.child(b"*")
        for record in self._found.wildcard:
            self._by_name.setdefault(star, {}).setdefault(record.rtype, []).append(record)

    def _cut_circles(self) -> None:
        aliases = {
            name: names_in(Type.CNAME, types[Type.CNAME][0].rdata)[0].folded()
            for name, types in self._by_name.items()
            if Type.CNAME in types
        }
        for start in aliases:
            name, walked = start, {start}
            while name in aliases:
                name = aliases[name]
                if name in walked:
                    self._found.circles.append(start)
                    break
                walked.add(name)
        for name in self._found.circles:
            del self._by_name[name]


def _of(name: Name, rtype: int, domain: Name, answer: Iterable[RR]) -> list[RR]:
    """Return the records of an answer that the name itself has; where a DNAME made up its CNAME, the DNAME."""
    records = [record for record in answer if record.rclass == Class.IN and record.owner.is_at_or_below(domain)]
    above = [r for r in records if r.rtype == Type.DNAME and name != r.owner and name.is_at_or_below(r.owner)]
    return above or [record for record in records if record.owner == name and record.rtype in (rtype, Type.CNAME)]
