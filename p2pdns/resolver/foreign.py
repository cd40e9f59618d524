"""The reply of an upstream, cleaned: the aliases from the question's name to the end, in order, and their context.

Guarantees: the answer is a chain that begins at the question's name, in whatever order the records came, with a CNAME
made where there was only a DNAME (RFC 6672 §3.1), and then the data at its end; it has no record of another owner, of
another type, or of a name that is ours; the other sections have only records that deny, delegate or prove something
about names of the chain, and the addresses of hosts named in it; the number of steps is bounded. Does not know the next
step of the resolution.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from p2pdns.dns.message import RR, Message, Question
from p2pdns.dns.message.rdata import rewrite_wires
from p2pdns.dns.name import Name
from p2pdns.dns.registry import Class, Rcode, Type
from p2pdns.errors import FormatError

OWNERS_MAX = 64  # Owners looked at in one message of an upstream; honest messages have hardly more than twenty.

# Types that are no data: OPT, and TKEY, TSIG, IXFR, AXFR, MAILB, MAILA.
REFUSED_TYPES = frozenset({41, 249, 250, 251, 252, 253, 254})
# Numbers that every record is compared with; a member of an Enum takes ten times as long to look up as one of these.
_SOA, _CNAME, _DNAME, _RRSIG, _ANY = (int(t) for t in (Type.SOA, Type.CNAME, Type.DNAME, Type.RRSIG, Type.ANY))
_IN, _NOERROR = int(Class.IN), int(Rcode.NOERROR)
_ABOVE = frozenset([int(Type.SOA), int(Type.NS)])  # Types at the apex or the cut of a zone that has the name.
_WITH_HOSTS = frozenset([int(Type.NS), int(Type.MX), int(Type.SRV), int(Type.NAPTR), int(Type.SVCB), int(Type.HTTPS)])
_PROOFS = frozenset([int(Type.RRSIG), int(Type.NSEC), int(Type.NSEC3), int(Type.DS)])  # They may have any owner.


@dataclass(slots=True)
class Foreign:
    """A message of an upstream after cleaning.

    `target` is the end of its `link_count` aliases. `leads_on`: the message says nothing about the target itself.
    `loops`: the aliases lead back to the target. `dropped_count`: records left out because their names are ours.
    `owner_count`: all owners in the message, of which at most `OWNERS_MAX` are looked at.
    """

    rcode: int
    answer: Sequence[RR]
    authority: Sequence[RR]
    additional: Sequence[RR]
    target: Name
    link_count: int = 0
    leads_on: bool = False
    loops: bool = False
    dropped_count: int = 0
    owner_count: int = 1


def cleaned(reply: Message, asked: Question, is_theirs: Callable[[Name], bool], links_max: int) -> Foreign:
    """Return the part of a reply that answers a question; the question's name must be one that `is_theirs`.

    At most one alias more than `links_max` is followed.
    """
    name, rtype = asked.name, asked.rtype
    reply_rcode = reply.rcode
    beside = [rr for rr in reply.additional if rr.rtype not in REFUSED_TYPES and rr.rclass == _IN]
    if not (reply.authority or beside) and reply.answer:
        # Most replies have data of the name itself, and nothing else.
        for rr in reply.answer:
            if rr.rtype != rtype or rr.rclass != _IN or rr.owner != name:
                break
        else:
            if rtype not in REFUSED_TYPES:
                return Foreign(reply_rcode, reply.answer, (), (), name)
    said = (reply.answer, reply.authority)
    data = [[rr for rr in rrs if rr.rtype not in REFUSED_TYPES and rr.rclass == _IN] for rrs in said]
    data.append(beside)
    # A message may have two thousand records, but hardly more than a handful of owners. The parser makes one object of
    # equal owners, so that records are grouped by the identity of that object, without a comparison of names.
    objects = {id(rr.owner): rr.owner for rrs in data for rr in rrs}
    owners = list(dict.fromkeys(objects.values()))
    theirs = {owner: owner == name or is_theirs(owner) for owner in owners[:OWNERS_MAX]}
    standing = {number: theirs.get(owner) for number, owner in objects.items()}
    answer, authority, additional = [[rr for rr in rrs if standing[id(rr.owner)]] for rrs in data]
    dropped_count = sum([len([rr for rr in rrs if standing[id(rr.owner)] is False]) for rrs in data])
    chain = _Chain(answer, rtype, links_max)
    chain.walk(name)
    authority = _belonging(authority, chain.names)
    if additional:
        hosts = _hosts_in([*chain.told, *authority])
        hosts.update({name.wire().lower(): None for name in chain.names})
        welcome = {number for number, owner in objects.items() if owner.wire().lower() in hosts}
        additional = [rr for rr in additional if id(rr.owner) in welcome]
    is_said = chain.has_data or reply_rcode != _NOERROR or _SOA in [rr.rtype for rr in authority]
    return Foreign(
        rcode=Rcode.YXDOMAIN if chain.is_too_long else reply_rcode,
        answer=chain.told,
        authority=authority,
        additional=additional,
        target=next(reversed(chain.names)),
        link_count=chain.link_count,
        leads_on=bool(chain.link_count) and not (is_said or chain.is_too_long),
        loops=chain.loops,
        dropped_count=dropped_count,
        owner_count=len(owners),
    )


class _Chain:
    """The chain in an answer section: aliases and data in order in `told`, the names on its way in `names`."""

    def __init__(self, answer: Sequence[RR], rtype: int, links_max: int) -> None:
        self.told: list[RR] = []
        self.names: dict[Name, None] = {}
        self.link_count = 0
        self.has_data = self.loops = self.is_too_long = False
        self._told_dnames: dict[Name, None] = {}
        self._rtype = rtype
        self._links_max = links_max
        by_object: dict[int, list[RR]] = {}
        for rr in answer:
            by_object.setdefault(id(rr.owner), []).append(rr)
        self._by_owner: dict[Name, list[RR]] = {}
        for rrs in by_object.values():
            self._by_owner.setdefault(rrs[0].owner, []).extend(rrs)
        renaming = {id(rr.owner): rr for rr in reversed(answer) if rr.rtype == _DNAME}
        # One DNAME an owner: a second one would be a second answer.
        self._dnames = {rr.owner.canonical_key(): rr for rr in renaming.values()}

    def walk(self, name: Name) -> None:
        """Follow the aliases from a name to the end."""
        asked, covered = self._rtype, self._rtype.to_bytes(2)
        is_any = asked == _ANY
        while True:
            self.names[name] = None
            here = self._by_owner.get(name, [])
            data = [
                rr for rr in here if rr.rtype == asked or is_any or (rr.rtype == _RRSIG and rr.rdata[:2] == covered)
            ]
            alias = self._alias_of(name, here)
            if self.is_too_long:
                return
            if asked == _CNAME and alias is not None:
                # A CNAME that is asked for is not followed; the upstream may have left out the one that a DNAME makes.
                data = data or [alias]
                alias = None
            if alias is None or (is_any and data) or (target := _target_of(alias)) in self.names:
                self.has_data = bool(data)
                self.loops = not data and (alias is not None or _CNAME in [rr.rtype for rr in here])
                self.told += data
                return
            self.told += [alias, *_signatures(here, _CNAME)]
            self.link_count += 1
            if self.link_count > self._links_max:
                return
            name = target

    def _alias_of(self, name: Name, here: Sequence[RR]) -> RR | None:
        """Return the CNAME at a name, or one made of the DNAME above it; add that DNAME to the chain."""
        # A CNAME to its own owner is no alias, and a second CNAME would be a second answer.
        itself = name.wire().lower()
        alias = next((rr for rr in here if rr.rtype == _CNAME and rr.rdata.lower() != itself), None)
        above = self._dnames.keys() & _keys_above(name).keys() if self._dnames else ()
        if not above:
            return alias
        dname = self._dnames[max(above, key=len)]
        # A DNAME is told once, however many names of the chain are below it.
        if dname.owner not in self._told_dnames:
            self._told_dnames[dname.owner] = None
            self.told += [dname, *_signatures(self._by_owner[dname.owner], _DNAME)]
        if alias is not None:
            return alias
        try:
            target = name.moved(dname.owner, _target_of(dname))
        except FormatError:
            # RFC 6672 §2.2: the target is too long for a name; the answer to that is YXDOMAIN.
            self.is_too_long = True
            return None
        return RR(name, _CNAME, _IN, dname.ttl, target.wire())


def _target_of(alias: RR) -> Name:
    return Name.parse(alias.rdata)[0]


def _signatures(rrs: Sequence[RR], covered: int) -> list[RR]:
    wanted = covered.to_bytes(2)
    return [rr for rr in rrs if rr.rtype == _RRSIG and rr.rdata[:2] == wanted]


def _belonging(authority: Sequence[RR], names: Iterable[Name]) -> list[RR]:
    """Return the records that deny, delegate or prove something about one of these names."""
    above = {id(rr.owner): rr.owner for rr in authority if rr.rtype in _ABOVE}
    if above:
        keys = {name.canonical_key(): None for name in names}
        for name in names:
            keys.update(_keys_above(name))
        welcome = {number for number, owner in above.items() if owner.canonical_key() in keys}
    return [rr for rr in authority if rr.rtype in _PROOFS or (rr.rtype in _ABOVE and id(rr.owner) in welcome)]


def _keys_above(name: Name) -> dict[tuple[bytes, ...], None]:
    """Return the canonical keys of the ancestors of a name, without itself."""
    key = name.canonical_key()
    return {key[:count]: None for count in range(len(key))}


def _hosts_in(rrs: Iterable[RR]) -> dict[bytes, None]:
    """Return the hosts that records point to, as wire bytes in lower case; their addresses belong to the answer."""
    hosts: dict[bytes, None] = {}

    def note(wire: bytes) -> bytes:
        hosts[wire.lower()] = None
        return wire

    for rr in rrs:
        if rr.rtype in _WITH_HOSTS:
            with suppress(FormatError):
                rewrite_wires(rr.rtype, rr.rdata, note)
    return hosts
