"""An answer in the making: its sections, as the client may ask for their names, its lifetime, and its tags.

Guarantees: every name of a zone is shown through the view of the question; no TTL exceeds what the item's confirmation
allows; one provisional, stale or unconfirmed part marks the whole answer. Does not know how the answer was found.
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

TAGS_MAX = 16  # The link carries no more; an answer that depends on more is not cached.
# Numbers that every record is compared with; a member of an Enum takes ten times as long to look up as one of these.
_SOA, _CNAME, _DNAME, _RRSIG, _ANY = (int(t) for t in (Type.SOA, Type.CNAME, Type.DNAME, Type.RRSIG, Type.ANY))
_IN = int(Class.IN)
_NOERROR, _REFUSED = int(Rcode.NOERROR), int(Rcode.REFUSED)
_AS_ASKED = View()


class Draft:
    """The sections of one answer and the facts about them.

    `is_provisional`: a part comes from an item that is not settled. `is_unconfirmed`: a part comes from an item that
    the last look-up did not confirm.
    """

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
        self.is_provisional = self.is_unconfirmed = False
        # Names in RDATA as the zone or the upstream writes them, and as the client may ask for them.
        self._shown: dict[tuple[View, bytes], bytes] = {}
        self._foreign_owners: dict[Name, None] = {}
        self._zone_ids: list[ZoneId] = []
        self._tags: list[bytes] = []
        self._left_out = 0
        self._stale = False
        self._good_until = math.inf

    def note(self, line: str, *parts: object) -> None:
        """Add a line to the trace, if there is one; each `{}` in it stands for one of the parts."""
        if self.is_traced:
            self.trace.append(line.format(*parts) if parts else line)

    def depend_on(self, *tags: bytes) -> None:
        """Add tags: the answer becomes untrue when one of them is invalidated."""
        self._tags += [tag for tag in tags if tag not in self._tags]

    @property
    def zone_count(self) -> int:
        return len(self._zone_ids)

    def depend_on_zone(self, zone_id: ZoneId) -> None:
        """Remember that a zone has a part in the answer."""
        if zone_id not in self._zone_ids:
            self._zone_ids.append(zone_id)

    def caution(self, notes: Iterable[str]) -> None:
        """Tell the client the reservations about an item that was used; the answer then earns no AD."""
        for text in notes:
            self.earns_ad = False
            if (Ede.OTHER, text) not in self.ede:
                self.ede.append((Ede.OTHER, text))
                self.note(text)

    def rely_on(self, found: Found) -> None:
        """Give the whole answer the weaknesses of an item that a part of it comes from."""
        self.is_provisional |= not found.settled
        self._stale |= not found.fresh
        self.is_unconfirmed |= found.unconfirmed
        self._good_until = min(self._good_until, found.good_until)
        self.earns_ad = self.earns_ad and found.settled and found.fresh and not found.unconfirmed

    def add_rrsets(self, section: list[RR], rrsets: Iterable[RRset], found: Found, now: float) -> bool:
        """Add RRsets of a zone; return whether no name of theirs was too long below the suffix of the question."""
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
        """Add records of an upstream; names of zones in them are shown as the client may ask for them."""
        foreign = tuple(rrs)
        if not foreign:
            return
        self._foreign_owners.update((rr.owner, None) for rr in foreign if section is not self.authority)
        sets = [_set_of(rr) for rr in foreign]
        lowest = _lowest_ttls(foreign, sets, is_authority=section is self.authority)
        for rr, of_set in zip(foreign, sets, strict=True):
            ttl = max(lowest[of_set], self.settings.ttl_s_min)
            if self.view.suffix is None and ttl == rr.ttl and rr.owner is self.question.name:
                # Most records are passed on unchanged.
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
        return sum(rr.rtype == _CNAME for rr in self.answer)

    def _presented(self, owner: Name, rtype: int, ttl: int, rdata: bytes) -> RR | None:
        try:
            if self.view.suffix is not None:
                owner = self.view.present(owner)
                rdata = rewrite_wires(rtype, rdata, self._presented_wire)
            # An owner equal to the question's name becomes that object, so that the client's case is echoed in both.
            owner = self.question.name if owner == self.question.name else owner
            return RR(owner, rtype, _IN, ttl, rdata)
        except FormatError:
            return None

    def _presented_wire(self, wire: bytes) -> bytes:
        """Return a name in RDATA as the client may ask for it; a name in many records is rewritten once."""
        shown = self._shown.get((self.view, wire))
        if shown is None:
            shown = self._shown[self.view, wire] = self.view.present(Name.parse(wire)[0]).wire()
        return shown

    def failed(self, text: str, now: float, *, code: int, rcode: int, seconds: float, rpc_count: int = 0) -> Resolved:
        """Return the result of a failure: without the aliases found so far, because their end is unknown."""
        self.note(text)
        self.answer, self.authority, self.additional = [], [], []
        self.ede.append((code, text))
        return self._resolved(rcode, now, now + seconds, now + seconds, failure=True, rpc_count=rpc_count)

    def finished(
        self, rcode: int, now: float, *, is_ours: bool = False, soa: RR | None = None, rpc_count: int = 0
    ) -> Resolved:
        """Return the answer. `soa` is its authority section if every address had to be withheld."""
        self._withhold(soa)
        if self._left_out:
            self.earns_ad = False  # The publisher has signed more than the client gets.
            self.ede.append((Ede.OTHER, f"{self._left_out} records with names too long to be told are left out"))
        if self._stale:
            code = Ede.STALE_NXDOMAIN_ANSWER if rcode == Rcode.NXDOMAIN else Ede.STALE_ANSWER
            self.ede.append((code, "the publisher has not renewed the zone in time"))
        if self.is_unconfirmed:
            self.ede.append((Ede.STALE_ANSWER, "no contact has confirmed that the zone is still the newest"))
        if self.is_provisional:
            self._cap_ttls(PROVISIONAL_TTL_S)
        # Cached for as long as its TTLs, the answer would keep every question from the overlay. The zone would seem
        # unused, and would not be looked up again.
        expiry = min(now + self._life(rcode, is_ours), max(now, self._good_until))
        # A provisional answer must not come back as a stale one after the complete look-up has said otherwise.
        keeps = not self.is_provisional and rcode != _REFUSED
        stale_until = expiry + self.settings.stale_s if keeps else expiry
        return self._resolved(rcode, now, expiry, stale_until, is_ours=is_ours, rpc_count=rpc_count)

    def _withhold(self, soa: RR | None) -> None:
        # One untrusted zone in the chain is enough: an alias to an address in a trusted zone or at an upstream serves
        # its page as well as its own address.
        if all(zone_id in self.settings.trusted for zone_id in self._zone_ids):
            # The upstream filters its own replies, unless the configuration says otherwise.
            if not self.settings.withholds_upstreams or all(map(self._is_private, self._foreign_owners)):
                return
        answer, count = without_risks(self.answer)
        additional, _ = without_risks(self.additional)
        # The authority section has no addresses: not from a zone, and not after an upstream's reply was cleaned.
        authority = tuple(self.authority)
        if count:
            self.earns_ad = False
            self.ede.append((Ede.BLOCKED, f"addresses that are not public are withheld, records concerned: {count}"))
            self.note(f"withheld addresses that are not public, records concerned: {count}")
            if soa is not None and all(rr.rtype in (_CNAME, _DNAME) for rr in answer):
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
            # RFC 2308 §5: a negative answer without SOA is not cached; unless it is our own, and so known to be true.
            return LOCAL_TTL_S if is_ours else 0
        return min([rr.ttl for section in (self.answer, self.authority, self.additional) for rr in section])

    def _resolved(
        self,
        rcode: int,
        now: float,
        expiry: float,
        stale_until: float,
        *,
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
            ad_eligible=self.earns_ad and not self.is_provisional and not failure and not is_ours,
            provisional=self.is_provisional and not failure,
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
    # The signatures of an owner are no RRset: each belongs to that of the type in its first two bytes (RFC 4034 §3).
    return rr.owner, rr.rtype, rr.rdata[:2] if rr.rtype == _RRSIG else b""


def _lowest_ttls(
    rrs: Sequence[RR], sets: Sequence[tuple[Name, int, bytes]], *, is_authority: bool
) -> dict[tuple[Name, int, bytes], int]:
    """Return the TTL of each RRset: the lowest of its records (RFC 2181 §5.2)."""
    lowest: dict[tuple[Name, int, bytes], int] = {}
    for rr, of_set in zip(rrs, sets, strict=True):
        ttl = sane_ttl(rr.ttl)
        if is_authority and rr.rtype == _SOA:
            # An absence lasts for the SOA's minimum at most, and an upstream may leave that to us (RFC 2308 §5).
            ttl = negative_ttl(ttl, rr.rdata)
        lowest[of_set] = min(ttl, lowest.get(of_set, ttl))
    return lowest


def _remaining_ttl(ttl: int, found: Found, now: float) -> int:
    """Return the rest of a TTL, which counts from the last complete look-up that confirmed the item."""
    if not found.fresh:
        return STALE_TTL_S
    if found.unconfirmed:
        return min(ttl, UNCONFIRMED_TTL_S)
    if not found.settled:
        return min(ttl, PROVISIONAL_TTL_S)
    return max(0, min(ttl, int(ttl - (now - found.confirmed_at))))


def owner_at_end(name: Name, rrs: Iterable[RR]) -> Name:
    """Return the name at the end of the aliases that start at `name`; the records may be in any order.

    >>> owner_at_end(Name.read("a."), ())
    Name('a.')
    """
    aliases = {rr.owner: rr.rdata for rr in rrs if rr.rtype == _CNAME}
    # Each alias is used once, so a loop ends.
    while (rdata := aliases.pop(name, None)) is not None:
        name, _ = Name.parse(rdata)
    return name
