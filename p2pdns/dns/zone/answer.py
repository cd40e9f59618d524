"""From a question to what a zone says about it (RFC 1034 §4.3.2, 2308, 4592, 6672, 8020, 8482).

Guarantees: every question at or below the apex gets a `ZoneAnswer` after at most `CHAIN_LINKS_MAX` steps; answers use
the zone's own names, the owner of the first RRset spelled as it was asked.
Does not know: suffixes, other zones, whether the item is fresh or settled.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from p2pdns.dns.message import Question, RRset
from p2pdns.dns.message.rdata import names_in
from p2pdns.dns.name import Name
from p2pdns.dns.registry import Rcode, Type
from p2pdns.errors import FormatError
from p2pdns.naming import is_zone_key_label

# CNAMEs of one question, DNAMEs counted with the CNAME they make; resolvers in use stop between 8 and 17.
CHAIN_LINKS_MAX = 16
ADDITIONAL_RRSETS_MAX = 16  # Addresses beside an answer are a courtesy, and a zone may name hundreds of targets.

TOO_MANY_LINKS = f"more than {CHAIN_LINKS_MAX} aliases in a row"

# Types whose targets get their addresses into the additional section (RFC 1034 §3.6, 2782, 9460 §4.1).
_WITH_ADDRESSES = (Type.NS, Type.MX, Type.SRV, Type.SVCB, Type.HTTPS)


class Kind(Enum):
    """What sort of answer a zone gave."""

    ANSWER = "answer"
    NODATA = "nodata"
    NXDOMAIN = "nxdomain"
    ALIAS = "alias"  # The chain leaves the zone; `target` is the name to go on with.
    DELEGATED = "delegated"  # The chain ends with the CNAME made of a cut; `delegates` are the keys it names.
    DELEGATED_AWAY = "delegated away"  # The cut names hosts only, which are not followed.
    FAILED = "failed"  # A loop, a chain without end or a name too long; `reason` says which.


@dataclass(frozen=True, slots=True)
class ZoneAnswer:
    """What a zone says: the sections, how to read them, and where to go on."""

    kind: Kind
    rcode: int = Rcode.NOERROR
    answer: tuple[RRset, ...] = ()
    authority: tuple[RRset, ...] = ()
    additional: tuple[RRset, ...] = ()
    target: Name | None = None
    delegates: tuple[Name, ...] = ()
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Tree:
    """A zone as the look-up sees it: `nodes` has every name that exists, empty non-terminals too."""

    apex: Name
    nodes: Mapping[Name, Mapping[int, RRset]]
    negative_soa: RRset

    def is_cut(self, name: Name) -> bool:
        """Return whether the subtree at `name` belongs to somebody else."""
        return name != self.apex and Type.NS in self.nodes[name]

    def closest_encloser(self, name: Name) -> Name:
        """Return the longest existing name at or above `name` (RFC 4592 §3.3.1); the apex always exists."""
        # What exists has every name above it, so halving finds the border: a chain may lead through 16 names of 127
        # labels, and to make all the names above each of them would take milliseconds.
        exists, too_deep = len(self.apex.labels), len(name.labels) + 1
        while too_deep - exists > 1:
            depth = (exists + too_deep) // 2
            if name.ancestor(depth) in self.nodes:
                exists = depth
            else:
                too_deep = depth
        return name.ancestor(exists)


@dataclass(slots=True)
class Search:
    """One question on its way through one zone."""

    tree: Tree
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
        """Return the answer for one name, or the name to go on with."""
        tree = self.tree
        encloser = tree.closest_encloser(name)
        rrsets = tree.nodes[encloser]
        if tree.is_cut(encloser):
            return self._at_cut(name, encloser, rrsets[Type.NS])
        if name == encloser:
            return self._at_node(name, rrsets)
        if Type.DNAME in rrsets:
            return self._through_dname(name, encloser, rrsets[Type.DNAME])
        try:
            wildcard = tree.nodes.get(encloser.child(b"*"))
        except FormatError:
            wildcard = None
        # RFC 4592 §4: the wildcard of the closest encloser and of no other, even where it has nothing to say.
        if wildcard is not None:
            return self._at_node(name, wildcard)
        return self._negative(Kind.NXDOMAIN)

    def _at_node(self, name: Name, rrsets: Mapping[int, RRset]) -> ZoneAnswer | Name:
        rtype = self.question.rtype
        if rtype == Type.ANY and rrsets:
            # RFC 8482 §4.1: one RRset is an answer to ANY, and the same one every time.
            return self._answer(name, rrsets[min(rrsets)])
        if rtype in rrsets:
            return self._answer(name, rrsets[rtype])
        if Type.CNAME in rrsets:
            alias = rrsets[Type.CNAME]
            self._append(name, alias)
            return names_in(alias.rtype, alias.rdatas[0])[0]
        return self._negative(Kind.NODATA)

    def _through_dname(self, name: Name, owner: Name, dname: RRset) -> ZoneAnswer | Name:
        # A chain can pass the same DNAME twice; a section holds an RRset once (RFC 2181 §5).
        if all((rrset.owner, rrset.rtype) != (owner, Type.DNAME) for rrset in self.chain):
            self._append(owner, dname)
        substitute = names_in(dname.rtype, dname.rdatas[0])[0]
        outcome = self._synthesise(name, owner, substitute, dname.ttl)
        # Whoever asks for the alias itself has it now, and is not led on to where it points.
        if isinstance(outcome, Name) and self.question.rtype in (Type.CNAME, Type.ANY):
            return ZoneAnswer(Kind.ANSWER, answer=tuple(self.chain))
        return outcome

    def _synthesise(self, name: Name, old_apex: Name, new_apex: Name, ttl: int) -> ZoneAnswer | Name:
        """Append the CNAME that moves `name` elsewhere, and return where (RFC 6672 §3.1)."""
        try:
            target = name.moved(old_apex, new_apex)
        except FormatError:
            return self._failed(Rcode.YXDOMAIN, f"{name} is too long below {new_apex}")
        made = RRset(name, Type.CNAME, ttl, (target.wire(),))
        self.chain.append(made)
        return target

    def _at_cut(self, name: Name, cut: Name, delegation: RRset) -> ZoneAnswer:
        if name == cut and self.question.rtype == Type.NS:
            return self._answer(name, delegation)
        # RFC 4035 §3.1.4.1: DS belongs to the parent's side of a cut, and this zone never has any.
        if name == cut and self.question.rtype == Type.DS:
            return self._negative(Kind.NODATA)
        # The RDATA of a zone stands in canonical order, and so do the keys.
        keys = [
            target
            for rdata in delegation.rdatas
            for target in names_in(Type.NS, rdata)
            if len(target.labels) == 1 and is_zone_key_label(target.labels[0])
        ]
        if not keys:
            return ZoneAnswer(
                Kind.DELEGATED_AWAY,
                Rcode.SERVFAIL,
                answer=tuple(self.chain),
                reason=f"{cut} is delegated to a host name, which is not followed",
            )
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
        """Return the A and AAAA RRsets of the targets that the zone itself has."""
        if rrset.rtype not in _WITH_ADDRESSES:
            return ()
        found: dict[tuple[Name, int], RRset] = {}
        for rdata in rrset.rdatas:
            for target in names_in(rrset.rtype, rdata):
                # RFC 9460 §2.5.2: the root as a target means the owner itself.
                host = name if not target.labels and rrset.rtype in (Type.SVCB, Type.HTTPS) else target
                for rtype in (Type.A, Type.AAAA):
                    address = self.tree.nodes.get(host, {}).get(rtype)
                    if address is not None and len(found) < ADDITIONAL_RRSETS_MAX:
                        found[host, rtype] = RRset(host, rtype, address.ttl, address.rdatas)
        return tuple(found.values())

    def _negative(self, kind: Kind) -> ZoneAnswer:
        rcode = Rcode.NXDOMAIN if kind is Kind.NXDOMAIN else Rcode.NOERROR
        return ZoneAnswer(kind, rcode, answer=tuple(self.chain), authority=(self.tree.negative_soa,))

    def _failed(self, rcode: Rcode, reason: str) -> ZoneAnswer:
        return ZoneAnswer(Kind.FAILED, rcode, answer=tuple(self.chain), reason=reason)
