"""The answer of one zone to a question (RFC 1034 §4.3.2, 2308, 4592, 6672, 8020, 8482).

Guarantees: every question at or below the apex gets a `ZoneAnswer` after at most `CHAIN_LINKS_MAX` aliases. Answers
have the zone's own names; the owner of the first RRset is spelled as in the question.
Does not know: suffixes, other zones, whether the item is fresh or settled.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

from p2pdns.dns.message import Question, RRset
from p2pdns.dns.message.rdata import names_in
from p2pdns.dns.name import Name
from p2pdns.dns.registry import Rcode, Type
from p2pdns.errors import FormatError
from p2pdns.naming import is_zone_key_label

# Aliases followed for one question; a DNAME counts as one with its CNAME. Resolvers in use stop between 8 and 17.
CHAIN_LINKS_MAX = 16
ADDITIONAL_RRSETS_MAX = 16  # Addresses beside an answer are optional, and a zone may have hundreds of targets.
TOO_MANY_LINKS = f"more than {CHAIN_LINKS_MAX} aliases in a row"

# For these types, the addresses of the targets go into the additional section (RFC 1034 §3.6, 2782, 9460 §4.1).
_WITH_ADDRESSES = (Type.NS, Type.MX, Type.SRV, Type.SVCB, Type.HTTPS)


def delegates_in(rdatas: Iterable[bytes]) -> list[Name]:
    """Return the zone keys among the targets of NS records."""
    targets = [target for rdata in rdatas for target in names_in(Type.NS, rdata)]
    return [target for target in targets if len(target.labels) == 1 and is_zone_key_label(target.labels[0])]


class Kind(Enum):
    """The kind of an answer of a zone."""

    ANSWER = "answer"
    NODATA = "nodata"
    NXDOMAIN = "nxdomain"
    ALIAS = "alias"  # The chain leads out of the zone, to `target`.
    DELEGATED = "delegated"  # The chain ends with a CNAME made from a zone cut; `delegates` are the keys in its NS.
    DELEGATED_AWAY = "delegated away"  # The NS of the zone cut name hosts only, which are not followed.
    FAILED = "failed"  # `reason` says why: a loop, too many aliases, a name too long, and so on.


@dataclass(frozen=True, slots=True)
class ZoneAnswer:
    """The sections of an answer, its kind, and the name at which the caller goes on."""

    kind: Kind
    rcode: int = Rcode.NOERROR
    answer: tuple[RRset, ...] = ()
    authority: tuple[RRset, ...] = ()
    additional: tuple[RRset, ...] = ()
    target: Name | None = None
    delegates: tuple[Name, ...] = ()
    reason: str = ""


class Names(Protocol):
    """The names of a zone, as a search asks for them. Of a divided zone a part may be missing, which is raised."""

    @property
    def apex(self) -> Name: ...

    @property
    def negative_soa(self) -> RRset: ...

    def closest_encloser(self, name: Name) -> Name:
        """Return the longest existing name at or above `name` (RFC 4592 §3.3.1); the apex always exists."""

    def has_wildcard(self, encloser: Name) -> bool:
        """Return whether the wildcard right below an existing name exists."""

    def links_at(self, name: Name) -> Mapping[int, RRset]:
        """Return the RRsets of an existing name, with its NS of a zone cut and its DNAME; others may be missing."""

    def rrsets_at(self, name: Name, rtype: int) -> Mapping[int, RRset]:
        """Return the RRsets of an existing name, with all that a question for a type is answered from."""

    def at_hand(self, name: Name) -> Mapping[int, RRset]:
        """Return the RRsets of any name, as far as they are at hand."""


@dataclass(frozen=True, slots=True)
class Tree:
    """The names of a whole zone: `nodes` has every name that exists, empty non-terminals too."""

    apex: Name
    nodes: Mapping[Name, Mapping[int, RRset]]
    negative_soa: RRset

    def closest_encloser(self, name: Name) -> Name:
        """Return the longest existing name at or above `name` (RFC 4592 §3.3.1); the apex always exists."""
        return closest_encloser_in(self.nodes, self.apex, name)

    def has_wildcard(self, encloser: Name) -> bool:
        """Return whether the wildcard right below an existing name exists."""
        return wildcard_of(encloser) in self.nodes

    def links_at(self, name: Name) -> Mapping[int, RRset]:
        """Return the RRsets of an existing name."""
        return self.nodes[name]

    def rrsets_at(self, name: Name, rtype: int) -> Mapping[int, RRset]:
        """Return the RRsets of an existing name."""
        return self.nodes[name]

    def at_hand(self, name: Name) -> Mapping[int, RRset]:
        """Return the RRsets of any name."""
        return self.nodes.get(name, {})


def closest_encloser_in(nodes: Container[Name], apex: Name, name: Name) -> Name:
    """Return the longest name at or above `name` among `nodes`, which have all names above each of theirs; or the apex.

    A binary search: a chain may lead through 16 names of 127 labels, and making every name above each of them would
    take milliseconds.
    """
    exists, too_deep = len(apex.labels), len(name.labels) + 1
    while too_deep - exists > 1:
        depth = (exists + too_deep) // 2
        if name.ancestor(depth) in nodes:
            exists = depth
        else:
            too_deep = depth
    return name.ancestor(exists)


def wildcard_of(encloser: Name) -> Name | None:
    """Return the wildcard right below a name; None where that name is too long."""
    try:
        return encloser.child(b"*")
    except FormatError:
        return None


@dataclass(slots=True)
class Search:
    """The search for the answer to one question in one zone."""

    tree: Names
    question: Question
    links_max: int = CHAIN_LINKS_MAX
    chain: list[RRset] = field(default_factory=list)

    def run(self) -> ZoneAnswer:
        """Return the answer, following the chain as far as it stays in the zone."""
        name = self.question.name
        seen = {name}
        for _ in range(self.links_max + 1):
            outcome = self._step(name)
            if isinstance(outcome, ZoneAnswer):
                return outcome
            if not outcome.is_at_or_below(self.tree.apex):
                return ZoneAnswer(Kind.ALIAS, answer=tuple(self.chain), target=outcome)
            if outcome in seen:
                return self._failed(Rcode.SERVFAIL, f"alias loop at {outcome}")
            seen.add(outcome)
            name = outcome
        return self._failed(Rcode.SERVFAIL, TOO_MANY_LINKS)

    def _step(self, name: Name) -> ZoneAnswer | Name:
        """Return the answer for one name, or the name at which the search goes on."""
        tree = self.tree
        encloser = tree.closest_encloser(name)
        links = tree.links_at(encloser)
        if encloser != tree.apex and Type.NS in links:
            return self._at_cut(name, encloser, links[Type.NS])
        if name == encloser:
            return self._at_node(name, tree.rrsets_at(name, self.question.rtype))
        if Type.DNAME in links:
            return self._through_dname(name, encloser, links[Type.DNAME])
        # RFC 4592 §4: the wildcard of the closest encloser counts and no other, even where it has no RRset of the type.
        wildcard = wildcard_of(encloser)
        if wildcard is not None and tree.has_wildcard(encloser):
            return self._at_node(name, tree.rrsets_at(wildcard, self.question.rtype))
        return self._negative(Kind.NXDOMAIN)

    def _at_node(self, name: Name, rrsets: Mapping[int, RRset]) -> ZoneAnswer | Name:
        rtype = self.question.rtype
        if rtype == Type.ANY and rrsets:
            # RFC 8482 §4.1: ANY is answered with one RRset, always the same one.
            return self._answer(name, rrsets[min(rrsets)])
        if rtype in rrsets:
            return self._answer(name, rrsets[rtype])
        if Type.CNAME in rrsets:
            alias = rrsets[Type.CNAME]
            self._append(name, alias)
            return names_in(alias.rtype, alias.rdatas[0])[0]
        return self._negative(Kind.NODATA)

    def _through_dname(self, name: Name, owner: Name, dname: RRset) -> ZoneAnswer | Name:
        # A chain can pass the same DNAME twice, but a section holds an RRset once (RFC 2181 §5).
        if all((rrset.owner, rrset.rtype) != (owner, Type.DNAME) for rrset in self.chain):
            self._append(owner, dname)
        substitute = names_in(dname.rtype, dname.rdatas[0])[0]
        outcome = self._synthesise(name, owner, substitute, dname.ttl)
        # A question for the CNAME itself is answered now; the chain ends here.
        if isinstance(outcome, Name) and self.question.rtype in (Type.CNAME, Type.ANY):
            return ZoneAnswer(Kind.ANSWER, answer=tuple(self.chain))
        return outcome

    def _synthesise(self, name: Name, old_apex: Name, new_apex: Name, ttl: int) -> ZoneAnswer | Name:
        """Append the CNAME from `name` to the same name below `new_apex`, and return that name (RFC 6672 §3.1)."""
        try:
            target = name.moved(old_apex, new_apex)
        except FormatError:
            return self._failed(Rcode.YXDOMAIN, f"{name} is too long below {new_apex}")
        self.chain.append(RRset(name, Type.CNAME, ttl, (target.wire(),)))
        return target

    def _at_cut(self, name: Name, cut: Name, delegation: RRset) -> ZoneAnswer:
        if name == cut and self.question.rtype == Type.NS:
            return self._answer(name, delegation)
        # RFC 4035 §3.1.4.1: DS belongs to the parent's side of a cut, and no item holds DS.
        if name == cut and self.question.rtype == Type.DS:
            return self._negative(Kind.NODATA)
        # RDATA is in canonical order, so the keys are too.
        keys = delegates_in(delegation.rdatas)
        if not keys:
            reason = f"{cut} is delegated to a host name, which is not followed"
            return ZoneAnswer(Kind.DELEGATED_AWAY, Rcode.SERVFAIL, answer=tuple(self.chain), reason=reason)
        target = self._synthesise(name, cut, keys[0], delegation.ttl)
        if isinstance(target, ZoneAnswer):
            return target
        return ZoneAnswer(Kind.DELEGATED, answer=tuple(self.chain), target=target, delegates=tuple(keys))

    def _append(self, owner: Name, rrset: RRset) -> None:
        self.chain.append(RRset(owner, rrset.rtype, rrset.ttl, rrset.rdatas))

    def _answer(self, name: Name, rrset: RRset) -> ZoneAnswer:
        self._append(name, rrset)
        return ZoneAnswer(Kind.ANSWER, answer=tuple(self.chain), additional=self._addresses(name, rrset))

    def _addresses(self, name: Name, rrset: RRset) -> tuple[RRset, ...]:
        """Return the A and AAAA RRsets of those targets that are names of this zone."""
        if rrset.rtype not in _WITH_ADDRESSES:
            return ()
        found: dict[tuple[Name, int], RRset] = {}
        for rdata in rrset.rdatas:
            for target in names_in(rrset.rtype, rdata):
                # RFC 9460 §2.5.2: the root as a target means the owner itself.
                host = name if not target.labels and rrset.rtype in (Type.SVCB, Type.HTTPS) else target
                for rtype in (Type.A, Type.AAAA):
                    address = self.tree.at_hand(host).get(rtype)
                    if address is not None and len(found) < ADDITIONAL_RRSETS_MAX:
                        found[host, rtype] = RRset(host, rtype, address.ttl, address.rdatas)
        return tuple(found.values())

    def _negative(self, kind: Kind) -> ZoneAnswer:
        rcode = Rcode.NXDOMAIN if kind is Kind.NXDOMAIN else Rcode.NOERROR
        return ZoneAnswer(kind, rcode, answer=tuple(self.chain), authority=(self.tree.negative_soa,))

    def _failed(self, rcode: Rcode, reason: str) -> ZoneAnswer:
        return ZoneAnswer(Kind.FAILED, rcode, answer=tuple(self.chain), reason=reason)
