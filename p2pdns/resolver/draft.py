"""An answer being written: sections in the words of the question, lives, and what it depends on.

Guarantees: every name of a zone is shown through the view it was asked by; no TTL outlives what is known of the
item; provisional, stale and unconfirmed parts mark the whole. Does not know how the answer was found.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from p2pdns.dns.life import PROVISIONAL_TTL_S, REFUSAL_TTL_S, STALE_TTL_S, UNCONFIRMED_TTL_S, negative_ttl, sane_ttl
from p2pdns.dns.message import RR, Question, RRset
from p2pdns.dns.message.rdata import rewrite_wires
from p2pdns.dns.name import Name
from p2pdns.dns.registry import Class, Ede, Rcode, Type
from p2pdns.errors import FormatError
from p2pdns.items.keys import ZoneId
from p2pdns.resolver.local import LOCAL_TTL_S
from p2pdns.resolver.names import ResolverSettings, View
from p2pdns.resolver.rebinding import without_risks
from p2pdns.resolver.steps import Found, Resolved
from p2pdns.values import replace

TAGS_MAX = 16  # What the link carries; an answer that depends on more is not kept.
# What every answer is looked at for; a member of an Enum takes ten times as long to name as one of these.
_SOA, _RRSIG, _ANY = int(Type.SOA), int(Type.RRSIG), int(Type.ANY)
_NOERROR, _REFUSED = int(Rcode.NOERROR), int(Rcode.REFUSED)
_AS_ASKED = View()


class Draft:
    """The sections of one answer and the facts about them."""

    def __init__(self, question: Question, settings: ResolverSettings, *, is_traced: bool = True) -> None:
        self.question = question
        self.settings = settings
        self.is_traced = is_traced
        self.view = _AS_ASKED
        self.answer: list[RR] = []
        self.authority: list[RR] = []
        self.additional: list[RR] = []
        self.ede: list[tuple[int, str]] = []
        self.trace: list[str] = []
        self.earns_ad = True
        # Names of RDATA as the zone or the upstream writes them, and as the client may ask for them.
        self._shown: dict[tuple[View, bytes], bytes] = {}
        self._foreign_owners: dict[Name, None] = {}
        self._zone_ids: list[ZoneId] = []
        self._tags: list[bytes] = []
        self._left_out = 0
        self._provisional = self._stale = self._unconfirmed = False
        self._good_until = math.inf

    @property
    def is_provisional(self) -> bool:
        """Whether a part comes of an item that is not settled."""
        return self._provisional

    @property
    def is_unconfirmed(self) -> bool:
        """Whether a part comes of an item that the last look-up has not confirmed."""
        return self._unconfirmed

    def note(self, line: str, *parts: object) -> None:
        """Add a line of plain words to the trace, if there is one; `{}` in it stands for each of the parts."""
        if self.is_traced:
            self.trace.append(line.format(*parts) if parts else line)

    def depend_on(self, *tags: bytes) -> None:
        """Mark the answer as untrue once one of these tags is invalidated."""
        self._tags += [tag for tag in tags if tag not in self._tags]

    @property
    def zone_count(self) -> int:
        """How many zones have a say in the answer, or were to have one."""
        return len(self._zone_ids)

    def depend_on_zone(self, zone_id: ZoneId) -> None:
        """Remember that a zone has a say in the answer."""
        if zone_id not in self._zone_ids:
            self._zone_ids.append(zone_id)

    def caution(self, notes: Iterable[str]) -> None:
        """Tell whoever asks what does not hold of an item that was used; nothing is then vouched for."""
        for text in notes:
            self.earns_ad = False
            if (Ede.OTHER, text) not in self.ede:
                self.ede.append((Ede.OTHER, text))
                self.note(text)

    def rely_on(self, found: Found) -> None:
        """Let the answer be no better than the item it comes from."""
        self._provisional |= not found.settled
        self._stale |= not found.fresh
        self._unconfirmed |= found.unconfirmed
        self._good_until = min(self._good_until, found.good_until)
        self.earns_ad = self.earns_ad and found.settled and found.fresh and not found.unconfirmed

    def add_rrsets(self, section: list[RR], rrsets: Iterable[RRset], found: Found, now: float) -> bool:
        """Add what a zone says; return whether all of it could be told below the suffix of the question."""
        left_out = 0
        for rrset in rrsets:
            ttl = _remaining_ttl(rrset.ttl, found, now)
            for rdata in rrset.rdatas:
                rr = self._presented(rrset.owner, rrset.rtype, ttl, rdata)
                if rr is None:
                    left_out += 1
                else:
                    section.append(rr)
        self._left_out += left_out
        return not left_out

    def add_foreign(self, section: list[RR], rrs: Iterable[RR]) -> None:
        """Add what an upstream says; names of zone keys in it are shown as the client can ask for them."""
        foreign = tuple(rrs)
        if not foreign:
            return
        self._foreign_owners.update((rr.owner, None) for rr in foreign if section is not self.authority)
        sets = [_set_of(rr) for rr in foreign]
        lowest = _lowest_ttls(foreign, sets, is_authority=section is self.authority)
        for rr, of_set in zip(foreign, sets, strict=True):
            ttl = max(lowest[of_set], self.settings.ttl_s_min)
            if self.view.suffix is None and ttl == rr.ttl and rr.owner is self.question.name:
                # Most records are told as they came.
                section.append(rr)
                continue
            presented = self._presented(rr.owner, rr.rtype, ttl, rr.rdata)
            if presented is None:
                self._left_out += 1
            else:
                section.append(presented)

    @property
    def link_count(self) -> int:
        """How many aliases the answer leads through so far; a DNAME counts with the CNAME it makes."""
        return sum(rr.rtype == Type.CNAME for rr in self.answer)

    def _presented(self, owner: Name, rtype: int, ttl: int, rdata: bytes) -> RR | None:
        try:
            if self.view.suffix is not None:
                owner = self.view.present(owner)
                rdata = rewrite_wires(rtype, rdata, self._presented_wire)
            # Owners equal to the question become pointers to it, so that the case of a client is echoed by one copy.
            owner = self.question.name if owner == self.question.name else owner
            return RR(owner, rtype, Class.IN, ttl, rdata)
        except FormatError:
            return None

    def _presented_wire(self, wire: bytes) -> bytes:
        """Return a name of RDATA as the client may ask for it; each is made once, however many records say it."""
        shown = self._shown.get((self.view, wire))
        if shown is None:
            shown = self._shown[self.view, wire] = self.view.present(Name.parse(wire)[0]).wire()
        return shown

    def failed(self, text: str, now: float, *, code: int, rcode: int, seconds: float, rpc_count: int = 0) -> Resolved:
        """Return the end without an answer: no part of a chain is told, because its end is unknown."""
        self.note(text)
        self.answer, self.authority, self.additional = [], [], []
        self.ede.append((code, text))
        expiry = now + seconds
        return self._resolved(rcode, now, expiry=expiry, stale_until=expiry, failure=True, rpc_count=rpc_count)

    def finished(
        self, rcode: int, now: float, *, is_ours: bool = False, soa: RR | None = None, rpc_count: int = 0
    ) -> Resolved:
        """Return the answer. `soa` goes along where every address had to be withheld."""
        self._withhold(soa)
        if self._left_out:
            self.earns_ad = False  # The publisher has signed more than is told.
            self.ede.append((Ede.OTHER, f"{self._left_out} records with names too long to be told are left out"))
        if self._stale:
            code = Ede.STALE_NXDOMAIN_ANSWER if rcode == Rcode.NXDOMAIN else Ede.STALE_ANSWER
            self.ede.append((code, "the publisher has not renewed the zone in time"))
        if self._unconfirmed:
            self.ede.append((Ede.STALE_ANSWER, "no contact has confirmed that the zone is still the newest"))
        if self._provisional:
            self._cap_ttls(PROVISIONAL_TTL_S)
        # Kept for as long as its TTLs, it would answer every question itself: nobody would seem to ask for the zone,
        # and so nobody would look for a newer one.
        expiry = min(now + self._life(rcode, is_ours), max(now, self._good_until))
        # A provisional answer must not come back as a stale one after the complete look-up has said otherwise.
        keeps = not self._provisional and rcode != _REFUSED
        stale_until = expiry + self.settings.stale_s if keeps else expiry
        return self._resolved(rcode, now, expiry=expiry, stale_until=stale_until, is_ours=is_ours, rpc_count=rpc_count)

    def _withhold(self, soa: RR | None) -> None:
        # One stranger in the chain is enough: an alias of his to an address that a trusted zone or an upstream has
        # leads a page of his just as well.
        if all(zone_id in self.settings.trusted for zone_id in self._zone_ids):
            # What an upstream says is its to filter, unless the configuration says otherwise.
            if not self.settings.withholds_upstreams or all(map(self._is_private, self._foreign_owners)):
                return
        answer, count = without_risks(self.answer)
        additional, _ = without_risks(self.additional)
        # The authority section has no addresses: neither a zone's answer nor what is left of an upstream's reply.
        authority = tuple(self.authority)
        if count:
            self.earns_ad = False
            self.ede.append((Ede.BLOCKED, f"addresses that are not public are withheld, records concerned: {count}"))
            self.note(f"withheld addresses that are not public, records concerned: {count}")
            if soa is not None and all(rr.rtype in (Type.CNAME, Type.DNAME) for rr in answer):
                authority = (soa,)
        self.answer, self.authority, self.additional = list(answer), list(authority), list(additional)

    def _is_private(self, owner: Name) -> bool:
        return any(owner.is_at_or_below(name) for name in self.settings.private_names)

    def _cap_ttls(self, ttl_max: int) -> None:
        for section in (self.answer, self.authority, self.additional):
            section[:] = [replace(rr, ttl=min(rr.ttl, ttl_max)) for rr in section]

    def _life(self, rcode: int, is_ours: bool) -> int:
        if rcode == _REFUSED:
            return REFUSAL_TTL_S
        asked = self.question.rtype
        is_there = rcode == _NOERROR and any(asked in (rr.rtype, _ANY) for rr in self.answer)
        if not is_there and all(rr.rtype != _SOA for rr in self.authority):
            # RFC 2308 §5: a negative answer without SOA is not kept; unless it is our own, and we know that it is true.
            return LOCAL_TTL_S if is_ours else 0
        return min([rr.ttl for section in (self.answer, self.authority, self.additional) for rr in section])

    def _resolved(
        self,
        rcode: int,
        now: float,
        *,
        expiry: float,
        stale_until: float,
        failure: bool = False,
        is_ours: bool = False,
        rpc_count: int = 0,
    ) -> Resolved:
        return Resolved(
            question=self.question,
            rcode=rcode,
            is_authoritative=is_ours,
            answer=_unique(self.answer),
            authority=_unique(self.authority),
            additional=_unique(self.additional),
            ede=tuple(self.ede),
            ad_eligible=self.earns_ad and not self._provisional and not failure and not is_ours,
            provisional=self._provisional and not failure,
            failure=failure,
            cacheable=len(self._tags) <= TAGS_MAX,
            made_at=now,
            expiry=expiry,
            stale_until=stale_until,
            tags=tuple(self._tags[:TAGS_MAX]),
            trace=tuple(self.trace),
            rpc_count=rpc_count,
        )


def _unique(rrs: Sequence[RR]) -> tuple[RR, ...]:
    return tuple(dict.fromkeys(rrs)) if len(rrs) > 1 else tuple(rrs)


def _set_of(rr: RR) -> tuple[Name, int, bytes]:
    # Signatures are no RRset of their own: each belongs to the one that its first two bytes name (RFC 4034 §3).
    return rr.owner, rr.rtype, rr.rdata[:2] if rr.rtype == _RRSIG else b""


def _lowest_ttls(
    rrs: Sequence[RR], sets: Sequence[tuple[Name, int, bytes]], *, is_authority: bool
) -> dict[tuple[Name, int, bytes], int]:
    """Return for each RRset the TTL that all of it has: the lowest (RFC 2181 §5.2)."""
    lowest: dict[tuple[Name, int, bytes], int] = {}
    for rr, of_set in zip(rrs, sets, strict=True):
        ttl = sane_ttl(rr.ttl)
        if is_authority and rr.rtype == _SOA:
            # An upstream may leave it to us that an absence lasts for the SOA's minimum at most (RFC 2308 §5).
            ttl = negative_ttl(ttl, rr.rdata)
        lowest[of_set] = min(ttl, lowest.get(of_set, ttl))
    return lowest


def _remaining_ttl(ttl: int, found: Found, now: float) -> int:
    """Return what is left of a TTL, which counts from the last time a complete look-up confirmed the item."""
    if not found.fresh:
        return STALE_TTL_S
    if found.unconfirmed:
        return min(ttl, UNCONFIRMED_TTL_S)
    if not found.settled:
        return min(ttl, PROVISIONAL_TTL_S)
    return max(0, min(ttl, int(ttl - (now - found.confirmed_at))))


def owner_at_end(name: Name, rrs: Iterable[RR]) -> Name:
    """Return the name at the end of the aliases that start at `name`, in whatever order they stand.

    >>> owner_at_end(Name.read("a."), ())
    Name('a.')
    """
    aliases = {rr.owner: rr.rdata for rr in rrs if rr.rtype == Type.CNAME}
    # Each alias is used once, so a loop ends.
    while (rdata := aliases.pop(name, None)) is not None:
        name, _ = Name.parse(rdata)
    return name
